// The frame of elementwise kernels: `rows` counted by (code, fixed), cols4 vec4 a row, layers along z. A layer stride
// of 0 shares one operand between all layers.
//@import common/entry.wgsl

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
