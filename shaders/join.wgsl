// Matrices side by side, and the way back: the `cols4` vec4 of each row of x that begin at `in_at` become those of `out`
// that begin at `out_at`. A dispatch for each matrix; one invocation a vec4 of it.
//@import common/entry.wgsl
//@import common/step.wgsl

struct Params {
    code: u32,
    fixed: u32,
    // vec4 in a row of the part that is copied, of x and of `out`; where in these rows it begins.
    cols4: u32,
    in_cols4: u32,
    in_at: u32,
    out_cols4: u32,
    out_at: u32,
    in_layer: u32,
    out_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn copy(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * p.cols4 { return; }
    let row = i / p.cols4;
    let c = i % p.cols4;
    let source = here.group.z * p.in_layer + row * p.in_cols4 + p.in_at + c;
    out[here.group.z * p.out_layer + row * p.out_cols4 + p.out_at + c] = x[source];
}
