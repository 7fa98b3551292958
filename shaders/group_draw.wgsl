// Cotangents u at the logits whose second moments are the two parts of the loss's own Hessian diag(p) − p pᵀ by a
// partition of the words into groups: with P_g = Σ_{v in g} p_v and q_v = p_v / P_g of v's group g,
//   between groups   E[u uᵀ] = q qᵀ ∘ (diag(P) − P Pᵀ)   which group
//   within groups    E[u uᵀ] = diag(p) − p qᵀ in a group, 0 across   which word of its group
// Random signs r, one draw a layer, number step.counter.x + layer:
//   KIND 0   u_v = q_v (√P_g r_g − P_g Σ_h √P_h r_h)
//   KIND 1   u_v = √p_v r_v − q_v Σ_{w in g} √p_w r_w
// Column y of the triangular factors at one predicted position of each sentence, draw number
// (position · columns + y), whose sum over all draws is the part itself; as loss_draw.wgsl's, of P and of each group:
//   KIND 2   columns: groups − 1;  √(P_y S / (P_y + S)) q_v in y, S = Σ_{h > y} P_h, −p_v / S times that root behind it
//   KIND 3   columns: words − 1;   √(p_y s / (p_y + s)) at y, s of the words behind y in its group, −p_v / s times that
//            root behind it
// Random numbers are those of loss_draw.wgsl. An invocation a row and layer, STEP vec4 an iteration: llvmpipe ends the
// loops of an invocation after 65,535 iterations. So the sums of all groups are taken at once, and there are at most
// MOST of them (`GroupDraw::MOST`).
//@variants KIND=1|2|3
//@import common/entry.wgsl
//@import common/draw.wgsl

const KIND: u32 = 0u;
const STEP: u32 = 4u;
const MOST: u32 = 64u;

struct Params {
    width: u32,
    cols4: u32,
    out_layer: u32,
    groups: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stat: array<vec4<f32>>;
// The number of each word's group.
@group(0) @binding(2) var<storage, read> group_of: array<vec4<f32>>;
// (label, two words of the example's key, number of the masked position in its sentence), as bits.
@group(0) @binding(3) var<storage, read> labels: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// The groups of vec4 number c.
fn groups(c: u32) -> vec4<u32> {
    return min(vec4<u32>(group_of[min(c, p.cols4 - 1u)]), vec4<u32>(MOST - 1u));
}

// The sign of a group.
fn sign_of(who: vec4<u32>, draw: u32, g: u32) -> f32 {
    let bits = draws(who, draw, g / 128u);
    return select(1.0, -1.0, ((bits[(g % 128u) / 32u] >> (g % 32u)) & 1u) != 0u);
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let row = element(here);
    if row >= step.masked { return; }
    let s = stat[row];
    let who = bitcast<vec4<u32>>(labels[row]);
    let draw = step.counter.x + here.group.z;
    let to = here.group.z * p.out_layer + row * p.cols4;
    if KIND == 3u {
        let y = draw % (p.width - 1u);
        let g = vec4<u32>(groups(y / 4u)[y % 4u]);
        var behind = 0.0;
        for (var c0 = y / 4u; c0 < p.cols4; c0 += STEP) {
            //@unroll
            for (var u = 0u; u < STEP; u++) {
                let c = c0 + u;
                let own = (groups(c) == g) & (columns(c) > vec4<u32>(y));
                behind += sum4(select(vec4<f32>(0.0), probability(row, c, s), own));
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
                let after = (groups(c) == g) & (columns(c) > vec4<u32>(y));
                let behind_it = select(vec4<f32>(0.0), rest * probability(row, c, s), after);
                put(to, c, select(behind_it, vec4<f32>(top), columns(c) == vec4<u32>(y)));
            }
        }
        return;
    }
    // P_g, and Σ_{v in g} √p_v r_v.
    var masses: array<f32, MOST>;
    var sums: array<f32, MOST>;
    var bits = vec4<u32>(0u);
    for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
        if KIND == 1u && c0 % 32u == 0u { bits = draws(who, draw, c0 / 32u); }
        //@unroll
        for (var u = 0u; u < STEP; u++) {
            let c = c0 + u;
            let q = probability(row, c, s);
            let root = sqrt(q) * signs(bits, c);
            let g = groups(c);
            masses[g.x] += q.x;
            masses[g.y] += q.y;
            masses[g.z] += q.z;
            masses[g.w] += q.w;
            if KIND == 1u {
                sums[g.x] += root.x;
                sums[g.y] += root.y;
                sums[g.z] += root.z;
                sums[g.w] += root.w;
            }
        }
    }
    // u_v = factor_g p_v, and √p_v r_v within groups; a group without mass has no words that count.
    var factors: array<f32, MOST>;
    if KIND == 1u {
        for (var g = 0u; g < p.groups; g++) { factors[g] = select(0.0, -sums[g] / masses[g], masses[g] > 0.0); }
    }
    if KIND == 0u {
        var along = 0.0;
        for (var g = 0u; g < p.groups; g++) { along += sqrt(masses[g]) * sign_of(who, draw, g); }
        for (var g = 0u; g < p.groups; g++) {
            factors[g] = select(0.0, sign_of(who, draw, g) / sqrt(masses[g]) - along, masses[g] > 0.0);
        }
    }
    if KIND == 2u {
        let last = max(p.groups, 2u) - 1u;
        let y = draw % last;
        var behind = 0.0;
        for (var g = y + 1u; g < p.groups; g++) { behind += masses[g]; }
        let own = masses[y];
        if behind > 0.0 && own > 0.0 && draw / last == who.w {
            let top = sqrt(own * (behind / (own + behind)));
            factors[y] = top / own;
            for (var g = y + 1u; g < p.groups; g++) { factors[g] = -top / behind; }
        }
    }
    for (var c0 = 0u; c0 < p.cols4; c0 += STEP) {
        if KIND == 1u && c0 % 32u == 0u { bits = draws(who, draw, c0 / 32u); }
        //@unroll
        for (var u = 0u; u < STEP; u++) {
            let c = c0 + u;
            let q = probability(row, c, s);
            let g = groups(c);
            let factor = vec4<f32>(factors[g.x], factors[g.y], factors[g.z], factors[g.w]);
            let own = select(vec4<f32>(0.0), sqrt(q) * signs(bits, c), KIND == 1u);
            put(to, c, factor * q + own);
        }
    }
}
