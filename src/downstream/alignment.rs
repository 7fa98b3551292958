//! How much of what a model's head reads is a function of the truth.
//!
//! At the masked positions of held-out sentences the representations behind the last layer (and behind the norm that
//! follows it) are grouped by the exact conditional of the masked word. What varies within a group tells nothing of the
//! word, so that the share of the variance that lies between groups is 1 where the head reads the truth alone. On soft
//! brackets the conditional is a function of the sum of the other brackets, the feature that transfers (Liu, Xie, Li,
//! Ma 2023, section 6; docs/theory.md).
//!
//! The share is that of the features' own coordinates: it does not change when they are turned or scaled together, and
//! it does when some are scaled more than others.

use std::collections::HashMap;

use crate::gpu::GpuError;
use crate::model::{Model, RepresentationPass, dims_for};
use crate::ops::batch::Sentence;
use crate::statistics::Estimate;

/// The share of the variance of representations that lies between exact conditionals.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Alignment {
    /// From about 0 (representations know nothing of the conditional) to 1 (they are a function of it); corrected for
    /// the number of groups, as the adjusted coefficient of determination is.
    pub share_of_conditional: f64,
    /// Over positions, linearised.
    pub share_of_conditional_standard_error: f64,
    /// Different exact conditionals among the positions.
    pub conditionals: usize,
    /// Masked positions that were looked at.
    pub positions: usize,
}

/// Positions that a conditional must have in the mean.
const IN_A_GROUP: usize = 8;

/// Why there is no alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAlignment {
    /// Nearly every position has a conditional of its own, so that there is nothing to group.
    #[error("{positions} positions have {conditionals} different conditionals, fewer than {IN_A_GROUP} to one")]
    Scattered {
        /// Masked positions.
        positions: usize,
        /// Different conditionals among them.
        conditionals: usize,
    },
    /// All positions have one conditional, or all representations are the same.
    #[error("there is nothing that varies")]
    Constant,
}

/// The alignment of a model's last representations at the masked positions of sentences, which carry the exact
/// conditionals as soft labels.
///
/// # Errors
/// What the adapter says.
pub fn alignment(
    model: &Model,
    sentences: &[Sentence],
    batch: usize,
) -> Result<Result<Alignment, NoAlignment>, GpuError> {
    let width = model.encoder.config.hidden_size as usize;
    let pass = RepresentationPass::new(model, dims_for(sentences, batch), model.encoder.hidden.len() - 1)?;
    let (mut features, mut conditionals) = (Vec::new(), Vec::new());
    for chunk in sentences.chunks(batch) {
        // The pass reads no labels.
        let fed: Vec<Sentence> = chunk.iter().map(|s| Sentence { soft: vec![], ..s.clone() }).collect();
        let rows = pass.run(&fed)?;
        let mut first = 0;
        for sentence in chunk {
            for ((position, _), conditional) in sentence.masked.iter().zip(&sentence.soft) {
                let row = first + *position as usize;
                features.extend_from_slice(&rows[row * width..(row + 1) * width]);
                conditionals.push(conditional.as_slice());
            }
            first += sentence.ids.len();
        }
    }
    Ok(share_between(&features, width, &groups(&conditionals)))
}

/// A number for each distribution, the same for the same one to 1e-6.
fn groups(conditionals: &[&[f32]]) -> Vec<usize> {
    let mut known: HashMap<Vec<i32>, usize> = HashMap::new();
    let rounded = |p: &[f32]| p.iter().map(|p| (p * 1e6).round() as i32).collect();
    conditionals
        .iter()
        .map(|p| {
            let next = known.len();
            *known.entry(rounded(p)).or_insert(next)
        })
        .collect()
}

