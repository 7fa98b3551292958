//! The recurrence of a long short-term memory over each sentence of a batch, in one direction or in both. Hochreiter
//! and Schmidhuber 1997, with forget gates (Gers et al. 2000), as torch's `nn.LSTM` has it. Shaders:
//! `shaders/lstm.wgsl`, `shaders/lstm_tangent.wgsl`.
//!
//! The product with the input stands outside, u = W_ih x + b_ih of all tokens at once. What is left is, token by token,
//!
//! ```text
//! z = u + b + W h'     i = σ(z_i)  f = σ(z_f)  g = tanh(z_g)  o = σ(z_o)     c = f c' + i g     h = o tanh(c)
//! ```
//!
//! with h' and c' of the token before, 0 at the first. The four gates of a unit lie side by side: column 4 u + gate of
//! z, row 4 u + gate of W. A kernel walks through time inside, sentences beside one another, so that a rule is one
//! dispatch a direction; it reads one matrix, W. Where W itself moves, or h' has an adjoint of its own, ordinary
//! products of all rows at once say so: W h' is linear in both, and h' is an output.

use super::operation::{self, no_rule};
use super::{
    Adjoints, ColumnSum, Epilogue, Family, Layout, Linear, Lowering, Node, Operation, OutputShape, Rule, Second, Sizes,
    Tangents, Tensor, TensorId, Variants, call, lstm_lowering,
};
use crate::gpu::Count;
use crate::ops::counts::ROWS;

/// A layer of so many units in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lstm {
    /// Hidden units of a direction.
    pub units: u32,
    /// 1: from the first token to the last. 2: beside it, from the last to the first.
    pub directions: u32,
    /// Which of them a rule is of; [`Rule::Forward`] and [`Rule::Jvp`] are of all.
    pub direction: u32,
}

/// Most units of a direction: what a lane's share of the adjoints of cells has room for.
pub const MOST_UNITS: u32 = 2048;

/// The tensors of one direction in a forward node.
#[derive(Clone, Copy)]
struct Direction {
    u: TensorId,
    weight: TensorId,
    bias: TensorId,
    /// h' of every row.
    previous: TensorId,
    state: TensorId,
}

