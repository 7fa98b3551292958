//! Directions of the words' space along which a model's gradients are large: the principal axes of the rows of its
//! output table, words weighted as they are predicted.
//!
//! A logit's gradient is Jᵀ e_v in all parameters below the table, with J the Jacobian of what the table is multiplied
//! with; where J Jᵀ is near a multiple of the identity, cotangents along the axes have gradients that are nearly
//! orthogonal.

use crate::curvature::{CurvatureError, Subject};
use crate::graph::Emit;
use crate::random::{Purpose, Stream};

/// Directions.
pub(super) const AXES: usize = 4;
/// Steps of the power iteration: any directions are right, the best only better.
const STEPS: usize = 24;

/// Coordinates of each word; of a model whose output table is not one parameter, zeros, which change nothing.
pub(super) fn of_words(subject: &Subject) -> Result<Vec<[f32; AXES]>, CurvatureError> {
    let encoder = &subject.model.encoder;
    let words = encoder.classes() as usize;
    let zeros = vec![[0.0; AXES]; words];
    let table = encoder
        .graph
        .nodes()
        .iter()
        .find(|node| node.outputs.contains(&encoder.logits))
        .and_then(|node| node.inputs.get(1))
        .and_then(|id| encoder.tensors.iter().position(|tensor| tensor == id));
    let Some(matrix) = table else { return Ok(zeros) };
    let mut own = (0..encoder.parameters.len()).filter(|p| encoder.parameters[*p].matrix == matrix);
    let (Some(parameter), None) = (own.next(), own.next()) else { return Ok(zeros) };
    let [rows, columns] = encoder.parameters[parameter].shape[..] else { return Ok(zeros) };
    if rows != words || encoder.graph.tensor(encoder.tensors[matrix]).cols as usize != columns {
        return Ok(zeros);
    }
    let weights = subject.model.weights()?;
    Ok(principal(&weights.0[parameter], columns, &frequencies(subject, words)))
}

/// How often each word is predicted.
fn frequencies(subject: &Subject, words: usize) -> Vec<f64> {
    let mut counts = vec![0.0; words];
    for sentence in &subject.sentences {
        if sentence.soft.len() == sentence.masked.len() {
            sentence.soft.iter().for_each(|q| counts.iter_mut().zip(q).for_each(|(n, q)| *n += f64::from(*q)));
        } else {
            sentence.masked.iter().for_each(|(_, label)| counts[*label as usize] += 1.0);
        }
    }
    let all: f64 = counts.iter().sum();
    counts.iter().map(|n| n / all.max(1.0)).collect()
}

/// Coordinates of a table's rows, less their weighted mean, along the first principal axes.
fn principal(table: &[f32], columns: usize, weights: &[f64]) -> Vec<[f32; AXES]> {
    let mut mean = vec![0.0; columns];
    for (row, w) in table.chunks_exact(columns).zip(weights).filter(|(_, w)| **w > 0.0) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += w * f64::from(*x));
    }
    let centred = |row: &[f32]| -> Vec<f64> { row.iter().zip(&mean).map(|(x, m)| f64::from(*x) - m).collect() };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let some: Vec<(Vec<f64>, f64)> = table
        .chunks_exact(columns)
        .zip(weights)
        .filter(|(_, w)| **w > 0.0)
        .map(|(row, w)| (centred(row), *w))
        .collect();
    let mut random = Stream::new(0, Purpose::Projection, 0);
    let mut axes: Vec<Vec<f64>> = (0..AXES).map(|_| (0..columns).map(|_| random.normal()).collect()).collect();
    for _ in 0..STEPS {
        let mut next = vec![vec![0.0; columns]; AXES];
        for (row, w) in &some {
            for (axis, next) in axes.iter().zip(&mut next) {
                let along = w * dot(row, axis);
                next.iter_mut().zip(row).for_each(|(n, x)| *n += along * x);
            }
        }
        for k in 0..AXES {
            let (before, rest) = next.split_at_mut(k);
            let own = &mut rest[0];
            let size = dot(own, own).sqrt();
            for other in before.iter() {
                let along = dot(own, other);
                own.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
            let left = dot(own, own).sqrt();
            // Fewer directions than four: the others are nothing.
            let factor = if left > 1e-9 * size && left > 0.0 { 1.0 / left } else { 0.0 };
            own.iter_mut().for_each(|x| *x *= factor);
        }
        axes = next;
    }
    let coordinates = |row: &[f32]| {
        let row = centred(row);
        std::array::from_fn(|k| dot(&row, &axes[k]) as f32)
    };
    table.chunks_exact(columns).map(coordinates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_those_of_the_largest_scatter() {
        // Scatter 9, 4, 1 along three directions of five; the fourth is nothing.
        let rows =
            [[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]];
        let table: Vec<f32> = rows.iter().flat_map(|r| [r[0] + 7.0, r[1], r[2], 5.0, 0.0]).collect();
        let found = principal(&table, 5, &[1.0 / 6.0; 6]);
        for (row, f) in rows.iter().zip(&found) {
            for k in 0..3 {
                assert!((f[k].abs() - row[k].abs()).abs() < 1e-4, "{row:?} {f:?}");
            }
            assert_eq!(f[3], 0.0);
        }
    }
}
