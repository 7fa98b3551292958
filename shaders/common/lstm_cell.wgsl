// A cell of an LSTM on four things at once (sentences, or units), and its derivatives:
//   i = σ(z_i)  f = σ(z_f)  g = tanh(z_g)  o = σ(z_o)     c = f c' + i g     k = tanh(c)     h = o k
//@import common/activation.wgsl

// A number of each gate.
struct Gates {
    i: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    o: vec4<f32>,
}

// By σ, since drivers' tanh is off by up to 1e-3: tanh x = 2 σ(2x) - 1.
fn tanh4(x: vec4<f32>) -> vec4<f32> {
    return -logistic4(2.0 * x).odd;
}

fn gates_of(z: Gates) -> Gates {
    return Gates(logistic4(z.i).value, logistic4(z.f).value, tanh4(z.g), logistic4(z.o).value);
}

// Four rows of gates by gate, and back.
fn by_gate(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Gates {
    return Gates(
        vec4<f32>(a.x, b.x, c.x, d.x),
        vec4<f32>(a.y, b.y, c.y, d.y),
        vec4<f32>(a.z, b.z, c.z, d.z),
        vec4<f32>(a.w, b.w, c.w, d.w),
    );
}

// The derivatives of the gates by z.
fn slopes(s: Gates) -> Gates {
    return Gates(s.i * (1.0 - s.i), s.f * (1.0 - s.f), 1.0 - s.g * s.g, s.o * (1.0 - s.o));
}

// A hidden state and a cell: values, tangents or adjoints.
struct Cell {
    h: vec4<f32>,
    c: vec4<f32>,
}

// Adjoints of z, and of the cell before.
struct Back {
    z: Gates,
    c: vec4<f32>,
}

// From the adjoints of h and, of the next cell alone, of c.
fn cell_vjp(s: Gates, c: vec4<f32>, before: vec4<f32>, bar: Cell) -> Back {
    let k = tanh4(c);
    let d = slopes(s);
    let c_bar = bar.c + bar.h * s.o * (1.0 - k * k);
    return Back(Gates(c_bar * s.g * d.i, c_bar * before * d.f, c_bar * s.i * d.g, bar.h * k * d.o), c_bar * s.f);
}
