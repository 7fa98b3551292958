//! What is known of each example and draw: one number a column, and sums over examples for rows of tables, of which
//! there may be too many for that.

use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target, nested};

/// Values of columns, `[column][example][draw]`, of the mean over an example's predicted positions.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    /// Predicted positions of each example.
    weights: Vec<f64>,
    columns: Vec<Vec<Vec<f64>>>,
    rows: RowSums,
    kind: LossDraw,
    target: Target,
}

/// Sums over examples of s, the squared norm of an example's row's gradient in the mean over its draws, and of w, its
/// predicted positions.
#[derive(Clone, Debug)]
struct RowSums {
    values: Vec<f64>,
    squares: Vec<f64>,
    weighted: Vec<f64>,
    /// Of the variance of s by the draws.
    drawn: Vec<f64>,
}

impl Samples {
    pub fn new(columns: usize, rows: usize, kind: LossDraw, target: Target) -> Samples {
        let zeros = || vec![0.0; rows];
        let rows = RowSums { values: zeros(), squares: zeros(), weighted: zeros(), drawn: zeros() };
        Samples { weights: vec![], columns: vec![vec![]; columns], rows, kind, target }
    }

    /// Examples so far.
    pub fn examples(&self) -> usize {
        self.weights.len()
    }

    /// One more example: each column by draw, and of each row the sum and the sum of squares over the draws.
    pub fn push(&mut self, positions: usize, columns: Vec<Vec<f64>>, rows: &[[f64; 2]]) {
        let weight = positions as f64;
        let draws = columns.first().map_or(1, Vec::len) as f64;
        let exact = self.kind == LossDraw::Exact;
        for (all, own) in self.columns.iter_mut().zip(columns) {
            let sum = || vec![own.iter().sum::<f64>() / weight];
            all.push(if exact { sum() } else { own.iter().map(|v| v / weight).collect() });
        }
        for (i, [sum, square]) in rows.iter().enumerate() {
            let mean = if exact { *sum } else { sum / draws };
            self.rows.values[i] += mean;
            self.rows.squares[i] += mean * mean;
            self.rows.weighted[i] += weight * mean;
            self.rows.drawn[i] += (square - sum * sum / draws).max(0.0) / (draws - 1.0) / draws;
        }
        self.weights.push(weight);
    }

    /// A combination of columns, with the error that they have together.
    pub fn combined(&self, coefficients: &[(usize, f64)]) -> Estimate {
        let draws = self.columns.first().and_then(|c| c.first()).map_or(1, Vec::len);
        let at = |i: usize, k: usize| coefficients.iter().map(|(column, c)| c * self.columns[*column][i][k]).sum();
        let values: Vec<Vec<f64>> = (0..self.examples()).map(|i| (0..draws).map(|k| at(i, k)).collect()).collect();
        let parts = nested(&self.weights, &values, self.target);
        self.estimate(parts.value, parts.standard_error, draws)
    }

    /// Of numbers that no draw enters, one an example.
    pub fn undrawn(&self, values: &[f64]) -> Estimate {
        let single: Vec<Vec<f64>> = values.iter().map(|v| vec![*v]).collect();
        let parts = nested(&self.weights, &single, self.target);
        let error = if self.target == Target::TheseExamples { 0.0 } else { parts.standard_error };
        Estimate { value: parts.value, standard_error: error, samples: values.len() }
    }

    /// The trace of a row.
    pub fn row(&self, i: usize) -> Estimate {
        let n = self.examples() as f64;
        let (total, square): (f64, f64) = (self.weights.iter().sum(), self.weights.iter().map(|w| w * w).sum());
        let RowSums { values, squares, weighted, drawn } = &self.rows;
        let mean = values[i] / total;
        // As `statistics::nested`, with its sums written out.
        let apart = squares[i] - 2.0 * mean * weighted[i] + mean * mean * square;
        let scatter = apart.max(0.0) / (total * total) * n / (n - 1.0);
        let drawn = drawn[i] / (total * total);
        let variance = match self.target {
            _ if drawn.is_nan() || self.kind == LossDraw::Exact => scatter,
            Target::TheseExamples => drawn,
            Target::Population => scatter.max(drawn),
        };
        self.estimate(mean, variance.sqrt(), self.columns.first().and_then(|c| c.first()).map_or(1, Vec::len))
    }

    fn estimate(&self, value: f64, error: f64, draws: usize) -> Estimate {
        // Nothing is drawn of labels that are enumerated.
        let known = self.kind == LossDraw::Exact && self.target == Target::TheseExamples;
        Estimate { value, standard_error: if known { 0.0 } else { error }, samples: self.examples() * draws }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn a_row_has_the_error_of_a_column_of_the_same_numbers() {
        for (draws, kind) in [(3, LossDraw::Signs), (1, LossDraw::Signs), (3, LossDraw::Exact)] {
            for target in [Target::Population, Target::TheseExamples] {
                let mut samples = Samples::new(1, 1, kind, target);
                let mut random = Stream::new(1, Purpose::Test, 0);
                for i in 0..7 {
                    let own: Vec<f64> = (0..draws).map(|_| random.normal().powi(2)).collect();
                    let sums = [own.iter().sum(), own.iter().map(|v| v * v).sum()];
                    samples.push(1 + i % 3, vec![own], &[sums]);
                }
                let (row, column) = (samples.row(0), samples.combined(&[(0, 1.0)]));
                let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
                assert!(near(row.value, column.value), "{kind:?} {target:?}");
                assert!(near(row.standard_error, column.standard_error), "{kind:?} {target:?} {row} {column}");
                assert!(row.standard_error.is_finite());
            }
        }
    }
}
