// The software variant of ghost_norm.wgsl: a workgroup is one subgroup of LANES lanes. Lane l holds row l of a block of
// rows; the rows of the other block go round by subgroupBroadcast, so that a load serves LANES pairs. Blocks above the
// diagonal are those below it again. The inner products of a are taken once for all draws of b.
//@import common/ghost_lanes.wgsl

const WIDTH: u32 = LANES;
// Iterations of all loops of an invocation (common/lane_products.wgsl).
const ITERATIONS: u32 = 60000u;

fn add_up(v: vec4<f32>, l: u32) -> vec4<f32> {
    return subgroupAdd(v);
}

// A row of a, or a part of one of b, with those of all lanes in the same block: a load serves both sides.
fn inner_a_own(t: u32) -> array<f32, LANES> {
    var inner: array<f32, LANES>;
    for (var c0 = 0u; c0 < p.a4; c0 += COLUMNS) {
        //@unroll
        for (var u = 0u; u < COLUMNS; u++) {
            let own = a[t * p.a4 + min(c0 + u, p.a4 - 1u)] * before(c0 + u, p.a4);
            meet(&inner, own, own);
        }
    }
    return inner;
}

fn inner_b_own(t: u32) -> array<f32, LANES> {
    var inner: array<f32, LANES>;
    for (var c0 = 0u; c0 < p.b4; c0 += COLUMNS) {
        //@unroll
        for (var u = 0u; u < COLUMNS; u++) {
            let own = b[t + min(c0 + u, p.b4 - 1u)] * before(c0 + u, p.b4);
            meet(&inner, own, own);
        }
    }
    return inner;
}

// Where a part of row t of b begins.
fn part_of(layer: u32, t: u32, part: u32) -> u32 {
    return layer + p.b_first + t * p.b_row + part * p.b4;
}

@compute @workgroup_size(LANES)
fn product(here: Lane) {
    let l = here.lane;
    let sentence = group_number(here.group);
    if sentence >= step.sentences { return; }
    let range = range_of(sentence, p.masked);
    // As many draws as its loops allow; of the workgroups, one a draw, those that are left over have none.
    let blocks = (range.y - range.x + LANES - 1u) / LANES;
    let room = ITERATIONS / max(blocks * (blocks + 1u) / 2u, 1u);
    let once = (p.a4 + COLUMNS - 1u) / COLUMNS;
    let each = max((room - min(room, once)) / (PARTS * ((p.b4 + COLUMNS - 1u) / COLUMNS)), 1u);
    let first = here.group.z * each;
    let draws = select(1u, min(first + each, step.probes), p.b_layer != 0u);
    if first >= draws { return; }
    if range.x >= range.y {
        for (var k = first; k < draws; k++) { store(k * p.out_layer + sentence, vec4<f32>(0.0)); }
    }
    for (var t0 = range.x; t0 < range.y; t0 += LANES) {
        let t = min(t0 + l, range.y - 1u);
        // The block on the diagonal.
        var inner = inner_a_own(t);
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            inner[j] = select(0.0, inner[j], t0 + l < range.y && t0 + j < range.y);
        }
        for (var k = first; k < draws; k++) {
            var total = vec4<f32>(0.0);
            //@unroll
            for (var part = 0u; part < PARTS; part++) {
                let inner_of_b = inner_b_own(part_of(k * p.b_layer, t, part));
                //@unroll
                for (var j = 0u; j < LANES; j++) {
                    total[part] += inner[j] * inner_of_b[j];
                }
            }
            let all = add_up(total, l);
            if l == 0u {
                let at = k * p.out_layer + sentence;
                if t0 == range.x { store(at, all); } else { out[at] += all; }
            }
        }
        // Those below it count twice.
        for (var s0 = range.x; s0 < t0; s0 += LANES) {
            let s = s0 + l;
            var crossed = inner_a(t, s);
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                crossed[j] = select(0.0, 2.0 * crossed[j], t0 + l < range.y);
            }
            for (var k = first; k < draws; k++) {
                var total = vec4<f32>(0.0);
                //@unroll
                for (var part = 0u; part < PARTS; part++) {
                    let inner_of_b = inner_b(part_of(k * p.b_layer, t, part), part_of(k * p.b_layer, s, part));
                    //@unroll
                    for (var j = 0u; j < LANES; j++) {
                        total[part] += crossed[j] * inner_of_b[j];
                    }
                }
                let all = add_up(total, l);
                if l == 0u { out[k * p.out_layer + sentence] += all; }
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn tables(here: Lane) {
    let l = here.lane;
    let sentence = group_number(here.group);
    if sentence >= step.sentences { return; }
    let range = range_of(sentence, p.masked);
    let layer = here.group.z * p.b_layer;
    var total = vec4<f32>(0.0);
    for (var t0 = range.x; t0 < range.y; t0 += LANES) {
        let t = min(t0 + l, range.y - 1u);
        let own = bitcast<vec4<u32>>(ids[t]);
        for (var s0 = range.x; s0 <= t0; s0 += LANES) {
            let s = min(s0 + l, range.y - 1u);
            let theirs = bitcast<vec4<u32>>(ids[s]);
            let inner = inner_b(part_of(layer, t, 0u), part_of(layer, s, 0u));
            let weight = select(2.0, 1.0, s0 == t0);
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                let same = own == subgroupBroadcast(theirs, j);
                let kept = select(0.0, weight * inner[j], t0 + l < range.y && s0 + j < range.y);
                total += select(vec4<f32>(0.0), vec4<f32>(kept), same);
            }
        }
    }
    let all = add_up(total, l);
    if l == 0u { out[here.group.z * p.out_layer + sentence] = vec4<f32>(all.xyz, 0.0); }
}

@compute @workgroup_size(LANES)
fn tied(here: Lane) {
    let l = here.lane;
    let sentence = group_number(here.group);
    if sentence >= step.sentences { return; }
    let span = spans_of(sentence);
    let e0 = here.group.z * p.e_layer;
    var total = 0.0;
    for (var t0 = span.x; t0 < span.y; t0 += LANES) {
        let t = min(t0 + l, span.y - 1u);
        let word = bitcast<vec4<u32>>(ids[t]).x;
        for (var m0 = span.z; m0 < span.w; m0 += LANES) {
            let inner = inner_b_a(here.group.z * p.b_layer + t * p.b4, min(m0 + l, span.w - 1u));
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                let term = inner[j] * adjoint_of(e0 + min(m0 + j, span.w - 1u) * p.e4, word);
                total += select(0.0, term, t0 + l < span.y && m0 + j < span.w);
            }
        }
    }
    let all = add_up(vec4<f32>(2.0 * total, 0.0, 0.0, 0.0), l);
    if l == 0u { out[here.group.z * p.out_layer + sentence] = all; }
}
