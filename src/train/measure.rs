//! Curvature along the way, as the section `[measure]` of a config asks for it.
//!
//! All of it is about the mean loss on held-out sentences of a seed of their own, labelled as in evaluation: one word
//! masked in each, or all next words. They and everything drawn about them (signs, labels, probes) are the same at
//! every measurement, so that two steps differ by what training did and by no sampling. Plans and memory are made for
//! one measurement at a time and given back after it; the weights are read where the trainer keeps them, and never
//! written.
//!
//! Bartlett's identities: where the model is the language, the covariance Σ of the gradients, the Fisher matrix F and
//! the Hessian H have the same trace (Liu, Xie, Li, Ma 2023, Lemma 4.2), Σ of summed losses being that times the
//! predicted tokens of a sentence, Σ of single tokens' losses as it is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use super::data::Corpus;
use super::held_out::HeldOut;
use super::measurement::{Measurement, Ratios, Sides, both, known};
use super::run::RunError;
use crate::config::{
    ConfigError, FlatnessSection, HessianTraceSection, LabelKind, MOST_LABEL_GROUPS, MeasureSection, NoiseSection,
    Positions, VolumeSection,
};
use crate::curvature::{
    Bartlett, Chunks, Cluster, Conventions, ConventionsOptions, Cotangent, CurvatureError, Drawing, ExampleTraces,
    Flatness, FlatnessOptions, FlatnessPass, FormPass, HessianTraces, LabelSplit, LabelSplitOptions, LossNormaliser,
    Matrix, MeanGradient, ModelOperator, MovedLosses, Noise, NormPass, Norms, Numbered, Operator, Prior, ProbeKind,
    ProductPass, QuadratureOptions, ScaledOperator, Stopping, Subject, WordGroups, cluster_deviations, probes,
    quadrature, split_tokens,
};
use crate::interrupt::Interrupted;
use crate::model::{Law, Model, Per};
use crate::ops::batch::Sentence;
use crate::statistics::{Crossed, Estimate, Target};

/// Seed of the sentences that curvature is measured on: those of neither training nor evaluation.
pub fn measured_seed(seed: u64) -> u64 {
    seed ^ 0xD1B5_4A32_D192_ED03
}

/// Examples of a batch at most, and probes at once.
pub(super) const CHUNKS: Chunks = Chunks { batch: 256, probes: 8 };

/// What to measure, and the sentences.
pub struct Instruments {
    settings: MeasureSection,
    sentences: Vec<Sentence>,
    /// The groups of words by which the trace is split; none where it is not.
    groups: Option<WordGroups>,
    /// Those of the noise on the weights, with their exact conditionals as labels where these are known.
    pub(super) exact: Vec<Sentence>,
    pub(super) seed: u64,
    pub(super) batch: usize,
    /// Eigenvectors of the last measurement, where the next one begins at them.
    pub(super) warm: Mutex<Vec<Vec<f32>>>,
}

/// What the parts of a measurement take.
struct Watch {
    started: Instant,
    lap: Instant,
    parts: BTreeMap<String, f64>,
}

impl Watch {
    fn start() -> Watch {
        let now = Instant::now();
        Watch { started: now, lap: now, parts: BTreeMap::new() }
    }

    /// The part that began where the one before ended.
    fn ends(&mut self, part: &str) {
        let now = Instant::now();
        self.parts.insert(part.into(), (now - self.lap).as_secs_f64());
        self.lap = now;
    }
}

