//! A model that is to read words it has no token for: one row more in its table of words, the mean of the rows that it
//! has for a language's words.

use super::config::SizeError;
use super::encoder::Encoder;
use super::files::Loaded;
use super::parameters::Weights;

impl Loaded {
    /// The model without its head, with a row for unknown words behind the others, and the id of that row. It begins as
    /// the mean of the rows of `words`, of which there is one at least.
    ///
    /// # Errors
    /// A table too large for its graph.
    pub fn with_unknown(self, words: &[u32]) -> Result<(Loaded, u32), SizeError> {
        let mut config = self.encoder.config.clone();
        let unknown = config.vocab_size;
        config.vocab_size += 1;
        let encoder = Encoder::body(&config)?;
        let mut rows: std::collections::HashMap<String, Vec<f32>> =
            self.encoder.parameters.iter().map(|p| p.name.clone()).zip(self.weights.0).collect();
        let weights = encoder.parameters.iter().map(|parameter| {
            let mut values = rows.remove(&parameter.name).expect("the body has the parameters of the model");
            if parameter.role.is_over_words() {
                let wide = parameter.len() / config.vocab_size as usize;
                let at = |c: usize| words.iter().map(|w| f64::from(values[*w as usize * wide + c])).sum::<f64>();
                let mean: Vec<f32> = (0..wide).map(|c| (at(c) / words.len() as f64) as f32).collect();
                values.extend(mean);
            }
            values
        });
        let weights = Weights(weights.collect());
        Ok((Loaded { encoder, weights, ..self }, unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, ModelKind};

    #[test]
    fn an_unknown_word_begins_as_the_mean_of_a_languages_words() {
        for kind in [ModelKind::Bert, ModelKind::Gpt2, ModelKind::Lstm] {
            let config = ModelConfig { vocab_size: 7, hidden_size: 8, ..ModelConfig::small(kind) };
            let encoder = Encoder::new(&config).unwrap();
            let weights = Weights::initial(&encoder.parameters, 0.5, 3);
            let loaded = Loaded { encoder, weights, folder: "m".into(), notes: vec![] };
            let table = |loaded: &Loaded| {
                let tables = loaded.encoder.parameters.iter().zip(&loaded.weights.0);
                tables.filter(|(p, _)| p.role.is_over_words()).map(|(_, w)| w.clone()).next().unwrap()
            };
            let before = table(&loaded);
            let (made, unknown) = loaded.with_unknown(&[4, 6]).unwrap();
            assert_eq!((unknown, made.encoder.config.vocab_size), (7, 8));
            for (parameter, values) in made.encoder.parameters.iter().zip(&made.weights.0) {
                assert_eq!(parameter.len(), values.len(), "{}", parameter.name);
            }
            let after = table(&made);
            assert_eq!(after[..56], before[..]);
            for c in 0..8 {
                assert!((after[56 + c] - (before[32 + c] + before[48 + c]) / 2.0).abs() < 1e-7);
            }
        }
    }
}
