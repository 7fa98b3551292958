// The software variant of attention.wgsl for sentences of TOKENS tokens at most, as many as SPAN = LANES / SPLIT lanes
// or fewer: a workgroup is one subgroup and has SPLIT heads of one sentence, a lane a row of one of them. What lanes have
// loaded for themselves is handed round by subgroupBroadcast among those of their head. Every number is that of
// attention_subgroup.wgsl, to the bit: keys come KEYS at a time there, and sums go in that order.
//   UNIFORM    results are stored a lane after another's (uniform_store.wgsl): lanes behind the last row make that one
//              again, and it is stored again where it lies
//@import common/subgroup.wgsl
//@import common/sentences.wgsl
//@if UNIFORM
//@import common/uniform_store.wgsl
//@end

const LANES: u32 = 8u;
const KEYS: u32 = 2u;
const SPAN: u32 = LANES / SPLIT;
// Where the lanes of the second head begin.
const NEXT: u32 = LANES - SPAN;

// A lane's row, of those in [first, end), and its head.
struct Task {
    head: u32,
    first: u32,
    end: u32,
    row: u32,
    // Whether its results are to be stored.
    stores: bool,
    // Whether its head is the second one.
    second: bool,
}

fn task(here: Lane) -> Task {
    let group = group_number(here.group);
    let groups = p.heads / SPLIT;
    // Behind the last sentence that one again, which UNIFORM stores again: no branch may be around what follows.
    let sentence = min(group / groups, max(step.sentences, 1u) - 1u);
    let span = spans_of(sentence);
    let place = here.lane % SPAN;
    let stores = (group / groups == sentence) & (place < span.y - span.x);
    let head = group % groups * SPLIT;
    let row = min(span.x + place, span.y - 1u);
    return Task(head + here.lane / SPAN, span.x, span.y, row, stores, here.lane >= NEXT);
}

@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    let t = task(here);
    let wide = p.heads * SIZE4;
    let own = t.row * 3u * wide + t.head * SIZE4;
    var q: array<vec4<f32>, SIZE4>;
    var k: array<vec4<f32>, SIZE4>;
    var v: array<vec4<f32>, SIZE4>;
    var total: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
        k[c] = qkv[own + wide + c];
        v[c] = qkv[own + 2u * wide + c];
        total[c] = vec4<f32>(0.0);
    }
    var top = -3.4e38;
    var mass = 0.0;
    //@unroll
    for (var b = 0u; b < (TOKENS + KEYS - 1u) / KEYS; b++) {
        var s: array<f32, KEYS>;
        var higher = top;
        //@unroll
        for (var i = 0u; i < KEYS; i++) {
            const J = min(b * KEYS + i, SPAN - 1u);
            var dots = vec4<f32>(0.0);
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                dots += q[c] * select(subgroupBroadcast(k[c], J), subgroupBroadcast(k[c], J + NEXT), t.second);
            }
            // Behind the end stands the last row again: it changes no maximum.
            s[i] = select(-3.4e38, sum4(dots), sees(t.row, t.first + b * KEYS + i));
            higher = max(higher, s[i]);
        }
        let shrink = exp(top - higher);
        mass *= shrink;
        top = higher;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            total[c] *= shrink;
        }
        //@unroll
        for (var i = 0u; i < KEYS; i++) {
            const J = min(b * KEYS + i, SPAN - 1u);
            let other = t.first + b * KEYS + i;
            let e = select(0.0, exp(s[i] - higher), (other < t.end) & sees(t.row, other));
            mass += e;
            let weight = e * kept(t.row, other, t.head);
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                total[c] += weight * select(subgroupBroadcast(v[c], J), subgroupBroadcast(v[c], J + NEXT), t.second);
            }
        }
    }
    let r = 1.0 / mass;
    let norm = top + log(mass);
    //@if UNIFORM
    let rows = uniform_of(t.first);
    let last = uniform_small(t.end - 1u - t.first);
    let stride = uniform_of(wide);
    let heads = uniform_of(p.heads);
    let first_head = uniform_of(t.head - select(0u, SPLIT - 1u, t.second));
    //@unroll
    for (var h = 0u; h < SPLIT; h++) {
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            let ours = as_stored(total[c] * r);
            //@unroll
            for (var j = 0u; j < TOKENS; j++) {
                out[(rows + min(j, last)) * stride + (first_head + h) * SIZE4 + c] = subgroupBroadcast(ours, h * SPAN + j);
            }
        }
        //@unroll
        for (var j = 0u; j < TOKENS; j++) {
            let found = subgroupBroadcast(norm, h * SPAN + j);
            stat_out[(rows + min(j, last)) * heads + first_head + h] = vec4<f32>(found, 0.0, 0.0, 0.0);
        }
    }
    //@else
    if t.stores {
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            out[t.row * wide + t.head * SIZE4 + c] = total[c] * r;
        }
        stat_out[t.row * p.heads + t.head] = vec4<f32>(norm, 0.0, 0.0, 0.0);
    }
    //@end
}

