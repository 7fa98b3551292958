// The software variant of lstm.wgsl and lstm_tangent.wgsl: a workgroup is one subgroup of LANES lanes and takes 4 LANES
// sentences through time, four a lane: a vec4 is one number of each. What goes from token to token stays in the lanes:
// h (back: what reaches it) and c of all UNITS. A unit's 4 UNITS numbers of W are loaded across the lanes, vec4 number
// g LANES + l by lane l, and each is handed round by subgroupBroadcast and meets 4 LANES sentences.
//
// An array with an index that is not known is a loop over the lanes on such adapters. So arrays of units turn: the loop
// over units, four at a time, reads the first four of an array and moves the rest up; what it makes goes in behind.

const LANES: u32 = 8u;
const UNITS: u32 = 8u;
const QUADS: u32 = (UNITS + 3u) / 4u;
const PADDED: u32 = 4u * QUADS;
const REST: u32 = PADDED - 4u;
// vec4 of W that a lane has of a unit.
const LOADS: u32 = (4u * QUADS + LANES - 1u) / LANES;
const STATE4: u32 = UNITS + QUADS;

// Of four sentences, where they are.
struct Rows {
    row: vec4<u32>,
    // Of the token before in time.
    earlier: vec4<u32>,
    first: vec4<bool>,
    here: vec4<bool>,
}

// Number j of four.
fn pick(four: Gates, j: u32) -> vec4<f32> {
    return select(select(four.i, four.f, j == 1u), select(four.g, four.o, j == 3u), j >= 2u);
}

// The same with number j replaced.
fn put(four: Gates, j: u32, v: vec4<f32>) -> Gates {
    return Gates(
        select(four.i, v, j == 0u),
        select(four.f, v, j == 1u),
        select(four.g, v, j == 2u),
        select(four.o, v, j == 3u),
    );
}

fn nothing() -> Gates {
    return Gates(vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
}

// The gates of a unit of four sentences.
fn unit_gates(row: vec4<u32>, unit: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(unit);
    return by_gate(state[at.x], state[at.y], state[at.z], state[at.w]);
}

// Four cells of four sentences, by unit; 0 where there is none before.
fn cells(row: vec4<u32>, quad: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(UNITS + quad);
    return by_gate(state[at.x], state[at.y], state[at.z], state[at.w]);
}

fn zero_where(none: vec4<bool>, v: vec4<f32>) -> vec4<f32> {
    return select(v, vec4<f32>(0.0), none);
}

//@if TANGENT
fn unit_gates_dot(row: vec4<u32>, unit: u32, layer: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(layer * p.state_layer + unit);
    return by_gate(state_dot[at.x], state_dot[at.y], state_dot[at.z], state_dot[at.w]);
}

fn cells_dot(row: vec4<u32>, quad: u32, layer: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(layer * p.state_layer + UNITS + quad);
    return by_gate(state_dot[at.x], state_dot[at.y], state_dot[at.z], state_dot[at.w]);
}

// Part 0 or 1 of `delta`: the adjoints of h or of c.
fn deltas(row: vec4<u32>, quad: u32, part: u32, layer: u32) -> Gates {
    let at = row * 2u * QUADS + vec4<u32>(layer * p.delta_layer + part * QUADS + quad);
    return by_gate(delta_of[at.x], delta_of[at.y], delta_of[at.z], delta_of[at.w]);
}
//@end

@compute @workgroup_size(LANES)
//@if TANGENT
fn jvp(
//@else
fn forward(
//@end
    @builtin(workgroup_id) w: vec3<u32>,
    @builtin(num_workgroups) n: vec3<u32>,
    @builtin(subgroup_invocation_id) l: u32,
) {
    let first = (w.x + w.y * n.x) * 4u * LANES;
    let span_of_longest = sentence(first);
    let longest = span_of_longest.y - span_of_longest.x;
    let hidden = w.z * p.previous_layer;
    let own = w.z * p.state_layer;
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
                let source = at.row * UNITS + vec4<u32>(w.z * p.in_layer + unit);
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
            store4(at.here.x, at.row.x, q, w.z, hidden_made.i);
            store4(at.here.y, at.row.y, q, w.z, hidden_made.f);
            store4(at.here.z, at.row.z, q, w.z, hidden_made.g);
            store4(at.here.w, at.row.w, q, w.z, hidden_made.o);
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

@compute @workgroup_size(LANES)
//@if TANGENT
fn vjp_jvp(
//@else
fn vjp(
//@end
    @builtin(workgroup_id) w: vec3<u32>,
    @builtin(num_workgroups) n: vec3<u32>,
    @builtin(subgroup_invocation_id) l: u32,
) {
    let first = (w.x + w.y * n.x) * 4u * LANES;
    let span_of_longest = sentence(first);
    let longest = span_of_longest.y - span_of_longest.x;
    let own = w.z * p.out_layer;
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
                reached(at.row.x, follows.x, q, last, w.z),
                reached(at.row.y, follows.y, q, last, w.z),
                reached(at.row.z, follows.z, q, last, w.z),
                reached(at.row.w, follows.w, q, last, w.z),
            );
            let h_turning = Gates(h_bar_of[0], h_bar_of[1], h_bar_of[2], h_bar_of[3]);
            let c_turning = Gates(c_bar[0], c_bar[1], c_bar[2], c_bar[3]);
            let c4 = cells(at.row, q);
            let before4 = cells(at.earlier, q);
            //@if TANGENT
            let c4_dot = cells_dot(at.row, q, w.z);
            let before4_dot = cells_dot(at.earlier, q, w.z);
            let h_all = deltas(at.row, q, 0u, w.z);
            let c_all = deltas(at.row, q, 1u, w.z);
            //@end
            var c_fresh = nothing();
            for (var j = 0u; j < min(4u, UNITS - 4u * q); j++) {
                let unit = 4u * q + j;
                let s = unit_gates(at.row, unit);
                let before = zero_where(at.first, pick(before4, j));
                let bar = Cell(pick(from_outside, j) + pick(h_turning, j), pick(c_turning, j));
                //@if TANGENT
                let before_dot = zero_where(at.first, pick(before4_dot, j));
                let z_dot = unit_gates_dot(at.row, unit, w.z);
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
