// Inner products g_i·g_j of two sentences' gradients without forming them, from the rows a of a layer's input and b of
// its output's adjoint; t are rows of sentence i, s of sentence j ≤ i (the rest is the mirror image). As in
// ghost_norm.wgsl:
//   product   weight of a product, and its bias where `bias` is 1: Σ_{t,s} (a_t·a_s + bias)(b_t·b_s)
//   sums      bias: Σ_{t,s} b_t·b_s
//   scale     layer norm's scale and shift: Σ_{t,s} (x̂_t ∘ b_t)·(x̂_s ∘ b_s) + b_t·b_s
//   tables    embedding: Σ_{t,s} [same row of a table] b_t·b_s, summed over the tables
//   tied      a table that is the head too: Σ_{t,m} e_m[word_t] (b_t·h_m), m masked positions of the other sentence,
//             both ways
// With ADDEND each adds to `addend`. `mask` has a bit for each of PARTS equal parts of b's columns (or for scale and
// shift, or for each table) that takes part. One workgroup a pair of sentences; variants as in ghost_norm.wgsl.
//@variants PARTS=3 ADDEND=1
//@variants ONTO=1
//@variants SUBGROUP=1 LANES=4|8
//@variants SUBGROUP=1 LANES=8 ONTO=1
//@variants SUBGROUP=1 LANES=16 PARTS=3 ADDEND=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/ghost.wgsl

const ADDEND: u32 = 0u;
// Whether products are added to those of the slices before.
const ONTO: u32 = 0u;

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
    // Sentences that the plan has room for, and numbers in a row of the result.
    most: u32,
    stride: u32,
    bias: f32,
    mask: u32,
    // Sentence of the first row of this dispatch.
    first: u32,
    // Rows of `scale` in a row of a: parts that are normalised each on its own.
    heads: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

//@optional
@group(0) @binding(6) var<storage, read> addend: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;

// Two sentences: their rows [first, end) and their masked positions.
struct Pair {
    i: u32,
    j: u32,
    own: vec4<u32>,
    other: vec4<u32>,
    inside: bool,
}

fn pair_of(group: u32) -> Pair {
    let i = p.first + group / p.most;
    let j = group % p.most;
    let inside = i < step.sentences && j <= i;
    let last = step.sentences - 1u;
    var own = spans_of(min(i, last));
    var other = spans_of(min(j, last));
    if p.masked != 0u {
        own = own.zwzw;
        other = other.zwzw;
    }
    return Pair(i, j, own, other, inside);
}

// The same with the rows of `scale`.
fn pair_of_heads(group: u32) -> Pair {
    var pair = pair_of(group);
    pair.own *= p.heads;
    pair.other *= p.heads;
    return pair;
}

fn keep(pair: Pair, total: f32) {
    let at = pair.i * p.stride + pair.j;
    var sum = total;
    if ADDEND != 0u { sum += addend[at]; }
    if ONTO != 0u { sum += out[at]; }
    out[at] = sum;
}

// x̂ ∘ b at vec4 number c of a row.
fn scaled(t: u32, c: u32) -> vec4<f32> {
    let s = stat[t];
    return b[t * p.b4 + c] * ((a[t * p.b4 + c] - s.x) * s.y);
}

// How many of the tables that take part have the same row for both tokens.
fn shared_rows(x: vec4<u32>, y: vec4<u32>) -> f32 {
    let bits = vec3<u32>(p.mask & 1u, (p.mask >> 1u) & 1u, (p.mask >> 2u) & 1u);
    let same = select(vec3<u32>(0u), bits, x.xyz == y.xyz);
    return f32(same.x + same.y + same.z);
}

//@if SUBGROUP
//@import common/ghost_gram_subgroup.wgsl
//@else
//@import common/ghost_gram_row.wgsl
//@end
