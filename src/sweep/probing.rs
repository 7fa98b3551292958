//! What a model is good for downstream: a sweep's tasks, drawn once for all models, answered from its features, by
//! fine-tuning, or from what the language itself says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde_json::json;

use super::error::RunFailure;
use super::examine::{Examiner, Subject};
use super::probe_section::{Method, ProbeSection, Reads};
use super::question::Probed;
use super::table::{Accuracies, Task};
use crate::config::{ConfigError, EvaluateSection, ObjectiveKind};
use crate::downstream::{
    DownstreamError, Dropping, Features, FineTuning, Fit, Fresh, Memory, Outcome, RateSchedule, SetFits, TaskData,
    Teaching, finetune_sentences, layer_number, probe, probe_fresh, read_token, ridge_path,
};
use crate::interrupt;
use crate::language::Words;
use crate::ops::Device;

/// How a task is learned, in words, where posteriors choose and teach.
fn by_loss(section: &ProbeSection, method: String) -> String {
    let sets = match (section.label_sets, section.train_sizes.as_slice()) {
        (1, []) => String::new(),
        (1, sizes) => format!(", mean over {sizes:?} sentences"),
        (sets, []) => format!(", mean over {sets} label sets"),
        (sets, sizes) => format!(", mean over {sets} label sets of {sizes:?} sentences each"),
    };
    let taught = match section.labels {
        Teaching::Mode => return method + &sets,
        Teaching::Drawn => "taught labels drawn from the posterior",
        Teaching::Posterior => "taught the exact posterior",
    };
    method.replace("by validation accuracy", "by the validation cross-entropy with the posterior")
        + &format!(", {taught}{sets}")
}

/// The learning rate in words.
fn rates_text(section: &ProbeSection, one: f64) -> String {
    match section.rates.is_empty() {
        true => one.to_string(),
        false => format!("at the best of {:?}", section.rates),
    }
}

/// The fits at the rate that the validation part prefers, in the mean over the fits: the better accuracy, or where
/// posteriors are known the lower cross-entropy, which also decides among equals. The rate is given where several were
/// tried.
fn best_rate(
    section: &ProbeSection,
    mut fit: impl FnMut(Option<f64>) -> Result<Vec<Fit>, DownstreamError>,
) -> Result<(Option<f64>, Vec<Fit>), DownstreamError> {
    let mean = |fits: &[Fit], of: fn(&Fit) -> f64| fits.iter().map(of).sum::<f64>() / fits.len() as f64;
    let mut best: Option<(Option<f64>, [f64; 2], Vec<Fit>)> = None;
    for rate in section.all_rates() {
        let fits = fit(rate)?;
        let loss = mean(&fits, |fit| fit.validation_loss);
        let wrong = match section.labels {
            Teaching::Mode => 1.0 - mean(&fits, |fit| fit.validation_accuracy),
            _ => loss,
        };
        if best.as_ref().is_none_or(|(_, other, _)| [wrong, loss] < *other) {
            best = Some((rate, [wrong, loss], fits));
        }
    }
    let (rate, _, fits) = best.expect("at least one rate");
    Ok((rate.filter(|_| section.rates.len() > 1), fits))
}

/// A number for a list of sentences.
fn fingerprint(sentences: &[Words]) -> u64 {
    let mut hasher = DefaultHasher::new();
    sentences.hash(&mut hasher);
    hasher.finish()
}

