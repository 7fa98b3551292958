// Attention along a direction of queries, keys and values: tangents of attention.wgsl (no dropout). With s = scale q·k,
// p = softmax(s), g = ō·v, and ṡ = scale (q̇·k + q·k̇), μ_i = Σ_j p ṡ:
//   jvp      ȯ_i = Σ_j p ((ṡ − μ_i) v + v̇);  stat_out[row, head] = (log Σ exp s, 0, μ, 0)
//   delta    (log Σ exp s, δ, μ, δ̇), δ = o·ō, δ̇ = ȯ·ō + o·ō̇: what vjp_jvp needs of a row
//   vjp_jvp  ṗ = p (ṡ − μ), t = scale p (g − δ), ṫ = scale (ṗ (g − δ) + p (ġ − δ̇)), ġ = ō̇·v + ō·v̇:
//            q̄̇_i = Σ_j ṫ k + t k̇,  k̄̇_j = Σ_i ṫ q + t q̇,  v̄̇_j = Σ_i ṗ ō + p ō̇
//   second   ⟨ō, D²o[(q̇, k̇, v̇)²]⟩ of each row and head, s̈ = 2 scale q̇·k̇, in x of four columns
// Primals have no layers, tangents one a probe, ō either. Variants as in attention.wgsl.
//@variants SIZE4=8
//@variants SUBGROUP=1
//@variants SUBGROUP=1 LANES=4|8 SIZE4=8 KEYS=1
//@variants SUBGROUP=1 LANES=16 KEYS=4
//@variants SUBGROUP=1 LANES=16 SIZE4=8 KEYS=2
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl

const SUBGROUP: u32 = 0u;
const SIZE4: u32 = 4u;

struct Params {
    heads: u32,
    scale: f32,
    // vec4 between probes of q̇k̇v̇ and its like; of ȯ and its like; of ō (or 0); of the rows' statistics.
    qkv_layer: u32,
    o_layer: u32,
    bar_layer: u32,
    stat_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> o_bar: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> qkv_dot: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stat_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> delta_of: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> o_bar_dot: array<vec4<f32>>;
@group(0) @binding(0) var<storage, read> stat_dot: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> o_dot: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bar_dot: array<vec4<f32>>;

@compute @workgroup_size(64)
fn delta(here: Place) {
    let i = element(here);
    if i >= step.rows * p.heads { return; }
    let bar = here.group.z * p.bar_layer + i * SIZE4;
    let tangent = here.group.z * p.o_layer + i * SIZE4;
    var both = vec4<f32>(0.0);
    var dots = vec4<f32>(0.0);
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        let g = o_bar[bar + c];
        both += o[i * SIZE4 + c] * g;
        dots += o_dot[tangent + c] * g + o[i * SIZE4 + c] * bar_dot[tangent + c];
    }
    let s = stat_dot[here.group.z * p.stat_layer + i];
    out[here.group.z * p.stat_layer + i] = vec4<f32>(s.x, sum4(both), s.z, sum4(dots));
}

//@if SUBGROUP
//@import common/attention_tangent_subgroup.wgsl
//@else
//@import common/attention_tangent_row.wgsl
//@end
