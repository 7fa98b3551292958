// An activation f, elementwise over [layers, rows, cols4]. One invocation a vec4; the primal x has no layers when
// a_layer is 0. Which f: common/activation.wgsl.
//   forward   y = f(x)            vjp, jvp   out = f'(x) g        (both multiply by the slope)
//   slope     out = f'(x)
//   vjp_jvp   out = f''(x) ẋ ȳ + f'(x) ȳ̇
//   second    ⟨ȳ, f''(x) ẋ²⟩ of each vec4, a number each, in rows of `terms_stride`
//@variants ACTIVATION=1|2|3|4
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/activation.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x_dot: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> g_dot: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = activate4(x[here.group.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = slope4(x[here.group.z * p.a_layer + i]) * g[here.group.z * p.b_layer + i];
}

@compute @workgroup_size(64)
fn slope(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = slope4(x[here.group.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp_jvp(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    let at = x[here.group.z * p.a_layer + i];
    let second = bend4(at) * x_dot[here.group.z * p.c_layer + i] * g[here.group.z * p.b_layer + i];
    out[here.group.z * p.out_layer + i] = second + slope4(at) * g_dot[here.group.z * p.d_layer + i];
}

@group(0) @binding(5) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn second(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    let along = x_dot[here.group.z * p.c_layer + i];
    let bend = bend4(x[here.group.z * p.a_layer + i]) * along * along;
    let to = 4u * here.group.z * p.out_layer + i / p.cols4 * p.terms_stride + i % p.cols4;
    terms[to] = dot(bend, g[here.group.z * p.b_layer + i]);
}
