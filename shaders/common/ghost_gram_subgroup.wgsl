// The software variant of ghost_gram.wgsl: a workgroup is one subgroup. Lane l holds row l of a block of rows of one
// sentence; the rows of the other go round by subgroupBroadcast.
//@import common/ghost_lanes.wgsl

// Σ over a block of weight_j inner_j, with nothing behind the sentences' ends.
fn weighed(weights: array<f32, LANES>, inner: array<f32, LANES>, t: u32, t_end: u32, s: u32, s_end: u32) -> f32 {
    var total = 0.0;
    //@unroll
    for (var j = 0u; j < LANES; j++) {
        total += select(0.0, weights[j] * inner[j], t < t_end && s + j < s_end);
    }
    return total;
}

@compute @workgroup_size(LANES)
fn product(here: Lane) {
    let l = here.lane;
    let pair = pair_of(group_number(here.group));
    if !pair.inside { return; }
    var total = 0.0;
    for (var t0 = pair.own.x; t0 < pair.own.y; t0 += LANES) {
        let t = min(t0 + l, pair.own.y - 1u);
        for (var s0 = pair.other.x; s0 < pair.other.y; s0 += LANES) {
            let s = min(s0 + l, pair.other.y - 1u);
            var weights = inner_a(t, s);
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                weights[j] += p.bias;
            }
            for (var part = 0u; part < PARTS; part++) {
                if ((p.mask >> part) & 1u) == 0u { continue; }
                let first = p.b_first + part * p.b4;
                let inner = inner_b(t * p.b_row + first, s * p.b_row + first);
                total += weighed(weights, inner, t0 + l, pair.own.y, s0, pair.other.y);
            }
        }
    }
    let all = subgroupAdd(total);
    if l == 0u { keep(pair, all); }
}

@compute @workgroup_size(LANES)
fn sums(here: Lane) {
    let pair = pair_of(group_number(here.group));
    if !pair.inside { return; }
    // Lanes share the columns: the sums over the rows of both sentences first.
    var total = 0.0;
    for (var part = 0u; part < PARTS; part++) {
        if ((p.mask >> part) & 1u) == 0u { continue; }
        for (var c = part * p.b4 + here.lane; c < (part + 1u) * p.b4; c += LANES) {
            var own = vec4<f32>(0.0);
            var other = vec4<f32>(0.0);
            for (var t = pair.own.x; t < pair.own.y; t++) { own += b[t * p.b_row + p.b_first + c]; }
            for (var s = pair.other.x; s < pair.other.y; s++) { other += b[s * p.b_row + p.b_first + c]; }
            total += dot(own, other);
        }
    }
    let all = subgroupAdd(total);
    if here.lane == 0u { keep(pair, all); }
}

@compute @workgroup_size(LANES)
fn scale(here: Lane) {
    let pair = pair_of_heads(group_number(here.group));
    if !pair.inside { return; }
    let scales = f32(p.mask & 1u);
    let shifts = f32((p.mask >> 1u) & 1u);
    var total = 0.0;
    for (var c = here.lane; c < p.b4; c += LANES) {
        var own = vec4<f32>(0.0);
        var other = vec4<f32>(0.0);
        var own_shift = vec4<f32>(0.0);
        var other_shift = vec4<f32>(0.0);
        for (var t = pair.own.x; t < pair.own.y; t++) {
            own += scaled(t, c);
            own_shift += b[t * p.b4 + c];
        }
        for (var s = pair.other.x; s < pair.other.y; s++) {
            other += scaled(s, c);
            other_shift += b[s * p.b4 + c];
        }
        total += scales * dot(own, other) + shifts * dot(own_shift, other_shift);
    }
    let all = subgroupAdd(total);
    if here.lane == 0u { keep(pair, all); }
}

@compute @workgroup_size(LANES)
fn tables(here: Lane) {
    let l = here.lane;
    let pair = pair_of(group_number(here.group));
    if !pair.inside { return; }
    var total = 0.0;
    for (var t0 = pair.own.x; t0 < pair.own.y; t0 += LANES) {
        let t = min(t0 + l, pair.own.y - 1u);
        let own = bitcast<vec4<u32>>(ids[t]);
        for (var s0 = pair.other.x; s0 < pair.other.y; s0 += LANES) {
            let s = min(s0 + l, pair.other.y - 1u);
            let theirs = bitcast<vec4<u32>>(ids[s]);
            var weights: array<f32, LANES>;
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                weights[j] = shared_rows(own, subgroupBroadcast(theirs, j));
            }
            let inner = inner_b(t * PARTS * p.b4, s * PARTS * p.b4);
            total += weighed(weights, inner, t0 + l, pair.own.y, s0, pair.other.y);
        }
    }
    let all = subgroupAdd(total);
    if l == 0u { keep(pair, all); }
}

// Tokens of one sentence, a lane each, with the masked positions of the other.
fn crossed(tokens: vec2<u32>, positions: vec2<u32>, l: u32) -> f32 {
    var total = 0.0;
    for (var t0 = tokens.x; t0 < tokens.y; t0 += LANES) {
        let t = min(t0 + l, tokens.y - 1u);
        let word = bitcast<vec4<u32>>(ids[t]).x;
        for (var m0 = positions.x; m0 < positions.y; m0 += LANES) {
            let inner = inner_b_a(t * p.b4, min(m0 + l, positions.y - 1u));
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                let term = inner[j] * adjoint_of(min(m0 + j, positions.y - 1u) * p.e4, word);
                total += select(0.0, term, t0 + l < tokens.y && m0 + j < positions.y);
            }
        }
    }
    return total;
}

@compute @workgroup_size(LANES)
fn tied(here: Lane) {
    let l = here.lane;
    let pair = pair_of(group_number(here.group));
    if !pair.inside { return; }
    let all = subgroupAdd(crossed(pair.own.xy, pair.other.zw, l) + crossed(pair.other.xy, pair.own.zw, l));
    if l == 0u { keep(pair, all); }
}
