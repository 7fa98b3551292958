//! How much of what: the numbers of sentences, draws and probes that give a sum of independent parts a wanted error at
//! the least cost.

use crate::curvature::Trace;
use crate::statistics::draws_for;

/// A part of a variance that falls as 1 / number, and what one more costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Component {
    /// Variance times number.
    pub variance: f64,
    /// Of one, in gradients of a sentence.
    pub cost: f64,
}

/// Numbers x_j with Σ V_j / x_j = `variance` at the least Σ c_j x_j: in proportion to √(V_j / c_j), with a cost of
/// (Σ √(V_j c_j))² / `variance`.
pub(super) fn numbers<const N: usize>(components: [Component; N], variance: f64) -> [f64; N] {
    let sum: f64 = components.iter().map(|c| (c.variance * c.cost).sqrt()).sum();
    components.map(|c| (c.variance / c.cost).sqrt() * sum / variance)
}

/// How many more of each a variance takes at the least cost, where so many are `there`; none where these are enough.
pub(super) fn more<const N: usize>(components: [Component; N], there: [f64; N], variance: f64) -> [f64; N] {
    let mut enough = [false; N];
    loop {
        // What there is enough of leaves so much of the variance to the others.
        let (mut left, mut sum) = (variance, 0.0);
        for (j, c) in components.iter().enumerate() {
            match enough[j] {
                true => left -= c.variance / there[j],
                false => sum += (c.variance * c.cost).sqrt(),
            }
        }
        let wanted = components.map(|c| (c.variance / c.cost).sqrt() * sum / left);
        let now: [bool; N] = std::array::from_fn(|j| enough[j] || wanted[j] <= there[j]);
        if now == enough {
            return std::array::from_fn(|j| if enough[j] { 0.0 } else { wanted[j] - there[j] });
        }
        enough = now;
    }
}

/// What a pass costs in gradients of the sentence: without its draws or vectors, and for each of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub first: f64,
    pub further: f64,
}

/// Squared norms for random signs (`docs/performance-curvature.md`).
pub(super) const SIGNS: Cost = Cost { first: 0.46, further: 0.43 };
/// Quadratic forms of the residual.
pub(super) const FORMS: Cost = Cost { first: 0.9, further: 0.9 };
/// A forward pass, with the drawing of its sentence.
pub(super) const FORWARD: f64 = 0.4;

/// Most vectors or draws of a sentence.
const MOST: usize = 8;

/// What a pilot says: variances of one sentence, `within` of one draw or vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scatter {
    pub between: f64,
    pub within: f64,
}

impl Scatter {
    /// The error of single draws, told apart by these variances.
    pub fn divide(&self, trace: Trace) -> Trace {
        let whole = self.between.max(0.0) + self.within;
        let share = if whole > 0.0 { self.within / whole } else { 0.0 };
        let part = |share: f64| trace.standard_error * share.sqrt();
        Trace { standard_error_probe: part(share), standard_error_data: part(1.0 - share), ..trace }
    }

    /// The number of draws or vectors with the least variance at a given cost.
    pub fn repeats(&self, cost: Cost, least: usize) -> usize {
        draws_for(cost.first + cost.further, cost.further, self.within, self.between).clamp(least, MOST)
    }

    /// Sentences with so many draws or vectors each.
    pub fn component(&self, cost: Cost, repeats: usize) -> Component {
        let k = repeats as f64;
        Component { variance: self.between + self.within / k, cost: cost.first + cost.further * k }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_reach_the_variance_and_no_others_do_so_cheaper() {
        let parts = [(5000.0, 1.3), (900.0, 0.4), (40.0, 4.5)];
        let components = parts.map(|(variance, cost)| Component { variance, cost });
        let variance = |x: [f64; 3]| parts.iter().zip(x).map(|((v, _), x)| v / x).sum::<f64>();
        let cost = |x: [f64; 3]| parts.iter().zip(x).map(|((_, c), x)| c * x).sum::<f64>();
        let best = numbers(components, 0.5);
        assert!((variance(best) - 0.5).abs() < 1e-12);
        for factors in [[1.1, 1.0, 0.9], [0.9, 1.2, 1.1], [1.0, 0.8, 1.0]] {
            let other: [f64; 3] = std::array::from_fn(|j| best[j] * factors[j]);
            // As many times more as the same variance takes.
            let scaled = other.map(|x| x * variance(other) / 0.5);
            assert!(cost(scaled) > cost(best), "{factors:?}");
        }
    }

    #[test]
    fn more_of_what_lacks_reaches_the_variance_and_of_the_rest_there_is_none() {
        let parts = [(5000.0, 1.3), (900.0, 0.4), (40.0, 4.5)];
        let components = parts.map(|(variance, cost)| Component { variance, cost });
        let best = numbers(components, 0.5);
        // From half of everything, the other half.
        let half = best.map(|x| x / 2.0);
        more(components, half, 0.5).iter().zip(half).for_each(|(m, h)| assert!((m / h - 1.0).abs() < 1e-12));
        // With more than enough of two, the third alone; and a little less of it than without.
        let there = [best[0] / 4.0, 2.0 * best[1], 3.0 * best[2]];
        let [a, b, c] = more(components, there, 0.5);
        assert_eq!([b, c], [0.0; 2]);
        let variance: f64 = parts.iter().zip([there[0] + a, there[1], there[2]]).map(|((v, _), x)| v / x).sum();
        assert!((variance - 0.5).abs() < 1e-12 && there[0] + a < best[0], "{a} beside {there:?}");
        assert_eq!(more(components, best.map(|x| 1.1 * x), 0.5), [0.0; 3]);
    }

    #[test]
    fn repeats_are_those_of_the_least_variance_at_a_cost() {
        let scatter = Scatter { between: 100.0, within: 900.0 };
        let cost = Cost { first: 1.0, further: 1.0 };
        let worth = |k: usize| {
            let Component { variance, cost } = scatter.component(cost, k);
            variance * cost
        };
        let chosen = scatter.repeats(cost, 1);
        assert!((1..=MOST).all(|k| worth(chosen) <= worth(k)), "{chosen}");
        assert_eq!(Scatter { between: 1.0, within: 0.0 }.repeats(cost, 2), 2);
    }
}
