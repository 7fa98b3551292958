// The software variant of attention_tangent.wgsl, in the frame of attention_lanes.wgsl. Behind a sentence's end stands
// its last row again, with weight 0.
//@import common/attention_lanes.wgsl

@compute @workgroup_size(LANES)
fn jvp(here: Lane) {
    let l = here.lane;
    let t = task(here);
    let wide = p.heads * SIZE4;
    let layer = here.group.z * p.qkv_layer;
    for (var block = t.first; block < t.end; block += LANES) {
        let row = min(block + l, t.end - 1u);
        let own = row * 3u * wide + t.head * SIZE4;
        var q: array<vec4<f32>, SIZE4>;
        var q_dot: array<vec4<f32>, SIZE4>;
        var total: array<vec4<f32>, SIZE4>;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q[c] = qkv[own + c] * p.scale;
            q_dot[c] = qkv_dot[layer + own + c] * p.scale;
            total[c] = vec4<f32>(0.0);
        }
        let norm = stat[row * p.heads + t.head].x;
        var mu = 0.0;
        for (var other = t.first; other < t.end; other += KEYS) {
            var keys: array<vec4<f32>, LOADS>;
            var values: array<vec4<f32>, LOADS>;
            var key_dots: array<vec4<f32>, LOADS>;
            var value_dots: array<vec4<f32>, LOADS>;
            //@unroll
            for (var g = 0u; g < LOADS; g++) {
                let number = g * LANES + l;
                let at = min(other + number / SIZE4, t.end - 1u) * 3u * wide + t.head * SIZE4 + number % SIZE4;
                keys[g] = qkv[at + wide];
                values[g] = qkv[at + 2u * wide];
                key_dots[g] = qkv_dot[layer + at + wide];
                value_dots[g] = qkv_dot[layer + at + 2u * wide];
            }
            //@unroll
            for (var j = 0u; j < KEYS; j++) {
                var s = vec4<f32>(0.0);
                var s_dot = vec4<f32>(0.0);
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    let k = subgroupBroadcast(keys[(j * SIZE4 + c) / LANES], (j * SIZE4 + c) % LANES);
                    s += q[c] * k;
                    s_dot += q_dot[c] * k;
                    s_dot += q[c] * subgroupBroadcast(key_dots[(j * SIZE4 + c) / LANES], (j * SIZE4 + c) % LANES);
                }
                let weight = select(0.0, exp(sum4(s) - norm), other + j < t.end);
                let weight_dot = weight * sum4(s_dot);
                mu += weight_dot;
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    const AT = (j * SIZE4 + c) / LANES;
                    const LANE = (j * SIZE4 + c) % LANES;
                    total[c] += weight_dot * subgroupBroadcast(values[AT], LANE);
                    total[c] += weight * subgroupBroadcast(value_dots[AT], LANE);
                }
            }
        }
        if block + l < t.end {
            let to = row * wide + t.head * SIZE4;
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                out[here.group.z * p.o_layer + to + c] = total[c] - mu * o[to + c];
            }
            stat_out[here.group.z * p.stat_layer + row * p.heads + t.head] = vec4<f32>(norm, 0.0, mu, 0.0);
        }
    }
}

