//! The questions that a sweep asks of a model: its loss, its curvature, what it is good for downstream. Each answer is
//! a file of its own, named after the question with everything that can change the answer, so that a question is asked
//! once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::check::{ENLARGE, enlarge_text, enlargement, sizes};
use super::error::RunFailure;
use super::file::EnlargeBy;
use super::plan::{PlannedRun, SweepPlan};
use super::probe_section::{Method, ProbeSection, Reads};
use super::table::{Accuracies, Task};
use crate::config::{ConfigError, EvaluateSection, MeasureSection, ObjectiveKind, Positions};
use crate::downstream::{
    Alignment, Dropping, Features, FineTuning, Fit, Fresh, Outcome, RateSchedule, TaskData, alignment, finetune,
    layer_number, probe, probe_fresh, read_token, ridge_path,
};
use crate::interrupt;
use crate::language::Words;
use crate::model::{Encoder, Loaded, Model, Size, Weights, enlarge, read_examples};
use crate::ops::Device;
use crate::ops::batch::Sentence;
use crate::train::{Corpus, Evaluation, Evaluator, ExampleLoss, HeldOut, Instruments, Measurement, held_out_seed};

/// One question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'p> {
    Evaluation,
    /// The loss on examples, of which no conditional is known.
    Loss,
    Curvature(&'p MeasureSection),
    /// How much of the last representations is a function of the exact conditional.
    Alignment,
    /// The trace in every convention, for models of several sizes.
    Conventions(&'p MeasureSection, Size),
    Probe(&'p ProbeSection),
}

/// Curvature with the parameters that it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Curved {
    pub parametrisation: String,
    pub measurement: Measurement,
}

/// An alignment, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Aligned {
    pub alignment: Option<Alignment>,
    pub reason: Option<String>,
}

/// A task's accuracy with the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Probed {
    pub task: Task,
    pub accuracies: Accuracies,
}

/// Version of the answers' form; another one asks anew.
const FORMAT: u32 = 1;

impl SweepPlan {
    /// All questions to a model; those that need no model come last.
    pub(super) fn questions(&self) -> Vec<Question<'_>> {
        let examine = &self.examine;
        let mut all = vec![if self.examples.is_some() { Question::Loss } else { Question::Evaluation }];
        all.extend(examine.measure.as_ref().map(Question::Curvature));
        let sized = examine.measure.as_ref().zip(self.compared_in());
        all.extend(sized.map(|(measure, into)| Question::Conventions(measure, into)));
        all.extend(examine.alignment.then_some(Question::Alignment));
        all.extend(examine.probe.iter().map(Question::Probe));
        all
    }
}

impl Question<'_> {
    /// File of the answer.
    pub(super) fn file(&self, plan: &SweepPlan) -> String {
        let examine = &plan.examine;
        let (name, settings) = match self {
            Question::Evaluation => {
                // Answers from before there was a choice are those of one position.
                let asked = match examine.positions {
                    Positions::One => json!(examine.sentences),
                    Positions::All => json!([examine.sentences, "all"]),
                };
                ("evaluation".to_string(), asked)
            }
            Question::Loss => ("loss".to_string(), json!(examine.sentences)),
            Question::Curvature(measure) => {
                ("curvature".to_string(), json!([measure, plan.enlarged(), examine.enlarge_by]))
            }
            Question::Alignment => ("alignment".to_string(), json!(examine.sentences)),
            Question::Conventions(measure, into) => {
                let into = [into.hidden, into.layers, into.heads, into.intermediate];
                ("conventions".to_string(), json!([measure.trace, into, examine.enlarge_by]))
            }
            Question::Probe(probe) => {
                let name = format!("probe {}", probe.name(&probe.task)).to_lowercase();
                (name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), json!(probe))
            }
        };
        let text = json!([FORMAT, examine.seed, settings]).to_string();
        format!("{name}-{}.json", &blake3::hash(text.as_bytes()).to_hex()[..8])
    }

    /// File of the reason why there is no answer.
    pub(super) fn failure_file(&self, plan: &SweepPlan) -> String {
        self.file(plan).replace(".json", ".failure.json")
    }

    /// The question in words, for progress.
    pub(super) fn text(&self) -> String {
        match self {
            Question::Evaluation | Question::Loss => "loss".into(),
            Question::Curvature(_) => "curvature".into(),
            Question::Alignment => "alignment".into(),
            Question::Conventions(..) => "trace in every convention".into(),
            Question::Probe(probe) => format!("task {}", probe.name(&probe.task)),
        }
    }
}

