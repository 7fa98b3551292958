// A cell of an LSTM along a direction: ż moves the gates, ċ' the cell before.
//@import common/lstm_cell.wgsl

// The tangents of the gates.
fn gates_dot(s: Gates, z_dot: Gates) -> Gates {
    let d = slopes(s);
    return Gates(d.i * z_dot.i, d.f * z_dot.f, d.g * z_dot.g, d.o * z_dot.o);
}

// ċ = ḟ c' + f ċ' + i̇ g + i ġ,  ḣ = ȯ k + o (1 - k²) ċ
fn cell_jvp(s: Gates, c: vec4<f32>, before: vec4<f32>, z_dot: Gates, before_dot: vec4<f32>) -> Cell {
    let dot = gates_dot(s, z_dot);
    let k = tanh4(c);
    let c_dot = dot.f * before + s.f * before_dot + dot.i * s.g + s.i * dot.g;
    return Cell(dot.o * k + s.o * (1.0 - k * k) * c_dot, c_dot);
}

// What a cell holds, with its tangents.
struct Moving {
    s: Gates,
    z_dot: Gates,
    c: vec4<f32>,
    c_dot: vec4<f32>,
    before: vec4<f32>,
    before_dot: vec4<f32>,
}

// The tangent of `cell_vjp`: `bar` are the adjoints of h and c with all that reaches them, `bar_dot` the tangents of
// the adjoint of h and, of the next cell alone, of c.
fn cell_vjp_jvp(m: Moving, bar: Cell, bar_dot: Cell) -> Back {
    let s = m.s;
    let d = slopes(s);
    let dot = gates_dot(s, m.z_dot);
    let k = tanh4(m.c);
    let rest = 1.0 - k * k;
    let k_dot = rest * m.c_dot;
    let c_bar_dot = bar_dot.c + bar_dot.h * s.o * rest + bar.h * (dot.o * rest - 2.0 * s.o * k * k_dot);
    return Back(
        Gates(
            d.i * (c_bar_dot * s.g + bar.c * dot.g) + bar.c * s.g * (1.0 - 2.0 * s.i) * dot.i,
            d.f * (c_bar_dot * m.before + bar.c * m.before_dot) + bar.c * m.before * (1.0 - 2.0 * s.f) * dot.f,
            d.g * (c_bar_dot * s.i + bar.c * dot.i) - 2.0 * bar.c * s.i * s.g * dot.g,
            d.o * (bar_dot.h * k + bar.h * k_dot) + bar.h * k * (1.0 - 2.0 * s.o) * dot.o,
        ),
        c_bar_dot * s.f + bar.c * dot.f,
    );
}

// ⟨adjoints, second derivative⟩ of the gates, of c and of h.
fn cell_second(m: Moving, bar: Cell) -> vec4<f32> {
    let s = m.s;
    let dot = gates_dot(s, m.z_dot);
    let k = tanh4(m.c);
    let k_dot = (1.0 - k * k) * m.c_dot;
    // The second derivatives of the gates along ż: s' (1 - 2 s) ż² and -2 g g' ż².
    let i = (1.0 - 2.0 * s.i) * dot.i * m.z_dot.i;
    let f = (1.0 - 2.0 * s.f) * dot.f * m.z_dot.f;
    let g = -2.0 * s.g * dot.g * m.z_dot.g;
    let o = (1.0 - 2.0 * s.o) * dot.o * m.z_dot.o;
    let of_cell = i * s.g + 2.0 * dot.i * dot.g + s.i * g + f * m.before + 2.0 * dot.f * m.before_dot;
    return bar.c * of_cell + bar.h * (o * k + 2.0 * dot.o * k_dot - 2.0 * s.o * k * k_dot * m.c_dot);
}
