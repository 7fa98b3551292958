// Inner products of a layer's input rows within each sentence, folded to below the diagonal:
//   out[t, s] = 2 a_t·a_s for s < t, ‖a_t‖² for s = t, 0 for s > t,
// s counted from the sentence's first row, up to the columns of out. With it, Σ_{t,s} (a_t·a_s)(b_t·b_s) is half the
// work (`weighted` in ghost_norm.wgsl), and it is the same for all adjoints b. Variants: `row`, an invocation per vec4
// of out; `subgroup`, a lane per row, other rows by broadcast, for software adapters.
//@variants SUBGROUP=1 LANES=4|8|16
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl
//@import common/sentences.wgsl

const SUBGROUP: u32 = 0u;

struct Params {
    // vec4 in a row of a, and of out.
    a4: u32,
    most4: u32,
    // Rows of the longest sentence.
    most: u32,
    // 1: rows are masked positions.
    masked: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

// Factors of vec4 number c of row t.
fn folded(t: u32, c: u32) -> vec4<f32> {
    let below = select(vec4<f32>(0.0), vec4<f32>(2.0), columns(c) < vec4<u32>(t));
    return select(below, vec4<f32>(1.0), columns(c) == vec4<u32>(t));
}

//@if SUBGROUP
//@import common/lane_products.wgsl

@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    let blocks = (4u * p.most4 + LANES - 1u) / LANES;
    let sentence = group_number(here.group) / blocks;
    if sentence >= step.sentences { return; }
    let range = range_of(sentence, p.masked);
    let length = range.y - range.x;
    let t0 = group_number(here.group) % blocks * LANES;
    if t0 >= length { return; }
    let t = t0 + here.lane;
    let own_row = range.x + min(t, length - 1u);
    for (var s0 = 0u; s0 < 4u * p.most4; s0 += LANES) {
        var inner: array<f32, LANES>;
        if s0 < t0 + LANES { inner = inner_a(own_row, range.x + min(s0 + here.lane, length - 1u)); }
        //@unroll
        for (var q = 0u; q < LANES / 4u; q++) {
            let s4 = s0 / 4u + q;
            if t < length && s4 < p.most4 {
                let four = vec4<f32>(inner[4u * q], inner[4u * q + 1u], inner[4u * q + 2u], inner[4u * q + 3u]);
                out[(range.x + t) * p.most4 + s4] = folded(t, s4) * four;
            }
        }
    }
}
//@else
@compute @workgroup_size(64)
fn forward(here: Place) {
    let blocks = (p.most * p.most4 + 63u) / 64u;
    let sentence = group_number(here.group) / blocks;
    if sentence >= step.sentences { return; }
    let range = range_of(sentence, p.masked);
    let length = range.y - range.x;
    let at = group_number(here.group) % blocks * 64u + here.local;
    let t = at / p.most4;
    let s4 = at % p.most4;
    if t >= length { return; }
    var four = vec4<f32>(0.0);
    if 4u * s4 <= t {
        let s = vec4<u32>(range.x) + min(columns(s4), vec4<u32>(length - 1u));
        for (var c = 0u; c < p.a4; c++) {
            let own = a[(range.x + t) * p.a4 + c];
            four.x += dot(own, a[s.x * p.a4 + c]);
            four.y += dot(own, a[s.y * p.a4 + c]);
            four.z += dot(own, a[s.z * p.a4 + c]);
            four.w += dot(own, a[s.w * p.a4 + c]);
        }
    }
    out[(range.x + t) * p.most4 + s4] = folded(t, s4) * four;
}
//@end
