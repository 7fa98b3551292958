// Draws u₀ at the logits, with E[u₀ u₀ᵀ] = S = diag(p) − p pᵀ, put along four directions of the words' space: with f_v
// the four coordinates of word v, their mean m = Σ p f and covariance C = Σ p (f − m)(f − m)ᵀ = L Lᵀ,
//   u = u₀ + p ∘ ((f − m) α), α = L⁻ᵀ (r − L⁻¹ t), t = Σ u₀ (f − m), r ∈ {−1, 1}⁴
// so that u₀'s part along the columns p ∘ (f − m) L⁻ᵀ, which are orthonormal for the inverse of S, is drawn anew by a
// sign for each. E[u uᵀ] = S whatever f is: the part taken away is that of S's projection on these columns. A direction
// without scatter under p is left as it was. Random numbers are a function of (seed, example, masked position, draw).
// An invocation a row and layer, two vec4 an iteration.
//@import common/entry.wgsl
//@import common/draw.wgsl

// Share of a direction's scatter that must be left beside those before it.
const LEAST: f32 = 1e-4;

struct Params {
    width: u32,
    cols4: u32,
    out_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stat: array<vec4<f32>>;
// Four coordinates of each word.
@group(0) @binding(2) var<storage, read> axes: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> drawn: array<vec4<f32>>;
// (label, two words of the example's key, number of the masked position in its sentence), as bits.
@group(0) @binding(4) var<storage, read> labels: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

// Coordinates of word v; those of the last behind the end, where p is 0.
fn place(v: u32) -> vec4<f32> {
    return axes[min(v, p.width - 1u)];
}

// One over the root of a pivot, 0 where too little of the direction's own scatter is left.
fn inverse(pivot: f32, whole: f32) -> f32 {
    return select(0.0, inverseSqrt(max(pivot, 1e-37)), pivot > LEAST * whole && pivot > 1e-30);
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let row = element(here);
    if row >= step.masked { return; }
    let s = stat[row];
    let at = here.group.z * p.out_layer + row * p.cols4;
    var mean = vec4<f32>(0.0);
    for (var c = 0u; c < p.cols4; c++) {
        let q = probability(row, c, s);
        mean += q.x * place(4u * c) + q.y * place(4u * c + 1u) + q.z * place(4u * c + 2u) + q.w * place(4u * c + 3u);
    }
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    var t = vec4<f32>(0.0);
    for (var c = 0u; c < p.cols4; c++) {
        let q = probability(row, c, s);
        let u = within(drawn[at + c], c, p.width);
        for (var i = 0u; i < 4u; i++) {
            let f = place(4u * c + i) - mean;
            let g = q[i] * f;
            c0 += g * f.x;
            c1 += g * f.y;
            c2 += g * f.z;
            c3 += g * f.w;
            t += u[i] * f;
        }
    }
    // L by columns, and one over its diagonal.
    let d0 = inverse(c0.x, c0.x);
    let l0 = c0 * d0;
    let d1 = inverse(c1.y - l0.y * l0.y, c1.y);
    let l1 = (c1 - l0 * l0.y) * d1;
    let d2 = inverse(c2.z - l0.z * l0.z - l1.z * l1.z, c2.z);
    let l2 = (c2 - l0 * l0.z - l1 * l1.z) * d2;
    let d3 = inverse(c3.w - l0.w * l0.w - l1.w * l1.w - l2.w * l2.w, c3.w);
    // r − L⁻¹ t, 0 for what is left as it was.
    let y0 = t.x * d0;
    let y1 = (t.y - l0.y * y0) * d1;
    let y2 = (t.z - l0.z * y0 - l1.z * y1) * d2;
    let y3 = (t.w - l0.w * y0 - l1.w * y1 - l2.w * y2) * d3;
    let who = bitcast<vec4<u32>>(labels[row]);
    let draw = step.counter.x + here.group.z;
    // The signs of u₀ take the blocks from 0 on.
    let r = signs(draws(who, draw, 0xFFFFFFFFu), 0u);
    let some = vec4<f32>(vec4<bool>(d0 > 0.0, d1 > 0.0, d2 > 0.0, d3 > 0.0));
    let b = some * (r - vec4<f32>(y0, y1, y2, y3));
    let a3 = b.w * d3;
    let a2 = (b.z - l2.w * a3) * d2;
    let a1 = (b.y - l1.z * a2 - l1.w * a3) * d1;
    let a0 = (b.x - l0.y * a1 - l0.z * a2 - l0.w * a3) * d0;
    let alpha = vec4<f32>(a0, a1, a2, a3);
    for (var c = 0u; c < p.cols4; c++) {
        let q = probability(row, c, s);
        let along = vec4<f32>(
            dot(place(4u * c) - mean, alpha),
            dot(place(4u * c + 1u) - mean, alpha),
            dot(place(4u * c + 2u) - mean, alpha),
            dot(place(4u * c + 3u) - mean, alpha),
        );
        out[at + c] = within(drawn[at + c], c, p.width) + q * along;
    }
}
