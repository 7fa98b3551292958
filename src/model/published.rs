//! A case whose times other projects publish, so that theirs and ours can be laid side by side.

use super::config::ModelConfig;
use super::hidden_act::HiddenAct;
use super::kind::ModelKind;
use crate::ops::batch::Sentence;

/// Tokens of the one sentence.
const TOKENS: u32 = 128;

/// A model and a batch that are timed elsewhere too.
#[derive(Clone, Debug)]
pub struct Published {
    /// As it is called there, in lower case.
    pub name: &'static str,
    /// The model; weights are random.
    pub model: ModelConfig,
    /// The batch.
    pub sentences: Vec<Sentence>,
}

impl Published {
    /// SmolLM2-135M over one sentence of 128 tokens, 0 to 127, each of which predicts the number behind its own: the
    /// case of <https://github.com/kvark/inferena> (models/SmolLM2-135M.md), which times the forward pass without
    /// gradients and forward, loss and backward together, in f32 and without an optimiser.
    ///
    /// 134,515,008 parameters; the table of words, 49,152 x 576, has 113 MB, within the 128 MiB that Mesa's software
    /// driver binds.
    pub fn smollm2_135m() -> Published {
        let model = ModelConfig {
            kind: ModelKind::Llama,
            vocab_size: 49_152,
            hidden_size: 576,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: Some(3),
            intermediate_size: 1536,
            rope_theta: 100_000.0,
            hidden_act: HiddenAct::Silu,
            max_position_embeddings: 8192,
            layer_norm_eps: 1e-5,
            pad_token_id: None,
            tie_word_embeddings: true,
            ..ModelConfig::default()
        };
        let sentence = Sentence {
            ids: (0..TOKENS).collect(),
            masked: (0..TOKENS).map(|token| (token, token + 1)).collect(),
            ..Sentence::default()
        };
        Published { name: "smollm2-135m", model, sentences: vec![sentence] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Encoder;

    #[test]
    fn smollm2_has_the_parameters_of_the_published_model() {
        let case = Published::smollm2_135m();
        let encoder = Encoder::new(&case.model).unwrap();
        // What `transformers` counts of HuggingFaceTB/SmolLM2-135M: 134.5 million, the head being the table of words.
        assert_eq!(encoder.parameter_count(), 134_515_008);
        assert_eq!(case.sentences[0].ids.len(), case.sentences[0].masked.len());
    }
}
