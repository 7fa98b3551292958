//! Twin of `shaders/attention.wgsl` and `shaders/attention_masked.wgsl`, with the weights written out, and on jets of
//! `shaders/attention_tangent.wgsl`.

use super::jet::{self, Jet, Real};
use super::{Inputs, Twin, dropout, in_first_of_four, no_twin};
use crate::ops::{Attention, Rule};

/// Factor on the weight of query row i on key row j in a head.
pub type Keep<'a> = &'a dyn Fn(usize, usize, usize) -> f64;

/// The sentence of every row, and the rows that are queries.
pub struct Rows<'a> {
    spans: &'a [[u32; 4]],
    queries: Vec<usize>,
}

/// Queries, keys and values.
struct Heads<'a, R> {
    op: &'a Attention,
    qkv: &'a [R],
}

impl<R> Heads<'_, R> {
    fn wide(&self) -> usize {
        (self.op.heads * self.op.padded()) as usize
    }

    /// The rows that row i of a sentence sees.
    fn seen(&self, i: usize, span: &[u32; 4]) -> std::ops::Range<usize> {
        let end = if self.op.causal { i + 1 } else { span[1] as usize };
        span[0] as usize..end
    }

    /// Query (0), key (1) or value (2) of a row's head.
    fn part(&self, which: usize, row: usize, head: usize) -> &[R] {
        let size = self.op.padded() as usize;
        let at = row * 3 * self.wide() + which * self.wide() + head * size;
        &self.qkv[at..at + size]
    }
}

fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

/// (o, stat) of the rows that are queries: stat [queries, 4 heads] holds log Σ exp s in the first of a head's four
/// columns.
pub fn forward<R: Real>(op: &Attention, rows: &Rows<'_>, qkv: &[R], keep: Keep<'_>) -> [Vec<R>; 2] {
    let Rows { spans, queries } = rows;
    let heads = Heads { op, qkv };
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let (zero, scale) = (R::from(0.0), R::from(op.scale()));
    let mut o = vec![zero; queries.len() * wide];
    let mut stat = vec![zero; queries.len() * 4 * op.heads as usize];
    for (n, i) in queries.iter().copied().enumerate() {
        for h in 0..op.heads as usize {
            let others = heads.seen(i, &spans[i]);
            let s: Vec<R> = others.clone().map(|j| scale * dot(heads.part(0, i, h), heads.part(1, j, h))).collect();
            let top = s.iter().copied().fold(R::from(f64::NEG_INFINITY), R::max);
            let mass: R = s.iter().map(|s| (*s - top).exp()).sum();
            stat[(n * op.heads as usize + h) * 4] = top + mass.ln();
            for (j, s) in others.zip(s) {
                let weight = (s - top).exp() / mass * R::from(keep(i, j, h));
                for c in 0..size {
                    o[n * wide + h * size + c] += weight * heads.part(2, j, h)[c];
                }
            }
        }
    }
    [o, stat]
}

/// δ = ⟨o, ō⟩ of every query and head.
fn deltas<R: Real>(op: &Attention, o: &[R], o_bar: &[R]) -> Vec<R> {
    let size = op.padded() as usize;
    o.chunks_exact(size).zip(o_bar.chunks_exact(size)).map(|(o, g)| dot(g, o)).collect()
}

/// The adjoint of qkv from that of o, which is of the rows that are queries.
pub fn vjp<R: Real>(
    op: &Attention,
    rows: &Rows<'_>,
    qkv: &[R],
    stat: &[R],
    o: &[R],
    o_bar: &[R],
    keep: Keep<'_>,
) -> Vec<R> {
    let Rows { spans, queries } = rows;
    let heads = Heads { op, qkv };
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let scale = R::from(op.scale());
    let delta = deltas(op, o, o_bar);
    let mut bar = vec![R::from(0.0); qkv.len()];
    for (n, i) in queries.iter().copied().enumerate() {
        for h in 0..op.heads as usize {
            let place = n * op.heads as usize + h;
            let g = &o_bar[place * size..(place + 1) * size];
            for j in heads.seen(i, &spans[i]) {
                let (q, k, v) = (heads.part(0, i, h), heads.part(1, j, h), heads.part(2, j, h));
                let weight = (scale * dot(q, k) - stat[place * 4]).exp();
                let kept = R::from(keep(i, j, h));
                let t = weight * (kept * dot(g, v) - delta[place]) * scale;
                for c in 0..size {
                    bar[i * 3 * wide + h * size + c] += t * k[c];
                    bar[j * 3 * wide + wide + h * size + c] += t * q[c];
                    bar[j * 3 * wide + 2 * wide + h * size + c] += weight * kept * g[c];
                }
            }
        }
    }
    bar
}

impl Twin for Attention {
    /// Inputs as the operation's own `outputs` says. Along a direction the weights are recomputed from qkv and its
    /// tangent; the statistics that the kernels are given beside them (`stat`, `delta`) are not read.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (spans, batch) = (inputs.spans(), &inputs.frame.batch);
        let queries: Vec<usize> =
            if self.masked { batch.index.iter().map(|i| *i as usize).collect() } else { (0..spans.len()).collect() };
        let rows = Rows { spans, queries };
        let keep = |i: usize, j: usize, head: usize| dropout::attention_keep(self, &inputs.frame.step, i, j, head);
        let along = |qkv: &[Jet]| forward(self, &rows, qkv, &|_, _, _| 1.0);
        match rule {
            Rule::Forward => forward(self, &rows, inputs.of(0), &keep).into(),
            Rule::Vjp(_) => {
                let [qkv, stat, o, o_bar] = [0, 1, 2, 3].map(|i| inputs.of(i));
                vec![vjp(self, &rows, qkv, stat, o, o_bar, &keep)]
            }
            Rule::Jvp => {
                let [o, stat] = along(&inputs.moving(0, 3));
                let norms = stat.iter().step_by(4).flat_map(|s| [s.value, 0.0, s.first, 0.0]);
                vec![jet::firsts(&o), norms.collect()]
            }
            Rule::Delta => {
                let delta = deltas(self, &inputs.moving(1, 3), &inputs.moving(2, 4));
                let stat = inputs.of(0).chunks_exact(4);
                vec![stat.zip(delta).flat_map(|(s, delta)| [s[0], delta.value, s[2], delta.first]).collect()]
            }
            Rule::VjpJvp(_) => {
                let (qkv, o_bar) = (inputs.moving(0, 3), inputs.moving(2, 4));
                let [o, stat] = along(&qkv);
                vec![jet::firsts(&vjp(self, &rows, &qkv, &stat, &o, &o_bar, &|_, _, _| 1.0))]
            }
            Rule::Second => {
                let [o, _] = along(&inputs.moving(0, 3));
                let size = self.padded() as usize;
                let rows = o.chunks_exact(size).zip(inputs.of(2).chunks_exact(size));
                vec![in_first_of_four(rows.map(|(o, g)| o.iter().zip(g).map(|(o, g)| g * o.second).sum()))]
            }
            Rule::Slope => no_twin(inputs),
        }
    }
}
