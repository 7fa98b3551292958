//! An interval for a probability from the number of successes (Clopper and Pearson 1934): exact, so that it covers the
//! truth at least as often as it says, also where nearly all draws succeed and an interval by the normal law would be
//! empty.
//!
//! ```
//! use lowland::statistics::Proportion;
//! let p = Proportion::of(0, 10, 0.95);
//! assert_eq!(p.low, 0.0);
//! assert!((p.high - (1.0 - 0.025f64.powf(0.1))).abs() < 1e-12); // where all ten fail with probability 2.5 %
//! ```

/// A share of successes with its Clopper-Pearson interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proportion {
    /// Successes over trials.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Proportion {
    /// Of `successes` among `trials` draws; `level` is the least probability with which the interval holds the truth.
    ///
    /// # Panics
    /// Without a trial, with more successes than trials, or with a level outside 0 to 1.
    pub fn of(successes: u64, trials: u64, level: f64) -> Proportion {
        assert!(trials > 0 && successes <= trials && level > 0.0 && level < 1.0, "{successes} of {trials} at {level}");
        let tail = (1.0 - level) / 2.0;
        // The probability of at least `successes` rises with p, that of at most so many falls.
        let low = match successes {
            0 => 0.0,
            k => bisect(|p| at_least(k, trials, p) < tail),
        };
        let high = match trials - successes {
            0 => 1.0,
            failures => 1.0 - bisect(|q| at_least(failures, trials, q) < tail),
        };
        Proportion { value: successes as f64 / trials as f64, low, high }
    }

    /// Whether the interval holds a probability.
    pub fn holds(&self, p: f64) -> bool {
        (self.low..=self.high).contains(&p)
    }
}

/// The place in 0 to 1 up to which `below` is true.
fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // The spacing of f64 near 1.
    for _ in 0..53 {
        let middle = 0.5 * (low + high);
        match below(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}

/// The probability of at least `k` successes in `n` draws of probability 0 < p < 1.
fn at_least(k: u64, n: u64, p: f64) -> f64 {
    let factorial = |i: u64| libm::lgamma(i as f64 + 1.0);
    let (yes, no) = (p.ln(), (-p).ln_1p());
    let term = |i: u64| factorial(n) - factorial(i) - factorial(n - i) + i as f64 * yes + (n - i) as f64 * no;
    (k..=n).map(|i| term(i).exp()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R 4.2, `binom.test(x, n)$conf.int`: 7 of 10 has 0.3475471, 0.9332605.
    #[test]
    fn intervals_are_those_of_r() {
        let p = Proportion::of(7, 10, 0.95);
        assert!((p.low - 0.347_547_1).abs() < 1e-7 && (p.high - 0.933_260_5).abs() < 1e-7, "{p:?}");
    }

    #[test]
    fn an_interval_covers_as_often_as_it_says() {
        // By enumeration of all outcomes: the probability that the interval holds the truth.
        for truth in [0.05, 0.5, 0.93] {
            let holds = |k: u64| Proportion::of(k, 30, 0.9).holds(truth);
            let probability = |k: u64| at_least(k, 30, truth) - if k < 30 { at_least(k + 1, 30, truth) } else { 0.0 };
            let covered: f64 = (0..=30).filter(|k| holds(*k)).map(probability).sum();
            assert!((0.9..0.99).contains(&covered), "{truth}: {covered}");
        }
    }
}
