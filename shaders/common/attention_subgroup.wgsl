// The software variant of attention.wgsl, in the frame of attention_lanes.wgsl.
//@import common/attention_lanes.wgsl

@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    let l = here.lane;
    let t = task(here);
    let wide = p.heads * SIZE4;
    for (var block = t.first; block < t.end; block += LANES) {
        let row = min(block + l, t.end - 1u);
        let own = row * 3u * wide + t.head * SIZE4;
        var q: array<vec4<f32>, SIZE4>;
        var total: array<vec4<f32>, SIZE4>;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q[c] = qkv[own + c] * p.scale;
            total[c] = vec4<f32>(0.0);
        }
        var top = -3.4e38;
        var mass = 0.0;
        for (var other = t.first; other < t.end; other += KEYS) {
            var keys: array<vec4<f32>, LOADS>;
            var values: array<vec4<f32>, LOADS>;
            //@unroll
            for (var g = 0u; g < LOADS; g++) {
                let number = g * LANES + l;
                let at = min(other + number / SIZE4, t.end - 1u) * 3u * wide + t.head * SIZE4 + number % SIZE4;
                keys[g] = qkv[at + wide];
                values[g] = qkv[at + 2u * wide];
            }
            var s: array<f32, KEYS>;
            var higher = top;
            //@unroll
            for (var j = 0u; j < KEYS; j++) {
                var dots = vec4<f32>(0.0);
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    dots += q[c] * subgroupBroadcast(keys[(j * SIZE4 + c) / LANES], (j * SIZE4 + c) % LANES);
                }
                // Behind the end stands the last row again: it changes no maximum.
                s[j] = sum4(dots);
                higher = max(higher, s[j]);
            }
            let shrink = exp(top - higher);
            mass *= shrink;
            top = higher;
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                total[c] *= shrink;
            }
            //@unroll
            for (var j = 0u; j < KEYS; j++) {
                let e = select(0.0, exp(s[j] - higher), other + j < t.end);
                mass += e;
                let weight = e * kept(row, other + j, t.head);
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    total[c] += weight * subgroupBroadcast(values[(j * SIZE4 + c) / LANES], (j * SIZE4 + c) % LANES);
                }
            }
        }
        if block + l < t.end {
            let r = 1.0 / mass;
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                out[row * wide + t.head * SIZE4 + c] = total[c] * r;
            }
            stat_out[row * p.heads + t.head] = vec4<f32>(top + log(mass), 0.0, 0.0, 0.0);
        }
    }
}

@compute @workgroup_size(LANES)
fn vjp(here: Lane) {
    let l = here.lane;
    let t = task(here);
    let wide = p.heads * SIZE4;
    let layer = here.group.z * p.in_layer;
    for (var block = t.first; block < t.end; block += LANES) {
        let row = min(block + l, t.end - 1u);
        let own = row * 3u * wide + t.head * SIZE4;
        var q: array<vec4<f32>, SIZE4>;
        var k: array<vec4<f32>, SIZE4>;
        var v: array<vec4<f32>, SIZE4>;
        var g_own: array<vec4<f32>, SIZE4>;
        var q_bar: array<vec4<f32>, SIZE4>;
        var k_bar: array<vec4<f32>, SIZE4>;
        var v_bar: array<vec4<f32>, SIZE4>;
        var deltas = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            q[c] = qkv[own + c] * p.scale;
            k[c] = qkv[own + wide + c] * p.scale;
            v[c] = qkv[own + 2u * wide + c];
            g_own[c] = o_bar[layer + row * wide + t.head * SIZE4 + c];
            deltas += g_own[c] * o[row * wide + t.head * SIZE4 + c];
            q_bar[c] = vec4<f32>(0.0);
            k_bar[c] = vec4<f32>(0.0);
            v_bar[c] = vec4<f32>(0.0);
        }
        let delta = sum4(deltas);
        let norm = stat[row * p.heads + t.head].x;
        for (var other = t.first; other < t.end; other += KEYS) {
            var queries: array<vec4<f32>, LOADS>;
            var keys: array<vec4<f32>, LOADS>;
            var values: array<vec4<f32>, LOADS>;
            var grads: array<vec4<f32>, LOADS>;
            var parts: array<f32, LOADS>;
            //@unroll
            for (var g = 0u; g < LOADS; g++) {
                let number = g * LANES + l;
                let there = min(other + number / SIZE4, t.end - 1u);
                let at = there * 3u * wide + t.head * SIZE4 + number % SIZE4;
                let beside = there * wide + t.head * SIZE4 + number % SIZE4;
                queries[g] = qkv[at];
                keys[g] = qkv[at + wide];
                values[g] = qkv[at + 2u * wide];
                grads[g] = o_bar[layer + beside];
                parts[g] = sum4(grads[g] * o[beside]);
            }
            let norms = stat[min(other + l, t.end - 1u) * p.heads + t.head].x;
            //@unroll
            for (var j = 0u; j < KEYS; j++) {
                // As query, over the other row as key; and as key, over the other row as query.
                var as_query = vec4<f32>(0.0);
                var as_key = vec4<f32>(0.0);
                var to_value = vec4<f32>(0.0);
                var from_query = vec4<f32>(0.0);
                var their_delta = 0.0;
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    const AT = (j * SIZE4 + c) / LANES;
                    const LANE = (j * SIZE4 + c) % LANES;
                    as_query += q[c] * subgroupBroadcast(keys[AT], LANE);
                    as_key += k[c] * subgroupBroadcast(queries[AT], LANE);
                    to_value += g_own[c] * subgroupBroadcast(values[AT], LANE);
                    from_query += v[c] * subgroupBroadcast(grads[AT], LANE);
                    their_delta += subgroupBroadcast(parts[AT], LANE);
                }
                let inside = other + j < t.end;
                let p_out = select(0.0, exp(sum4(as_query) - norm), inside);
                let p_in = select(0.0, exp(sum4(as_key) - subgroupBroadcast(norms, j)), inside);
                let drop_in = kept(other + j, row, t.head);
                let t_out = p_out * (kept(row, other + j, t.head) * sum4(to_value) - delta) * p.scale;
                let t_in = p_in * (drop_in * sum4(from_query) - their_delta) * p.scale;
                //@unroll
                for (var c = 0u; c < SIZE4; c++) {
                    const AT = (j * SIZE4 + c) / LANES;
                    const LANE = (j * SIZE4 + c) % LANES;
                    q_bar[c] += t_out * subgroupBroadcast(keys[AT], LANE);
                    k_bar[c] += t_in * subgroupBroadcast(queries[AT], LANE);
                    v_bar[c] += (p_in * drop_in) * subgroupBroadcast(grads[AT], LANE);
                }
            }
        }
        if block + l < t.end {
            let to = here.group.z * p.out_layer + own;
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                out[to + c] = q_bar[c];
                out[to + wide + c] = k_bar[c];
                out[to + 2u * wide + c] = v_bar[c];
            }
        }
    }
}