impl Instruments {
    /// Samples the sentences; `batch` is the number of them that are on the adapter at once.
    pub fn new(corpus: &Corpus, settings: &MeasureSection, batch: usize) -> Result<Instruments, Interrupted> {
        let seed = measured_seed(corpus.seed);
        let others = [
            settings.top.as_ref().map_or(0, |s| s.sentences),
            settings.noise.as_ref().map_or(0, |s| s.sentences),
            settings.hessian_trace.as_ref().map_or(0, |s| s.sentences),
            settings.flatness.as_ref().map_or(0, |s| s.sentences),
            settings.perturb.as_ref().map_or(0, |s| s.sentences),
            settings.volume.as_ref().map_or(0, |s| s.sentences),
        ];
        let count = others.into_iter().fold(settings.trace.sentences, u32::max);
        let held_out = HeldOut { corpus: corpus.clone(), seed };
        let sentences = held_out.sentences(held_out.first(count.into()))?;
        let exact = match &settings.perturb {
            None => vec![],
            Some(perturb) => {
                let numbers = held_out.first(perturb.sentences.into());
                match held_out.exact(numbers, Positions::One)? {
                    Ok(known) => known.into_iter().flatten().map(|known| known.sentence).collect(),
                    Err(_) => sentences[..sentences.len().min(perturb.sentences as usize)].to_vec(),
                }
            }
        };
        let batch = batch.min(CHUNKS.batch);
        let by_dial = match corpus.objective.labels {
            LabelKind::Mix(mix) if mix.groups <= MOST_LABEL_GROUPS => Some(mix.groups),
            _ => None,
        };
        let groups = settings.trace.label_groups.or(by_dial).map(|groups| corpus.tokens.groups(groups));
        let (settings, warm) = (settings.clone(), Mutex::default());
        Ok(Instruments { settings, sentences, groups: known_groups(groups), exact, seed, batch, warm })
    }

    /// The same about examples of a model with so many classes, each section about as many of them as it asks for and
    /// there are. Labels may be several in each; Σ is then that of their sums or of single ones, as `measure noise` has
    /// it, and its ratio to F of like with like.
    pub fn of_examples(
        (examples, classes): (Vec<Sentence>, u32),
        settings: &MeasureSection,
        seed: u64,
        batch: usize,
    ) -> Instruments {
        let batch = batch.min(CHUNKS.batch);
        let asked = settings.perturb.as_ref().map_or(0, |s| s.sentences as usize);
        let exact = examples[..examples.len().min(asked)].to_vec();
        let (seed, warm) = (measured_seed(seed), Mutex::default());
        // Of examples every token is a word.
        let groups = settings.trace.label_groups.map(|groups| (0..classes).map(|id| id % groups).collect());
        let (settings, groups) = (settings.clone(), known_groups(groups));
        Instruments { settings, sentences: examples, groups, exact, seed, batch, warm }
    }

    /// How many sentences there are where `asked` are asked for.
    pub fn count(&self, asked: u32) -> usize {
        self.sentences.len().min(asked as usize)
    }

    /// Measures weights that lie on the adapter; `go_on` is asked between batches.
    ///
    /// # Errors
    /// [`CurvatureError::Interrupted`] when `go_on` says so, numbers that are not finite, what the adapter refuses.
    pub fn measure(&self, model: &Model, step: u64, go_on: &dyn Fn() -> bool) -> Result<Measurement, CurvatureError> {
        let mut watch = Watch::start();
        let check = || if go_on() { Ok(()) } else { Err(CurvatureError::Interrupted) };
        let mut m = Measurement { step, ..Measurement::default() };
        let (mut covariance, mut beyond) = (None, None);
        // A part that an interrupt cut short is none of a measurement.
        let fisher = self.fisher(model, &mut m, &check)?;
        check()?;
        watch.ends("trace");
        if let Some(noise) = &self.settings.noise {
            covariance = Some(self.noise(model, noise, &mut m, &check)?);
            check()?;
            watch.ends("noise");
        }
        if let Some(hessian) = &self.settings.hessian_trace {
            beyond = Some(self.hessian(model, hessian, &mut m, &check)?);
            watch.ends("hessian_trace");
        }
        if let Some(top) = &self.settings.top {
            self.top(model, top, &mut m, &check)?;
            check()?;
            watch.ends("top");
        }
        if let Some(flatness) = &self.settings.flatness {
            self.flatness(model, flatness, &mut m, &check)?;
            check()?;
            watch.ends("flatness");
        }
        if let Some(perturb) = &self.settings.perturb {
            self.perturb(model, perturb, &mut m, &check)?;
            check()?;
            watch.ends("perturb");
        }
        if let Some(volume) = &self.settings.volume {
            self.volume(model, volume, &mut m, &check)?;
            check()?;
            watch.ends("volume");
        }
        let ratios = Bartlett::of(ExampleTraces {
            covariance: covariance.as_deref(),
            fisher: &fisher,
            hessian: beyond.as_ref().map(|(beyond, error)| HessianTraces::BeyondFisher(beyond, error / m.fisher_trace)),
        });
        let ratios = Ratios::from(ratios);
        m.bartlett = (self.settings.bartlett && ratios != Ratios::default()).then_some(ratios);
        m.measure_seconds = watch.started.elapsed().as_secs_f64();
        m.part_seconds = watch.parts;
        Ok(m)
    }