impl Examiner<'_> {
    /// A task's sentences and labels.
    pub(super) fn data(&mut self, section: &ProbeSection) -> Result<Rc<TaskData>, RunFailure> {
        let sizes = section.sizes();
        let asked = [sizes.train, sizes.validation, sizes.test];
        let key = json!([section.task, section.with_prior, section.labels, asked]).to_string();
        if let Some(data) = self.tasks.get(&key) {
            return Ok(data.clone());
        }
        let task = section.task.parse().map_err(|error| ConfigError::at("[[examine.probe]]", error))?;
        let (corpus, prior, labels) = (self.corpus().clone(), section.with_prior, section.labels);
        let draw = move || {
            let truth = corpus.truth().map_err(|none| ConfigError::at("[[examine.probe]] `task`", none))?;
            let data = TaskData::of_language_taught(truth, task, prior, corpus.seed, sizes, labels);
            Ok::<TaskData, RunFailure>(data.map_err(DownstreamError::from)?)
        };
        let data = interrupt::or_stop(draw)??;
        let data = Rc::new(data);
        self.tasks.insert(key, data.clone());
        Ok(data)
    }

    /// A probe of a model's features, or its fine-tuning.
    pub(super) fn probe(&mut self, subject: &mut Subject<'_>, section: &ProbeSection) -> Result<Probed, RunFailure> {
        let data = self.data(section)?;
        if section.method == Method::Finetune {
            return self.fine_tuned(subject, section, &data);
        }
        let encoder = &subject.loaded.encoder;
        let layer = layer_number(section.layer, encoder)
            .map_err(|error| ConfigError::at("[[examine.probe]] `layer`", error))?;
        let sentences: Vec<Words> = data.parts().into_iter().flat_map(|part| part.sentences.clone()).collect();
        let (longest, tokens) = (data.longest, subject.corpus().tokens.clone());
        let tokens = tokens.as_ref();
        let pooling = section.pooling(longest);
        let refused = |message| ConfigError { place: "[[examine.probe]] `features`".into(), message };
        pooling.check(encoder.config.longest(), longest).map_err(refused)?;
        if section.features == Reads::Padded {
            tokens.padded(&[], 2).map_err(refused)?;
        }
        let key = (fingerprint(&sentences), section.features, section.padded_length, section.layer);
        let features = match subject.features.get(&key) {
            Some(features) => features.clone(),
            None => {
                let made = Features::of_model(&subject.model, tokens, layer, pooling, &sentences, longest)?;
                let made = Rc::new(made);
                subject.features.insert(key, made.clone());
                made
            }
        };
        let name = match section.features {
            Reads::Concat => "concatenated tokens",
            Reads::Mean => "mean of tokens",
            Reads::First => "<s>",
            Reads::Last => "</s>",
            Reads::Padded => "padded tokens",
        };
        let of = (data.train.sentences.as_slice(), longest);
        let p = section.encoder_dropout.unwrap_or(0.0);
        let fresh = |seed, epoch: u32| {
            let dropping = Dropping { p, seed, draw: epoch.into() };
            Ok(Features::of_model_in_training(&subject.model, tokens, layer, pooling, of, dropping)?)
        };
        let fresh: Option<Fresh<'_>> = if p > 0.0 { Some(&fresh) } else { None };
        let device = &subject.model.device;
        self.fit(device, section, &data, &features, fresh, format!("{name} of layer {layer}"))
    }

    /// A model tuned to a task, and where that is asked what it forgot.
    fn fine_tuned(&self, subject: &Subject<'_>, section: &ProbeSection, data: &TaskData) -> Result<Probed, RunFailure> {
        let (device, seeds, loaded) = (&subject.model.device, self.seeds(section), subject.loaded);
        let memory = match section.forgetting {
            Some(sentences) => {
                let asked = EvaluateSection { sentences, ..EvaluateSection::default() };
                let memory = Memory::of(device, loaded, subject.corpus(), &asked, subject.micro_batch)?;
                Some(memory.map_err(|none| ConfigError::at("[[examine.probe]] `forgetting`", none))?)
            }
            None => None,
        };
        let fed = data.fed(&subject.corpus().tokens, loaded.encoder.config.reach());
        let mut chosen = Vec::new();
        let fits = section.sets().fit(&fed, |part, _| {
            let (lr, fits) = best_rate(section, |lr| {
                finetune_sentences(device, loaded, part, &self.fine_tuning(section, lr), &seeds, memory.as_ref())
            })?;
            chosen.extend(lr);
            Ok(fits)
        })?;
        let options = self.fine_tuning(section, section.lr);
        let rate = rates_text(section, options.lr);
        let mut method = format!("fine-tuning by AdamW {rate}, {} epochs", options.epochs);
        if options.pooled {
            method += ", through a pooler";
        }
        let width = loaded.encoder.config.hidden_size as usize;
        let read = read_token(loaded.encoder.config.reach());
        let mut probed = self.probed(section, data, &fits, (read.into(), width), method);
        probed.accuracies.rates = chosen;
        Ok(probed)
    }

    /// A probe of what the language says where the models predict: the exact conditionals, or the next words.
    pub fn probe_lookup(&mut self, device: &Device, section: &ProbeSection) -> Result<Probed, RunFailure> {
        let data = self.data(section)?;
        let sentences: Vec<Words> = data.parts().into_iter().flat_map(|part| part.sentences.clone()).collect();
        let (corpus, longest) = (self.corpus().clone(), data.longest);
        let kind = corpus.objective.kind;
        let look_up = move || {
            let truth = corpus.truth().map_err(|none| ConfigError::at("[examine] `lookup`", none))?;
            Ok::<Features, RunFailure>(Features::exact(kind, truth, &sentences, longest))
        };
        let features = interrupt::or_stop(look_up)??;
        let name = match kind {
            ObjectiveKind::Mlm => "exact conditionals",
            ObjectiveKind::Causal => "exact next words",
        };
        self.fit(device, section, &data, &features, None, name.into())
    }

    fn fit(
        &self,
        device: &Device,
        section: &ProbeSection,
        data: &TaskData,
        features: &Features,
        fresh: Option<Fresh<'_>>,
        mut name: String,
    ) -> Result<Probed, RunFailure> {
        let adapted;
        let features = match (section.projection, section.standardise) {
            (None, false) => features,
            (projection, standardise) => {
                if standardise {
                    name += ", standardised";
                }
                if let Some(width) = projection {
                    name += &format!(", projected to {width}");
                }
                let of = features.clone();
                let (train, seed) = (data.train.len(), self.corpus().seed);
                adapted = interrupt::or_stop(move || of.adapted(standardise, train, projection, seed))?;
                &adapted
            }
        };
        let classes = data.classes.len();
        let sets = section.sets();
        let several = !sets.is_one();
        // A single set reads all rows as they are.
        let picked = |rows: &[usize]| several.then(|| features.pick(rows));
        let mut chosen = Vec::new();
        let (fits, method): (SetFits, String) = match section.method {
            Method::Ridge => {
                let mut ridge = 0.0;
                let fits = sets.fit(data, |part, rows| {
                    let own = picked(rows);
                    let of = own.as_ref().unwrap_or(features);
                    let (lambda, fit, _) = ridge_path(of, part.targets(), classes, &section.ridge)?;
                    ridge = lambda;
                    Ok(vec![fit])
                })?;
                let which = if several { "chosen".to_string() } else { ridge.to_string() };
                (fits, format!("logistic regression with a ridge, {which} by validation accuracy"))
            }
            _ => {
                let seeds = self.seeds(section);
                let fits = sets.fit(data, |part, rows| {
                    let own = picked(rows);
                    let of = own.as_ref().unwrap_or(features);
                    let (lr, fits) = best_rate(section, |lr| {
                        let options = section.linear_probe(lr);
                        let Some(fresh) = fresh else {
                            return probe(device, &options, of, part.targets(), classes as u32, &seeds);
                        };
                        // The training rows of this set, of the encoder in training.
                        let train = &rows[..part.train.len()];
                        let drawn = |fit, epoch| {
                            let drawn = fresh(fit, epoch)?;
                            let drawn = if several { drawn.pick(train) } else { drawn };
                            let (standardise, projection) = (section.standardise, section.projection);
                            let (train, seed) = (drawn.rows(), self.corpus().seed);
                            Ok(interrupt::or_stop(move || drawn.adapted(standardise, train, projection, seed))?)
                        };
                        probe_fresh(device, &options, of, &drawn, part.targets(), classes as u32, &seeds)
                    })?;
                    chosen.extend(lr);
                    Ok(fits)
                })?;
                let options = section.linear_probe(section.lr);
                let rate = rates_text(section, options.lr);
                let mut method = format!("linear probe by AdamW {rate}, {} epochs", options.epochs);
                if options.warmup_steps > 0 || options.schedule != RateSchedule::Constant {
                    method +=
                        &format!(", {} steps of warm-up, {:?}", options.warmup_steps, options.schedule).to_lowercase();
                }
                if options.dropout > 0.0 || fresh.is_some() {
                    let encoder = section.encoder_dropout.unwrap_or(0.0);
                    method += &format!(", dropout {} on features, {encoder} in the encoder", options.dropout);
                }
                method += ", epoch by validation accuracy";
                (fits, method)
            }
        };
        let mut probed = self.probed(section, data, &fits, (name, features.width), method);
        probed.accuracies.rates = chosen;
        Ok(probed)
    }

    fn fine_tuning(&self, section: &ProbeSection, lr: Option<f64>) -> FineTuning {
        let d = FineTuning::default();
        FineTuning {
            lr: lr.unwrap_or(d.lr),
            epochs: section.epochs.unwrap_or(d.epochs),
            batch: section.batch.unwrap_or(d.batch),
            warmup_steps: section.warmup_steps.unwrap_or(d.warmup_steps),
            pooled: section.pooled.unwrap_or(d.pooled),
            clip: section.clip.unwrap_or(d.clip),
            ..d
        }
    }

    /// The seeds of the fits, the same for every model.
    fn seeds(&self, section: &ProbeSection) -> Vec<u64> {
        (0..u64::from(section.seeds)).map(|i| self.corpus().seed.wrapping_add(i)).collect()
    }

    fn probed(
        &self,
        section: &ProbeSection,
        data: &TaskData,
        fits: &SetFits,
        (features, width): (String, usize),
        method: String,
    ) -> Probed {
        let o = Outcome::new(data, fits, features, width, method);
        let name = section.name(&o.task);
        Probed {
            task: Task {
                task: name.clone(),
                method: match section.method {
                    // Which ridge was chosen differs from model to model.
                    Method::Ridge => {
                        by_loss(section, "logistic regression with a ridge, chosen by validation accuracy".into())
                    }
                    _ => by_loss(section, o.method),
                },
                classes: o.classes,
                chance: o.chance,
                majority: o.majority,
                bayes: o.bayes,
                train: o.train,
                validation: o.validation,
                test: o.test,
            },
            accuracies: Accuracies {
                task: name,
                accuracy: o.accuracy.accuracy,
                standard_deviation: o.accuracy.standard_deviation,
                standard_error: o.accuracy.standard_error,
                sampling_error: o.sampling_error,
                per_seed: o.accuracy.per_seed,
                features: o.features,
                nats: o.nats,
                rates: vec![],
            },
        }
    }
}
