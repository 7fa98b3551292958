// attention.wgsl with masked rows alone as queries, keys and values being of all rows: what is in front of a loss of
// masked rows. o, ō and stat are of masked positions, qkv and its adjoint of all rows. One form for all adapters, since
// masked rows are few: straight from memory, an invocation
//   forward    a (masked position, head): it goes over the keys of its sentence once
//   vjp_keys   a (row, head): over the masked positions of its sentence; k̄ and v̄, and q̄ = 0
//   vjp        a (masked position, head), behind vjp_keys: over the keys of its sentence; q̄ of its row
// Two dispatches, since a software adapter would run both sides of a branch between rows as keys and as queries.
//@variants SIZE4=8 DROPOUT=1 CAUSAL=0|1
//@variants SIZE4=1|2 CAUSAL=0|1
//@variants UNIFORM=1 LANES=8 SIZE4=8 CAUSAL=0|1
//@variants UNIFORM=1 PAIRS=1 LANES=16 CAUSAL=0|1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl
//@import common/sentences.wgsl
//@import common/attention_mask.wgsl
//@import common/attention_dropout.wgsl

const SIZE4: u32 = 4u;
// Stores a lane after another, and these two numbers as one of 64 bits.
const UNIFORM: u32 = 0u;
const PAIRS: u32 = 0u;
// Lanes of a subgroup (UNIFORM).
const LANES: u32 = 8u;

//@if UNIFORM
//@import common/subgroup.wgsl
//@import common/uniform_store.wgsl
//@end

struct Params {
    heads: u32,
    scale: f32,
    out_layer: u32,
    in_layer: u32,
    stream: u32,
    threshold: u32,
    keep: f32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
// As in attention.wgsl.
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> o_bar: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> stat_out: array<vec4<f32>>;
// What vjp_keys stores: the whole adjoint of qkv.
//@if PAIRS
@group(0) @binding(6) var<storage, read_write> qkv_bar: array<vec2<f64>>;
//@else
@group(0) @binding(6) var<storage, read_write> qkv_bar: array<vec4<f32>>;
//@end
// The row of each masked position, as bits, four an element.
@group(0) @binding(7) var<storage, read> index: array<vec4<f32>>;

fn index_of(m: u32) -> u32 {
    return bitcast<vec4<u32>>(index[m / 4u])[m % 4u];
}

// A masked position's head; none where head is p.heads or more.
struct Query {
    // Number among the masked positions.
    m: u32,
    row: u32,
    head: u32,
    // The keys of its sentence.
    first: u32,
    end: u32,
}

fn query(here: Place) -> Query {
    let i = element(here);
    let m = i % step.masked;
    let row = index_of(m);
    let span = bitcast<vec4<u32>>(spans[row]);
    return Query(m, row, i / step.masked, span.x, keys_end(span.y, row));
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let wide = p.heads * SIZE4;
    let own = t.row * 3u * wide + t.head * SIZE4;
    var q: array<vec4<f32>, SIZE4>;
    var total: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
    }
    var top = -3.4e38;
    var mass = 0.0;
    for (var other = t.first; other < t.end; other++) {
        let key = other * 3u * wide + wide + t.head * SIZE4;
        var dots = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            dots += q[c] * qkv[key + c];
        }
        let s = sum4(dots);
        let higher = max(top, s);
        let shrink = exp(top - higher);
        let e = exp(s - higher);
        mass = mass * shrink + e;
        top = higher;
        let weight = e * kept(t.row, other, t.head);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            total[c] = total[c] * shrink + weight * qkv[key + wide + c];
        }
    }
    let r = 1.0 / mass;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[t.m * wide + t.head * SIZE4 + c] = total[c] * r;
    }
    stat_out[t.m * p.heads + t.head] = vec4<f32>(top + log(mass), 0.0, 0.0, 0.0);
}

//@import common/attention_masked_keys.wgsl

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let wide = p.heads * SIZE4;
    let own = t.row * 3u * wide + t.head * SIZE4;
    let beside = t.m * wide + t.head * SIZE4;
    let layer = here.group.z * p.in_layer;
    var q: array<vec4<f32>, SIZE4>;
    var g: array<vec4<f32>, SIZE4>;
    var q_bar: array<vec4<f32>, SIZE4>;
    var deltas = vec4<f32>(0.0);
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
        g[c] = o_bar[layer + beside + c];
        deltas += g[c] * o[beside + c];
    }
    let delta = sum4(deltas);
    let norm = stat[t.m * p.heads + t.head].x;
    for (var other = t.first; other < t.end; other++) {
        let key = other * 3u * wide + wide + t.head * SIZE4;
        var dots = vec4<f32>(0.0);
        var to_value = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            dots += q[c] * qkv[key + c];
            to_value += g[c] * qkv[key + wide + c];
        }
        let weight = exp(sum4(dots) - norm);
        let drop = kept(t.row, other, t.head);
        let t_out = weight * (drop * sum4(to_value) - delta) * p.scale;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q_bar[c] += t_out * qkv[key + c];
        }
    }
    let to = here.group.z * p.out_layer + own;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[to + c] = q_bar[c];
    }
}
