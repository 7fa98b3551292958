// Sharpness-aware minimisation whose ascent is scaled by blocks of parameters, w_b with gradients g_b:
//   ε_b = ρ |w_b|² g_b / √(Σ_b |w_b|² |g_b|²),  the longest way up with Σ_b |ε_b|² / |w_b|² = ρ².
// Kwon et al. 2021, eq. 7, with T = diag |w_b|. A factor on the gradient changes nothing.
//   squares   (Σ w², Σ g²) of a segment, a run of vec4 of one block; of single entries (Σ w² g², 0)
//   scale     (|w_b|², |w_b|² |g_b|²) of a block from those of its segments
//   whole     √(Σ_b |w_b|² |g_b|²)
//   ascend    saved = w, w ← w + ε; a gradient that is not finite, or one of zeros, moves nothing
// A workgroup a segment, or a block.
//@import common/entry.wgsl
//@import common/workgroup_sum.wgsl

alias Summed = vec2<f32>;

struct Params {
    // Segments, or blocks.
    count: u32,
    rho: f32,
}
@group(0) @binding(8) var<uniform> p: Params;

// (first vec4 in the chunk, vec4, its place among the parts, its block), the block's highest bit set where each of its
// entries is a block of its own.
@group(0) @binding(0) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;

const SINGLE: u32 = 0x80000000u;

@compute @workgroup_size(64)
fn squares(here: Place) {
    let asked = group_number(here.group);
    let own = segments[min(asked, p.count - 1u)];
    var sums = vec2<f32>(0.0);
    for (var i = own.x + here.local; i < own.x + own.y; i += 64u) {
        let w = weights[i];
        let d = g[i];
        if (own.w & SINGLE) != 0u {
            sums.x += dot(w * w, d * d);
        } else {
            sums += vec2<f32>(dot(w, w), dot(d, d));
        }
    }
    let both = add_up(sums, here.local);
    if here.local == 0u && asked < p.count { parts[own.z] = vec4<f32>(both, 0.0, 0.0); }
}

// (first part, parts, 1 where the entries are single, 0) a block.
@group(0) @binding(0) var<storage, read> blocks: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> summed: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> scales: array<vec4<f32>>;

@compute @workgroup_size(64)
fn scale(here: Place) {
    let asked = group_number(here.group);
    let own = blocks[min(asked, p.count - 1u)];
    var sums = vec2<f32>(0.0);
    for (var i = own.x + here.local; i < own.x + own.y; i += 64u) { sums += summed[i].xy; }
    let both = add_up(sums, here.local);
    if here.local == 0u && asked < p.count {
        let product = select(both.x * both.y, both.x, own.z != 0u);
        scales[asked] = vec4<f32>(both.x, product, 0.0, 0.0);
    }
}

@group(0) @binding(6) var<storage, read> scaled: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> norm: array<vec4<f32>>;

@compute @workgroup_size(64)
fn whole(here: Place) {
    var sum = 0.0;
    for (var i = here.local; i < p.count; i += 64u) { sum += scaled[i].y; }
    let all = add_up(vec2<f32>(sum, 0.0), here.local).x;
    if here.local == 0u { norm[0] = vec4<f32>(sqrt(all), 0.0, 0.0, 0.0); }
}

// The optimiser's: (.., 1 when something was not finite, .., ..)
@group(0) @binding(2) var<storage, read> settled: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> theta: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> saved: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> length: array<vec4<f32>>;

@compute @workgroup_size(64)
fn ascend(here: Place) {
    let asked = group_number(here.group);
    if asked >= p.count { return; }
    let own = segments[asked];
    let moves = settled[0].y == 0.0 && length[0].x > 0.0;
    let rate = p.rho / length[0].x;
    let single = (own.w & SINGLE) != 0u;
    let squared = scaled[own.w & ~SINGLE].x;
    for (var i = own.x + here.local; i < own.x + own.y; i += 64u) {
        let w = theta[i];
        saved[i] = w;
        if moves { theta[i] = w + rate * select(vec4<f32>(squared), w * w, single) * g[i]; }
    }
}
