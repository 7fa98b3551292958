//! One function a reader: bytes in, and nothing comes out but a panic. The targets of `fuzz/targets` call them with
//! what libFuzzer finds, `tests/pure/mutated.rs` with its own changes to `tests/fixtures/seeds`.
//!
//! What is read from a folder is written into one first, with sound files beside it: the bytes are those of the file
//! that is under test. Where several files are of one kind, the first byte says which.

use std::path::Path;

use lowland::config::RunConfig;
use lowland::downstream::{Columns, Sizes, TaskRows};
use lowland::language::{Grammar, Hmm, Language, Pcfg, Truth};
use lowland::model::{Encoder, ModelConfig, WeightsFile, check_weights, config_of, load, match_words, parse_examples};
use lowland::report::write_run;
use lowland::text::{Pieces, TextFormat};
use lowland::train::{Claim, RunResult, newest};

/// A reader by the name of its target and its folder of seeds.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them.
pub const READERS: [Reader; 19] = [
    ("config", config),
    ("sweep", sweep),
    ("grammar", grammar),
    ("hmm", hmm),
    ("example_lines", example_lines),
    ("csv", csv),
    ("glue", glue),
    ("jsonl", jsonl),
    ("covariates", covariates),
    ("weights", weights),
    ("weights_index", weights_index),
    ("model_config", model_config),
    ("tokenizer", tokenizer),
    ("words", words),
    ("claim", claim),
    ("manifest", manifest),
    ("metrics", metrics),
    ("plan", plan),
    ("registration", registration),
];

/// Runs on a folder that every call of a thread shares, so that what a call leaves is what the next one finds.
fn in_folder(run: impl FnOnce(&Path)) {
    thread_local!(static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder for temporary files"));
    FOLDER.with(|folder| run(folder.path()));
}

/// Writes a file of the folder.
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a folder that can be written");
}

/// A run config.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(config) = RunConfig::parse(&text, "config.toml") {
        assert_eq!(RunConfig::parse(&config.to_toml(), "again").as_ref(), Ok(&config));
    }
}

/// A sweep file; of one with runs, up to its base.
pub fn sweep(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("sweep.toml");
        put(&path, bytes);
        let _ = lowland::sweep::plan(&path);
    });
}

/// A grammar in either form. What is read gives sentences that it can judge.
pub fn grammar(bytes: &[u8]) {
    if let Ok(grammar) = Grammar::parse(&String::from_utf8_lossy(bytes), "grammar")
        && let Ok(language) = Pcfg::new(grammar, 6)
    {
        let words = language.sample(1, 0);
        assert!(!words.is_empty() && words.len() <= 6);
        assert!(language.conditional(&words).is_some());
    }
}

/// The matrices of a hidden Markov model.
pub fn hmm(bytes: &[u8]) {
    if let Ok(language) = Hmm::parse(&String::from_utf8_lossy(bytes), "matrices", 1, 4) {
        let words = language.sample(1, 0);
        assert!(language.conditional(&words).is_some());
    }
}

/// Examples for a model.
pub fn example_lines(bytes: &[u8]) {
    let config = ModelConfig { vocab_size: 8, ..ModelConfig::default() };
    if let Ok(sentences) = parse_examples(&String::from_utf8_lossy(bytes), "examples", &config) {
        assert!(sentences.iter().all(|sentence| sentence.ids.iter().all(|id| *id < 8)));
    }
}

/// Rows of texts and labels.
fn rows(bytes: &[u8], name: &str) {
    in_folder(|folder| {
        let path = folder.join(name);
        put(&path, bytes);
        if let Ok(rows) = TaskRows::read(&path, &Columns::default()) {
            let parts = rows.parts(0, Sizes { train: 1, validation: 0, test: 0 }).expect("there is a row").parts;
            assert!(!parts[0][0].label.is_empty());
        }
    });
}

/// Rows as RFC 4180 has them.
pub fn csv(bytes: &[u8]) {
    rows(bytes, "rows.csv");
}

/// Rows as GLUE has them.
pub fn glue(bytes: &[u8]) {
    rows(bytes, "rows.tsv");
}

/// Rows of JSON, and documents of JSON.
pub fn jsonl(bytes: &[u8]) {
    rows(bytes, "rows.jsonl");
    in_folder(|folder| {
        let files = [folder.join("rows.jsonl")];
        let mut documents = lowland::text::Documents::new(&files, TextFormat::Jsonl);
        while documents.batch(1 << 10).is_ok_and(|batch| !batch.is_empty()) {}
    });
}

/// A table of numbers about models.
pub fn covariates(bytes: &[u8]) {
    in_folder(|folder| {
        put(&folder.join("scores.csv"), bytes);
        let path = folder.join("given.toml");
        put(&path, include_bytes!("../fixtures/seeds/given/sweep.toml"));
        put(&folder.join("examples.jsonl"), include_bytes!("../fixtures/seeds/given/examples.jsonl"));
        let model = folder.join("model");
        std::fs::create_dir_all(&model).expect("a folder that can be written");
        put(&model.join("config.json"), include_bytes!("../fixtures/seeds/given/config.json"));
        put(&model.join("model.safetensors"), include_bytes!("../fixtures/seeds/weights/one"));
        let _ = lowland::sweep::plan(&path);
    });
}

