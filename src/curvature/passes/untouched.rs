//! Parameters on which no example's loss depends, whatever the weights and labels: rows and columns of zeros in every
//! curvature matrix, counted from the examples' tokens and the model's structure and not from a spectrum.
//!
//! - Rows of the position and segment tables that no token takes, pad rows among them, and rows of the word table of words in no
//!   input; with a tied head every word's row is an output too, which softmax ties to the loss.
//! - Biases of keys: they add the same q · b to all scores of a query, and softmax forgets it.
//! - Queries and keys altogether where every example is a single token, and without layers what stands at positions that
//!   are not masked.

use std::ops::Range;

use super::Subject;
use crate::model::{Head, Part, Role};
use crate::ops::{Batch, Table};

impl Subject {
    /// Places of these parameters in vectors of this subject, in order; those held still are not among them.
    pub fn untouched(&self) -> Vec<Range<usize>> {
        let used = self.rows_used();
        let tied = self.model.encoder.head == Head::Words && self.model.encoder.config.tie_word_embeddings;
        let single = self.sentences.iter().all(|s| s.ids.len() == 1);
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
                Role { part: Part::Key, bias: true, .. } => places.push(range),
                Role { part: Part::Query | Part::Key, .. } if single => places.push(range),
                _ => {}
            }
        }
        places
    }

    /// Which rows of the word, position and segment table stand in something that reaches the loss.
    fn rows_used(&self) -> [Vec<bool>; 3] {
        let layout = self.model.encoder.batch_layout(self.model.variants());
        let mut used = layout.tables.map(|rows| vec![false; rows as usize]);
        let attends = self.model.encoder.config.num_hidden_layers > 0;
        for range in &self.batches {
            let batch = Batch::new(&layout, &self.sentences[range.clone()]);
            for (ids, masked) in batch.ids.iter().zip(&batch.inverse) {
                if attends || *masked > 0 {
                    (0..3).for_each(|t| used[t][ids[t] as usize] = true);
                }
            }
        }
        used
    }
}
