// y = sin(ω x), elementwise over [layers, rows, cols4]. One invocation per vec4; ω is p.scale.
//   forward   y = sin(ω x)        vjp   out = ω cos(ω x) ȳ
//@import common/step.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> y_bar: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = sin(p.scale * x[w.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = p.scale * cos(p.scale * x[w.z * p.a_layer + i]) * y_bar[w.z * p.b_layer + i];
}
