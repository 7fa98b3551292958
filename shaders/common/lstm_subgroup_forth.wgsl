// Through time from the first token to the last, by lanes of sentences: `forward`, and `jvp` along a direction.

@compute @workgroup_size(LANES)
//@if TANGENT
fn jvp(
//@else
fn forward(
//@end
    here: Lane
) {
    let l = here.lane;
    let first = group_number(here.group) * 4u * LANES;
    let span_of_longest = sentence(first);
    let longest = span_of_longest.y - span_of_longest.x;
    let hidden = here.group.z * p.previous_layer;
    let own = here.group.z * p.state_layer;
    var span: array<vec2<u32>, 4>;
    //@unroll
    for (var s = 0u; s < 4u; s++) {
        span[s] = sentence(first + s * LANES + l);
    }
    for (var q = 0u; q < QUADS; q++) {
        //@unroll
        for (var s = 0u; s < 4u; s++) {
            if span[s].x < span[s].y { previous_out[hidden + row_at(span[s], 0u) * QUADS + q] = vec4<f32>(0.0); }
        }
    }
    var h: array<vec4<f32>, PADDED>;
    var h_next: array<vec4<f32>, PADDED>;
    var c: array<vec4<f32>, PADDED>;
    //@unroll
    for (var k = 0u; k < PADDED; k++) {
        h[k] = vec4<f32>(0.0);
        h_next[k] = vec4<f32>(0.0);
        c[k] = vec4<f32>(0.0);
    }
    for (var time = 0u; time < longest; time++) {
        var at: Rows;
        var follows: vec4<u32>;
        var goes_on: vec4<bool>;
        //@unroll
        for (var s = 0u; s < 4u; s++) {
            at.row[s] = row_at(span[s], time);
            at.earlier[s] = row_at(span[s], max(time, 1u) - 1u);
            at.here[s] = time < span[s].y - span[s].x;
            follows[s] = row_at(span[s], time + 1u);
            goes_on[s] = time + 1u < span[s].y - span[s].x;
        }
        at.first = vec4<bool>(time == 0u);
        for (var q = 0u; q < QUADS; q++) {
            var h_fresh = nothing();
            var c_fresh = nothing();
            let turning = Gates(c[0], c[1], c[2], c[3]);
            //@if TANGENT
            let c4 = cells(at.row, q);
            let before4 = cells(at.earlier, q);
            //@end
            for (var j = 0u; j < min(4u, UNITS - 4u * q); j++) {
                let unit = 4u * q + j;
                let source = at.row * UNITS + vec4<u32>(here.group.z * p.in_layer + unit);
                var z = by_gate(u[source.x], u[source.y], u[source.z], u[source.w]);
                //@if TANGENT
                //@else
                let b = bias[unit];
                z = Gates(z.i + b.x, z.f + b.y, z.g + b.z, z.o + b.w);
                //@end
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
                    z.i = fma(vec4<f32>(subgroupBroadcast(own_w[I / LANES][k % 4u], I % LANES)), h[k], z.i);
                    z.f = fma(vec4<f32>(subgroupBroadcast(own_w[F / LANES][k % 4u], F % LANES)), h[k], z.f);
                    z.g = fma(vec4<f32>(subgroupBroadcast(own_w[G / LANES][k % 4u], G % LANES)), h[k], z.g);
                    z.o = fma(vec4<f32>(subgroupBroadcast(own_w[O / LANES][k % 4u], O % LANES)), h[k], z.o);
                }
                //@if TANGENT
                let made = z;
                let before = zero_where(at.first, pick(before4, j));
                let fresh = cell_jvp(unit_gates(at.row, unit), pick(c4, j), before, z, pick(turning, j));
                //@else
                let made = gates_of(z);
                let cell = made.f * pick(turning, j) + made.i * made.g;
                let fresh = Cell(made.o * tanh4(cell), cell);
                //@end
                h_fresh = put(h_fresh, j, fresh.h);
                c_fresh = put(c_fresh, j, fresh.c);
                let rows = by_gate(made.i, made.f, made.g, made.o);
                let to = at.row * STATE4 + vec4<u32>(own + unit);
                if at.here.x { state_out[to.x] = rows.i; }
                if at.here.y { state_out[to.y] = rows.f; }
                if at.here.z { state_out[to.z] = rows.g; }
                if at.here.w { state_out[to.w] = rows.o; }
            }
            let cells_made = by_gate(c_fresh.i, c_fresh.f, c_fresh.g, c_fresh.o);
            let hidden_made = by_gate(h_fresh.i, h_fresh.f, h_fresh.g, h_fresh.o);
            let to = at.row * STATE4 + vec4<u32>(own + UNITS + q);
            if at.here.x { state_out[to.x] = cells_made.i; }
            if at.here.y { state_out[to.y] = cells_made.f; }
            if at.here.z { state_out[to.z] = cells_made.g; }
            if at.here.w { state_out[to.w] = cells_made.o; }
            let on = follows * QUADS + vec4<u32>(hidden + q);
            if goes_on.x { previous_out[on.x] = hidden_made.i; }
            if goes_on.y { previous_out[on.y] = hidden_made.f; }
            if goes_on.z { previous_out[on.z] = hidden_made.g; }
            if goes_on.w { previous_out[on.w] = hidden_made.o; }
            store4(at.here.x, at.row.x, q, here.group.z, hidden_made.i);
            store4(at.here.y, at.row.y, q, here.group.z, hidden_made.f);
            store4(at.here.z, at.row.z, q, here.group.z, hidden_made.g);
            store4(at.here.w, at.row.w, q, here.group.z, hidden_made.o);
            //@unroll
            for (var k = 0u; k < REST; k++) {
                h_next[k] = h_next[k + 4u];
                c[k] = c[k + 4u];
            }
            h_next[REST] = h_fresh.i;
            h_next[REST + 1u] = h_fresh.f;
            h_next[REST + 2u] = h_fresh.g;
            h_next[REST + 3u] = h_fresh.o;
            c[REST] = c_fresh.i;
            c[REST + 1u] = c_fresh.f;
            c[REST + 2u] = c_fresh.g;
            c[REST + 3u] = c_fresh.o;
        }
        //@unroll
        for (var k = 0u; k < PADDED; k++) {
            h[k] = h_next[k];
        }
    }
}