impl Operation for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    /// D directions of H units. Forward: (u [rows, 4H], W [4H, H], b [1, 4H]) of each direction to h [rows, D H], and
    /// of each direction h' [rows, H] and the state [rows, 5H], the gates (i, f, g, o) of each unit and then c. Jvp:
    /// (v, W, state) of each direction, with v = u̇ + ḃ + Ẇ h', to ḣ, and of each direction ḣ' and (ż, ċ). The others
    /// are of one direction. Vjp: (W, state, h̄) to z̄ [rows, 4H]. Delta: (state, h̄, z̄ W) to [rows, 2 padded(H)], the
    /// adjoints of h and c with all that reaches them. VjpJvp: (W, state, (ż, ċ), delta, h̄̇, z̄ Ẇ) to the tangent of
    /// z̄. Second: (state, (ż, ċ), delta) to the second-order terms of every four units.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let (units, directions) = (self.units, self.directions as usize);
        let probes = inputs.iter().any(|t| t.probes);
        let wide = |t: &Tensor, cols: u32| {
            let fits = (t.rows, t.cols) == (ROWS, cols);
            assert!(fits, "lstm: {} is not [rows, {cols}]", t.name);
        };
        match rule {
            Rule::Forward | Rule::Jvp => {
                assert!((1..=MOST_UNITS).contains(&units), "lstm: {units} units, where 1 to {MOST_UNITS} can be");
                assert_eq!(inputs.len(), 3 * directions, "lstm: three tensors of each direction");
                let mut outputs = vec![("", ROWS, units * self.directions, probes)];
                for of in inputs.chunks_exact(3) {
                    wide(of[0], 4 * units);
                    self.check_weight(of[1]);
                    match rule {
                        Rule::Jvp => wide(of[2], 5 * units),
                        _ => {
                            let fits = (of[2].rows, of[2].cols) == (Count::Fixed(1), 4 * units);
                            assert!(fits, "lstm: {} is not [1, {}]", of[2].name, 4 * units);
                        }
                    }
                    outputs.push(("previous", ROWS, units, probes));
                    outputs.push(("state", ROWS, 5 * units, probes));
                }
                outputs
            }
            Rule::Vjp(0) => {
                let [weight, state, h_bar] = operation::inputs(self, inputs);
                self.check_weight(weight);
                wide(state, 5 * units);
                wide(h_bar, units * self.directions);
                vec![("", ROWS, 4 * units, probes)]
            }
            Rule::Delta => {
                let [state, h_bar, back] = operation::inputs(self, inputs);
                wide(state, 5 * units);
                wide(h_bar, units * self.directions);
                wide(back, units);
                vec![("", ROWS, 2 * self.padded(), probes)]
            }
            Rule::VjpJvp(0) => {
                let [weight, state, state_dot, delta, bar_dot, back] = operation::inputs(self, inputs);
                self.check_weight(weight);
                wide(state, 5 * units);
                wide(state_dot, 5 * units);
                wide(delta, 2 * self.padded());
                wide(bar_dot, units * self.directions);
                wide(back, units);
                vec![("", ROWS, 4 * units, probes)]
            }
            Rule::Second => {
                let [state, state_dot, delta] = operation::inputs(self, inputs);
                wide(state, 5 * units);
                wide(state_dot, 5 * units);
                wide(delta, 2 * self.padded());
                vec![("", ROWS, units.div_ceil(4), probes)]
            }
            _ => no_rule(self, rule),
        }
    }

    /// The recurrent product; in every rule there is one of each direction.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        let directions = match node.rule {
            Rule::Forward | Rule::Jvp => f64::from(self.directions),
            Rule::Vjp(_) | Rule::VjpJvp(_) => 1.0,
            _ => return None,
        };
        let units = f64::from(self.units);
        Some(directions * 8.0 * units * units * sizes.rows(node.outputs[0]))
    }

    fn adds(&self, rule: Rule) -> bool {
        matches!(rule, Rule::Forward | Rule::Jvp)
    }

    fn family(&self, rule: Rule) -> Option<Family> {
        match rule {
            Rule::Forward | Rule::Jvp | Rule::Vjp(_) | Rule::VjpJvp(_) => Some(Family::Lstm),
            _ => None,
        }
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, h_bar: TensorId) {
        for (direction, of) in self.each(node) {
            if !(g.wants(of.u) || g.wants(of.weight) || g.wants(of.bias)) {
                continue;
            }
            let name = format!("{}~", g.tensor(of.u).name);
            let z_bar = g.emit(call(self.of(direction), Rule::Vjp(0), &[of.weight, of.state, h_bar]), &name)[0];
            g.contribute(of.weight, call(product(Layout::TN), Rule::Forward, &[z_bar, of.previous]));
            g.contribute(of.bias, call(ColumnSum, Rule::Forward, &[z_bar]));
            g.pass(of.u, z_bar);
        }
        if let Some(addend) = node.addend {
            g.pass(addend, h_bar);
        }
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        if node.rule == Rule::Forward {
            self.along(node, g);
            return;
        }
        let [weight, state, h_bar] = node.inputs();
        let z_bar = node.outputs[0];
        let back = g.push(call(product(Layout::NN), Rule::Forward, &[z_bar, weight]), "back")[0];
        let delta = g.push(call(*self, Rule::Delta, &[state, h_bar, back]), "delta")[0];
        let back_dot = g.push(call(product(Layout::NN), Rule::Forward, &[z_bar, g.wanted(weight)]), "back'")[0];
        let inputs = [weight, state, g.wanted(state), delta, g.wanted(h_bar), back_dot];
        let name = g.dot(z_bar);
        let tangent = g.push(call(*self, Rule::VjpJvp(0), &inputs), &name)[0];
        g.set(z_bar, tangent);
    }

    /// 2 ⟨z̄, Ẇ ḣ'⟩ and the terms of gates and cells. z̄ is the adjoint of u, which nothing else reads (`Graph::lstm`).
    fn second(&self, node: &Node, g: &mut Second<'_>, h_bar: TensorId) {
        for (direction, of) in self.each(node) {
            let z_bar = g.bar(of.u);
            let op = Linear { epilogue: Epilogue::Dot, ..Linear::default() };
            let inputs = [g.dot(of.previous), g.dot(of.weight), z_bar];
            let terms = g.push(call(op, Rule::Forward, &inputs), "second(linear)");
            g.term(terms, 2.0);
            let one = self.of(direction);
            let back = g.push(call(product(Layout::NN), Rule::Forward, &[z_bar, of.weight]), "back");
            let delta = g.push(call(one, Rule::Delta, &[of.state, h_bar, back]), "delta");
            let inputs = [of.state, g.dot(of.state), delta];
            let terms = g.push(call(one, Rule::Second, &inputs), "second(lstm)");
            g.term(terms, 1.0);
        }
    }

    fn iterations(&self, _: Rule, tokens: u64, variants: &Variants) -> u64 {
        tokens * lstm_lowering::iterations_a_token(self, variants)
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        lstm_lowering::lower(self, node, cx);
    }
}

