//! How a model answers a sweep's questions ([`Question`]): its loss and its curvature here, what it is good for
//! downstream in `probing.rs`, its trace in every convention in `conventions.rs`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::json;

use super::check::{ENLARGE, enlarge_text, enlargement, sizes};
use super::error::RunFailure;
use super::file::EnlargeBy;
use super::plan::{PlannedRun, SweepPlan};
use super::probe_section::Reads;
use super::question::{Aligned, Curved, Question};
use crate::config::{ConfigError, EvaluateSection, MeasureSection, Positions};
use crate::downstream::{Features, TaskData, alignment};
use crate::interrupt;
use crate::model::{Encoder, Loaded, Model, Weights, enlarge, read_examples};
use crate::ops::Device;
use crate::ops::batch::Sentence;
use crate::train::{Corpus, Evaluation, Evaluator, ExampleLoss, HeldOut, Instruments, held_out_seed};

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
    pub(super) tasks: HashMap<String, Rc<TaskData>>,
}

/// A model under examination; its features are computed once for all probes that read the same.
pub(super) struct Subject<'m> {
    pub loaded: &'m Loaded,
    /// The model in its own gauge, where this is another.
    pub original: Option<&'m Loaded>,
    pub asked: Asked,
    pub model: Model,
    pub step: u64,
    pub micro_batch: usize,
    pub(super) features: HashMap<(u64, Reads, Option<u32>, i64), Rc<Features>>,
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
        Ok(Subject { loaded, original: None, asked, model, step, micro_batch, features: HashMap::new() })
    }

    /// The language under the model's ids.
    pub(super) fn corpus(&self) -> &Corpus {
        match &self.asked {
            Asked::Language(corpus) => corpus,
            Asked::Examples(_) => unreachable!("a plan with tasks and examples is refused"),
        }
    }
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
    pub(super) fn corpus(&self) -> &Corpus {
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
            Question::Average => Ok(json!(self.average(subject)?)),
            Question::Gauge => {
                let original = subject.original.expect("asked of models in another gauge alone");
                Ok(json!(self.gauged(subject, original)?))
            }
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
                let of = (examples.clone(), subject.model.encoder.classes());
                Instruments::of_examples(of, measure, self.plan.examine.seed, subject.micro_batch)
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
}
