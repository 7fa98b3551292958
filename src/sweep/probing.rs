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
use crate::config::{ConfigError, ObjectiveKind};
use crate::downstream::{
    DownstreamError, Dropping, Features, FineTuning, Fit, Fresh, Outcome, RateSchedule, TaskData, finetune,
    layer_number, probe, probe_fresh, read_token, ridge_path,
};
use crate::interrupt;
use crate::language::Words;
use crate::ops::Device;

/// A number for a list of sentences.
fn fingerprint(sentences: &[Words]) -> u64 {
    let mut hasher = DefaultHasher::new();
    sentences.hash(&mut hasher);
    hasher.finish()
}

impl Examiner<'_> {
    /// A task's sentences and labels.
    pub(super) fn data(&mut self, section: &ProbeSection) -> Result<Rc<TaskData>, RunFailure> {
        let key =
            json!([section.task, section.with_prior, section.train, section.validation, section.test]).to_string();
        if let Some(data) = self.tasks.get(&key) {
            return Ok(data.clone());
        }
        let task = section.task.parse().map_err(|error| ConfigError::at("[[examine.probe]]", error))?;
        let (corpus, prior, sizes) = (self.corpus().clone(), section.with_prior, section.sizes());
        let draw = move || {
            let truth = corpus.truth().map_err(|none| ConfigError::at("[[examine.probe]] `task`", none))?;
            let data = TaskData::of_language(truth, task, prior, corpus.seed, sizes);
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
            let options = self.fine_tuning(section);
            let (device, seeds) = (&subject.model.device, self.seeds(section));
            let fits = finetune(device, subject.loaded, &subject.corpus().tokens, &data, &options, &seeds)?;
            let mut method = format!("fine-tuning by AdamW {}, {} epochs", options.lr, options.epochs);
            if options.pooled {
                method += ", through a pooler";
            }
            let width = subject.loaded.encoder.config.hidden_size as usize;
            let read = read_token(subject.loaded.encoder.config.reach());
            return Ok(self.probed(section, &data, &fits, (read.into(), width), method));
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
        let projected;
        let features = match section.projection {
            Some(width) => {
                name += &format!(", projected to {width}");
                let (features, seed) = (features.clone(), self.corpus().seed);
                projected = interrupt::or_stop(move || features.project(width as usize, seed))?;
                &projected
            }
            None => features,
        };
        let labels = data.parts().map(|part| part.labels.as_slice());
        let classes = data.classes.len();
        let (fits, method): (Vec<Fit>, String) = match section.method {
            Method::Ridge => {
                let (lambda, fit, _) = ridge_path(features, labels, classes, &section.ridge)?;
                (vec![fit], format!("logistic regression with a ridge, {lambda} by validation accuracy"))
            }
            _ => {
                let options = section.linear_probe();
                let (seeds, classes) = (self.seeds(section), classes as u32);
                let seed = self.corpus().seed;
                let fits = match fresh {
                    None => probe(device, &options, features, labels, classes, &seeds)?,
                    Some(fresh) => {
                        let drawn = |fit, epoch| {
                            let drawn = fresh(fit, epoch)?;
                            match section.projection {
                                Some(to) => Ok(interrupt::or_stop(move || drawn.project(to as usize, seed))?),
                                None => Ok(drawn),
                            }
                        };
                        probe_fresh(device, &options, features, &drawn, labels, classes, &seeds)?
                    }
                };
                let mut method = format!("linear probe by AdamW {}, {} epochs", options.lr, options.epochs);
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
        Ok(self.probed(section, data, &fits, (name, features.width), method))
    }

    fn fine_tuning(&self, section: &ProbeSection) -> FineTuning {
        let d = FineTuning::default();
        FineTuning {
            lr: section.lr.unwrap_or(d.lr),
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
        fits: &[Fit],
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
                    Method::Ridge => "logistic regression with a ridge, chosen by validation accuracy".into(),
                    _ => o.method,
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
            },
        }
    }
}
