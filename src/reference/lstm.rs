//! Twin of `shaders/lstm.wgsl` and, on jets, of `shaders/lstm_tangent.wgsl`: one cell after another, one sentence after
//! another.
//!
//! Rules along a direction are given the gates and not z; where jets start from z, it is the gates' inverse function.

use super::jet::{self, Jet, Real};
use super::{Inputs, Twin, activation::logistic, no_twin, sums_of_four};
use crate::ops::{Lstm, Rule};

/// (i, f, g, o) of a unit.
pub type Gates<R> = [R; 4];

/// A unit's gates, cell and hidden state from z = u + b + W h' and the cell before.
pub fn cell<R: Real>(z: Gates<R>, before: R) -> (Gates<R>, R, R) {
    let [i, f, g, o] = [logistic(z[0]), logistic(z[1]), z[2].tanh(), logistic(z[3])];
    let c = f * before + i * g;
    ([i, f, g, o], c, o * c.tanh())
}

/// The adjoints of z and of the cell before, from those of h and c; that of c from the next cell alone.
pub fn cell_vjp<R: Real>([i, f, g, o]: Gates<R>, c: R, before: R, h_bar: R, c_bar: R) -> (Gates<R>, R) {
    let one = R::from(1.0);
    let k = c.tanh();
    let c_bar = c_bar + h_bar * o * (one - k * k);
    let z_bar = [
        c_bar * g * i * (one - i),
        c_bar * before * f * (one - f),
        c_bar * i * (one - g * g),
        h_bar * k * o * (one - o),
    ];
    (z_bar, c_bar * f)
}

/// Rows of one direction in the order of its time, sentence by sentence.
fn walks(op: &Lstm, spans: &[[u32; 4]]) -> Vec<Vec<usize>> {
    let sentences = spans.iter().filter(|span| span[2] == 0);
    sentences
        .map(|span| {
            let rows = span[0] as usize..span[1] as usize;
            if op.reverse() { rows.rev().collect() } else { rows.collect() }
        })
        .collect()
}

/// Σ_k W[4 unit + gate, k] h[k].
fn times<R: Real>(weight: &[R], h: &[R], unit: usize) -> Gates<R> {
    let units = h.len();
    std::array::from_fn(|gate| (0..units).map(|k| weight[(4 * unit + gate) * units + k] * h[k]).sum())
}

/// Σ over units and gates of W[4 unit + gate, k] z̄[unit, gate].
fn back<R: Real>(weight: &[R], z_bar: &[Gates<R>], k: usize) -> R {
    let units = z_bar.len();
    z_bar.iter().flatten().enumerate().map(|(row, z)| weight[row * units + k] * *z).sum()
}

/// (h, h', state) of one direction; h [rows, H].
pub fn forward<R: Real>(op: &Lstm, spans: &[[u32; 4]], u: &[R], weight: &[R], bias: &[R]) -> [Vec<R>; 3] {
    let (units, zero) = (op.units as usize, R::from(0.0));
    let rows = spans.len();
    let (mut h, mut previous) = (vec![zero; rows * units], vec![zero; rows * units]);
    let mut state = vec![zero; rows * 5 * units];
    for walk in walks(op, spans) {
        let (mut hidden, mut cells) = (vec![zero; units], vec![zero; units]);
        for row in walk {
            previous[row * units..(row + 1) * units].copy_from_slice(&hidden);
            for unit in 0..units {
                let recurrent = times(weight, &previous[row * units..(row + 1) * units], unit);
                let z = std::array::from_fn(|gate| {
                    u[row * 4 * units + 4 * unit + gate] + bias[4 * unit + gate] + recurrent[gate]
                });
                let (gates, c, fresh) = cell(z, cells[unit]);
                (cells[unit], hidden[unit]) = (c, fresh);
                state[row * 5 * units + 4 * unit..][..4].copy_from_slice(&gates);
                state[row * 5 * units + 4 * units + unit] = c;
            }
            h[row * units..(row + 1) * units].copy_from_slice(&hidden);
        }
    }
    [h, previous, state]
}

/// The state of one direction, read by row and unit.
struct State<'a, R> {
    units: usize,
    values: &'a [R],
}

impl<R: Real> State<'_, R> {
    fn gates(&self, row: usize, unit: usize) -> Gates<R> {
        std::array::from_fn(|gate| self.values[row * 5 * self.units + 4 * unit + gate])
    }

    fn cell(&self, row: usize, unit: usize) -> R {
        self.values[row * 5 * self.units + 4 * self.units + unit]
    }

    /// The cell of the row before in time, 0 before the first.
    fn before(&self, walk: &[usize], time: usize, unit: usize) -> R {
        if time == 0 { R::from(0.0) } else { self.cell(walk[time - 1], unit) }
    }
}