/// What models are asked about: sentences of a language, or a file of examples.
pub(super) enum Material {
    Language(Corpus),
    Examples(PathBuf),
}

/// The same for one model.
pub(super) enum Asked {
    /// The language under the model's ids.
    Language(Corpus),
    Examples(Vec<Sentence>),
}

/// Data that all models are asked about, made once.
pub(super) struct Examiner<'p> {
    pub(super) plan: &'p SweepPlan,
    pub(super) material: Material,
    tasks: HashMap<String, Rc<TaskData>>,
}

/// A model under examination; its features are computed once for all probes that read the same.
pub(super) struct Subject<'m> {
    pub loaded: &'m Loaded,
    pub asked: Asked,
    pub model: Model,
    pub step: u64,
    pub micro_batch: usize,
    features: HashMap<(u64, Reads, Option<u32>, i64), Rc<Features>>,
}

impl<'m> Subject<'m> {
    pub fn new(
        device: &Device,
        loaded: &'m Loaded,
        asked: Asked,
        step: u64,
        run: &PlannedRun,
    ) -> Result<Subject<'m>, RunFailure> {
        if let Asked::Language(corpus) = &asked {
            corpus.on(device)?;
        }
        let model = loaded.on(device)?;
        let micro_batch = run.resolved.config.train.micro_batch() as usize;
        Ok(Subject { loaded, asked, model, step, micro_batch, features: HashMap::new() })
    }

    /// The language under the model's ids.
    fn corpus(&self) -> &Corpus {
        match &self.asked {
            Asked::Language(corpus) => corpus,
            Asked::Examples(_) => unreachable!("a plan with tasks and examples is refused"),
        }
    }
}

/// A number for a list of sentences.
fn fingerprint(sentences: &[Words]) -> u64 {
    let mut hasher = DefaultHasher::new();
    sentences.hash(&mut hasher);
    hasher.finish()
}

