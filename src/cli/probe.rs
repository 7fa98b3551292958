//! `lowland probe`: a linear probe on a model's representations, or on the exact conditionals.

use std::time::Instant;

use super::arguments::{FeatureChoice, Probe, ProbeMethod, ScheduleChoice};
use super::failure::Failure;
use super::print;
use super::progress::Gauge;
use super::task::{self, Opened, Spoken};
use crate::config::ObjectiveKind;
use crate::downstream::{
    DownstreamError, Dropping, Features, LinearProbe, Outcome, Pooling, RateSchedule, Teaching, layer_number, probe,
    probe_fresh, ridge_path,
};
use crate::gpu::{AdapterChoice, GpuError};
use crate::interrupt;
use crate::language::Words;
use crate::model::{Model, Reach, save_tensors};
use crate::ops::batch::Sentence;
use crate::ops::{Device, KernelChoice};

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Probe) -> Result<(), Failure> {
    task::check_rate(arguments.lr)?;
    if let Some(bad) = arguments.ridge.iter().find(|l| !(**l > 0.0 && l.is_finite())) {
        return Err(Failure::usage(format!("--ridge {bad} must be positive")));
    }
    let options = options(arguments)?;
    let start = Instant::now();
    let gauge = Gauge::new();
    gauge.phase("task");
    let opened = task::open(&arguments.task)?;
    let data = &opened.data;
    let device = match (arguments.features, arguments.method) {
        (Some(FeatureChoice::Lookup), ProbeMethod::Ridge)
            if opened.spoken.as_ref().is_none_or(|spoken| !spoken.corpus.needs_a_device()) =>
        {
            None
        }
        _ => Some(Device::open(adapter, kernel_choice)?),
    };
    if let (Some(FeatureChoice::Lookup), Some(device), Some(spoken)) = (arguments.features, &device, &opened.spoken) {
        spoken.corpus.on(device)?;
    }
    gauge.phase("features");
    let (mut features, mut name) = features(device.as_ref(), arguments, &opened)?;
    if arguments.standardise {
        name += ", standardised";
    }
    if let Some(to) = arguments.projection {
        name += &format!(", projected to {to}");
    }
    let (standardise, projection) = (arguments.standardise, arguments.projection);
    let (train, seed) = (data.train.len(), opened.seed);
    features = interrupt::or_stop(move || features.adapted(standardise, train, projection, seed))?;
    if let Some(path) = &arguments.export {
        export(path, &features, data.parts().map(|part| part.labels.as_slice()))?;
    }
    let classes = data.classes.len();
    let sets = &opened.sets;
    // A single set reads all rows as they are.
    let several = !sets.is_one();
    let picked = |rows: &[usize]| several.then(|| features.pick(rows));
    let chosen_by = match data.teaching {
        Teaching::Mode => "validation accuracy",
        _ => "the validation cross-entropy with the posterior",
    };
    gauge.phase("fits");
    let mut outcome = match (arguments.method, &device) {
        (ProbeMethod::Adamw, Some(device)) => {
            let seeds = task::seeds(&arguments.task, &opened);
            let mut method = options.describe();
            let redrawn = match arguments.encoder_dropout {
                0.0 => None,
                p => {
                    method += &format!(", encoder in training with dropout {p}");
                    Some((Redrawn::new(device, arguments, &opened)?, p))
                }
            };
            let fits = sets.fit(data, |part, rows| {
                let own = picked(rows);
                let of = own.as_ref().unwrap_or(&features);
                match &redrawn {
                    None => probe(device, &options, of, part.targets(), classes as u32, &seeds),
                    Some((redrawn, p)) => {
                        let train = &rows[..part.train.len()];
                        let fresh = |seed, epoch| redrawn.draw(*p, seed, epoch, several.then_some(train));
                        probe_fresh(device, &options, of, &fresh, part.targets(), classes as u32, &seeds)
                    }
                }
            });
            let (fits, interrupted) = task::fits(fits)?;
            method += &format!(", epoch chosen by {chosen_by}");
            let outcome = Outcome::new(data, &fits, name, features.width, method);
            Outcome { interrupted, reached: !interrupted, ..outcome }
        }
        _ => {
            let (mut lambdas, mut all_converged) = (Vec::new(), true);
            let fits = sets.fit(data, |part, rows| {
                let own = picked(rows);
                let of = own.as_ref().unwrap_or(&features);
                let (lambda, fit, converged) = ridge_path(of, part.targets(), classes, &arguments.ridge)?;
                lambdas.push(lambda);
                all_converged &= converged;
                Ok(vec![fit])
            })?;
            if !all_converged {
                print::note("a fit did not converge within its iterations; its largest gradient is above 1e-6");
            }
            let method = format!("logistic regression with a ridge, L-BFGS in f64, ridge chosen by {chosen_by}");
            let outcome = Outcome::new(data, &fits, name, features.width, method);
            Outcome { chosen: lambdas, ..outcome }
        }
    };
    outcome.seconds = start.elapsed().as_secs_f64();
    gauge.done();
    task::report(&outcome, arguments.task.json.json)?;
    match outcome.interrupted {
        true => Err(Failure::stopped("the accuracy is of the seeds until then")),
        false => Ok(()),
    }
}