    /// The Fisher trace of a model in every convention, on the sentences and with the draws of
    /// [`measure`](Self::measure).
    ///
    /// # Errors
    /// As those of [`measure`](Self::measure).
    pub fn conventions(
        &self,
        model: &Model,
        law: &Law,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Conventions, CurvatureError> {
        let trace = &self.settings.trace;
        let subject = self.subject(model, trace.sentences)?;
        let (kind, draws) = (trace.estimator, trace.draws as usize);
        let what = ConventionsOptions { kind, seed: self.seed, draws, target: Target::Population };
        let check = || if go_on() { Ok(()) } else { Err(CurvatureError::Interrupted) };
        Conventions::measure(&subject, law, &what, &mut |_| check())
    }

    /// Bytes of the adapter that the largest measurement takes while it lasts.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(&self, model: &Model) -> Result<u64, CurvatureError> {
        let trace = self.subject(model, self.settings.trace.sentences)?;
        let mut all = vec![NormPass::bytes(&trace, Cotangent::Draw(self.settings.trace.estimator))?];
        if let Some(noise) = &self.settings.noise {
            let subject = self.subject(model, noise.sentences)?;
            all.push(NormPass::bytes(&subject, Cotangent::Data)?);
            if let Some(singles) = self.singles(model, noise)? {
                all.push(NormPass::bytes(&singles, Cotangent::Data)?);
            }
            all.push(subject.loss_gradient_bytes()?);
            all.push(FormPass::bytes(&subject, false)?);
        }
        if let Some(hessian) = &self.settings.hessian_trace {
            all.push(FormPass::bytes(&self.subject(model, hessian.sentences)?, true)?);
        }
        if let Some(flatness) = &self.settings.flatness {
            let subject = self.subject(model, flatness.sentences)?;
            all.push(FlatnessPass::bytes(&subject, self.settings.trace.estimator)?);
        }
        if self.settings.perturb.is_some() {
            let chunks = Chunks { batch: self.batch, ..CHUNKS };
            all.push(MovedLosses::bytes(&Subject::new(&model.for_short(), &self.exact, &[], &chunks)?)?);
        }
        if let Some(volume) = &self.settings.volume {
            all.push(ProductPass::bytes(&self.subject(model, volume.sentences)?, Matrix::Ggn)?);
        }
        if let Some(top) = &self.settings.top {
            let subject = self.subject(model, top.sentences)?;
            all.push(ProductPass::bytes(&subject, Matrix::Hessian)? + FormPass::bytes(&subject, true)?);
        }
        Ok(all.into_iter().max().unwrap_or(0))
    }

    /// By kernels that are ready soon: a measurement takes a second, and a run has a few of them.
    pub(super) fn subject(&self, model: &Model, count: u32) -> Result<Subject, CurvatureError> {
        let chunks = Chunks { batch: self.batch, ..CHUNKS };
        let sentences = &self.sentences[..self.count(count)];
        Subject::new(&model.for_short(), sentences, &[], &chunks)
    }

    /// The sentences of the noise with one predicted token in each, where gradients are those of tokens and there are
    /// several in a sentence.
    fn singles(&self, model: &Model, settings: &NoiseSection) -> Result<Option<Subject>, CurvatureError> {
        let sentences = &self.sentences[..self.count(settings.sentences)];
        let split = match settings.per {
            Per::Token => split_tokens(sentences, model.encoder.config.reach())?,
            Per::Example => None,
        };
        let chunks = Chunks { batch: self.batch, ..CHUNKS };
        split.map(|(_, singles)| Subject::new(&model.for_short(), &singles, &[], &chunks)).transpose()
    }

