// What ghost_norm.wgsl and ghost_gram.wgsl share: the rows that gradients are made of, and the way to an element of the
// head's adjoint.
//@import common/columns.wgsl
//@import common/sentences.wgsl

const SUBGROUP: u32 = 0u;
// Equal parts of b's columns, each with a result of its own.
const PARTS: u32 = 1u;

@group(0) @binding(0) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> spans: array<vec4<f32>>;
// Rows of the three tables.
@group(0) @binding(3) var<storage, read> ids: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> e: array<vec4<f32>>;
// (mean, 1/√(var + ε)) of the rows of a, for `scale`.
@group(0) @binding(5) var<storage, read> stat: array<vec4<f32>>;

// Number `word` of the row of e that begins at `at`.
fn adjoint_of(at: u32, word: u32) -> f32 {
    return e[at + word / 4u][word % 4u];
}