/// What the flags say of adamw, refusing those that nothing would read.
fn options(arguments: &Probe) -> Result<LinearProbe, Failure> {
    let given = [
        ("--schedule", arguments.schedule != ScheduleChoice::Constant),
        ("--warmup-steps", arguments.warmup_steps > 0),
        ("--feature-dropout", arguments.feature_dropout != 0.0),
        ("--encoder-dropout", arguments.encoder_dropout != 0.0),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given && arguments.method == ProbeMethod::Ridge) {
        return Err(Failure::usage(format!("{flag} belongs to --method adamw")));
    }
    if arguments.padded_length.is_some() && arguments.features != Some(FeatureChoice::Padded) {
        return Err(Failure::usage("--padded-length belongs to --features padded".to_string()));
    }
    if !(0.0..1.0).contains(&arguments.encoder_dropout) {
        let message = format!("--encoder-dropout {} must lie in [0, 1)", arguments.encoder_dropout);
        return Err(Failure::usage(message));
    }
    if arguments.encoder_dropout > 0.0 && arguments.features == Some(FeatureChoice::Lookup) {
        return Err(Failure::usage("--encoder-dropout: there is no encoder behind --features lookup".to_string()));
    }
    let options = LinearProbe {
        lr: arguments.lr,
        epochs: arguments.epochs,
        batch: arguments.batch,
        dropout: arguments.feature_dropout,
        schedule: match arguments.schedule {
            ScheduleChoice::Constant => RateSchedule::Constant,
            ScheduleChoice::Polynomial => RateSchedule::Polynomial,
        },
        warmup_steps: arguments.warmup_steps,
        ..LinearProbe::default()
    };
    let refused = |(key, message): (&str, String)| Failure::usage(format!("--{}: {message}", key.replace('_', "-")));
    options.check().map_err(refused)?;
    Ok(options)
}

/// What is read: of a language's sentences what the paper reads; of texts, which are long, a mean or the one token at
/// which a model that reads in one direction has seen the text.
fn choice(arguments: &Probe, opened: &Opened) -> FeatureChoice {
    arguments.features.unwrap_or(match (&opened.spoken, opened.model.encoder.config.reach()) {
        (Some(_), _) => FeatureChoice::Concat,
        (None, Reach::Sentence) => FeatureChoice::Mean,
        (None, Reach::Past) => FeatureChoice::Last,
    })
}

/// The words behind a task, which some features need.
fn spoken<'a>(opened: &'a Opened, features: &str) -> Result<&'a Spoken, Failure> {
    let none = || {
        Failure::usage(format!(
            "--features {features} needs a run config and sentences of its language; these texts are cut by a tokenizer"
        ))
    };
    opened.spoken.as_ref().ok_or_else(none)
}

/// What the flags make of a model's representations; of lookup tables there are none.
fn pooling(arguments: &Probe, opened: &Opened) -> Result<Option<Pooling>, Failure> {
    let config = &opened.model.encoder.config;
    let pooling = match choice(arguments, opened) {
        FeatureChoice::Concat => Pooling::Concat,
        FeatureChoice::Mean => Pooling::Mean,
        FeatureChoice::First => Pooling::First,
        FeatureChoice::Last => Pooling::Last,
        FeatureChoice::Padded => {
            let Spoken { corpus, data } = spoken(opened, "padded")?;
            let pooling = Pooling::Padded(arguments.padded_length.unwrap_or(data.longest as u32 + 2));
            let refused = |message: String| Failure::usage(format!("--features padded: {message}"));
            pooling.check(config.longest(), data.longest).map_err(refused)?;
            if corpus.tokens.padded(&[], 2).is_err() {
                return Err(refused("the model has no padding token".into()));
            }
            pooling
        }
        FeatureChoice::Lookup => return Ok(None),
    };
    pooling.check_reach(config.reach()).map_err(|message| Failure::usage(format!("--features first: {message}")))?;
    Ok(Some(pooling))
}