/// z̄ [rows, 4H] of one direction. `reached(row, unit, next, recurrent)` is all that reaches h: `recurrent` comes by W
/// from the row `next` that follows in time.
pub fn vjp<R: Real>(
    op: &Lstm,
    spans: &[[u32; 4]],
    weight: &[R],
    state: &[R],
    reached: impl Fn(usize, usize, Option<usize>, R) -> R,
) -> Vec<R> {
    let (units, zero) = (op.units as usize, R::from(0.0));
    let state = State { units, values: state };
    let mut out = vec![zero; spans.len() * 4 * units];
    for walk in walks(op, spans) {
        let (mut z_bar, mut c_bar) = (vec![[zero; 4]; units], vec![zero; units]);
        for (time, row) in walk.iter().copied().enumerate().rev() {
            let next = walk.get(time + 1).copied();
            let hidden: Vec<R> = (0..units).map(|k| reached(row, k, next, back(weight, &z_bar, k))).collect();
            for unit in 0..units {
                let (c, before) = (state.cell(row, unit), state.before(&walk, time, unit));
                (z_bar[unit], c_bar[unit]) = cell_vjp(state.gates(row, unit), c, before, hidden[unit], c_bar[unit]);
                out[row * 4 * units + 4 * unit..][..4].copy_from_slice(&z_bar[unit]);
            }
        }
    }
    out
}

/// z whose gates these are.
fn before_gates([i, f, g, o]: Gates<f64>) -> Gates<f64> {
    let logit = |s: f64| (s / (1.0 - s)).ln();
    [logit(i), logit(f), g.atanh(), logit(o)]
}

/// z of a row's unit as jets along ż.
fn moving_z(state: &State<'_, f64>, z_dot: Gates<f64>, row: usize, unit: usize) -> Gates<Jet> {
    let z = before_gates(state.gates(row, unit));
    std::array::from_fn(|gate| Jet::along(z[gate], z_dot[gate]))
}

/// (ḣ [rows, H], ḣ', (ż, ċ)) of one direction, from v = u̇ + ḃ + Ẇ h'.
fn jvp(op: &Lstm, spans: &[[u32; 4]], v: &[f64], weight: &[f64], state: &[f64]) -> [Vec<f64>; 3] {
    let units = op.units as usize;
    let state = State { units, values: state };
    let (mut h, mut previous) = (vec![0.0; spans.len() * units], vec![0.0; spans.len() * units]);
    let mut out = vec![0.0; spans.len() * 5 * units];
    for walk in walks(op, spans) {
        let (mut hidden, mut cells) = (vec![0.0; units], vec![Jet::from(0.0); units]);
        for row in walk {
            previous[row * units..(row + 1) * units].copy_from_slice(&hidden);
            for unit in 0..units {
                let recurrent = times(weight, &previous[row * units..(row + 1) * units], unit);
                let z_dot = std::array::from_fn(|gate| v[row * 4 * units + 4 * unit + gate] + recurrent[gate]);
                let (_, c, fresh) = cell(moving_z(&state, z_dot, row, unit), cells[unit]);
                (cells[unit], hidden[unit]) = (c, fresh.first);
                out[row * 5 * units + 4 * unit..][..4].copy_from_slice(&z_dot);
                out[row * 5 * units + 4 * units + unit] = c.first;
            }
            h[row * units..(row + 1) * units].copy_from_slice(&hidden);
        }
    }
    [h, previous, out]
}

/// The state as jets, from its values and (ż, ċ).
fn moving_state(op: &Lstm, state: &[f64], along: &[f64]) -> Vec<Jet> {
    let units = op.units as usize;
    let mut jets = jet::moving(state, along);
    let (state, along) = (State { units, values: state }, State { units, values: along });
    for row in 0..jets.len() / (5 * units) {
        for unit in 0..units {
            let z = moving_z(&state, along.gates(row, unit), row, unit);
            // The cell before changes nothing of the gates.
            let (gates, _, _) = cell(z, Jet::from(0.0));
            jets[row * 5 * units + 4 * unit..][..4].copy_from_slice(&gates);
        }
    }
    jets
}

