// The entry point `weighted` of ghost_norm.wgsl: Σ_{t,s} a[t, s] (b_t·b_s), a being the folded inner products of
// row_gram.wgsl.

//@if SUBGROUP
const TILE: u32 = 2u * LANES;

// A product a b as in linear_subgroup.wgsl (TILE rows, a vec4 of columns per lane), of which nothing is written: each
// of its rows meets the row of b of the same number. Columns of a behind a tile's last row are zero and left out.
@compute @workgroup_size(LANES)
fn weighted(here: Lane) {
    let l = here.lane;
    let sentence = group_number(here.group);
    if sentence >= step.sentences { return; }
    let range = range_of(sentence, p.masked);
    let length = range.y - range.x;
    let row4 = p.b_row;
    let first = here.group.z * p.b_layer + p.b_first + range.x * row4;
    var total = vec4<f32>(0.0);
    //@unroll
    for (var part = 0u; part < PARTS; part++) {
        for (var c0 = 0u; c0 < p.b4; c0 += LANES) {
            let column = first + part * p.b4 + min(c0 + l, p.b4 - 1u);
            var met = 0.0;
            for (var t0 = 0u; t0 < length; t0 += TILE) {
                var acc: array<vec4<f32>, TILE>;
                for (var s = 0u; s < min(t0 + TILE, length); s += 4u) {
                    var left: array<vec4<f32>, 2>;
                    var right: array<vec4<f32>, 4>;
                    //@unroll
                    for (var g = 0u; g < 2u; g++) {
                        left[g] = a[(range.x + min(t0 + g * LANES + l, length - 1u)) * p.a4 + s / 4u];
                    }
                    //@unroll
                    for (var g = 0u; g < 4u; g++) {
                        right[g] = b[column + min(s + g, length - 1u) * row4];
                    }
                    //@unroll
                    for (var r = 0u; r < TILE; r++) {
                        let four = subgroupBroadcast(left[r / LANES], r % LANES);
                        acc[r] = fma(vec4<f32>(four.x), right[0], acc[r]);
                        acc[r] = fma(vec4<f32>(four.y), right[1], acc[r]);
                        acc[r] = fma(vec4<f32>(four.z), right[2], acc[r]);
                        acc[r] = fma(vec4<f32>(four.w), right[3], acc[r]);
                    }
                }
                //@unroll
                for (var r = 0u; r < TILE; r++) {
                    let with_own = dot(acc[r], b[column + min(t0 + r, length - 1u) * row4]);
                    met += select(0.0, with_own, t0 + r < length);
                }
            }
            total[part] += select(0.0, met, c0 + l < p.b4);
        }
    }
    let all = add_up(total, l);
    if l == 0u { store(here.group.z * p.out_layer + sentence, all); }
}
//@else
@compute @workgroup_size(64)
fn weighted(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let range = range_of(min(sentence, step.sentences - 1u), p.masked);
    let length = range.y - range.x;
    var total = vec4<f32>(0.0);
    for (var pair = l; pair < length * length; pair += 64u) {
        let t = pair / length;
        let s = pair % length;
        if s > t { continue; }
        let weight = a[(range.x + t) * p.a4 + s / 4u][s % 4u];
        for (var part = 0u; part < PARTS; part++) {
            total[part] += weight * inner_b(here.group.z * p.b_layer, range.x + t, range.x + s, part);
        }
    }
    let all = add_up(total, l);
    if l == 0u && sentence < step.sentences { store(here.group.z * p.out_layer + sentence, all); }
}
//@end
