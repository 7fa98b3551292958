//! Twin of `shaders/place_heads.wgsl`.

use super::{Inputs, Twin};
use crate::ops::{PlaceHeads, Rule};

impl Twin for PlaceHeads {
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (size, padded) = (self.size as usize, self.padded() as usize);
        // Column of the wider matrix of each column of x.
        let place: Vec<usize> = (0..self.heads as usize)
            .flat_map(|head| (0..size).map(move |i| (head, i)))
            .map(|(head, i)| (self.first as usize + head) * padded + i)
            .collect();
        let rows = inputs.of(0).chunks_exact(inputs.cols(0));
        let made = match rule {
            Rule::Forward => rows
                .flat_map(|row| {
                    let mut wide = vec![0.0; self.of as usize * padded];
                    place.iter().zip(row).for_each(|(at, x)| wide[*at] = *x);
                    wide
                })
                .collect(),
            _ => rows.flat_map(|row| place.iter().map(|at| row[*at]).collect::<Vec<f64>>()).collect(),
        };
        vec![made]
    }
}
