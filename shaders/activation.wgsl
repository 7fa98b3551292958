// An activation f, elementwise over [layers, rows, cols4]. One invocation a vec4; the primal x has no layers when
// a_layer is 0. Which f: common/activation.wgsl. forward   y = f(x)            vjp, jvp   out = f'(x) g        (both
// multiply by the slope) slope     out = f'(x) vjp_jvp   out = f''(x) ẋ ȳ + f'(x) ȳ̇ second    ⟨ȳ, f''(x) ẋ²⟩ of each
// vec4, a number each, in rows of `terms_stride`
//@variant tanh: ACTIVATION=1
//@variant relu: ACTIVATION=2
//@variant silu: ACTIVATION=3
//@variant hyperbolic: ACTIVATION=4
//@import common/step.wgsl
//@import common/activation.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x_dot: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> g_dot: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = activate4(x[w.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = slope4(x[w.z * p.a_layer + i]) * g[w.z * p.b_layer + i];
}

@compute @workgroup_size(64)
fn slope(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    out[w.z * p.out_layer + i] = slope4(x[w.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp_jvp(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    let at = x[w.z * p.a_layer + i];
    let second = bend4(at) * x_dot[w.z * p.c_layer + i] * g[w.z * p.b_layer + i];
    out[w.z * p.out_layer + i] = second + slope4(at) * g_dot[w.z * p.d_layer + i];
}

@group(0) @binding(5) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn second(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = element(w, n, l);
    if i >= elements() { return; }
    let along = x_dot[w.z * p.c_layer + i];
    let bend = bend4(x[w.z * p.a_layer + i]) * along * along;
    terms[4u * w.z * p.out_layer + i / p.cols4 * p.terms_stride + i % p.cols4] = dot(bend, g[w.z * p.b_layer + i]);
}