impl<'p> Examiner<'p> {
    pub fn new(plan: &'p SweepPlan) -> Result<Examiner<'p>, RunFailure> {
        if let Some(examples) = &plan.examples {
            let material = Material::Examples(examples.path.clone());
            return Ok(Examiner { plan, material, tasks: HashMap::new() });
        }
        let config = &plan.runs[0].resolved.config;
        let (language, objective, seed) = (config.language.clone(), config.objective.clone(), plan.examine.seed);
        let corpus = interrupt::or_stop(move || Corpus::open(&language, &objective, seed))??;
        Ok(Examiner { plan, material: Material::Language(corpus), tasks: HashMap::new() })
    }

    /// The language, which all tasks are of.
    fn corpus(&self) -> &Corpus {
        match &self.material {
            Material::Language(corpus) => corpus,
            Material::Examples(_) => unreachable!("a plan with tasks and examples is refused"),
        }
    }

    /// What a model is asked about, under the ids that it gives the words of a language, and what is worth a note.
    pub fn asked_of(&self, loaded: &Loaded) -> Result<(Asked, Vec<String>), RunFailure> {
        match &self.material {
            Material::Language(corpus) => {
                let (corpus, notes) = corpus.spoken_by(loaded)?;
                corpus.suits(loaded)?;
                Ok((Asked::Language(corpus), notes))
            }
            Material::Examples(path) => {
                let (path, config) = (path.clone(), loaded.encoder.config.clone());
                let examples = interrupt::or_stop(move || read_examples(&path, &config))?
                    .map_err(|e| ConfigError::at("examples", e))?;
                Ok((Asked::Examples(examples), vec![]))
            }
        }
    }

    /// The answer to a question about a model, as JSON.
    pub fn ask(&mut self, subject: &mut Subject<'_>, question: Question<'_>) -> Result<serde_json::Value, RunFailure> {
        match question {
            Question::Evaluation => Ok(json!(self.evaluate(subject)?)),
            Question::Loss => Ok(json!(self.loss(subject)?)),
            Question::Curvature(measure) => Ok(json!(self.measure(subject, measure)?)),
            Question::Alignment => Ok(json!(self.align(subject)?)),
            Question::Conventions(measure, into) => Ok(json!(self.conventions(subject, measure, into)?)),
            Question::Probe(section) => Ok(json!(self.probe(subject, section)?)),
        }
    }

    fn evaluate(&self, subject: &Subject<'_>) -> Result<Evaluation, RunFailure> {
        let examine = &self.plan.examine;
        let asked = EvaluateSection { sentences: examine.sentences, positions: examine.positions };
        Ok(Evaluator::new(&subject.model, subject.corpus(), &asked, subject.micro_batch)?.run()?)
    }

    /// The loss on the first examples, as many as the sweep asks for.
    fn loss(&self, subject: &Subject<'_>) -> Result<ExampleLoss, RunFailure> {
        let Asked::Examples(examples) = &subject.asked else { unreachable!("a language has an evaluation") };
        let count = examples.len().min(self.plan.examine.sentences as usize);
        Ok(ExampleLoss::of(&subject.model, &examples[..count], subject.micro_batch)?)
    }

    pub(super) fn instruments(
        &self,
        subject: &Subject<'_>,
        measure: &MeasureSection,
    ) -> Result<Instruments, RunFailure> {
        Ok(match &subject.asked {
            Asked::Language(corpus) => Instruments::new(corpus, measure, subject.micro_batch)?,
            Asked::Examples(examples) => {
                Instruments::of_examples(examples.clone(), measure, self.plan.examine.seed, subject.micro_batch)
            }
        })
    }

    fn align(&self, subject: &Subject<'_>) -> Result<Aligned, RunFailure> {
        let held_out = HeldOut { corpus: subject.corpus().clone(), seed: held_out_seed(subject.corpus().seed) };
        let none = |none| ConfigError::at("[examine] `alignment`", none);
        let made = held_out.exact(held_out.first(self.plan.examine.sentences.into()), Positions::One)?.map_err(none)?;
        let sentences: Vec<Sentence> = made.into_iter().flatten().map(|m| m.sentence).collect();
        let found = alignment(&subject.model, &sentences, Evaluator::batch(subject.micro_batch))?;
        Ok(match found {
            Ok(alignment) => Aligned { alignment: Some(alignment), reason: None },
            Err(none) => Aligned { alignment: None, reason: Some(none.to_string()) },
        })
    }

    fn measure(&self, subject: &Subject<'_>, measure: &MeasureSection) -> Result<Curved, RunFailure> {
        let small = subject.loaded;
        let larger: Option<(Encoder, Weights)> = match self.plan.enlarged() {
            Some(size) => {
                let method = enlargement(self.plan.examine.enlarge_by);
                let made = enlarge(&small.encoder, &small.weights, sizes(size), method)
                    .map_err(|error| ConfigError { place: ENLARGE.into(), message: enlarge_text(&error) })?;
                Some(made)
            }
            None => None,
        };
        let model = match &larger {
            Some((encoder, weights)) => Model::new(&subject.model.device, encoder, weights)?,
            None => subject.model.clone(),
        };
        let how = match (&larger, self.plan.examine.enlarge_by) {
            (None, _) => "as trained",
            (Some(_), EnlargeBy::Duplication) => "enlarged by duplication",
            (Some(_), EnlargeBy::Zeros) => "enlarged by zeros",
        };
        let parametrisation =
            format!("{}, {} parameters, {how}", model.encoder.config.shape(), model.encoder.parameter_count());
        let instruments = self.instruments(subject, measure)?;
        let measurement = instruments.measure(&model, subject.step, &|| !interrupt::requested())?;
        Ok(Curved { parametrisation, measurement })
    }

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
            Ok::<TaskData, RunFailure>(data.map_err(crate::downstream::DownstreamError::from)?)
        };
        let data = interrupt::or_stop(draw)??;
        let data = Rc::new(data);
        self.tasks.insert(key, data.clone());
        Ok(data)
    }

    fn probe(&mut self, subject: &mut Subject<'_>, section: &ProbeSection) -> Result<Probed, RunFailure> {
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

/// An answer as it was kept.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}
