// The frame of elementwise kernels: `rows` counted by (code, fixed), cols4 vec4 a row, layers along z. A layer stride
// of 0 shares one operand between all layers.

struct Params {
    code: u32,
    fixed: u32,
    cols4: u32,
    a_layer: u32,
    b_layer: u32,
    c_layer: u32,
    d_layer: u32,
    out_layer: u32,
    scale: f32,
    stream: u32,
    threshold: u32,
    terms_stride: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

fn elements() -> u32 {
    return count_of(p.code, p.fixed) * p.cols4;
}

// The element of an invocation; 64 a workgroup, grid folded at n.x.
fn element(w: vec3<u32>, n: vec3<u32>, local: u32) -> u32 {
    return (w.x + w.y * n.x) * 64u + local;
}
