// f(x) = sin(ω x), elementwise over [layers, rows, cols4]. One invocation per vec4; ω is p.scale.
//   forward   f(x)               vjp      f'(x) a, of ȳ or of ẋ
//   vjp_jvp   f''(x) ȳ ẋ         second   f''(x) ȳ ẋ²
//@import common/step.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x_dot: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32
) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = sin(p.scale * x[w.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp(
    @builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32
) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = p.scale * cos(p.scale * x[w.z * p.a_layer + i]) * a[w.z * p.b_layer + i];
}

// f''(x) ȳ ẋ
fn second_order(z: u32, i: u32) -> vec4<f32> {
    let f2 = -p.scale * p.scale * sin(p.scale * x[z * p.a_layer + i]);
    return f2 * a[z * p.b_layer + i] * x_dot[z * p.c_layer + i];
}

@compute @workgroup_size(64)
fn vjp_jvp(
    @builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32
) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = second_order(w.z, i);
}

@compute @workgroup_size(64)
fn second(
    @builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32
) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = second_order(w.z, i) * x_dot[w.z * p.c_layer + i];
}
