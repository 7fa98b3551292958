// The plain variant of attention.wgsl: one invocation a (row, head), straight from memory.
//@import common/attention_query.wgsl

@compute @workgroup_size(64)
fn forward(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let row = t.row;
    let head = t.head;
    let wide = p.heads * SIZE4;
    let own = row * 3u * wide + head * SIZE4;
    var q: array<vec4<f32>, SIZE4>;
    var total: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
    }
    var top = -3.4e38;
    var mass = 0.0;
    for (var other = t.span.x; other < t.span.y; other++) {
        let key = other * 3u * wide + wide + head * SIZE4;
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
        let weight = e * kept(row, other, head);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            total[c] = total[c] * shrink + weight * qkv[key + wide + c];
        }
    }
    let r = 1.0 / mass;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[row * wide + head * SIZE4 + c] = total[c] * r;
    }
    stat_out[row * p.heads + head] = vec4<f32>(top + log(mass), 0.0, 0.0, 0.0);
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let row = t.row;
    let head = t.head;
    let wide = p.heads * SIZE4;
    let own = row * 3u * wide + head * SIZE4;
    let layer = here.group.z * p.in_layer;
    var q: array<vec4<f32>, SIZE4>;
    var k: array<vec4<f32>, SIZE4>;
    var v: array<vec4<f32>, SIZE4>;
    var g: array<vec4<f32>, SIZE4>;
    var q_bar: array<vec4<f32>, SIZE4>;
    var k_bar: array<vec4<f32>, SIZE4>;
    var v_bar: array<vec4<f32>, SIZE4>;
    var deltas = vec4<f32>(0.0);
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
        k[c] = qkv[own + wide + c] * p.scale;
        v[c] = qkv[own + 2u * wide + c];
        g[c] = o_bar[layer + row * wide + head * SIZE4 + c];
        deltas += g[c] * o[row * wide + head * SIZE4 + c];
    }
    let delta = sum4(deltas);
    let norm = stat[row * p.heads + head].x;
    for (var other = t.span.x; other < t.span.y; other++) {
        let theirs = other * 3u * wide + head * SIZE4;
        let beside = other * wide + head * SIZE4;
        // As query, over the other row as key; and as key, over the other row as query.
        var as_query = vec4<f32>(0.0);
        var as_key = vec4<f32>(0.0);
        var to_value = vec4<f32>(0.0);
        var from_query = vec4<f32>(0.0);
        var their_delta = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            let their_g = o_bar[layer + beside + c];
            as_query += q[c] * qkv[theirs + wide + c];
            as_key += k[c] * qkv[theirs + c];
            to_value += g[c] * qkv[theirs + 2u * wide + c];
            from_query += their_g * v[c];
            their_delta += their_g * o[beside + c];
        }
        let p_out = exp(sum4(as_query) - norm);
        let p_in = exp(sum4(as_key) - stat[other * p.heads + head].x);
        let drop_in = kept(other, row, head);
        let t_out = p_out * (kept(row, other, head) * sum4(to_value) - delta) * p.scale;
        let t_in = p_in * (drop_in * sum4(from_query) - sum4(their_delta)) * p.scale;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q_bar[c] += t_out * qkv[theirs + wide + c];
            k_bar[c] += t_in * qkv[theirs + c];
            v_bar[c] += (p_in * drop_in) * o_bar[layer + beside + c];
        }
    }
    let to = here.group.z * p.out_layer + own;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[to + c] = q_bar[c];
        out[to + wide + c] = k_bar[c];
        out[to + 2u * wide + c] = v_bar[c];
    }
}
