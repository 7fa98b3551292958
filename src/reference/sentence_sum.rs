//! Twin of `shaders/sentence_sum.wgsl`.

use super::{Inputs, Twin};
use crate::ops::counts::MASKED;
use crate::ops::{Rule, SentenceSum};

impl Twin for SentenceSum {
    /// The rows of tokens or masked positions added up by sentence, columns too, into the first of four columns.
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (graph, batch) = (inputs.frame.graph, inputs.frame.batch);
        let masked = graph.tensor(inputs.node.inputs[0]).rows == MASKED;
        let mut sums = vec![0.0; 4 * batch.sentences as usize];
        for (r, row) in inputs.of(0).chunks_exact(inputs.cols(0)).enumerate() {
            let sentence = if masked { batch.sentence_of[r] } else { batch.spans[r][3] };
            sums[4 * sentence as usize] += f64::from(self.factor) * row.iter().sum::<f64>();
        }
        vec![sums]
    }
}