/// Features of sentences as the model is fed with them, padded where they are to be.
fn of_sentences(
    model: &Model,
    opened: &Opened,
    layer: usize,
    pooling: Pooling,
    parts: &[usize],
    dropping: Dropping,
) -> Result<Features, GpuError> {
    match (&opened.spoken, pooling) {
        (Some(Spoken { corpus, data }), Pooling::Padded(_)) => {
            let words: Vec<Words> = parts.iter().flat_map(|i| data.parts()[*i].sentences.clone()).collect();
            let of = (words.as_slice(), data.longest);
            Features::of_model_in_training(model, &corpus.tokens, layer, pooling, of, dropping)
        }
        _ => {
            let data = &opened.data;
            let fed: Vec<Sentence> = parts.iter().flat_map(|i| data.parts()[*i].sentences.clone()).collect();
            Features::of_sentences(model, layer, pooling, (&fed, data.longest), dropping)
        }
    }
}

/// The training part's features of an encoder in training.
struct Redrawn<'a> {
    model: Model,
    opened: &'a Opened,
    layer: usize,
    pooling: Pooling,
    arguments: &'a Probe,
}

impl<'a> Redrawn<'a> {
    fn new(device: &Device, arguments: &'a Probe, opened: &'a Opened) -> Result<Redrawn<'a>, Failure> {
        let layer = layer_number(arguments.layer, &opened.model.encoder)
            .map_err(|e| Failure::usage(format!("--layer: {e}")))?;
        let pooling = pooling(arguments, opened)?.expect("not of the lookup table");
        Ok(Redrawn { model: opened.model.on(device)?, opened, layer, pooling, arguments })
    }

    /// The whole training part's, or some of its rows.
    fn draw(&self, p: f64, seed: u64, epoch: u32, rows: Option<&[usize]>) -> Result<Features, DownstreamError> {
        let dropping = Dropping { p, seed, draw: epoch.into() };
        let drawn = of_sentences(&self.model, self.opened, self.layer, self.pooling, &[0], dropping)?;
        let drawn = rows.map_or(drawn.clone(), |rows| drawn.pick(rows));
        let (standardise, projection) = (self.arguments.standardise, self.arguments.projection);
        let (train, seed) = (drawn.rows(), self.opened.seed);
        Ok(interrupt::or_stop(move || drawn.adapted(standardise, train, projection, seed))?)
    }
}

/// Features of all three parts, one after another, and what they are.
fn features(device: Option<&Device>, arguments: &Probe, opened: &Opened) -> Result<(Features, String), Failure> {
    let pooling = match pooling(arguments, opened)? {
        Some(pooling) => pooling,
        None => {
            let Spoken { corpus, data } = spoken(opened, "lookup")?;
            let sentences: Vec<Words> = data.parts().into_iter().flat_map(|part| part.sentences.clone()).collect();
            let (corpus, longest, kind) = (corpus.clone(), data.longest, corpus.objective.kind);
            let look_up = move || corpus.truth().map(|truth| Features::exact(kind, truth, &sentences, longest));
            let features =
                interrupt::or_stop(look_up)?.map_err(|none| Failure::usage(format!("--features lookup: {none}")))?;
            let name = match kind {
                ObjectiveKind::Mlm => "lookup",
                ObjectiveKind::Causal => "lookup of next words",
            };
            return Ok((features, name.into()));
        }
    };
    let encoder = &opened.model.encoder;
    let layer = layer_number(arguments.layer, encoder).map_err(|e| Failure::usage(format!("--layer: {e}")))?;
    let model = opened.model.on(device.expect("opened for all but the lookup table"))?;
    let features = of_sentences(&model, opened, layer, pooling, &[0, 1, 2], Dropping::NONE)?;
    let name = match pooling {
        Pooling::Concat => "concat",
        Pooling::Mean => "mean",
        Pooling::First => "first",
        Pooling::Last => "last",
        Pooling::Padded(length) => return Ok((features, format!("padded to {length} tokens of layer {layer}"))),
    };
    Ok((features, format!("{name} of layer {layer}")))
}

/// `train`, `validation` and `test` [rows, width] with `train_labels` and so on [rows].
fn export(path: &std::path::Path, features: &Features, labels: [&[u32]; 3]) -> Result<(), Failure> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut from = 0;
    for (name, labels) in ["train", "validation", "test"].into_iter().zip(labels) {
        let values = features.values[from * features.width..][..labels.len() * features.width].to_vec();
        from += labels.len();
        tensors.push((name.into(), vec![labels.len(), features.width], values));
        tensors.push((format!("{name}_labels"), vec![labels.len()], labels.iter().map(|y| *y as f32).collect()));
    }
    let views = tensors.iter().map(|(name, shape, values)| (name.as_str(), shape.as_slice(), values.as_slice()));
    save_tensors(path, views).map_err(|e| task::unwritten(path, &e))
}
