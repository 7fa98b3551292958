// Squared norms of one sentence's gradients without forming them ("ghost norms"; Goodfellow 2015; Li et al. 2021, eq.
// 3), from the rows a of a layer's input and the rows b of its output's adjoint; t, s are rows of one sentence:
//   product         weight of a product: Σ_{t,s} (a_t·a_s)(b_t·b_s), for each of PARTS equal parts of b's columns
//   weighted        the same from the inner products of a, folded to s ≤ t (row_gram.wgsl), which all adjoints b share
//   instantiated    the same by forming Σ_t b_t a_tᵀ in registers; cheaper where sentences are long and layers narrow
//   sums            bias: ‖Σ_t b_t‖², for each part
//   scale           layer norm: ‖Σ_t x̂_t ∘ b_t‖² and ‖Σ_t b_t‖²
//   tables          embedding: Σ_{t,s} [same table row] b_t·b_s for words, positions, segments
//   tied            a table that is the head too: the cross term 2 Σ_{t,m} e_m[word_t] (b_t·h_m) with the head's input
//                   h and adjoint e at masked positions m
// Rows of b of a great many columns (words) are taken in slices of columns, a dispatch each, since a software driver
// ends long loops. One workgroup a sentence; out[layer, sentence] has a part in each of four columns. Variants: `row`, 64 invocations
// that share the pairs (t, s); `subgroup`, a lane a row, others by broadcast, for software adapters.
//@variants PARTS=3
//@variants ONTO=1
//@variants SUBGROUP=1 LANES=4|8
//@variants SUBGROUP=1 LANES=8 ONTO=1
//@variants SUBGROUP=1 LANES=16 PARTS=3
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/ghost.wgsl

struct Params {
    // vec4 in a row of a and of one part of b, or of the slice of b's columns that is taken; of the head's adjoint e.
    a4: u32,
    b4: u32,
    e4: u32,
    // vec4 in a whole row of b, and the first of the slice.
    b_row: u32,
    b_first: u32,
    // 1: rows are masked positions.
    masked: u32,
    // vec4 between draws; 0 where there is one.
    b_layer: u32,
    e_layer: u32,
    out_layer: u32,
    // Rows of `scale` in a row of a: parts that are normalised each on its own.
    heads: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

// Whether norms are added to those of the slices before.
const ONTO: u32 = 0u;

fn store(at: u32, all: vec4<f32>) {
    if ONTO != 0u { out[at] += all; } else { out[at] = all; }
}

//@if SUBGROUP
//@import common/ghost_norm_subgroup.wgsl
//@else
//@import common/ghost_norm_row.wgsl
//@end
//@import common/ghost_norm_weighted.wgsl

@compute @workgroup_size(WIDTH)
fn sums(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let range = range_of(min(sentence, step.sentences - 1u), p.masked);
    var total = vec4<f32>(0.0);
    for (var part = 0u; part < PARTS; part++) {
        for (var c = l; c < p.b4; c += WIDTH) {
            var sum = vec4<f32>(0.0);
            for (var t = range.x; t < range.y; t++) {
                sum += b[here.group.z * p.b_layer + p.b_first + t * p.b_row + part * p.b4 + c];
            }
            total[part] += dot(sum, sum);
        }
    }
    let all = add_up(total, l);
    if l == 0u && sentence < step.sentences { store(here.group.z * p.out_layer + sentence, all); }
}

@compute @workgroup_size(WIDTH)
fn scale(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let range = range_of(min(sentence, step.sentences - 1u), p.masked) * p.heads;
    var total = vec4<f32>(0.0);
    for (var c = l; c < p.b4; c += WIDTH) {
        var scales = vec4<f32>(0.0);
        var shifts = vec4<f32>(0.0);
        for (var t = range.x; t < range.y; t++) {
            let s = stat[t];
            let bar = b[here.group.z * p.b_layer + t * p.b4 + c];
            scales += bar * ((a[t * p.b4 + c] - s.x) * s.y);
            shifts += bar;
        }
        total += vec4<f32>(dot(scales, scales), dot(shifts, shifts), 0.0, 0.0);
    }
    let all = add_up(total, l);
    if l == 0u && sentence < step.sentences { out[here.group.z * p.out_layer + sentence] = all; }
}

@compute @workgroup_size(WIDTH)
fn instantiated(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let range = range_of(min(sentence, step.sentences - 1u), p.masked);
    var total = vec4<f32>(0.0);
    for (var part = 0u; part < PARTS; part++) {
        for (var tile = l; tile < p.b4 * p.a4; tile += WIDTH) {
            var g0 = vec4<f32>(0.0);
            var g1 = vec4<f32>(0.0);
            var g2 = vec4<f32>(0.0);
            var g3 = vec4<f32>(0.0);
            for (var t = range.x; t < range.y; t++) {
                let first = here.group.z * p.b_layer + p.b_first + t * p.b_row + part * p.b4;
                let bar = b[first + tile / p.a4];
                let x = a[t * p.a4 + tile % p.a4];
                g0 += bar.x * x;
                g1 += bar.y * x;
                g2 += bar.z * x;
                g3 += bar.w * x;
            }
            total[part] += (dot(g0, g0) + dot(g1, g1)) + (dot(g2, g2) + dot(g3, g3));
        }
    }
    let all = add_up(total, l);
    if l == 0u && sentence < step.sentences { store(here.group.z * p.out_layer + sentence, all); }
}
