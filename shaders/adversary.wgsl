// What the adversarial algorithm does to the gradient of a step: g ← g - λ a, a the gradient of the head's mean loss on
// a batch, as long as that loss is below the ceiling.
//   bound   the factor -λ or 0, and the step's line in the log; a loss that is not finite, or a head that is bad, gives
//           an infinite factor, so that the gradient is not finite either and nothing is updated
//   blend   g += factor a; nothing at all where the factor is 0
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/finite.wgsl

struct Params {
    size4: u32,
    ring: u32,
    ceiling: f32,
}
@group(0) @binding(8) var<uniform> p: Params;

// step.user[1].x = λ

// (Σ weight · loss, Σ weight, .., ..) from statistics.wgsl.
@group(0) @binding(0) var<storage, read> tally: array<vec4<f32>>;
// The head's optimiser: (.., 1 when something was not finite, .., ..)
@group(0) @binding(1) var<storage, read> head: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> factor: array<vec4<f32>>;
// A line a step: (mean loss, factor, 1 when bad, step as bits)
@group(0) @binding(3) var<storage, read_write> log: array<vec4<f32>>;

@compute @workgroup_size(1)
fn bound() {
    let loss = tally[0].x / tally[0].y;
    let bad = head[0].y > 0.0 || not_finite(vec4<f32>(loss, 0.0, 0.0, 0.0));
    let wanted = select(0.0, -step.user[1].x, loss < p.ceiling);
    let f = bitcast<f32>(select(bitcast<u32>(wanted), 0x7f800000u, bad));
    factor[0] = vec4<f32>(f, 0.0, 0.0, 0.0);
    log[step.counter.x % p.ring] = vec4<f32>(loss, wanted, select(0.0, 1.0, bad), bitcast<f32>(step.counter.x));
}

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bounded: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;

@compute @workgroup_size(64)
fn blend(here: Place) {
    let i = element(here);
    let f = bounded[0].x;
    if i >= p.size4 || f == 0.0 { return; }
    g[i] += f * a[i];
}
