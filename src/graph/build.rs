//! Building blocks: one method per operation, with the shapes checked where a model is built.

use super::{Emit, Graph, TensorId};
use crate::ops::counts::MASKED;
use crate::ops::{
    Activation, Affine, Attention, Concat, CrossEntropy, Dropout, Embedding, Gather, Labels, LayerNorm, Layout, Linear,
    Lstm, Multiply, RepeatHeads, Rotary, Rule, call,
};

/// The parameters of one direction of an LSTM with H units. The gates of a unit lie side by side: row 4 u + gate of the
/// matrices and column 4 u + gate of the biases are those of unit u, gate 0 to 3 = input, forget, cell, output.
#[derive(Clone, Copy, Debug)]
pub struct LstmWeights {
    /// [4H, D], from the input.
    pub input: TensorId,
    /// [4H, H], from the hidden state before.
    pub recurrent: TensorId,
    /// [1, 4H]
    pub input_bias: TensorId,
    /// [1, 4H], added to the other: torch has two.
    pub recurrent_bias: TensorId,
}

impl Graph {
    /// The hidden states of a long short-term memory that goes over each sentence, [rows, H], from x [rows, D]; with a
    /// reverse direction those of both side by side, [rows, 2H]; plus an addend of that shape.
    pub fn lstm(
        &mut self,
        x: TensorId,
        forward: LstmWeights,
        reverse: Option<LstmWeights>,
        addend: Option<TensorId>,
    ) -> TensorId {
        let units = self.tensor(forward.recurrent).cols;
        let directions: Vec<LstmWeights> = [forward].into_iter().chain(reverse).collect();
        let op = Lstm { units, directions: directions.len() as u32, direction: 0 };
        let mut inputs = Vec::new();
        for of in directions {
            let u = self.linear(x, of.input, Some(of.input_bias), None);
            inputs.extend([u, of.recurrent, of.recurrent_bias]);
        }
        self.push(call(op, Rule::Forward, &inputs).plus(addend), "lstm")[0]
    }

    /// y = x Wᵀ (+ bias) (+ addend): x [rows, k], W [n, k], bias [1, n], addend [rows, n].
    pub fn linear(&mut self, x: TensorId, w: TensorId, bias: Option<TensorId>, addend: Option<TensorId>) -> TensorId {
        self.product(Layout::NT, x, w, bias, addend)
    }

    /// A product in any layout, with what is added to it.
    pub fn product(
        &mut self,
        layout: Layout,
        a: TensorId,
        b: TensorId,
        bias: Option<TensorId>,
        addend: Option<TensorId>,
    ) -> TensorId {
        let op = Linear { layout, bias: bias.is_some(), ..Linear::default() };
        let inputs: Vec<TensorId> = [a, b].into_iter().chain(bias).collect();
        let name = format!("linear({})", self.tensor(b).name);
        self.push(call(op, Rule::Forward, &inputs).plus(addend), &name)[0]
    }

    /// f(x).
    pub fn activation(&mut self, f: Activation, x: TensorId) -> TensorId {
        self.push(call(f, Rule::Forward, &[x]), "activation")[0]
    }

    /// a ⊙ b.
    pub fn multiply(&mut self, a: TensorId, b: TensorId) -> TensorId {
        self.push(call(Multiply, Rule::Forward, &[a, b]), "product")[0]
    }

    /// Keys and values of groups of heads given to every head.
    pub fn repeat_heads(&mut self, x: TensorId, op: RepeatHeads) -> TensorId {
        self.push(call(op, Rule::Forward, &[x]), "repeated")[0]
    }

    /// Heads turned by the positions of their rows.
    pub fn rotary(&mut self, x: TensorId, rotary: Rotary) -> TensorId {
        self.push(call(rotary, Rule::Forward, &[x]), "rotary")[0]
    }

    /// Layer norm over columns: x [rows, d], gamma and beta [1, d].
    pub fn layer_norm(&mut self, x: TensorId, gamma: TensorId, beta: TensorId, eps: f64) -> TensorId {
        self.normalise(x, LayerNorm::new(eps, Affine::SCALE_AND_SHIFT), &[gamma, beta])
    }

    /// Layer norm or RMSNorm over columns with the parameters that it has, in order: γ, β, [1, d] each.
    pub fn normalise(&mut self, x: TensorId, op: LayerNorm, parameters: &[TensorId]) -> TensorId {
        let inputs: Vec<TensorId> = [x].iter().chain(parameters).copied().collect();
        self.push(call(op, Rule::Forward, &inputs), "norm")[0]
    }

    /// Self-attention of each sentence: qkv [rows, 3 heads padded(size)] to [rows, heads padded(size)].
    pub fn attention(&mut self, qkv: TensorId, attention: Attention) -> TensorId {
        self.push(call(attention, Rule::Forward, &[qkv]), "attention")[0]
    }

    /// x with each number dropped with probability p, plus an addend; x itself where p is 0.
    pub fn dropout(&mut self, x: TensorId, p: f64, stream: u32) -> TensorId {
        if p == 0.0 {
            return x;
        }
        self.push(call(Dropout { p: p as f32, stream }, Rule::Forward, &[x]), "dropout")[0]
    }

    /// Rows of three tables, added up: [rows, d].
    pub fn embedding(&mut self, words: TensorId, positions: TensorId, segments: TensorId) -> TensorId {
        let tables = [words, positions, segments];
        let rows = tables.map(|id| self.tensor(id).rows.fixed());
        self.push(call(Embedding { rows }, Rule::Forward, &tables), "embedding")[0]
    }

    /// The rows of each masked position's whole sentence side by side, zeros behind one of fewer than `tokens`:
    /// [rows, d] to [masked, tokens padded(d)].
    pub fn concat(&mut self, x: TensorId, tokens: u32) -> TensorId {
        let cols = self.tensor(x).cols;
        self.push(call(Concat { tokens, cols }, Rule::Forward, &[x]), "whole sentences")[0]
    }

    /// The rows of masked positions: [masked, d].
    pub fn gather(&mut self, x: TensorId) -> TensorId {
        self.push(call(Gather, Rule::Forward, &[x]), "masked")[0]
    }

    /// Losses of the rows of logits: [masked, 4] of (cross-entropy, divergence, log Σ exp, max).
    pub fn cross_entropy(&mut self, logits: TensorId, labels: Labels) -> TensorId {
        debug_assert_eq!(self.tensor(logits).rows, MASKED);
        self.push(call(CrossEntropy { labels }, Rule::Forward, &[logits]), "loss")[0]
    }
}
