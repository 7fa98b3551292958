//! Rotary position embedding: in each head the pair (x_i, x_{i + R/2}) turns by position times frequency i, for i <
//! R/2; what lies behind the first R numbers of a head stays. Su et al. 2021, in the layout of `transformers` (halves,
//! not neighbours). Linear in x, and its transpose turns back. Shader: `shaders/rotary.wgsl`.

use crate::ops::counts::ROWS;
use std::f64::consts::TAU;
use std::sync::Arc;

use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, RepeatHeads, Rule, Sizes, Tensor};
use crate::kernels::rotary as kernel;

/// Pairs that the kernel has frequencies for.
pub const MOST_PAIRS: usize = 128;

/// The turning of heads by the position of their row.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Heads from the first column on that turn: those of queries and keys. Heads behind them stay.
    pub heads: u32,
    /// Width of a head; in memory padded to a multiple of 4 with zeros.
    pub size: u32,
    /// Radians per position of each pair, 128 pairs at most.
    pub frequencies: Arc<[f32]>,
    /// Keys and values given to every head of queries of their group on the way, where they are of groups: `heads` are
    /// then the heads of queries and the groups of keys.
    pub repeat: Option<RepeatHeads>,
}

impl Rotary {
    /// The frequencies base^(-2i/rotated) of `transformers`, i from 0 to rotated / 2.
    pub fn frequencies(base: f64, rotated: u32) -> Arc<[f32]> {
        (0..rotated / 2).map(|i| base.powf(-2.0 * f64::from(i) / f64::from(rotated)) as f32).collect()
    }

    /// Columns of a head in memory.
    pub fn padded(&self) -> u32 {
        self.size.next_multiple_of(4)
    }

    /// The kernel's frequencies: 2⁻³² of a turn per position, so that a product with a position that overflows still is
    /// the angle. Off by 2⁻³³ of a turn per position at most: 1.5e-6 at position 2,048.
    fn turns(&self) -> [[u32; 4]; MOST_PAIRS / 4] {
        let mut turns = [[0; 4]; MOST_PAIRS / 4];
        for (i, f) in self.frequencies.iter().enumerate() {
            turns[i / 4][i % 4] = (f64::from(*f) / TAU * 2f64.powi(32)).round() as u64 as u32;
        }
        turns
    }
}

impl Operation for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    /// x [rows, at least heads padded(size)] to the same, with `repeat` as that changes it. Vjp(0): ȳ to x̄.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let [x] = operation::inputs(self, inputs);
        if !matches!(rule, Rule::Forward | Rule::Vjp(0)) {
            no_rule(self, rule);
        }
        assert_eq!(x.rows, ROWS, "rotary takes rows of tokens");
        assert!(self.heads * self.padded() <= x.cols, "rotary: {} is too narrow", x.name);
        let pairs = self.frequencies.len();
        assert!(pairs <= MOST_PAIRS && 2 * pairs <= self.size as usize, "rotary: {pairs} pairs do not fit");
        match &self.repeat {
            None => vec![("", x.rows, x.cols, x.probes)],
            Some(repeat) => {
                assert_eq!((self.size, self.heads), (repeat.size, repeat.heads + repeat.groups), "rotary: {repeat:?}");
                repeat.outputs(rule, inputs)
            }
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([x], [out]) = (node.inputs(), node.outputs());
        let (code, fixed) = cx.count(x);
        let rotate = kernel::Forward {
            x: cx.buffer(x),
            ids: cx.batch.ids.clone(),
            out: cx.buffer(out),
            params: kernel::Params {
                turns: self.turns(),
                code,
                fixed,
                in_layer: cx.layer(x),
                out_layer: cx.layer(out),
            },
            constants: kernel::Constants {
                back: node.rule != Rule::Forward,
                heads: self.heads,
                pairs: self.frequencies.len() as u32,
                in4: cx.cols4(x),
                out4: cx.cols4(out),
                size4: self.padded() / 4,
                queries: self.repeat.map_or(1, |repeat| repeat.heads),
                each: self.repeat.map_or(0, |repeat| repeat.heads / repeat.groups),
            },
        };
        cx.push(rotate, cx.name(out), cx.elementwise(out));
    }
}
