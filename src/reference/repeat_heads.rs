//! Twin of `shaders/repeat_heads.wgsl`.

use super::{Inputs, Twin};
use crate::ops::{RepeatHeads, Rule};

impl RepeatHeads {
    /// The same of rows of so many columns, and the columns of what comes out.
    pub(super) fn of_rows(&self, rule: Rule, x: &[f64], cols: usize) -> (Vec<f64>, usize) {
        let (heads, groups, size) = (self.heads as usize, self.groups as usize, self.padded() as usize);
        let each = heads / groups;
        // The head of x that head `h` of y is a copy of.
        let queries = 0..heads;
        let others = (0..2 * heads).map(|h| heads + h / heads * groups + h % heads / each);
        let source: Vec<usize> = queries.chain(others).collect();
        let rows = x.chunks_exact(cols);
        let made: Vec<f64> = match rule {
            Rule::Forward => {
                rows.flat_map(|row| source.iter().flat_map(|h| row[h * size..][..size].to_vec())).collect()
            }
            _ => rows
                .flat_map(|row| {
                    let mut sums = vec![0.0; (heads + 2 * groups) * size];
                    for (to, head) in source.iter().zip(row.chunks_exact(size)) {
                        sums[to * size..][..size].iter_mut().zip(head).for_each(|(sum, y)| *sum += y);
                    }
                    sums
                })
                .collect(),
        };
        let wide = if rule == Rule::Forward { 3 * heads } else { heads + 2 * groups };
        (made, wide * size)
    }
}

impl Twin for RepeatHeads {
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        vec![self.of_rows(rule, inputs.of(0), inputs.cols(0)).0]
    }
}
