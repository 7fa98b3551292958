// out = a b (+ addend), elementwise over [layers, rows, cols4]: one invocation a vec4. A layer stride of 0 shares an
// operand between probes.
//@variants ADDEND=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/elementwise.wgsl

// Whether something is added.
const ADDEND: u32 = 0u;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
//@optional
@group(0) @binding(2) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    var product = a[here.group.z * p.a_layer + i] * b[here.group.z * p.b_layer + i];
    if ADDEND != 0u {
        product += addend[here.group.z * p.c_layer + i];
    }
    out[here.group.z * p.out_layer + i] = product;
}