fn product(layout: Layout) -> Linear {
    Linear { layout, ..Linear::default() }
}

impl Lstm {
    /// The same, as what a rule of one direction belongs to.
    fn of(&self, direction: u32) -> Lstm {
        Lstm { direction, ..*self }
    }

    /// Units with those that fill up the last vec4.
    pub fn padded(&self) -> u32 {
        self.units.next_multiple_of(4)
    }

    /// Whether this direction goes from the last token to the first.
    pub fn reverse(&self) -> bool {
        self.direction == 1
    }

    /// The same for each direction.
    pub(super) fn each_direction(&self) -> impl Iterator<Item = Lstm> + use<> {
        let of = *self;
        (0..of.directions).map(move |direction| Lstm { direction, ..of })
    }

    /// First column of this direction in h.
    pub fn offset(&self) -> u32 {
        self.direction * self.units
    }

    fn check_weight(&self, weight: &Tensor) {
        let fits = (weight.rows, weight.cols) == (Count::Fixed(4 * self.units), self.units);
        assert!(fits, "lstm: {} is not [{}, {}]", weight.name, 4 * self.units, self.units);
    }

    /// The tensors of each direction of a forward node.
    fn each(&self, node: &Node) -> Vec<(u32, Direction)> {
        let (read, made) = (node.inputs.chunks_exact(3), node.outputs[1..].chunks_exact(2));
        let one = |(i, o): (&[TensorId], &[TensorId])| Direction {
            u: i[0],
            weight: i[1],
            bias: i[2],
            previous: o[0],
            state: o[1],
        };
        (0..).zip(read.zip(made).map(one)).collect()
    }

    /// The tangent of a forward node: of each direction v by a product of all rows, then the recurrence.
    fn along(&self, node: &Node, g: &mut Tangents<'_>) {
        let addend = node.addend.and_then(|id| g.of(id));
        let name = g.dot(node.outputs[0]);
        let mut inputs = Vec::new();
        for (_, of) in self.each(node) {
            let op = Linear { bias: true, ..Linear::default() };
            let moved = call(op, Rule::Forward, &[of.previous, g.wanted(of.weight), g.wanted(of.bias)]);
            let v = g.push(moved.plus(Some(g.wanted(of.u))), "input'")[0];
            inputs.extend([v, of.weight, of.state]);
        }
        let made = g.push(call(*self, Rule::Jvp, &inputs).plus(addend), &name);
        for (of, tangent) in node.outputs.iter().zip(made) {
            g.set(*of, tangent);
        }
    }
}
