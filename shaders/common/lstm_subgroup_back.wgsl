// Through time from the last token to the first, by lanes of sentences: `vjp`, and `vjp_jvp` along a direction.

@compute @workgroup_size(LANES)
//@if TANGENT
fn vjp_jvp(
//@else
fn vjp(
//@end
    here: Lane
) {
    let l = here.lane;
    let first = group_number(here.group) * 4u * LANES;
    let span_of_longest = sentence(first);
    let longest = span_of_longest.y - span_of_longest.x;
    let own = here.group.z * p.out_layer;
    var span: array<vec2<u32>, 4>;
    //@unroll
    for (var s = 0u; s < 4u; s++) {
        span[s] = sentence(first + s * LANES + l);
    }
    // Wᵀ z̄ of the token that follows, and the adjoint of c from there (of vjp_jvp their tangents).
    var h_bar_of: array<vec4<f32>, PADDED>;
    var c_bar: array<vec4<f32>, PADDED>;
    //@unroll
    for (var k = 0u; k < PADDED; k++) {
        h_bar_of[k] = vec4<f32>(0.0);
        c_bar[k] = vec4<f32>(0.0);
    }
    // From every sentence's last token, wherever that is, to its first.
    for (var back_time = 0u; back_time < longest; back_time++) {
        var at: Rows;
        var follows: vec4<u32>;
        //@unroll
        for (var s = 0u; s < 4u; s++) {
            let length = span[s].y - span[s].x;
            let time = max(length, back_time + 1u) - back_time - 1u;
            at.row[s] = row_at(span[s], time);
            at.earlier[s] = row_at(span[s], max(time, 1u) - 1u);
            at.first[s] = time == 0u;
            at.here[s] = back_time < length;
            follows[s] = row_at(span[s], time + 1u);
        }
        var sum: array<vec4<f32>, PADDED>;
        //@unroll
        for (var k = 0u; k < PADDED; k++) {
            sum[k] = vec4<f32>(0.0);
        }
        for (var q = 0u; q < QUADS; q++) {
            let last = back_time == 0u;
            let from_outside = by_gate(
                reached(at.row.x, follows.x, q, last, here.group.z),
                reached(at.row.y, follows.y, q, last, here.group.z),
                reached(at.row.z, follows.z, q, last, here.group.z),
                reached(at.row.w, follows.w, q, last, here.group.z),
            );
            let h_turning = Gates(h_bar_of[0], h_bar_of[1], h_bar_of[2], h_bar_of[3]);
            let c_turning = Gates(c_bar[0], c_bar[1], c_bar[2], c_bar[3]);
            let c4 = cells(at.row, q);
            let before4 = cells(at.earlier, q);
            //@if TANGENT
            let c4_dot = cells_dot(at.row, q, here.group.z);
            let before4_dot = cells_dot(at.earlier, q, here.group.z);
            let h_all = deltas(at.row, q, 0u, here.group.z);
            let c_all = deltas(at.row, q, 1u, here.group.z);
            //@end
            var c_fresh = nothing();
            for (var j = 0u; j < min(4u, UNITS - 4u * q); j++) {
                let unit = 4u * q + j;
                let s = unit_gates(at.row, unit);
                let before = zero_where(at.first, pick(before4, j));
                let bar = Cell(pick(from_outside, j) + pick(h_turning, j), pick(c_turning, j));
                //@if TANGENT
                let before_dot = zero_where(at.first, pick(before4_dot, j));
                let z_dot = unit_gates_dot(at.row, unit, here.group.z);
                let m = Moving(s, z_dot, pick(c4, j), pick(c4_dot, j), before, before_dot);
                let passed = cell_vjp_jvp(m, Cell(pick(h_all, j), pick(c_all, j)), bar);
                //@else
                let passed = cell_vjp(s, pick(c4, j), before, bar);
                //@end
                let z = passed.z;
                c_fresh = put(c_fresh, j, passed.c);
                let rows = by_gate(z.i, z.f, z.g, z.o);
                let to = at.row * UNITS + vec4<u32>(own + unit);
                if at.here.x { z_bar_out[to.x] = rows.i; }
                if at.here.y { z_bar_out[to.y] = rows.f; }
                if at.here.z { z_bar_out[to.z] = rows.g; }
                if at.here.w { z_bar_out[to.w] = rows.o; }
                var own_w: array<vec4<f32>, LOADS>;
                //@unroll
                for (var g = 0u; g < LOADS; g++) {
                    own_w[g] = weight[4u * unit * QUADS + min(g * LANES + l, 4u * QUADS - 1u)];
                }
                //@unroll
                for (var k = 0u; k < UNITS; k++) {
                    const I = k / 4u;
                    const F = QUADS + k / 4u;
                    const G = 2u * QUADS + k / 4u;
                    const O = 3u * QUADS + k / 4u;
                    sum[k] = fma(vec4<f32>(subgroupBroadcast(own_w[I / LANES][k % 4u], I % LANES)), z.i, sum[k]);
                    sum[k] = fma(vec4<f32>(subgroupBroadcast(own_w[F / LANES][k % 4u], F % LANES)), z.f, sum[k]);
                    sum[k] = fma(vec4<f32>(subgroupBroadcast(own_w[G / LANES][k % 4u], G % LANES)), z.g, sum[k]);
                    sum[k] = fma(vec4<f32>(subgroupBroadcast(own_w[O / LANES][k % 4u], O % LANES)), z.o, sum[k]);
                }
            }
            //@unroll
            for (var k = 0u; k < REST; k++) {
                h_bar_of[k] = h_bar_of[k + 4u];
                c_bar[k] = c_bar[k + 4u];
            }
            c_bar[REST] = c_fresh.i;
            c_bar[REST + 1u] = c_fresh.f;
            c_bar[REST + 2u] = c_fresh.g;
            c_bar[REST + 3u] = c_fresh.o;
        }
        //@unroll
        for (var k = 0u; k < PADDED; k++) {
            h_bar_of[k] = sum[k];
        }
    }
}
