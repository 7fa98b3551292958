// The variant of lstm.wgsl and lstm_tangent.wgsl for GPUs, and for any number of units: a workgroup takes 2 PART
// sentences through time, an invocation PART of them and one unit (forth) or four (back), whatever is left over in
// turn. What the step before made, h' or z̄, is read from memory, where the workgroup has just written it: every number
// of W that is read serves PART sentences, every number of h' four gates.

const INVOCATIONS: u32 = 64u;
const PART: u32 = 4u;
// Groups of four units that an invocation has at most: room for the adjoints of their cells.
const ITEMS: u32 = 1u;

@compute @workgroup_size(INVOCATIONS)
//@if TANGENT
fn jvp(
//@else
fn forward(
//@end
    here: Place
) {
    let l = here.local;
    let first = group_number(here.group) * 2u * PART;
    let span_of_longest = sentence(first);
    let longest = span_of_longest.y - span_of_longest.x;
    let hidden = here.group.z * p.previous_layer;
    let own = here.group.z * p.state_layer;
    let state4 = p.units + p.quads;
    for (var i = l; i < 2u * PART * p.quads; i += INVOCATIONS) {
        let span = sentence(first + i / p.quads);
        if span.x < span.y { previous_out[hidden + row_at(span, 0u) * p.quads + i % p.quads] = vec4<f32>(0.0); }
    }
    for (var time = 0u; time < longest; time++) {
        for (var item = l; item < 8u * p.quads; item += INVOCATIONS) {
            let unit = item % (4u * p.quads);
            let there = min(unit, p.units - 1u);
            let inside = select(0.0, 1.0, unit < p.units);
            let cell4 = p.units + unit / 4u;
            let part = first + item / (4u * p.quads) * PART;
            var span: array<vec2<u32>, PART>;
            var row: array<u32, PART>;
            var z: array<vec4<f32>, PART>;
            //@unroll
            for (var s = 0u; s < PART; s++) {
                span[s] = sentence(part + s);
                row[s] = row_at(span[s], time);
                z[s] = u[here.group.z * p.in_layer + row[s] * p.units + there];
                //@if TANGENT
                //@else
                z[s] += bias[there];
                //@end
            }
            // h' is 0 at the first token.
            let depth = select(p.quads, 0u, time == 0u);
            for (var k = 0u; k < depth; k++) {
                let w0 = weight[(4u * there + 0u) * p.quads + k];
                let w1 = weight[(4u * there + 1u) * p.quads + k];
                let w2 = weight[(4u * there + 2u) * p.quads + k];
                let w3 = weight[(4u * there + 3u) * p.quads + k];
                //@unroll
                for (var s = 0u; s < PART; s++) {
                    let h = previous_out[hidden + row[s] * p.quads + k];
                    z[s] += vec4<f32>(dot(w0, h), dot(w1, h), dot(w2, h), dot(w3, h));
                }
            }
            var before: vec4<f32>;
            //@unroll
            for (var s = 0u; s < PART; s++) {
                let at = row_at(span[s], max(time, 1u) - 1u) * state4 + cell4;
                before[s] = select(component(state_out[own + at], unit), 0.0, time == 0u);
            }
            //@if TANGENT
            var gates: array<vec4<f32>, PART>;
            var c: vec4<f32>;
            var c_before: vec4<f32>;
            //@unroll
            for (var s = 0u; s < PART; s++) {
                let at = row_at(span[s], max(time, 1u) - 1u) * state4 + cell4;
                gates[s] = state[row[s] * state4 + there];
                c[s] = component(state[row[s] * state4 + cell4], unit);
                c_before[s] = select(component(state[at], unit), 0.0, time == 0u);
            }
            let s4 = by_gate(gates[0], gates[1], gates[2], gates[3]);
            let made = by_gate(z[0], z[1], z[2], z[3]);
            let fresh = cell_jvp(s4, c, c_before, made, before);
            //@else
            let made = gates_of(by_gate(z[0], z[1], z[2], z[3]));
            let c = made.f * before + made.i * made.g;
            let fresh = Cell(made.o * tanh4(c), c);
            //@end
            let rows = by_gate(made.i, made.f, made.g, made.o);
            let kept = array<vec4<f32>, PART>(rows.i, rows.f, rows.g, rows.o);
            //@unroll
            for (var s = 0u; s < PART; s++) {
                let length = span[s].y - span[s].x;
                if time < length {
                    state_out[own + row[s] * state4 + cell4][unit % 4u] = inside * fresh.c[s];
                    if unit < p.units {
                        state_out[own + row[s] * state4 + unit] = kept[s];
                        store(row[s], unit, here.group.z, fresh.h[s]);
                    }
                    if unit == 0u { store_padding(row[s], here.group.z); }
                }
                if time + 1u < length {
                    let at = row_at(span[s], time + 1u) * p.quads + unit / 4u;
                    previous_out[hidden + at][unit % 4u] = inside * fresh.h[s];
                }
            }
        }
        storageBarrier();
    }
}

@compute @workgroup_size(INVOCATIONS)
//@if TANGENT
fn vjp_jvp(
//@else
fn vjp(
//@end
    here: Place
) {
    let l = here.local;
    let first = group_number(here.group) * 2u * PART;
    let span_of_longest = sentence(first);
    let longest = span_of_longest.y - span_of_longest.x;
    let own = here.group.z * p.out_layer;
    let state4 = p.units + p.quads;
    // Of each item and sentence the adjoint (its tangent) of the cell before.
    var c_bar: array<vec4<f32>, ITEMS * PART>;
    for (var i = 0u; i < ITEMS * PART; i++) {
        c_bar[i] = vec4<f32>(0.0);
    }
    // From every sentence's last token, wherever that is, to its first.
    for (var back_time = 0u; back_time < longest; back_time++) {
        for (var number = 0u; number < ITEMS; number++) {
            let item = l + number * INVOCATIONS;
            if item < 2u * p.quads {
                let quad = item % p.quads;
                let part = first + item / p.quads * PART;
                var span: array<vec2<u32>, PART>;
                var time: array<u32, PART>;
                var next: array<u32, PART>;
                var h_bar4: array<vec4<f32>, PART>;
                //@unroll
                for (var s = 0u; s < PART; s++) {
                    span[s] = sentence(part + s);
                    let length = span[s].y - span[s].x;
                    time[s] = max(length, back_time + 1u) - back_time - 1u;
                    next[s] = row_at(span[s], time[s] + 1u);
                    h_bar4[s] = reached(row_at(span[s], time[s]), next[s], quad, back_time == 0u, here.group.z);
                }
                let depth = select(p.units, 0u, back_time == 0u);
                for (var unit = 0u; unit < depth; unit++) {
                    let w0 = weight[(4u * unit + 0u) * p.quads + quad];
                    let w1 = weight[(4u * unit + 1u) * p.quads + quad];
                    let w2 = weight[(4u * unit + 2u) * p.quads + quad];
                    let w3 = weight[(4u * unit + 3u) * p.quads + quad];
                    //@unroll
                    for (var s = 0u; s < PART; s++) {
                        let z = z_bar_out[own + next[s] * p.units + unit];
                        h_bar4[s] += w0 * z.x + w1 * z.y + w2 * z.z + w3 * z.w;
                    }
                }
                //@unroll
                for (var s = 0u; s < PART; s++) {
                    let row = row_at(span[s], time[s]);
                    let earlier = row_at(span[s], max(time[s], 1u) - 1u);
                    let bar = Cell(h_bar4[s], c_bar[number * PART + s]);
                    //@if TANGENT
                    let passed = moved_back(row, earlier, time[s] == 0u, quad, here.group.z, bar);
                    //@else
                    let c = state[row * state4 + p.units + quad];
                    let before = select(state[earlier * state4 + p.units + quad], vec4<f32>(0.0), time[s] == 0u);
                    let passed = cell_vjp(gates_at(row, quad), c, before, bar);
                    //@end
                    c_bar[number * PART + s] = passed.c;
                    let rows = by_gate(passed.z.i, passed.z.f, passed.z.g, passed.z.o);
                    let kept = array<vec4<f32>, 4>(rows.i, rows.f, rows.g, rows.o);
                    //@unroll
                    for (var j = 0u; j < 4u; j++) {
                        if back_time < span[s].y - span[s].x && 4u * quad + j < p.units {
                            z_bar_out[own + row * p.units + 4u * quad + j] = kept[j];
                        }
                    }
                }
            }
        }
        storageBarrier();
    }
}