/// The share of the variance of rows that lies between groups.
fn share_between(features: &[f32], width: usize, groups: &[usize]) -> Result<Alignment, NoAlignment> {
    let (n, count) = (groups.len(), groups.iter().max().map_or(0, |g| g + 1));
    if n < IN_A_GROUP * count {
        return Err(NoAlignment::Scattered { positions: n, conditionals: count });
    }
    let rows: Vec<&[f32]> = features.chunks_exact(width).collect();
    let mut sums = vec![vec![0.0f64; width]; count];
    let mut sizes = vec![0.0f64; count];
    for (row, group) in rows.iter().zip(groups) {
        sizes[*group] += 1.0;
        sums[*group].iter_mut().zip(*row).for_each(|(s, x)| *s += f64::from(*x));
    }
    let all: Vec<f64> = (0..width).map(|j| sums.iter().map(|s| s[j]).sum::<f64>() / n as f64).collect();
    sums.iter_mut().zip(&sizes).for_each(|(sum, size)| sum.iter_mut().for_each(|s| *s /= size));
    let from =
        |row: &[f32], mean: &[f64]| -> f64 { row.iter().zip(mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum() };
    let within: Vec<f64> = rows.iter().zip(groups).map(|(row, group)| from(row, &sums[*group])).collect();
    let total: Vec<f64> = rows.iter().map(|row| from(row, &all)).collect();
    if count < 2 || total.iter().sum::<f64>() <= 0.0 {
        return Err(NoAlignment::Constant);
    }
    let ratio = Estimate::of_ratio(&within, &total);
    let correction = (n - 1) as f64 / (n - count) as f64;
    Ok(Alignment {
        share_of_conditional: 1.0 - correction * ratio.value,
        share_of_conditional_standard_error: correction * ratio.standard_error,
        conditionals: count,
        positions: n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Rows m(group) + noise, whose share is known.
    fn drawn(n: usize, noise: f64) -> (Vec<f32>, Vec<usize>) {
        let mut stream = Stream::new(3, Purpose::Test, 0);
        let groups: Vec<usize> = (0..n).map(|i| i % 5).collect();
        let features = groups
            .iter()
            .flat_map(|g| [*g as f64, -2.0 * *g as f64, 7.0].map(|m| (m + noise * stream.normal()) as f32))
            .collect();
        (features, groups)
    }

    #[test]
    fn the_share_is_that_of_the_population() {
        // Groups 0 to 4: variance 2 in the first coordinate, 8 in the second, and 3 noise² in all.
        for (noise, share) in [(0.5, 10.0 / 10.75), (2.0, 10.0 / 22.0), (40.0, 10.0 / 4810.0)] {
            let (features, groups) = drawn(6000, noise);
            let found = share_between(&features, 3, &groups).unwrap();
            let off = (found.share_of_conditional - share) / found.share_of_conditional_standard_error;
            assert!(off.abs() < 3.0, "noise {noise}: {found:?} for {share}, {off:.1} errors off");
            assert!(found.share_of_conditional_standard_error < 0.02, "{found:?}");
            assert_eq!((found.conditionals, found.positions), (5, 6000));
        }
        let (features, groups) = drawn(100, 0.0);
        assert!((share_between(&features, 3, &groups).unwrap().share_of_conditional - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_error_is_that_of_repeated_draws() {
        let (features, groups) = drawn(40_000, 2.0);
        let parts: Vec<Alignment> = (0..50)
            .map(|k| share_between(&features[k * 2400..][..2400], 3, &groups[k * 800..][..800]).unwrap())
            .collect();
        let spread = Estimate::of_mean(&parts.iter().map(|p| p.share_of_conditional).collect::<Vec<f64>>());
        let mean = parts.iter().map(|p| p.share_of_conditional_standard_error).sum::<f64>() / 50.0;
        let ratio = mean / (spread.standard_error * 50f64.sqrt());
        assert!((ratio - 1.0).abs() < 0.35, "{ratio}");
    }

    #[test]
    fn a_turn_and_a_common_scale_change_nothing_and_few_in_a_group_are_refused() {
        let (features, groups) = drawn(600, 1.0);
        let (sin, cos) = 0.7f32.sin_cos();
        let turned: Vec<f32> = features
            .chunks(3)
            .flat_map(|r| [3.0 * (cos * r[0] - sin * r[1]), 3.0 * (sin * r[0] + cos * r[1]), 3.0 * r[2]])
            .collect();
        let [a, b] = [&features, &turned].map(|f| share_between(f, 3, &groups).unwrap().share_of_conditional);
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
        let own: Vec<usize> = (0..600).collect();
        assert_eq!(
            share_between(&features, 3, &own),
            Err(NoAlignment::Scattered { positions: 600, conditionals: 600 })
        );
        assert_eq!(share_between(&features, 3, &[0; 600]), Err(NoAlignment::Constant));
        assert_eq!(groups.len(), super::groups(&vec![[0.5f32, 0.5].as_slice(); 600]).len());
        assert_eq!(super::groups(&[&[0.3, 0.7], &[0.7, 0.3], &[0.3, 0.7]]), [0, 1, 0]);
    }
}
