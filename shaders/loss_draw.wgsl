// Cotangents u at the logits with E[u uᵀ] = diag(p) − p pᵀ, the loss's own Hessian: the squared norm of the gradient
// that they give has the Gauss-Newton (= Fisher) trace as its mean. One draw a layer, number step.counter.x + layer:
//   KIND 0  labels   u = p − e_y, y ~ p
//   KIND 1  signs    u = √p ∘ r − p ⟨√p, r⟩, r in {−1, 1}^V
//   KIND 2  exact    u = column y of the triangular factor of diag(p) − p pᵀ at one masked position of each sentence;
//                    draw number (position (V − 1) + y); the sum over all draws is the trace itself. With
//                    s_y = Σ_{i ≥ y} p_i: √(p_y s_{y+1} / s_y) at y, −p_i / s_{y+1} times that behind it, 0 before
// Random numbers are a function of (seed, example, masked position, draw). An invocation a row and layer, STEP vec4 an
// iteration: llvmpipe ends the loops of an invocation after 65,535 iterations.
//@variants KIND=1|2
//@import common/entry.wgsl
//@import common/draw.wgsl

const KIND: u32 = 0u;
const STEP: u32 = 4u;

struct Params {
    width: u32,
    cols4: u32,
    out_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stat: array<vec4<f32>>;
// (label, two words of the example's key, number of the masked position in its sentence), as bits.
@group(0) @binding(2) var<storage, read> labels: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let row = element(here);
    if row >= step.masked { return; }
    let s = stat[row];
    let who = bitcast<vec4<u32>>(labels[row]);
    let draw = step.counter.x + here.group.z;
    let to = here.group.z * p.out_layer + row * p.cols4;
    if KIND == 1u {
        var along = 0.0;
        var bits = vec4<u32>(0u);
        for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
            if c0 % 32u == 0u { bits = draws(who, draw, c0 / 32u); }
            //@unroll
            for (var u = 0u; u < STEP; u++) {
                along += dot(sqrt(probability(row, c0 + u, s)), signs(bits, c0 + u));
            }
        }
        for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
            if c0 % 32u == 0u { bits = draws(who, draw, c0 / 32u); }
            //@unroll
            for (var u = 0u; u < STEP; u++) {
                let q = probability(row, c0 + u, s);
                put(to, c0 + u, sqrt(q) * signs(bits, c0 + u) - q * along);
            }
        }
        return;
    }
    if KIND == 2u {
        let y = draw % (p.width - 1u);
        var behind = 0.0;
        for (var c0 = y / 4u; c0 < p.cols4; c0 += STEP) {
            //@unroll
            for (var u = 0u; u < STEP; u++) {
                let q = select(vec4<f32>(0.0), probability(row, c0 + u, s), columns(c0 + u) > vec4<u32>(y));
                behind += sum4(q);
            }
        }
        let own = probability(row, y / 4u, s)[y % 4u];
        // Where nothing is behind y its column is 0.
        let some = behind > 0.0 && own > 0.0 && draw / (p.width - 1u) == who.w;
        let top = select(0.0, sqrt(own * (behind / (own + behind))), some);
        let rest = select(0.0, -top / behind, some);
        for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
            //@unroll
            for (var u = 0u; u < STEP; u++) {
                let c = c0 + u;
                let after = select(vec4<f32>(0.0), rest * probability(row, c, s), columns(c) > vec4<u32>(y));
                put(to, c, select(after, vec4<f32>(top), columns(c) == vec4<u32>(y)));
            }
        }
        return;
    }
    // By inversion; rounding may leave the last sum below 1, and then the last word it is.
    let u = (f32(draws(who, draw, 0u).x >> 8u) + 0.5) / 16777216.0;
    var sum = 0.0;
    var y = 0u;
    for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
        //@unroll
        for (var u4 = 0u; u4 < STEP; u4++) {
            let q = probability(row, c0 + u4, s);
            let sums = sum + vec4<f32>(q.x, q.x + q.y, q.x + q.y + q.z, sum4(q));
            let passed = select(vec4<u32>(0u), vec4<u32>(1u), sums <= vec4<f32>(u));
            y += passed.x + passed.y + passed.z + passed.w;
            sum = sums.w;
        }
    }
    y = min(y, p.width - 1u);
    for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
        //@unroll
        for (var u4 = 0u; u4 < STEP; u4++) {
            let c = c0 + u4;
            let label = select(vec4<f32>(0.0), vec4<f32>(1.0), columns(c) == vec4<u32>(y));
            put(to, c, probability(row, c, s) - label);
        }
    }
}
