// Cross-entropy of rows of V logits z against a label y or a soft label q, in closed form.
//   forward   stat = (−Σ q log p, Σ q (log q − log p), log Σ exp z, max z) a row; q is 1 at y for hard labels
//   vjp       z̄ = weight (p Σq − q),  p = softmax(z), for each set of weights;  the columns behind V get 0
//   jvp       (⟨p − q, ż⟩, 0, 0, 0) a row, the loss's tangent; with `bend` (Σ p ż² − (Σ p ż)², 0, 0, 0), ⟨ż, D²ℓ ż⟩
//   vjp_jvp   weight (p ∘ ż − p Σ p ż), the loss's own Hessian times ż: also the tangent of z̄
// LANES invocations a row as in common/rows.wgsl.
//@variants LANES=32
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/rows.wgsl

struct Params {
    width: u32,
    cols4: u32,
    soft: u32,
    // vec4 between probes of ż, of the weights in vjp, and of what comes out.
    z_layer: u32,
    weight_layer: u32,
    out_layer: u32,
    bend: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> z: array<vec4<f32>>;
// Soft labels [masked, V], or the rows' labels as the bits of f32 in x.
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stat: array<vec4<f32>>;
// The cotangent of each row's loss, in x.
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
// A tangent of z a probe.
@group(0) @binding(5) var<storage, read> z_dot: array<vec4<f32>>;

// The label's distribution at vec4 number c of a row.
fn label_at(row: u32, c: u32) -> vec4<f32> {
    if p.soft != 0u { return q[row * p.cols4 + c] * inside(c, p.width); }
    let y = bitcast<u32>(q[row].x);
    return select(vec4<f32>(0.0), vec4<f32>(1.0), columns(c) == vec4<u32>(y));
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let l = here.local;
    let asked = row_at(here);
    let row = min(asked, step.masked - 1u);
    let lane = l % LANES;
    let first = row * p.cols4;
    var largest = -3.4e38;
    for (var c = lane; c < p.cols4; c += LANES) {
        let v = select(vec4<f32>(-3.4e38), z[first + c], inside(c, p.width) > vec4<f32>(0.0));
        largest = max(largest, max(max(v.x, v.y), max(v.z, v.w)));
    }
    let top = row_max(largest, l);
    var sums = 0.0;
    for (var c = lane; c < p.cols4; c += LANES) {
        sums += sum4(exp(z[first + c] - top) * inside(c, p.width));
    }
    let log_sum = log(row_sum(vec2<f32>(sums, 0.0), l).x);
    // Σ q (max + log Σ − z) and Σ q (log q + max + log Σ − z)
    var losses = vec2<f32>(0.0);
    for (var c = lane; c < p.cols4; c += LANES) {
        let label = label_at(row, c);
        let surprise = log_sum - (z[first + c] - top);
        let log_label = select(vec4<f32>(0.0), log(max(label, vec4<f32>(1e-37))), label > vec4<f32>(0.0));
        losses += vec2<f32>(dot(label, surprise), dot(label, log_label + surprise));
    }
    let both = row_sum(losses, l);
    if asked < step.masked && lane == 0u {
        out[row] = vec4<f32>(both, log_sum, top);
    }
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let asked = row_at(here);
    let lane = here.local % LANES;
    if asked >= step.masked { return; }
    let s = stat[asked];
    let scale = weight[here.group.z * p.weight_layer + asked].x;
    for (var c = lane; c < p.cols4; c += LANES) {
        let i = asked * p.cols4 + c;
        let probability = exp((z[i] - s.w) - s.z) * inside(c, p.width);
        out[here.group.z * p.out_layer + i] = scale * (probability - label_at(asked, c));
    }
}

// p at vec4 number c of a row.
fn probability(row: u32, c: u32, s: vec4<f32>) -> vec4<f32> {
    return exp((z[row * p.cols4 + c] - s.w) - s.z) * inside(c, p.width);
}

@compute @workgroup_size(64)
fn jvp(here: Place) {
    let l = here.local;
    let asked = row_at(here);
    let row = min(asked, step.masked - 1u);
    let lane = l % LANES;
    let s = stat[row];
    let tangent = here.group.z * p.z_layer + row * p.cols4;
    var sums = vec2<f32>(0.0);
    var slope = 0.0;
    for (var c = lane; c < p.cols4; c += LANES) {
        let d = z_dot[tangent + c];
        let weighted = probability(row, c, s) * d;
        sums += vec2<f32>(sum4(weighted), dot(weighted, d));
        slope += sum4(weighted) - dot(label_at(row, c), d);
    }
    let both = row_sum(sums, l);
    let first = row_sum(vec2<f32>(slope, 0.0), l).x;
    if asked < step.masked && lane == 0u {
        let term = select(first, both.y - both.x * both.x, p.bend != 0u);
        out[here.group.z * p.out_layer + row] = vec4<f32>(term, 0.0, 0.0, 0.0);
    }
}

@compute @workgroup_size(64)
fn vjp_jvp(here: Place) {
    let asked = row_at(here);
    let row = min(asked, step.masked - 1u);
    let lane = here.local % LANES;
    let s = stat[row];
    let tangent = here.group.z * p.z_layer + row * p.cols4;
    var along = 0.0;
    for (var c = lane; c < p.cols4; c += LANES) {
        along += dot(probability(row, c, s), z_dot[tangent + c]);
    }
    let mean = row_sum(vec2<f32>(along, 0.0), here.local).x;
    if asked >= step.masked { return; }
    let scale = weight[row].x;
    for (var c = lane; c < p.cols4; c += LANES) {
        let moved = scale * probability(row, c, s) * (z_dot[tangent + c] - mean);
        out[here.group.z * p.out_layer + row * p.cols4 + c] = moved;
    }
}