@compute @workgroup_size(LANES)
fn second(here: Lane) {
    let l = here.lane;
    let t = task(here);
    let wide = p.heads * SIZE4;
    let layer = here.group.z * p.qkv_layer;
    for (var block = t.first; block < t.end; block += LANES) {
        let row = min(block + l, t.end - 1u);
        let own = row * 3u * wide + t.head * SIZE4;
        var q: array<vec4<f32>, SIZE4>;
        var q_dot: array<vec4<f32>, SIZE4>;
        var g_own: array<vec4<f32>, SIZE4>;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q[c] = qkv[own + c] * p.scale;
            q_dot[c] = qkv_dot[layer + own + c] * p.scale;
            g_own[c] = o_bar[here.group.z * p.bar_layer + row * wide + t.head * SIZE4 + c];
        }
        let norm = stat[row * p.heads + t.head].x;
        // As in the row variant.
        var means = vec3<f32>(0.0);
        var along = vec3<f32>(0.0);
        var moved = vec2<f32>(0.0);
        for (var other = t.first; other < t.end; other += KEYS) {
            var keys: array<vec4<f32>, LOADS>;
            var values: array<vec4<f32>, LOADS>;
            var key_dots: array<vec4<f32>, LOADS>;
            var value_dots: array<vec4<f32>, LOADS>;
            //@unroll
            for (var g = 0u; g < LOADS; g++) {
                let number = g * LANES + l;
                let at = min(other + number / SIZE4, t.end - 1u) * 3u * wide + t.head * SIZE4 + number % SIZE4;
                keys[g] = qkv[at + wide];
                values[g] = qkv[at + 2u * wide];
                key_dots[g] = qkv_dot[layer + at + wide];
                value_dots[g] = qkv_dot[layer + at + 2u * wide];
            }
            //@unroll
            for (var j = 0u; j < KEYS; j++) {
                var s = vec4<f32>(0.0);
                var s_dot = vec4<f32>(0.0);
                var bend = vec4<f32>(0.0);
                var g = vec4<f32>(0.0);
                var h = vec4<f32>(0.0);
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    const AT = (j * SIZE4 + c) / LANES;
                    const LANE = (j * SIZE4 + c) % LANES;
                    let k = subgroupBroadcast(keys[AT], LANE);
                    let k_dot = subgroupBroadcast(key_dots[AT], LANE);
                    s += q[c] * k;
                    s_dot += q_dot[c] * k;
                    s_dot += q[c] * k_dot;
                    bend += q_dot[c] * k_dot;
                    g += g_own[c] * subgroupBroadcast(values[AT], LANE);
                    h += g_own[c] * subgroupBroadcast(value_dots[AT], LANE);
                }
                let weight = select(0.0, exp(sum4(s) - norm), other + j < t.end);
                let sd = sum4(s_dot);
                let sdd = 2.0 * sum4(bend);
                means += weight * vec3<f32>(sd, sd * sd, sdd);
                along += weight * sum4(g) * vec3<f32>(1.0, sd, sd * sd + sdd);
                moved += weight * sum4(h) * vec2<f32>(1.0, sd);
            }
        }
        if block + l < t.end {
            let mu = means.x;
            let bent = along.z - 2.0 * mu * along.y + along.x * (2.0 * mu * mu - means.y - means.z);
            let crossed = 2.0 * (moved.y - mu * moved.x);
            out[here.group.z * p.stat_layer + row * p.heads + t.head] = vec4<f32>(bent + crossed, 0.0, 0.0, 0.0);
        }
    }
}

