// What happens to a gradient: sums over micro-batches, its norm, clipping, and the update of the parameters, which for
// AdamW is in adamw.wgsl.
//   accumulate   sum = g, or sum + g after the first micro-batch of a step
//   square_sum   sums of g² over blocks, and whether one is not finite
//   settle       the norm, the clipping factor, and the step's line in the log; after a gradient or loss that is not
//                finite nothing is updated any more, so that the parameters stay those before the bad step
//   ascend       sharpness-aware minimisation, Foret et al. 2021: saved = p, p ← p + ρ g / ‖g‖
//   descend      p = saved
//   sgd          as torch.optim.SGD: g ← g + λ p, u ← μ u + g, p ← p − lr u
//   average      a ← a + w (p − a); with w = (1 − β) / (1 − β^t) at the average's step t = 1, 2, ... a is
//                Σ β^(t−i) pᵢ / Σ β^(t−i) over i = 1..t
// Parameters, moments and gradients are flat chunks of vec4.
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/finite.wgsl
//@import common/workgroup_sum.wgsl

alias Summed = vec2<f32>;

struct Params {
    size4: u32,
    // First block of this chunk among all chunks' sums; in `settle`, the number of all blocks.
    first: u32,
    ring: u32,
    // Weight decay, and to how many vec4 from the first it applies.
    decay: f32,
    decayed4: u32,
    momentum: f32,
    clip: f32,
    // Length of the ascent.
    rho: f32,
    // 1 / what the losses were multiplied by.
    unscale: f32,
    // vec4 a workgroup sums up.
    block: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

// step.user[0] = (lr, .., .., 1 on the first step), step.user[1].y = w

@group(0) @binding(0) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sum: array<vec4<f32>>;

@compute @workgroup_size(64)
fn accumulate(here: Place) {
    let i = element(here);
    if i >= p.size4 { return; }
    if step.counter.y == 0u {
        sum[i] = g[i];
    } else {
        sum[i] += g[i];
    }
}

@group(0) @binding(1) var<storage, read_write> squares: array<vec4<f32>>;

@compute @workgroup_size(64)
fn square_sum(here: Place) {
    let l = here.local;
    let block = group_number(here.group);
    let first = block * p.block;
    let end = min(first + p.block, p.size4);
    var total = 0.0;
    var bad = 0.0;
    for (var i = first + l; i < end; i += 64u) {
        let v = g[i];
        total += dot(v, v);
        if not_finite(v) { bad = 1.0; }
    }
    let both = add_up(vec2<f32>(total, bad), l);
    if l == 0u && first < p.size4 {
        squares[p.first + block] = vec4<f32>(both, 0.0, 0.0);
    }
}

// Sums of the squares of all blocks.
@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>;
// The step's loss: (Σ loss, Σ weight, Σ divergence, 0) from statistics.wgsl.
@group(0) @binding(1) var<storage, read> tally: array<vec4<f32>>;
// (clipping factor, 1 when something was not finite, step of that as bits, norm)
@group(0) @binding(2) var<storage, read_write> state: array<vec4<f32>>;
// A line a step: (loss, gradient norm, 1 when bad, step as bits)
@group(0) @binding(3) var<storage, read_write> log: array<vec4<f32>>;

@compute @workgroup_size(64)
fn settle(here: Place) {
    let l = here.local;
    var total = 0.0;
    var bad = 0.0;
    let blocks = p.first;
    for (var i = l; i < blocks; i += 64u) {
        total += parts[i].x;
        bad = max(bad, parts[i].y);
    }
    let both = add_up(vec2<f32>(total, bad), l);
    if l != 0u { return; }
    let norm = sqrt(both.x) * p.unscale;
    let loss = tally[0].x * p.unscale;
    let now = both.y > 0.0 || not_finite(vec4<f32>(norm, loss, 0.0, 0.0));
    var clip = p.unscale;
    if p.clip > 0.0 && norm > p.clip { clip = p.clip / norm * p.unscale; }
    if now && state[0].y == 0.0 { state[0] = vec4<f32>(clip, 1.0, bitcast<f32>(step.counter.x), 0.0); }
    state[0].x = clip;
    state[0].w = norm;
    log[step.counter.x % p.ring] = vec4<f32>(loss, norm, select(0.0, 1.0, now), bitcast<f32>(step.counter.x));
}

@group(0) @binding(1) var<storage, read> settled: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> theta: array<vec4<f32>>;
//@optional
@group(0) @binding(3) var<storage, read_write> first_moment: array<vec4<f32>>;

@group(0) @binding(3) var<storage, read_write> saved: array<vec4<f32>>;

@compute @workgroup_size(64)
fn ascend(here: Place) {
    let i = element(here);
    let s = settled[0];
    if i >= p.size4 { return; }
    saved[i] = theta[i];
    if s.y == 0.0 && s.w > 0.0 { theta[i] += (p.rho * p.unscale / s.w) * g[i]; }
}

@compute @workgroup_size(64)
fn descend(here: Place) {
    let i = element(here);
    if i >= p.size4 { return; }
    theta[i] = saved[i];
}

@compute @workgroup_size(64)
fn sgd(here: Place) {
    let i = element(here);
    let s = settled[0];
    if i >= p.size4 || s.y > 0.0 { return; }
    let o = step.user[0];
    var update = g[i] * s.x + select(0.0, p.decay, i < p.decayed4) * theta[i];
    if p.momentum > 0.0 {
        update += select(p.momentum * first_moment[i], vec4<f32>(0.0), o.w > 0.0);
        first_moment[i] = update;
    }
    theta[i] -= o.x * update;
}

@group(0) @binding(3) var<storage, read_write> averaged: array<vec4<f32>>;

@compute @workgroup_size(64)
fn average(here: Place) {
    let i = element(here);
    if i >= p.size4 || settled[0].y > 0.0 { return; }
    averaged[i] += step.user[1].y * (theta[i] - averaged[i]);
}