/// A safetensors file.
pub fn weights(bytes: &[u8]) {
    if let Ok(file) = WeightsFile::parse(bytes, Path::new("model.safetensors")) {
        let numbers: usize = file.tensors.values().map(|(_, values)| values.len()).sum();
        assert!(2 * numbers <= bytes.len());
    }
}

/// The index of weights in several files.
pub fn weights_index(bytes: &[u8]) {
    in_folder(|folder| {
        let folder = folder.join("shards");
        std::fs::create_dir_all(&folder).expect("a folder that can be written");
        put(&folder.join("config.json"), include_bytes!("../fixtures/seeds/given/config.json"));
        put(&folder.join("a.safetensors"), include_bytes!("../fixtures/seeds/weights/one"));
        put(&folder.join("model.safetensors.index.json"), bytes);
        if let Ok(files) = check_weights(&folder) {
            assert!(files.iter().all(|file| file.starts_with(&folder)));
        }
        assert!(load(&folder).is_err());
    });
}

/// The `config.json` of a model, and the graph of what it describes.
pub fn model_config(bytes: &[u8]) {
    in_folder(|folder| {
        let folder = folder.join("config");
        std::fs::create_dir_all(&folder).expect("a folder that can be written");
        put(&folder.join("config.json"), bytes);
        if let Ok(config) = config_of(&folder) {
            // More layers are more of the same.
            let config = ModelConfig { num_hidden_layers: config.num_hidden_layers.min(2), ..config };
            if let Ok(encoder) = Encoder::new(&config) {
                assert!(encoder.parameter_count() > 0);
            }
        }
    });
}

/// A `tokenizer.json` as what cuts text.
pub fn tokenizer(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("tokenizer.json");
        put(&path, bytes);
        let read = Pieces::read(&path);
        assert!(read.as_ref().map_or(true, |pieces| pieces.size() <= 1 << 24));
        if let Ok(framing) = read.and_then(|pieces| pieces.framing(9))
            && let Ok(framed) = framing.frame("The film \u{e9} isn't", Some("[SEP] slow"))
        {
            assert!(framed.ids.len() <= 9 && framed.segments.len() == framed.ids.len());
        }
    });
}

/// The files that say which word has which id.
pub fn words(bytes: &[u8]) {
    let names =
        ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
    let Some((which, bytes)) = bytes.split_first() else { return };
    let name = names[*which as usize % names.len()];
    in_folder(|folder| {
        let folder = folder.join("words");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder that can be written");
        match name {
            "added_tokens.json" => put(&folder.join("vocab.txt"), b"<s>\n<pad>\n</s>\n<mask>\nw0\nw1\n"),
            _ => put(&folder.join("tokenizer.json"), include_bytes!("../fixtures/seeds/given/tokenizer.json")),
        }
        put(&folder.join(name), bytes);
        let config = ModelConfig { vocab_size: 16, pad_token_id: Some(12), ..ModelConfig::default() };
        if let Ok((ids, _)) = match_words(&folder, &["w0".into(), "w1".into()], &config) {
            let sentence = ids.mask(&[0, 1, 1], 1);
            assert!(sentence.ids.iter().all(|id| *id < 16) && ids.soft_label(&[0.5, 0.5]).len() == 16);
        }
    });
}

/// The claim of a folder.
pub fn claim(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("run.lock");
        put(&path, bytes);
        // Nothing is waited for.
        let _ = Claim::take(&path, &|| false);
    });
}

/// The list of a checkpoint's files, or its state, or how its run ended.
pub fn manifest(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    in_folder(|folder| {
        let step = folder.join("checkpoints").join("step-3");
        std::fs::create_dir_all(&step).expect("a folder that can be written");
        put(&step.join("MANIFEST.json"), include_bytes!("../fixtures/seeds/given/MANIFEST.json"));
        put(&step.join("state.json"), include_bytes!("../fixtures/seeds/given/state.json"));
        put(&step.join("model.safetensors"), include_bytes!("../fixtures/seeds/weights/one"));
        put(&step.join(["MANIFEST.json", "state.json"][*which as usize % 2]), bytes);
        if let (Some(checkpoint), _) = newest(&folder.join("checkpoints")) {
            assert!(checkpoint.state().is_ok_and(|state| state.step == 3));
        }
        put(&folder.join("result.json"), bytes);
        let _ = RunResult::read(folder);
    });
}

/// The metrics of a run, up to the page about it.
pub fn metrics(bytes: &[u8]) {
    in_folder(|folder| {
        put(&folder.join("metrics.jsonl"), bytes);
        let _ = write_run(folder, None);
    });
}

/// The plan of a sweep that was submitted.
pub fn plan(bytes: &[u8]) {
    if let Ok(runs) = lowland::sweep::parse_submitted(&String::from_utf8_lossy(bytes), "plan.jsonl") {
        let ids: std::collections::HashSet<&str> = runs.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(ids.len(), runs.len());
    }
}

/// What was asked before the runs of an experiment.
pub fn registration(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("registration.toml");
        put(&path, bytes);
        if let Ok((plan, _)) = lowland::sweep::PlanFile::read(&path) {
            assert!(plan.hypotheses().any(|(_, primary)| primary));
            assert!(plan.seeds.list().iter().all(|seed| *seed >= lowland::sweep::FIRST_SEED));
        }
    });
}