// Two passes over the other rows, as query and as key: the registers of one pass would not do for both.
@compute @workgroup_size(LANES)
fn vjp_jvp(here: Lane) {
    let l = here.lane;
    let t = task(here);
    let wide = p.heads * SIZE4;
    let layer = here.group.z * p.qkv_layer;
    let bar = here.group.z * p.bar_layer;
    let tangent = here.group.z * p.o_layer;
    let rows = here.group.z * p.stat_layer;
    for (var block = t.first; block < t.end; block += LANES) {
        let row = min(block + l, t.end - 1u);
        let own = row * 3u * wide + t.head * SIZE4;
        let beside = row * wide + t.head * SIZE4;
        let inside_block = block + l < t.end;
        {
            var q: array<vec4<f32>, SIZE4>;
            var q_dot: array<vec4<f32>, SIZE4>;
            var g_own: array<vec4<f32>, SIZE4>;
            var g_dot: array<vec4<f32>, SIZE4>;
            var total: array<vec4<f32>, SIZE4>;
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                q[c] = qkv[own + c] * p.scale;
                q_dot[c] = qkv_dot[layer + own + c] * p.scale;
                g_own[c] = o_bar[bar + beside + c];
                g_dot[c] = o_bar_dot[tangent + beside + c];
                total[c] = vec4<f32>(0.0);
            }
            let mine = delta_of[rows + row * p.heads + t.head];
            for (var other = t.first; other < t.end; other += KEYS) {
                var keys: array<vec4<f32>, LOADS>;
                var values: array<vec4<f32>, LOADS>;
                var key_dots: array<vec4<f32>, LOADS>;
                var value_dots: array<vec4<f32>, LOADS>;
                //@unroll
                for (var g = 0u; g < LOADS; g++) {
                    let number = g * LANES + l;
                    let at = min(other + number / SIZE4, t.end - 1u) * 3u * wide + t.head * SIZE4 + number % SIZE4;
                    keys[g] = qkv[at + wide];
                    values[g] = qkv[at + 2u * wide];
                    key_dots[g] = qkv_dot[layer + at + wide];
                    value_dots[g] = qkv_dot[layer + at + 2u * wide];
                }
                //@unroll
                for (var j = 0u; j < KEYS; j++) {
                    var s = vec4<f32>(0.0);
                    var s_dot = vec4<f32>(0.0);
                    var g = vec4<f32>(0.0);
                    var g_along = vec4<f32>(0.0);
                    //@unroll
                    for (var c = 0u; c < SIZE4; c++) {
                        const AT = (j * SIZE4 + c) / LANES;
                        const LANE = (j * SIZE4 + c) % LANES;
                        let k = subgroupBroadcast(keys[AT], LANE);
                        let v = subgroupBroadcast(values[AT], LANE);
                        s += q[c] * k;
                        s_dot += q_dot[c] * k;
                        s_dot += q[c] * subgroupBroadcast(key_dots[AT], LANE);
                        g += g_own[c] * v;
                        g_along += g_dot[c] * v;
                        g_along += g_own[c] * subgroupBroadcast(value_dots[AT], LANE);
                    }
                    let weight = select(0.0, exp(sum4(s) - mine.x), other + j < t.end);
                    let weight_dot = weight * (sum4(s_dot) - mine.z);
                    let e = sum4(g) - mine.y;
                    let slope = p.scale * weight * e;
                    let slope_dot = p.scale * (weight_dot * e + weight * (sum4(g_along) - mine.w));
                    //@unroll
                    for (var c = 0u; c < SIZE4; c++) {
                        const AT = (j * SIZE4 + c) / LANES;
                        const LANE = (j * SIZE4 + c) % LANES;
                        total[c] += slope_dot * subgroupBroadcast(keys[AT], LANE);
                        total[c] += slope * subgroupBroadcast(key_dots[AT], LANE);
                    }
                }
            }
            if inside_block {
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    out[layer + own + c] = total[c];
                }
            }
        }
        var k: array<vec4<f32>, SIZE4>;
        var v: array<vec4<f32>, SIZE4>;
        var k_dot: array<vec4<f32>, SIZE4>;
        var v_dot: array<vec4<f32>, SIZE4>;
        var k_out: array<vec4<f32>, SIZE4>;
        var v_out: array<vec4<f32>, SIZE4>;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            k[c] = qkv[own + wide + c] * p.scale;
            v[c] = qkv[own + 2u * wide + c];
            k_dot[c] = qkv_dot[layer + own + wide + c] * p.scale;
            v_dot[c] = qkv_dot[layer + own + 2u * wide + c];
            k_out[c] = vec4<f32>(0.0);
            v_out[c] = vec4<f32>(0.0);
        }
        for (var other = t.first; other < t.end; other += KEYS) {
            var queries: array<vec4<f32>, LOADS>;
            var query_dots: array<vec4<f32>, LOADS>;
            var grads: array<vec4<f32>, LOADS>;
            var grad_dots: array<vec4<f32>, LOADS>;
            //@unroll
            for (var g = 0u; g < LOADS; g++) {
                let number = g * LANES + l;
                let there = min(other + number / SIZE4, t.end - 1u);
                let at = there * 3u * wide + t.head * SIZE4 + number % SIZE4;
                let near = there * wide + t.head * SIZE4 + number % SIZE4;
                queries[g] = qkv[at];
                query_dots[g] = qkv_dot[layer + at];
                grads[g] = o_bar[bar + near];
                grad_dots[g] = o_bar_dot[tangent + near];
            }
            let theirs_all = delta_of[rows + min(other + l, t.end - 1u) * p.heads + t.head];
            //@unroll
            for (var j = 0u; j < KEYS; j++) {
                var s = vec4<f32>(0.0);
                var s_dot = vec4<f32>(0.0);
                var g = vec4<f32>(0.0);
                var g_along = vec4<f32>(0.0);
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    const AT = (j * SIZE4 + c) / LANES;
                    const LANE = (j * SIZE4 + c) % LANES;
                    let q = subgroupBroadcast(queries[AT], LANE);
                    let near = subgroupBroadcast(grads[AT], LANE);
                    s += k[c] * q;
                    s_dot += k_dot[c] * q;
                    s_dot += k[c] * subgroupBroadcast(query_dots[AT], LANE);
                    g += v[c] * near;
                    g_along += v_dot[c] * near;
                    g_along += v[c] * subgroupBroadcast(grad_dots[AT], LANE);
                }
                let theirs = subgroupBroadcast(theirs_all, j);
                let weight = select(0.0, exp(sum4(s) - theirs.x), other + j < t.end);
                let weight_dot = weight * (sum4(s_dot) - theirs.z);
                let e = sum4(g) - theirs.y;
                let slope = p.scale * weight * e;
                let slope_dot = p.scale * (weight_dot * e + weight * (sum4(g_along) - theirs.w));
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    const AT = (j * SIZE4 + c) / LANES;
                    const LANE = (j * SIZE4 + c) % LANES;
                    k_out[c] += slope_dot * subgroupBroadcast(queries[AT], LANE);
                    k_out[c] += slope * subgroupBroadcast(query_dots[AT], LANE);
                    v_out[c] += weight_dot * subgroupBroadcast(grads[AT], LANE);
                    v_out[c] += weight * subgroupBroadcast(grad_dots[AT], LANE);
                }
            }
        }
        if inside_block {
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                out[layer + own + wide + c] = k_out[c];
                out[layer + own + 2u * wide + c] = v_out[c];
            }
        }
    }
}
