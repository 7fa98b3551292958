//! `lowland probe`: a linear probe on a model's representations, or on the exact conditionals.

use std::time::Instant;

use super::arguments::{FeatureChoice, Probe, ProbeMethod};
use super::failure::Failure;
use super::print;
use super::progress::Gauge;
use super::task::{self, Opened};
use crate::downstream::{Features, LinearProbe, Outcome, Pooling, layer_number, probe, ridge_path};
use crate::gpu::AdapterChoice;
use crate::interrupt;
use crate::language::Words;
use crate::model::save_tensors;
use crate::ops::{Device, KernelChoice};

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Probe) -> Result<(), Failure> {
    task::check_rate(arguments.lr)?;
    if let Some(bad) = arguments.ridge.iter().find(|l| !(**l > 0.0 && l.is_finite())) {
        return Err(Failure::usage(format!("--ridge {bad} must be positive")));
    }
    let start = Instant::now();
    let gauge = Gauge::new();
    gauge.phase("task");
    let opened = task::open(&arguments.task)?;
    let data = &opened.data;
    let device = match (arguments.features, arguments.method) {
        (FeatureChoice::Lookup, ProbeMethod::Ridge) => None,
        _ => Some(Device::open(adapter, kernel_choice)?),
    };
    gauge.phase("features");
    let (mut features, mut name) = features(device.as_ref(), arguments, &opened)?;
    if let Some(to) = arguments.projection {
        let seed = opened.corpus.seed;
        features = interrupt::or_stop(move || features.project(to as usize, seed))?;
        name += &format!(", projected to {to}");
    }
    let labels = data.parts().map(|part| part.labels.as_slice());
    if let Some(path) = &arguments.export {
        export(path, &features, labels)?;
    }
    let classes = data.classes.len();
    gauge.phase("fits");
    let mut outcome = match (arguments.method, &device) {
        (ProbeMethod::Adamw, Some(device)) => {
            let options = LinearProbe {
                lr: arguments.lr,
                epochs: arguments.epochs,
                batch: arguments.batch,
                ..LinearProbe::default()
            };
            let seeds = task::seeds(&arguments.task, &opened.corpus);
            let fits = probe(device, &options, &features, labels, classes as u32, &seeds);
            let (fits, interrupted) = task::fits(fits)?;
            let method = format!(
                "AdamW {}, {} epochs of batches of {}, epoch chosen by validation accuracy",
                options.lr, options.epochs, options.batch
            );
            let outcome = Outcome::new(data, &fits, name, features.width, method);
            Outcome { interrupted, reached: !interrupted, ..outcome }
        }
        _ => {
            let (lambda, fit, converged) = ridge_path(&features, labels, classes, &arguments.ridge)?;
            if !converged {
                print::note("a fit did not converge within its iterations; its largest gradient is above 1e-6");
            }
            let method = "logistic regression with a ridge, L-BFGS in f64, ridge chosen by validation accuracy";
            let outcome = Outcome::new(data, &[fit], name, features.width, method.into());
            Outcome { chosen: vec![lambda], ..outcome }
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

/// Features of all three parts, one after another, and what they are.
fn features(device: Option<&Device>, arguments: &Probe, opened: &Opened) -> Result<(Features, String), Failure> {
    let data = &opened.data;
    let sentences: Vec<Words> = data.parts().into_iter().flat_map(|part| part.sentences.clone()).collect();
    let pooling = match arguments.features {
        FeatureChoice::Concat => Pooling::Concat,
        FeatureChoice::Mean => Pooling::Mean,
        FeatureChoice::First => Pooling::First,
        FeatureChoice::Lookup => {
            let (language, longest) = (opened.corpus.language.clone(), data.longest);
            let features = interrupt::or_stop(move || Features::lookup(language.as_ref(), &sentences, longest))?;
            return Ok((features, "lookup".into()));
        }
    };
    let encoder = &opened.model.encoder;
    let layer = layer_number(arguments.layer, encoder).map_err(|e| Failure::usage(format!("--layer: {e}")))?;
    let model = opened.model.on(device.expect("opened for all but the lookup table"))?;
    let (tokens, longest) = (&opened.corpus.tokens, data.longest);
    let features = Features::of_model(&model, tokens, layer, pooling, &sentences, longest)?;
    let name = match pooling {
        Pooling::Concat => "concat",
        Pooling::Mean => "mean",
        Pooling::First => "first",
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
