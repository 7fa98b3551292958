//! The loss on long texts, a window at a time, as people quote perplexities.
//!
//! Windows of `length` tokens begin every `stride` tokens; each predicts what no window before it did, from what stands
//! before that in the window. With stride < length every token but the first is predicted once; with stride = length
//! the first one of each window is not, as nothing stands before it. This is the loop of the page "Perplexity of
//! fixed-length models" of `transformers`, each predicted token weighing the same.

use crate::ops::batch::Sentence;
use crate::statistics::Estimate;

/// How long texts are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub length: usize,
    /// Tokens between the beginnings of windows, 1 to `length`.
    pub stride: usize,
}

impl Windows {
    /// The windows of a text that have something to predict.
    ///
    /// ```
    /// use lowland::train::Windows;
    /// let windows = Windows { length: 4, stride: 2 };
    /// let masked: Vec<_> = windows.of(&[5, 6, 7, 8, 9]).map(|w| (w.ids, w.masked)).collect();
    /// assert_eq!(masked[0], (vec![5, 6, 7, 8], vec![(0, 6), (1, 7), (2, 8)]));
    /// assert_eq!(masked[1], (vec![7, 8, 9], vec![(1, 9)]));
    /// ```
    pub fn of<'i>(&self, ids: &'i [u32]) -> impl Iterator<Item = Sentence> + use<'i> {
        let Windows { length, stride } = *self;
        // The first window whose end is the text's is the last.
        let count = ids.len().saturating_sub(length).div_ceil(stride) + 1;
        (0..count).filter_map(move |i| {
            let begin = i * stride;
            let end = (begin + length).min(ids.len());
            let seen = if i == 0 { 0 } else { begin - stride + length };
            let masked: Vec<(u32, u32)> =
                (seen.max(begin + 1)..end).map(|j| ((j - 1 - begin) as u32, ids[j])).collect();
            (!masked.is_empty()).then(|| Sentence { ids: ids[begin..end].to_vec(), masked, ..Sentence::default() })
        })
    }
}

/// Sums of losses over parts of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartSums {
    /// Nats of each part.
    pub nats: Vec<f64>,
    /// Its predicted tokens.
    pub tokens: Vec<f64>,
}

impl PartSums {
    /// Adds to part `at`, or begins it.
    pub fn add(&mut self, at: usize, nats: f64, tokens: usize) {
        if at >= self.nats.len() {
            self.nats.resize(at + 1, 0.0);
            self.tokens.resize(at + 1, 0.0);
        }
        self.nats[at] += nats;
        self.tokens[at] += tokens as f64;
    }

    /// Nats of a token over the first `parts` parts, with the standard error of parts as a sample; that is infinite of
    /// fewer than two.
    pub fn mean(&self, parts: usize) -> Estimate {
        Estimate::of_ratio(&self.nats[..parts], &self.tokens[..parts])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_predicted_once_where_windows_overlap() {
        for n in [1usize, 2, 3, 7, 8, 9, 15, 16, 17, 40] {
            let ids: Vec<u32> = (0..n as u32).collect();
            for (length, stride) in [(8, 1), (8, 3), (8, 4), (8, 7), (2, 1), (50, 25)] {
                let mut labels = Vec::new();
                for window in (Windows { length, stride }).of(&ids) {
                    assert!(window.ids.len() <= length);
                    for (row, label) in window.masked {
                        assert_eq!(window.ids[row as usize] + 1, label, "the row before it predicts it");
                        labels.push(label);
                    }
                }
                assert_eq!(labels, (1..n as u32).collect::<Vec<u32>>(), "{n} tokens, {length} by {stride}");
            }
            // Side by side, the first of each window is not.
            let side: Vec<u32> = Windows { length: 8, stride: 8 }
                .of(&ids)
                .flat_map(|w| w.masked.into_iter().map(|m| m.1).collect::<Vec<_>>())
                .collect();
            assert_eq!(side, (0..n as u32).filter(|i| i % 8 != 0).collect::<Vec<u32>>());
        }
    }
}
