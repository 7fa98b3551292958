// The plain variant of attention_tangent.wgsl: one invocation a (row, head), straight from memory.
//@import common/attention_query.wgsl

@compute @workgroup_size(64)
fn jvp(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let wide = p.heads * SIZE4;
    let own = t.row * 3u * wide + t.head * SIZE4;
    let layer = here.group.z * p.qkv_layer;
    var q: array<vec4<f32>, SIZE4>;
    var q_dot: array<vec4<f32>, SIZE4>;
    var total: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
        q_dot[c] = qkv_dot[layer + own + c] * p.scale;
    }
    let norm = stat[t.row * p.heads + t.head].x;
    var mu = 0.0;
    for (var other = t.span.x; other < t.span.y; other++) {
        let key = other * 3u * wide + wide + t.head * SIZE4;
        var s = vec4<f32>(0.0);
        var s_dot = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            let k = qkv[key + c];
            s += q[c] * k;
            s_dot += q_dot[c] * k + q[c] * qkv_dot[layer + key + c];
        }
        let weight = exp(sum4(s) - norm);
        let weight_dot = weight * sum4(s_dot);
        mu += weight_dot;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            total[c] += weight_dot * qkv[key + wide + c] + weight * qkv_dot[layer + key + wide + c];
        }
    }
    let to = t.row * wide + t.head * SIZE4;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[here.group.z * p.o_layer + to + c] = total[c] - mu * o[to + c];
    }
    stat_out[here.group.z * p.stat_layer + t.row * p.heads + t.head] = vec4<f32>(norm, 0.0, mu, 0.0);
}

@compute @workgroup_size(64)
fn second(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let wide = p.heads * SIZE4;
    let own = t.row * 3u * wide + t.head * SIZE4;
    let layer = here.group.z * p.qkv_layer;
    let bar = here.group.z * p.bar_layer + t.row * wide + t.head * SIZE4;
    var q: array<vec4<f32>, SIZE4>;
    var q_dot: array<vec4<f32>, SIZE4>;
    var g_own: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
        q_dot[c] = qkv_dot[layer + own + c] * p.scale;
        g_own[c] = o_bar[bar + c];
    }
    let norm = stat[t.row * p.heads + t.head].x;
    // Means under p: ṡ, ṡ², s̈;  g, g ṡ, g ṡ² + g s̈;  h, h ṡ with h = ō·v̇
    var means = vec3<f32>(0.0);
    var along = vec3<f32>(0.0);
    var moved = vec2<f32>(0.0);
    for (var other = t.span.x; other < t.span.y; other++) {
        let key = other * 3u * wide + wide + t.head * SIZE4;
        var s = vec4<f32>(0.0);
        var s_dot = vec4<f32>(0.0);
        var bend = vec4<f32>(0.0);
        var g = vec4<f32>(0.0);
        var h = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            let k = qkv[key + c];
            let k_dot = qkv_dot[layer + key + c];
            s += q[c] * k;
            s_dot += q_dot[c] * k + q[c] * k_dot;
            bend += q_dot[c] * k_dot;
            g += g_own[c] * qkv[key + wide + c];
            h += g_own[c] * qkv_dot[layer + key + wide + c];
        }
        let weight = exp(sum4(s) - norm);
        let sd = sum4(s_dot);
        let sdd = 2.0 * sum4(bend);
        let gv = sum4(g);
        let hv = sum4(h);
        means += weight * vec3<f32>(sd, sd * sd, sdd);
        along += weight * gv * vec3<f32>(1.0, sd, sd * sd + sdd);
        moved += weight * hv * vec2<f32>(1.0, sd);
    }
    // Σ p̈ g + 2 Σ ṗ h, with p̈ = p ((ṡ − μ)² − Var ṡ + s̈ − mean s̈)
    let mu = means.x;
    let bent = along.z - 2.0 * mu * along.y + along.x * (2.0 * mu * mu - means.y - means.z);
    let crossed = 2.0 * (moved.y - mu * moved.x);
    out[here.group.z * p.stat_layer + t.row * p.heads + t.head] = vec4<f32>(bent + crossed, 0.0, 0.0, 0.0);
}

