// out = a + b, elementwise over [layers, rows, cols4].
//@import common/step.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = a[w.z * p.a_layer + i] + b[w.z * p.b_layer + i];
}
