//! Twin of `shaders/join.wgsl`.

use super::{Inputs, Twin};
use crate::ops::{Join, Rule};

impl Twin for Join {
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let widths: Vec<usize> = self.cols.iter().map(|n| *n as usize).collect();
        let made = match rule {
            Rule::Vjp(i) => {
                let (i, all) = (usize::from(i), inputs.cols(0));
                let begin: usize = widths[..i].iter().sum();
                inputs.of(0).chunks_exact(all).flat_map(|row| row[begin..][..widths[i]].to_vec()).collect()
            }
            _ => {
                let row =
                    |r: usize| widths.iter().enumerate().flat_map(move |(i, n)| inputs.of(i)[r * n..][..*n].to_vec());
                (0..inputs.rows(0)).flat_map(row).collect()
            }
        };
        vec![made]
    }
}
