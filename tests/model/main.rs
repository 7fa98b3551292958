//! Models on the adapter under test: against `transformers` and PyTorch, their curvature, their training and their
//! files.

#[path = "../common"]
mod common {
    pub mod adapter;
    pub mod curvature;
    pub mod fixtures;
    pub mod truth;
}

mod algorithms;
mod causal;
mod curvature;
mod decoders;
mod designed_traces;
mod dispatches;
mod downstream;
mod embedded_noise;
mod enlarge;
mod enlarged_trace;
mod examples;
mod flatness;
mod gallery;
mod generated;
mod gradient_moments;
mod label_dial;
mod label_split;
mod last_token;
mod llc;
mod lstm;
mod many_words;
mod measure_training;
mod memory;
mod model_files;
mod other_folders;
mod outcomes;
mod precision;
mod recipe;
mod regauge;
mod sharpness;
mod split_coverage;
mod split_traces;
mod strides;
mod texts;
mod token_noise;
mod training;
mod transformers;
mod trouble;
mod windows;

/// The models of `fixtures/make_transformers.py`: each type, tied and untied, each activation. `roberta-N` are of the
/// type `roberta-prelayernorm`, `postnorm-N` of `roberta`, `lstm-plain` and `lstm-plain-tiny` LSTMs in one direction;
/// the decoders begin with the name of their type.
const MODELS: [&str; 35] = [
    "roberta-20",
    "roberta-32",
    "bert-24",
    "bert-18",
    "bert-untied",
    "roberta-tiny",
    "bert-tiny",
    "postnorm-16",
    "postnorm-untied",
    "postnorm-tiny",
    "bert-gelu-new",
    "bert-relu",
    "bert-silu",
    "postnorm-gelu-tanh",
    "roberta-silu",
    "roberta-gelu-python",
    "lstm-16",
    "lstm-20",
    "lstm-long",
    "lstm-short",
    "lstm-untied",
    "lstm-silu",
    "lstm-tiny",
    "lstm-plain",
    "lstm-plain-tiny",
    "gpt2-20",
    "opt-18",
    "gpt_neox-20",
    "llama-24",
    "qwen2-16",
    "mistral-16",
    "olmo-16",
    "olmo2-18",
    "gpt2-tiny",
    "llama-tiny",
];