    /// Tr F; gives each sentence's, of its summed loss.
    fn fisher(&self, model: &Model, m: &mut Measurement, check: Check<'_>) -> Result<Vec<f64>, CurvatureError> {
        let settings = &self.settings.trace;
        let subject = self.subject(model, settings.sentences)?;
        let mut drawing = Drawing::new(&subject, self.settings.trace.estimator, self.seed, settings.draws as usize)?;
        let trace = drawing.run(&subject, Target::Population, &Stopping::after(usize::MAX), &mut |_| check())?.trace;
        check()?;
        if let Some(groups) = &self.groups {
            let groups = groups.clone().of_model(model.encoder.classes() as usize);
            let (seed, draws) = (self.seed, settings.draws as usize);
            let what = LabelSplitOptions { kind: settings.estimator, seed, draws, target: Target::Population };
            let split = LabelSplit::measure(&subject, &groups, &what, &mut |_| check())?;
            (m.trace_between, m.trace_between_standard_error) = both(&split.between);
            (m.trace_within, m.trace_within_standard_error) = both(&split.within);
        }
        let predicted: usize = subject.masked().iter().sum();
        m.loss_normaliser = LossNormaliser::of(subject.examples(), predicted);
        m.tokens_per_example = (m.loss_normaliser == LossNormaliser::PredictedToken)
            .then_some(predicted as f64 / subject.examples() as f64);
        m.fisher_trace = trace.estimate;
        m.fisher_trace_standard_error = trace.standard_error;
        m.fisher_trace_standard_error_probe = known(trace.standard_error_probe);
        m.fisher_trace_standard_error_data = known(trace.standard_error_data);
        Ok(drawing.per_example().into_iter().map(|(value, positions)| value * positions as f64).collect())
    }

    /// Tr Σ and the noise scale; gives each sentence's ‖g_i - ḡ‖² n / (n - 1), whose mean is Tr Σ. Per token it is the
    /// sum over the sentence's tokens, of which n are in all.
    fn noise(
        &self,
        model: &Model,
        settings: &NoiseSection,
        m: &mut Measurement,
        check: Check<'_>,
    ) -> Result<Vec<f64>, CurvatureError> {
        let subject = self.subject(model, settings.sentences)?;
        let squared = Norms::measure(&subject, &mut |_| check())?.squared;
        check()?;
        let singles = match self.singles(model, settings)? {
            Some(singles) => Some(Norms::measure(&singles, &mut |_| check())?.squared),
            None => None,
        };
        check()?;
        // Of summed losses ḡ is the gradient of the mean loss per position times the mean number of positions.
        let positions = match singles {
            Some(_) => 1.0,
            None => subject.masked().iter().sum::<usize>() as f64 / subject.examples() as f64,
        };
        let mut gradient = subject.loss_gradient()?;
        gradient.iter_mut().for_each(|g| *g = (f64::from(*g) * positions) as f32);
        check()?;
        let mean = MeanGradient::of(&subject, gradient, Matrix::Ggn)?;
        let clusters = match &singles {
            Some(tokens) => mean.clusters(&subject, tokens, &squared),
            None => squared.iter().zip(&mean.slopes).map(|(own, slope)| Cluster::single(*own, *slope)).collect(),
        };
        let noise = Noise::of_clusters(&clusters);
        m.noise_per = Some(settings.per);
        (m.noise_trace, m.noise_trace_standard_error) = both(&noise.trace_covariance);
        (m.gradient_squared_norm, m.gradient_squared_norm_standard_error) = both(&noise.gradient_squared_norm);
        (m.noise_scale, m.noise_scale_standard_error) = both(&noise.noise_scale);
        Ok(cluster_deviations(&clusters, noise.mean_gradient_squared_norm))
    }

    /// Tr H; gives each sentence's part of Tr H - Tr G, of its summed loss, and the error of the latter's mean per
    /// position by the probes.
    fn hessian(
        &self,
        model: &Model,
        settings: &HessianTraceSection,
        m: &mut Measurement,
        check: Check<'_>,
    ) -> Result<(Vec<f64>, f64), CurvatureError> {
        let subject = self.subject(model, settings.sentences)?;
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let (mut whole, mut beyond) = (Crossed::new(subject.weights()), Crossed::new(subject.weights()));
        let masked = subject.masked();
        for first in (0..settings.probes as usize).step_by(CHUNKS.probes as usize) {
            check()?;
            let last = (first + CHUNKS.probes as usize).min(settings.probes as usize);
            let block = probes(ProbeKind::Rademacher, self.seed, first..last, operator.size());
            for forms in operator.forms(&block)? {
                let each = |of: &dyn Fn(usize) -> f64| (0..masked.len()).map(|i| of(i) / masked[i] as f64).collect();
                let values: Vec<f64> = each(&|i| forms.hessian[i]);
                if !values.iter().all(|v| v.is_finite()) {
                    return Err(CurvatureError::NotFinite("a quadratic form"));
                }
                whole.push(&values);
                let values: Vec<f64> = each(&|i| forms.hessian[i] - forms.ggn[i]);
                beyond.push(&values);
            }
        }
        let parts = whole.parts(Target::Population);
        m.hessian_trace = known(parts.value);
        m.hessian_trace_standard_error = known(parts.standard_error);
        m.hessian_trace_standard_error_probe = known(parts.standard_error_probe);
        m.hessian_trace_standard_error_data = known(parts.standard_error_data);
        let summed = beyond.examples().into_iter().zip(&masked).map(|(of_one, n)| of_one * *n as f64);
        Ok((summed.collect(), beyond.parts(Target::TheseExamples).standard_error))
    }

