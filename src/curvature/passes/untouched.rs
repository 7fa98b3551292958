//! Parameters on which no example's loss depends, whatever the weights and labels: rows and columns of zeros in every
//! curvature matrix, counted from the examples' tokens and the model's structure and not from a spectrum.
//!
//! - Rows of the position and segment tables that no token takes, pad rows among them, and rows of the word table of
//!   words in no input; with a tied head every word's row is an output too, which softmax ties to the loss.
//! - Biases of keys: they add the same q · b to all scores of a query, and softmax forgets it; with rotary positions
//!   those of the numbers that do not turn.
//! - Queries and keys altogether, their norms too, where every example is read at its first token alone, an LSTM's
//!   weights of the state before the first token, which is 0, and its forget gates; without layers what stands at
//!   positions that are not masked, and behind the last masked position what a decoder or an LSTM in one direction has
//!   not read yet.

use std::ops::Range;

use super::Subject;
use crate::model::{Head, Norm, Part, Reach, Role};
use crate::ops::{Batch, Table};

impl Subject {
    /// Places of these parameters in vectors of this subject, in order; those held still are not among them.
    pub fn untouched(&self) -> Vec<Range<usize>> {
        let used = self.rows_used();
        let tied = self.model.encoder.head == Head::Words && self.model.encoder.config.tie_word_embeddings;
        let config = &self.model.encoder.config;
        let past = config.reach() == Reach::Past;
        let single = self.sentences.iter().all(|s| s.ids.len() == 1 || past && s.masked.iter().all(|(at, _)| *at == 0));
        let (size, idle) = (config.head_size() as usize, config.idle_key_bias());
        let mut places: Vec<Range<usize>> = Vec::new();
        for (parameter, range) in self.vectors.places(&self.model.encoder) {
            match parameter.role {
                Role { part: Part::Table(Table::Words), .. } if tied => {}
                Role { part: Part::Table(table), .. } => {
                    let used = &used[table as usize];
                    let wide = range.len() / used.len();
                    let row = |r: usize| range.start + r * wide..range.start + (r + 1) * wide;
                    places.extend((0..used.len()).filter(|r| !used[*r]).map(row));
                }
                Role { part: Part::Norm(Norm::Query | Norm::Key), .. } if single => places.push(range),
                Role { part: Part::Query | Part::Key | Part::QueryKeyValue, bias, .. } if bias || single => {
                    let without = |i: &usize| match parameter.projected(*i, size) {
                        Some((Part::Key, _)) if single => true,
                        Some((Part::Query, _)) => single,
                        Some((Part::Key, number)) => bias && idle.contains(&(number as u32)),
                        _ => false,
                    };
                    push_runs(&mut places, range.start, (0..range.len()).filter(without));
                }
                Role { part: Part::GatesOfState(_), bias: false, .. } if single => places.push(range),
                Role { part: Part::GatesOfInput(_) | Part::GatesOfState(_), .. } if single => {
                    let gate = range.len() / 4;
                    places.push(range.start + gate..range.start + 2 * gate);
                }
                _ => {}
            }
        }
        places
    }

    /// Which rows of the word, position and segment table stand in something that reaches the loss.
    fn rows_used(&self) -> [Vec<bool>; 3] {
        let layout = self.model.encoder.batch_layout(self.model.variants());
        let mut used = layout.tables.map(|rows| vec![false; rows as usize]);
        let config = &self.model.encoder.config;
        for range in &self.batches {
            let sentences = &self.sentences[range.clone()];
            let batch = Batch::new(&layout, sentences);
            let mut rows = batch.ids.iter().zip(&batch.inverse);
            for sentence in sentences {
                let last = sentence.masked.iter().map(|(position, _)| *position).max().unwrap_or(0);
                for (position, (ids, masked)) in (0..).zip(rows.by_ref().take(sentence.ids.len())) {
                    let reached = match config.reach() {
                        _ if config.num_hidden_layers == 0 => *masked > 0,
                        Reach::Sentence => true,
                        Reach::Past => position <= last,
                    };
                    if reached {
                        // A table that a model does not have has no rows.
                        used.iter_mut()
                            .zip(ids)
                            .filter_map(|(used, row)| used.get_mut(*row as usize))
                            .for_each(|u| *u = true);
                    }
                }
            }
        }
        used
    }
}

/// Adds numbers that grow, moved by `start`, as ranges of those that follow one another.
fn push_runs(places: &mut Vec<Range<usize>>, start: usize, numbers: impl Iterator<Item = usize>) {
    let mut run: Option<Range<usize>> = None;
    for at in numbers.map(|number| start + number) {
        match &mut run {
            Some(run) if run.end == at => run.end += 1,
            _ => places.extend(run.replace(at..at + 1)),
        }
    }
    places.extend(run);
}
