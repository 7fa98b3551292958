//! Causal attention of new rows to rows that were computed before, kept in a cache, and to themselves: what a decoder
//! does when it goes on with sentences. A forward rule alone. Shader: `shaders/cached_attention.wgsl`.

use super::counts::ROWS;
use super::operation::{self, no_rule};
use super::{Attention, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::Count;
use crate::kernels::cached_attention as kernel;

/// Attention of the rows of a batch to a run of a cache and to those of their own sentence up to themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedAttention {
    /// Heads H.
    pub heads: u32,
    /// Width of a head; in memory padded to a multiple of 4 with zeros.
    pub size: u32,
}

impl CachedAttention {
    /// Columns of a head in memory.
    pub fn padded(&self) -> u32 {
        self.size.next_multiple_of(4)
    }

    /// Columns of the cache, those of queries, keys and values of all heads.
    pub fn columns(&self) -> u32 {
        3 * self.heads * self.padded()
    }

    /// 1/√size.
    pub fn scale(&self) -> f64 {
        1.0 / f64::from(self.size).sqrt()
    }
}

impl Operation for CachedAttention {
    fn name(&self) -> &'static str {
        "cached_attention"
    }

    /// qkv [rows, 3 heads padded], cache [n, 3 heads padded] and, as whole numbers, the first row, the number of rows
    /// and the stride of each row's run of the cache, [rows, 4], to o [rows, heads padded]. A stride of 0 would meet
    /// one row again and again; a run of no rows has none that counts.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [qkv, cache, runs] = operation::inputs(self, inputs);
        assert_eq!((qkv.rows, qkv.cols), (ROWS, self.columns()), "cached_attention: {} does not fit", qkv.name);
        let fits = matches!(cache.rows, Count::Fixed(_)) && cache.cols == self.columns();
        assert!(fits, "cached_attention: {} is no cache of {self:?}", cache.name);
        assert_eq!((runs.rows, runs.cols), (ROWS, 4), "cached_attention: {} holds no runs", runs.name);
        vec![("", ROWS, self.heads * self.padded(), false)]
    }

    /// Two products with all pairs of rows of a sentence; how long the runs are is known in a step alone.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        Some(4.0 * sizes.pairs(node.inputs[0]) * f64::from(self.heads * self.padded()))
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn iterations(&self, _: Rule, tokens: u64, _: &super::Variants) -> u64 {
        2 * tokens
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([qkv, cache, runs], [out]) = (node.inputs(), node.outputs());
        let forward = kernel::Forward {
            qkv: cx.buffer(qkv),
            cache: cx.buffer(cache),
            runs: cx.buffer(runs),
            spans: cx.batch.spans.clone(),
            out: cx.buffer(out),
            params: kernel::Params { heads: self.heads, scale: self.scale() as f32 },
            constants: kernel::Constants { size4: self.padded() / 4 },
        };
        let grid = Attention { heads: self.heads, size: self.size, p: 0.0, stream: 0, causal: true, masked: false }
            .row_grid(1);
        cx.push(forward, cx.name(out), grid);
    }
}