    /// What no scale of tables, norms or projections moves.
    fn flatness(
        &self,
        model: &Model,
        settings: &FlatnessSection,
        m: &mut Measurement,
        check: Check<'_>,
    ) -> Result<(), CurvatureError> {
        let subject = self.subject(model, settings.sentences)?;
        let (kind, draws) = (self.settings.trace.estimator, self.settings.trace.draws as usize);
        let what = FlatnessOptions { kind, seed: self.seed, draws, target: Target::Population, into: None };
        let found = Flatness::measure(&subject, &what, &mut |_| check())?;
        let of = |e: Option<&Estimate>| e.map_or((None, None), both);
        let [balanced, balanced_all] =
            [found.balanced_trace, found.balanced_trace_all].map(|least| least.ok().map(|least| least.trace));
        (m.scale_free_trace, m.scale_free_trace_standard_error) = both(&found.scale_free_trace);
        (m.balanced_trace, m.balanced_trace_standard_error) = of(balanced.as_ref());
        (m.balanced_trace_all, m.balanced_trace_all_standard_error) = of(balanced_all.as_ref());
        (m.relative_flatness, m.relative_flatness_standard_error) = of(found.relative_flatness.as_ref());
        let sides = found.per_gauge.iter().map(|sides| Sides {
            gauge: sides.key.clone(),
            norms_apart: sides.squared_norms[0] - sides.squared_norms[1],
            traces_apart: sides.apart.value,
            traces_apart_standard_error: known(sides.apart.standard_error),
        });
        m.per_gauge = sides.collect();
        Ok(())
    }

    /// What a quadratic loss has of the volume around the model.
    fn volume(
        &self,
        model: &Model,
        settings: &VolumeSection,
        m: &mut Measurement,
        check: Check<'_>,
    ) -> Result<(), CurvatureError> {
        let subject = self.subject(model, settings.sentences)?;
        let scales = Prior::Block.scales(&subject)?;
        let ggn = ModelOperator::new(&subject, Matrix::Ggn);
        let what = QuadratureOptions {
            seed: self.seed,
            probes: settings.probes as usize,
            steps: settings.steps as usize,
            ..QuadratureOptions::default()
        };
        let found = quadrature(&ScaledOperator::new(&ggn, &scales)?, &what, &mut |_| check())?;
        if found.interrupted {
            return Err(CurvatureError::Interrupted);
        }
        if let Some(of) = found.quadratic(settings.nbeta, settings.gamma) {
            (m.lambda_q, m.lambda_q_standard_error) = both(&of.lambda_q.value);
            (m.log_volume, m.log_volume_standard_error) = both(&of.log_volume.value);
        }
        Ok(())
    }
}

/// Of a config's numbers, which were looked at before.
fn known_groups(of_words: Option<Vec<u32>>) -> Option<WordGroups> {
    of_words.and_then(|of| WordGroups::new(of).ok())
}

/// A measurement's error as a run's.
pub(super) fn measure_error(error: CurvatureError) -> RunError {
    match error {
        CurvatureError::Gpu(error) => error.into(),
        CurvatureError::Interrupted => Interrupted.into(),
        error => ConfigError { place: "[measure]".into(), message: error.to_string() }.into(),
    }
}

/// Asks whether to go on.
pub(super) type Check<'a> = &'a dyn Fn() -> Result<(), CurvatureError>;