@compute @workgroup_size(LANES)
fn vjp(here: Lane) {
    let t = task(here);
    let wide = p.heads * SIZE4;
    let layer = here.group.z * p.in_layer;
    let own = t.row * 3u * wide + t.head * SIZE4;
    let beside = t.row * wide + t.head * SIZE4;
    var q: array<vec4<f32>, SIZE4>;
    var k: array<vec4<f32>, SIZE4>;
    var v: array<vec4<f32>, SIZE4>;
    var g: array<vec4<f32>, SIZE4>;
    var q_bar: array<vec4<f32>, SIZE4>;
    var k_bar: array<vec4<f32>, SIZE4>;
    var v_bar: array<vec4<f32>, SIZE4>;
    var deltas = vec4<f32>(0.0);
    // The same sum in the order in which others are added up.
    var handed = 0.0;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c];
        k[c] = qkv[own + wide + c];
        v[c] = qkv[own + 2u * wide + c];
        g[c] = o_bar[layer + beside + c];
        let parts = g[c] * o[beside + c];
        deltas += parts;
        handed += sum4(parts);
        q_bar[c] = vec4<f32>(0.0);
        k_bar[c] = vec4<f32>(0.0);
        v_bar[c] = vec4<f32>(0.0);
    }
    let delta = sum4(deltas);
    let norm = stat[t.row * p.heads + t.head].x;
    //@unroll
    for (var j = 0u; j < TOKENS; j++) {
        const NEXT_J = j + NEXT;
        // As query, over the other row as key; and as key, over the other row as query.
        var as_query = vec4<f32>(0.0);
        var as_key = vec4<f32>(0.0);
        var to_value = vec4<f32>(0.0);
        var from_query = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            as_query += (q[c] * p.scale) * select(subgroupBroadcast(k[c], j), subgroupBroadcast(k[c], NEXT_J), t.second);
            as_key += (k[c] * p.scale) * select(subgroupBroadcast(q[c], j), subgroupBroadcast(q[c], NEXT_J), t.second);
            to_value += g[c] * select(subgroupBroadcast(v[c], j), subgroupBroadcast(v[c], NEXT_J), t.second);
            from_query += v[c] * select(subgroupBroadcast(g[c], j), subgroupBroadcast(g[c], NEXT_J), t.second);
        }
        let their_norm = select(subgroupBroadcast(norm, j), subgroupBroadcast(norm, NEXT_J), t.second);
        let their_delta = select(subgroupBroadcast(handed, j), subgroupBroadcast(handed, NEXT_J), t.second);
        let other = t.first + j;
        let inside = other < t.end;
        let p_out = select(0.0, exp(sum4(as_query) - norm), inside & sees(t.row, other));
        let p_in = select(0.0, exp(sum4(as_key) - their_norm), inside & sees(other, t.row));
        let drop_in = kept(other, t.row, t.head);
        let t_out = p_out * (kept(t.row, other, t.head) * sum4(to_value) - delta) * p.scale;
        let t_in = p_in * (drop_in * sum4(from_query) - their_delta) * p.scale;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q_bar[c] += t_out * select(subgroupBroadcast(k[c], j), subgroupBroadcast(k[c], NEXT_J), t.second);
            k_bar[c] += t_in * select(subgroupBroadcast(q[c], j), subgroupBroadcast(q[c], NEXT_J), t.second);
            v_bar[c] += (p_in * drop_in) * select(subgroupBroadcast(g[c], j), subgroupBroadcast(g[c], NEXT_J), t.second);
        }
    }
    //@if UNIFORM
    let first_head = t.head - select(0u, SPLIT - 1u, t.second);
    let base = uniform_of(here.group.z * p.out_layer + t.first * 3u * wide + first_head * SIZE4);
    let last = uniform_small(t.end - 1u - t.first);
    let stride = uniform_of(wide);
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        let of_q = as_stored(q_bar[c]);
        let of_k = as_stored(k_bar[c]);
        let of_v = as_stored(v_bar[c]);
        //@unroll
        for (var h = 0u; h < SPLIT; h++) {
            //@unroll
            for (var j = 0u; j < TOKENS; j++) {
                let there = base + min(j, last) * 3u * stride + h * SIZE4 + c;
                out[there] = subgroupBroadcast(of_q, h * SPAN + j);
                out[there + stride] = subgroupBroadcast(of_k, h * SPAN + j);
                out[there + 2u * stride] = subgroupBroadcast(of_v, h * SPAN + j);
            }
        }
    }
    //@else
    if t.stores {
        let there = here.group.z * p.out_layer + own;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            out[there + c] = q_bar[c];
            out[there + wide + c] = k_bar[c];
            out[there + 2u * wide + c] = v_bar[c];
        }
    }
    //@end
}
