//! Probabilities of a restricted model from its logits, in f64: the softmax over the words, and the sentence's end
//! where it may end.

/// Logits of one row: of the words, and last of the sentence's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'l> {
    logits: &'l [f32],
    /// Whether the sentence may end here.
    ends: bool,
}

impl<'l> Row<'l> {
    /// The logits behind so many words of a sentence, which cannot be empty. They end at the end's.
    pub fn behind(words: usize, logits: &'l [f32]) -> Row<'l> {
        Row { logits, ends: words > 0 }
    }

    /// Those that count.
    fn possible(&self) -> &'l [f32] {
        let n = self.logits.len() - usize::from(!self.ends);
        &self.logits[..n]
    }

    /// log Σ exp of what is possible.
    pub fn log_sum(&self) -> f64 {
        let top = self.possible().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = self.possible().iter().map(|l| (f64::from(*l) - f64::from(top)).exp()).sum();
        f64::from(top) + sum.ln()
    }

    /// log p of the word of a number, or of the end where that is the number of words.
    pub fn log_probability(&self, number: usize) -> f64 {
        match number < self.possible().len() {
            true => f64::from(self.logits[number]) - self.log_sum(),
            false => f64::NEG_INFINITY,
        }
    }

    /// p of all words, and last of the end.
    pub fn probabilities(&self) -> Vec<f64> {
        let norm = self.log_sum();
        let mut p = vec![0.0; self.logits.len()];
        for (p, l) in p.iter_mut().zip(self.possible()) {
            *p = (f64::from(*l) - norm).exp();
        }
        p
    }

    /// The inverse distribution function: the first number at which the probabilities, added up in order, are above a
    /// uniform number.
    pub fn at(&self, uniform: f64) -> usize {
        let p = self.probabilities();
        let mut sum = 0.0;
        let found = p.iter().position(|p| {
            sum += p;
            uniform < sum
        });
        // Rounding may leave the sum short of a number close to 1: then it is the last that is possible.
        found.unwrap_or(self.possible().len() - 1)
    }
}

/// Weights from their logarithms, of sum 1.
pub(super) fn normalised(logs: &[f64]) -> Vec<f64> {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut p: Vec<f64> = logs.iter().map(|l| (l - top).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_of_no_words_does_not_end() {
        let logits = [1.0, 2.0, 30.0];
        let first = Row::behind(0, &logits).probabilities();
        assert_eq!(first[2], 0.0);
        assert!((first[0] + first[1] - 1.0).abs() < 1e-15);
        assert!(Row::behind(1, &logits).probabilities()[2] > 0.99);
        assert_eq!(Row::behind(0, &logits).log_probability(2), f64::NEG_INFINITY);
    }

    #[test]
    fn uniform_numbers_become_words_by_their_share() {
        // p = 1/2, 1/4, 1/4
        let logits = [2.0f32.ln(), 0.0, 0.0];
        let row = Row::behind(1, &logits);
        for (u, number) in [(0.0, 0), (0.499, 0), (0.501, 1), (0.749, 1), (0.751, 2), (1.0 - 1e-16, 2)] {
            assert_eq!(row.at(u), number, "{u}");
        }
        assert_eq!(Row::behind(0, &logits).at(1.0 - 1e-16), 1);
    }

    #[test]
    fn far_logits_do_not_overflow() {
        let row = Row::behind(3, &[3e38, 0.0, -3e38]);
        assert_eq!(row.probabilities(), [1.0, 0.0, 0.0]);
        assert_eq!(normalised(&[-1e9, -1e9]), [0.5, 0.5]);
    }
}
