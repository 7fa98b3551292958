// out = a b (+ addend), elementwise over [layers, rows, cols4]: one invocation a vec4. A layer stride of 0 shares an
// operand between probes.
//@variant addend: ADDEND=1
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
fn forward(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    var product = a[w.z * p.a_layer + i] * b[w.z * p.b_layer + i];
    if ADDEND != 0u {
        product += addend[w.z * p.c_layer + i];
    }
    out[w.z * p.out_layer + i] = product;
}
