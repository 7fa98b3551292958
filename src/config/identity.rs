//! The hash that names a run: of everything that can change its results, and no more.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::language::LanguageSection;
use super::load::Resolved;
use super::run::RunConfig;
use super::text::tokenizer_file;
use super::train::{MicroBatch, TrainSection};
use crate::generated::Tokens;
use crate::text::{content_hash, roles_beside};

/// The material that hashes of a config are made from.
pub struct Names {
    /// The config with the contents of the files that it names.
    files: blake3::Hasher,
    /// Without paths.
    config: RunConfig,
}

/// Sets the keys that say when something is looked at or kept, and how memory is used, as in `like`. None of them
/// changes a step, an evaluation or a result; but evaluations that may end training do.
fn free(config: &mut RunConfig, like: &TrainSection) {
    let train = &mut config.train;
    train.keep_checkpoints = like.keep_checkpoints;
    train.checkpoint_every = like.checkpoint_every;
    if train.stop.is_none() {
        train.evaluate_every = like.evaluate_every;
    }
    train.recompute = like.recompute;
}

impl Names {
    fn new(resolved: &Resolved) -> Names {
        let mut config = resolved.config.clone();
        config.output = None;
        let mut files = blake3::Hasher::new();
        take_files(&mut config.language, &mut files);
        if let Some(start) = config.train.start_from.take() {
            // Where there are several snapshots, loading it says so.
            let start = crate::model::model_folder(&start).unwrap_or(start);
            for file in [vec![start.join("config.json")], crate::model::weight_files(&start)].concat() {
                // What cannot be read is an error when it is loaded.
                let _ = File::open(file).and_then(|file| files.update_reader(file).map(drop));
            }
        }
        if let Some(branch) = &mut config.train.branch {
            // The list has the hashes of all else. What cannot be read is an error when the run begins.
            let list = checkpoint_list(&std::mem::take(&mut branch.from), branch.step);
            files.update(&std::fs::read(list).unwrap_or_default());
        }
        Names { files, config }
    }

    fn of(&self, config: &RunConfig) -> String {
        let mut hasher = self.files.clone();
        hasher.update(config.to_toml().as_bytes());
        hasher.finalize().to_hex()[..16].to_string()
    }

    /// The hash.
    fn own(&self) -> String {
        let mut config = self.config.clone();
        free(&mut config, &TrainSection::default());
        self.of(&config)
    }

    /// The same config with another `train.micro_batch`: the same run, but that its sums are rounded in another order.
    pub fn with_micro_batch(&self, micro_batch: Option<MicroBatch>) -> Names {
        let mut config = self.config.clone();
        config.train.micro_batch = micro_batch;
        Names { files: self.files.clone(), config }
    }

    /// Whether a hash names this config with `steps` steps: by the rule of [`Resolved::hash`], or by that of versions
    /// up to 0.1.0, where the keys that change nothing are this config's or those of `before`, a config found beside
    /// the hash.
    pub fn fits(&self, hash: &str, steps: u64, before: Option<&RunConfig>) -> bool {
        let mut own = self.config.clone();
        own.train.steps = steps;
        let like = |train: &TrainSection| {
            let mut config = own.clone();
            free(&mut config, train);
            self.of(&config) == hash
        };
        like(&TrainSection::default()) || like(&own.train) || before.is_some_and(|before| like(&before.train))
    }
}

impl Resolved {
    /// 16 hexadecimal digits that name the run: everything that can change its results, and no more. `output` is not in
    /// it, nor what says when to look and what to keep (`train.checkpoint_every`, `keep_checkpoints`,
    /// `evaluate_every` of a run without `train.stop`), nor `train.recompute`; files count by what they hold.
    pub fn hash(&self) -> String {
        self.names().own()
    }

    /// The hash by the rule of versions up to 0.1.0, of every key but `output`. It is the same where the keys that
    /// change nothing have their defaults.
    pub fn hash_of_all(&self) -> String {
        let names = self.names();
        names.of(&names.config)
    }

    /// The material of this config's hashes, to compare it with hashes that were written before.
    pub fn names(&self) -> Names {
        Names::new(self)
    }

    /// 16 hexadecimal digits that name the language.
    pub fn language_hash(&self) -> String {
        let mut language = self.config.language.clone();
        let mut hasher = blake3::Hasher::new();
        take_files(&mut language, &mut hasher);
        hasher.update(toml::to_string(&language).expect("every value has a TOML form").as_bytes());
        hasher.finalize().to_hex()[..16].to_string()
    }

    /// Folder of the run. By default it is named after the hash; one that an earlier version named is kept.
    pub fn output(&self) -> PathBuf {
        if let Some(output) = &self.config.output {
            return output.clone();
        }
        let of = |hash: String| Path::new("runs").join(format!("{}-{}", self.name, &hash[..8]));
        let own = of(self.hash());
        let before = of(self.hash_of_all());
        if !own.exists() && before.exists() { before } else { own }
    }

    /// The keys in which another config differs, as `train.optimizer.lr`; paths are left out.
    pub fn differences(&self, other: &RunConfig) -> Vec<String> {
        let table = |config: &RunConfig| {
            let mut config = config.clone();
            config.output = None;
            config.language.rules = None;
            config.language.matrices = None;
            config.language.model = None;
            config.language.sentences = None;
            config.language.files = None;
            config.language.tokenizer = None;
            config.language.cache = None;
            config.train.start_from = None;
            if let Some(branch) = &mut config.train.branch {
                branch.from = PathBuf::new();
            }
            // A run may be given another length.
            config.train.steps = 0;
            free(&mut config, &TrainSection::default());
            config.to_toml().parse::<toml::Table>().unwrap_or_default()
        };
        let mut found = Vec::new();
        differing(&table(&self.config), &table(other), "", &mut found);
        found
    }
}

fn differing(a: &toml::Table, b: &toml::Table, prefix: &str, found: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (a.get(key), b.get(key)) {
            (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => differing(a, b, &path, found),
            (a, b) if a != b => found.push(path),
            _ => {}
        }
    }
}

/// The list of files of a run's checkpoint.
fn checkpoint_list(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step}")).join("MANIFEST.json")
}

/// Files count by what they hold, not by where they lie.
fn take_files(language: &mut LanguageSection, hasher: &mut blake3::Hasher) {
    for file in [language.rules.take(), language.matrices.take()].into_iter().flatten() {
        hasher.update(&std::fs::read(file).unwrap_or_default());
    }
    let model = language.model.take().map(|folder| crate::model::model_folder(&folder).unwrap_or(folder));
    let of_model = |folder: PathBuf| [vec![folder.join("config.json")], crate::model::weight_files(&folder)].concat();
    let mut files: Vec<PathBuf> = model.map(of_model).into_iter().flatten().chain(language.sentences.take()).collect();
    if let Some(Tokens::File(file)) = &mut language.tokens {
        files.push(std::mem::take(file));
    }
    for file in files {
        let _ = File::open(file).and_then(|file| hasher.update_reader(file).map(drop));
    }
    // Text may be large: its hash stands for it. What cannot be read is an error when it is opened.
    let text = language.files.take().map_or(vec![], |files| files.list().to_vec());
    let tokenizer = language.tokenizer.take().map(|path| tokenizer_file(&path));
    for file in text.iter().chain(&tokenizer) {
        hasher.update(&content_hash(file).unwrap_or_default());
    }
    // So do the roles that the files beside it give to its tokens.
    if let Some(file) = tokenizer {
        hasher.update(&roles_beside(&file));
    }
    language.cache = None;
}