@compute @workgroup_size(64)
fn vjp_jvp(here: Place) {
    let t = query(here);
    if t.head >= p.heads { return; }
    let wide = p.heads * SIZE4;
    let own = t.row * 3u * wide + t.head * SIZE4;
    let beside_own = t.row * wide + t.head * SIZE4;
    let layer = here.group.z * p.qkv_layer;
    let bar = here.group.z * p.bar_layer;
    let tangent = here.group.z * p.o_layer;
    let rows = here.group.z * p.stat_layer;
    var q: array<vec4<f32>, SIZE4>;
    var k: array<vec4<f32>, SIZE4>;
    var v: array<vec4<f32>, SIZE4>;
    var g: array<vec4<f32>, SIZE4>;
    var q_dot: array<vec4<f32>, SIZE4>;
    var k_dot: array<vec4<f32>, SIZE4>;
    var v_dot: array<vec4<f32>, SIZE4>;
    var g_dot: array<vec4<f32>, SIZE4>;
    var q_out: array<vec4<f32>, SIZE4>;
    var k_out: array<vec4<f32>, SIZE4>;
    var v_out: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
        k[c] = qkv[own + wide + c] * p.scale;
        v[c] = qkv[own + 2u * wide + c];
        g[c] = o_bar[bar + beside_own + c];
        q_dot[c] = qkv_dot[layer + own + c] * p.scale;
        k_dot[c] = qkv_dot[layer + own + wide + c] * p.scale;
        v_dot[c] = qkv_dot[layer + own + 2u * wide + c];
        g_dot[c] = o_bar_dot[tangent + beside_own + c];
    }
    let mine = delta_of[rows + t.row * p.heads + t.head];
    for (var other = t.span.x; other < t.span.y; other++) {
        let there = other * 3u * wide + t.head * SIZE4;
        let beside = other * wide + t.head * SIZE4;
        // As query, over the other row as key; and as key, over the other row as query: (s, ṡ, g, ġ) of both.
        var s_out = vec4<f32>(0.0);
        var s_out_dot = vec4<f32>(0.0);
        var g_out = vec4<f32>(0.0);
        var g_out_dot = vec4<f32>(0.0);
        var s_in = vec4<f32>(0.0);
        var s_in_dot = vec4<f32>(0.0);
        var g_in = vec4<f32>(0.0);
        var g_in_dot = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            let q2 = qkv[there + c];
            let k2 = qkv[there + wide + c];
            let v2 = qkv[there + 2u * wide + c];
            let g2 = o_bar[bar + beside + c];
            let q2_dot = qkv_dot[layer + there + c];
            let k2_dot = qkv_dot[layer + there + wide + c];
            let v2_dot = qkv_dot[layer + there + 2u * wide + c];
            let g2_dot = o_bar_dot[tangent + beside + c];
            s_out += q[c] * k2;
            s_out_dot += q_dot[c] * k2 + q[c] * k2_dot;
            g_out += g[c] * v2;
            g_out_dot += g_dot[c] * v2 + g[c] * v2_dot;
            s_in += k[c] * q2;
            s_in_dot += k_dot[c] * q2 + k[c] * q2_dot;
            g_in += v[c] * g2;
            g_in_dot += v_dot[c] * g2 + v[c] * g2_dot;
        }
        let theirs = delta_of[rows + other * p.heads + t.head];
        let p_out = exp(sum4(s_out) - mine.x);
        let p_out_dot = p_out * (sum4(s_out_dot) - mine.z);
        let p_in = exp(sum4(s_in) - theirs.x);
        let p_in_dot = p_in * (sum4(s_in_dot) - theirs.z);
        let e_out = sum4(g_out) - mine.y;
        let e_in = sum4(g_in) - theirs.y;
        let t_out = p.scale * p_out * e_out;
        let t_out_dot = p.scale * (p_out_dot * e_out + p_out * (sum4(g_out_dot) - mine.w));
        let t_in = p.scale * p_in * e_in;
        let t_in_dot = p.scale * (p_in_dot * e_in + p_in * (sum4(g_in_dot) - theirs.w));
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q_out[c] += t_out_dot * qkv[there + wide + c] + t_out * qkv_dot[layer + there + wide + c];
            k_out[c] += t_in_dot * qkv[there + c] + t_in * qkv_dot[layer + there + c];
            v_out[c] += p_in_dot * o_bar[bar + beside + c] + p_in * o_bar_dot[tangent + beside + c];
        }
    }
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[layer + own + c] = q_out[c];
        out[layer + own + wide + c] = k_out[c];
        out[layer + own + 2u * wide + c] = v_out[c];
    }
}