/// [rows, 2 padded(H)]: the adjoint of h, and that of c, with all that reaches them.
fn delta(op: &Lstm, spans: &[[u32; 4]], state: &[f64], h_bar: impl Fn(usize, usize, Option<usize>) -> f64) -> Vec<f64> {
    let (units, padded) = (op.units as usize, op.padded() as usize);
    let state = State { units, values: state };
    let mut out = vec![0.0; spans.len() * 2 * padded];
    for walk in walks(op, spans) {
        for unit in 0..units {
            let mut c_bar = 0.0;
            for (time, row) in walk.iter().copied().enumerate().rev() {
                let (gates, c) = (state.gates(row, unit), state.cell(row, unit));
                let hidden = h_bar(row, unit, walk.get(time + 1).copied());
                let (_, passed) = cell_vjp(gates, c, state.before(&walk, time, unit), hidden, c_bar);
                out[row * 2 * padded + unit] = hidden;
                out[row * 2 * padded + padded + unit] = c_bar + hidden * gates[3] * (1.0 - c.tanh() * c.tanh());
                c_bar = passed;
            }
        }
    }
    out
}

/// ⟨adjoints, second derivative of a cell⟩ of each row and unit, [rows, H].
fn second(op: &Lstm, spans: &[[u32; 4]], state: &[f64], along: &[f64], delta: &[f64]) -> Vec<f64> {
    let (units, padded) = (op.units as usize, op.padded() as usize);
    let (state, along) = (State { units, values: state }, State { units, values: along });
    let mut out = vec![0.0; spans.len() * units];
    for walk in walks(op, spans) {
        for (time, row) in walk.iter().copied().enumerate() {
            for unit in 0..units {
                let z = moving_z(&state, along.gates(row, unit), row, unit);
                let before = Jet::along(state.before(&walk, time, unit), along.before(&walk, time, unit));
                let (gates, c, h) = cell(z, before);
                let h_bar = delta[row * 2 * padded + unit];
                let k = c.value.tanh();
                // What reaches c beside h.
                let c_bar = delta[row * 2 * padded + padded + unit] - h_bar * gates[3].value * (1.0 - k * k);
                out[row * units + unit] = h_bar * h.second + c_bar * c.second;
            }
        }
    }
    out
}

/// Matrices of each direction, [rows, H], side by side.
fn beside(parts: &[Vec<f64>], units: usize) -> Vec<f64> {
    let rows = parts[0].len() / units;
    (0..rows).flat_map(|row| parts.iter().flat_map(move |part| part[row * units..(row + 1) * units].to_vec())).collect()
}

impl Twin for Lstm {
    /// Inputs as the operation's own `outputs` says. Of `delta` VjpJvp reads h̄ alone; c̄ follows.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (spans, units) = (inputs.spans(), self.units as usize);
        let wide = units * self.directions as usize;
        let own = |h: &[f64], row: usize, unit: usize| h[row * wide + self.offset() as usize + unit];
        let reached =
            |back: &[f64], next: Option<usize>, unit: usize| next.map_or(0.0, |next| back[next * units + unit]);
        match rule {
            Rule::Forward | Rule::Jvp => {
                let (mut hidden, mut rest) = (Vec::new(), Vec::new());
                for direction in 0..self.directions {
                    let op = Lstm { direction, ..*self };
                    let [a, weight, b] = [0, 1, 2].map(|i| inputs.of(3 * direction as usize + i));
                    let [h, previous, state] = match rule {
                        Rule::Forward => forward(&op, spans, a, weight, b),
                        _ => jvp(&op, spans, a, weight, b),
                    };
                    hidden.push(h);
                    rest.extend([previous, state]);
                }
                std::iter::once(beside(&hidden, units)).chain(rest).collect()
            }
            Rule::Vjp(_) => {
                let h_bar = inputs.of(2);
                let all = |row, unit, _, recurrent| own(h_bar, row, unit) + recurrent;
                vec![vjp(self, spans, inputs.of(0), inputs.of(1), all)]
            }
            Rule::Delta => {
                let (h_bar, back) = (inputs.of(1), inputs.of(2));
                let all = |row, unit, next| own(h_bar, row, unit) + reached(back, next, unit);
                vec![delta(self, spans, inputs.of(0), all)]
            }
            Rule::VjpJvp(_) => {
                let weight: Vec<Jet> = inputs.of(0).iter().copied().map(Jet::from).collect();
                let state = moving_state(self, inputs.of(1), inputs.of(2));
                let (delta, bar_dot, back) = (inputs.of(3), inputs.of(4), inputs.of(5));
                let padded = self.padded() as usize;
                // z̄ W is in `delta` already.
                let all = |row: usize, unit: usize, next: Option<usize>, recurrent: Jet| {
                    let along = own(bar_dot, row, unit) + reached(back, next, unit) + recurrent.first;
                    Jet::along(delta[row * 2 * padded + unit], along)
                };
                vec![jet::firsts(&vjp(self, spans, &weight, &state, all))]
            }
            Rule::Second => vec![sums_of_four(&second(self, spans, inputs.of(0), inputs.of(1), inputs.of(2)), units)],
            Rule::Slope => no_twin(inputs),
        }
    }
}
