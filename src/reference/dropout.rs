//! Twin of `shaders/dropout.wgsl` and of the dropout inside `shaders/attention.wgsl`: the same bits, the same mask.

use super::{Inputs, Twin};
use crate::gpu::Step;
use crate::ops::{Attention, Dropout, Rule, dropout::threshold};
use crate::random::philox;

/// x · keep / (1 − p); one Philox block masks four columns.
pub fn forward(op: &Dropout, step: &Step, x: &[f64], cols: usize) -> Vec<f64> {
    let cols4 = cols.div_ceil(4);
    let scale = f64::from(1.0 / (1.0 - op.p));
    x.iter()
        .enumerate()
        .map(|(i, x)| {
            let (row, c) = (i / cols, i % cols);
            let block = (row * cols4 + c / 4) as u32;
            let draws = philox([block, op.stream, step.counter[0], step.counter[1]], step.seed);
            if draws[c % 4] >= threshold(op.p) { x * scale } else { 0.0 }
        })
        .collect()
}

/// Factor on an attention weight.
pub fn attention_keep(op: &Attention, step: &Step, i: usize, j: usize, head: usize) -> f64 {
    if op.p == 0.0 {
        return 1.0;
    }
    let key = [step.seed[0] ^ op.stream, step.seed[1] ^ head as u32];
    let draws = philox([i as u32, j as u32, step.counter[0], step.counter[1]], key);
    if draws[0] >= threshold(op.p) { f64::from(1.0 / (1.0 - op.p)) } else { 0.0 }
}

impl Twin for Dropout {
    /// The same in both directions.
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        vec![forward(self, &inputs.frame.step, inputs.of(0), inputs.cols(0))]
    }
}
