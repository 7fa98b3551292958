//! The label dial (`objective.labels = { mix = ... }`): labels whose noise is turned up and down while the loss, its
//! gradient's mean and its minimiser stay what they are.
//!
//! With p the exact conditional of a position, y the word that stood there (drawn from p), e_y its indicator and G a
//! fixed partition of the words, the label's noise n = e_y - p has two uncorrelated parts:
//!
//! ```text
//! between  n_b[v] = p_v / p(G(v)) Σ_{u in G(v)} n_u     which group,
//! within   n_w    = n - n_b                             which word of it,
//! Cov n_b + Cov n_w = diag(p) - p pᵀ,   E n_b = E n_w = 0,   Σ_v n_b[v] = Σ_v n_w[v] = 0.
//! ```
//!
//! The label is t = p + k_b n_b + k_w n_w. The gradient of -Σ t_v log q_v by the logits, q - t, is linear in t, so that
//! entries of t may be negative; its mean is q - p whatever k_b and k_w are, and its covariance that of
//! k_b n_b + k_w n_w. At (1, 1) t is the word itself, at (0, 0) the conditional.

use crate::config::LabelMix;

/// The label t of a position, shape `[V]`, for its conditional `p`, shape `[V]`, of which word number `y` was drawn.
/// Entries sum to 1 and may be negative.
///
/// ```
/// use lowland::{config::LabelMix, train::mixed_label};
/// let mix = LabelMix { between: 1.0, within: 0.0, groups: 2 };
/// // The group of words 0 and 2 was drawn, and not which of the two.
/// assert_eq!(mixed_label(&mix, &[0.5, 0.25, 0.125, 0.125], 2), [0.8, 0.0, 0.2, 0.0]);
/// ```
pub fn mixed_label(mix: &LabelMix, p: &[f64], y: usize) -> Vec<f64> {
    let group = |v: usize| v % mix.groups as usize;
    let own = group(y);
    let mass: f64 = p.iter().enumerate().filter(|(v, _)| group(*v) == own).map(|(_, p)| p).sum();
    let one = |(v, p): (usize, &f64)| {
        let given = if group(v) == own { p / mass } else { 0.0 };
        let drawn = if v == y { 1.0 } else { 0.0 };
        p + mix.between * (given - p) + mix.within * (drawn - given)
    };
    p.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and covariance over the words drawn, against the closed forms of both parts.
    #[test]
    fn labels_have_the_mean_and_the_two_covariances_that_they_should() {
        let weights = [3.0, 1.0, 0.5, 2.0, 0.0, 1.5, 4.0];
        let p: Vec<f64> = weights.map(|w| w / weights.iter().sum::<f64>()).into();
        for (between, within, groups) in [(1.0, 1.0, 2), (1.0, 0.1, 2), (0.0, 2.0, 3), (0.7, 0.0, 9), (0.0, 0.0, 2)] {
            let mix = LabelMix { between, within, groups };
            let drawn: Vec<usize> = (0..p.len()).filter(|y| p[*y] > 0.0).collect();
            let labels: Vec<Vec<f64>> = drawn.iter().map(|y| mixed_label(&mix, &p, *y)).collect();
            let mean = |of: &dyn Fn(&[f64]) -> f64| drawn.iter().zip(&labels).map(|(y, t)| p[*y] * of(t)).sum::<f64>();
            let together = |u: usize, v: usize| u % groups as usize == v % groups as usize;
            for u in 0..p.len() {
                assert!((mean(&|t| t[u]) - p[u]).abs() < 1e-12, "{mix:?}: the mean is the conditional");
                let mass: f64 = (0..p.len()).filter(|v| together(u, *v)).map(|v| p[v]).sum();
                for v in 0..p.len() {
                    // A word that is never drawn may be alone in its group.
                    let shared = if together(u, v) && mass > 0.0 { p[u] * p[v] / mass } else { 0.0 };
                    let own = if u == v { p[u] } else { 0.0 };
                    let want = between * between * (shared - p[u] * p[v]) + within * within * (own - shared);
                    let got = mean(&|t| (t[u] - p[u]) * (t[v] - p[v]));
                    assert!((got - want).abs() < 1e-12, "{mix:?}, {u}, {v}: {got}, {want}");
                }
            }
            for (y, label) in drawn.iter().zip(&labels) {
                assert!((label.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                for (v, t) in label.iter().enumerate() {
                    let indicator = if v == *y { 1.0 } else { 0.0 };
                    assert!(between != 1.0 || within != 1.0 || (t - indicator).abs() < 1e-12, "the word itself");
                    assert!(between + within > 0.0 || *t == p[v], "the conditional to the bit");
                }
            }
        }
    }
}
