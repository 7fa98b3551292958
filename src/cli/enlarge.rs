//! `lowland enlarge`: a small model inside a larger architecture, the same function.

use std::path::Path;

use serde_json::{Value, json};

use super::arguments::{Enlarge, EnlargeMethod};
use super::failure::Failure;
use super::same_function::{SAME, difference};
use super::{advice, print};
use crate::config;
use crate::interrupt;
use crate::model::{self, Encoder, Enlargement, Law, Loaded, Shares, Size};

pub fn run(arguments: &Enlarge) -> Result<(), Failure> {
    let small = arguments.small.clone();
    let loaded = interrupt::or_stop(move || model::load(&small))??;
    loaded.notes.iter().for_each(|n| print::note(n));
    let size = size(&arguments.size, &loaded.encoder)?;
    if arguments.out.join("config.json").exists() {
        let message = format!("{}: holds a model already; give another folder", arguments.out.display());
        return Err(Failure::usage(message));
    }
    let Chosen { method, predicted } = choose(arguments, &loaded, size)?;
    let (loaded, made) = interrupt::or_stop(move || {
        let made = model::enlarge(&loaded.encoder, &loaded.weights, size, method).map(|(encoder, weights)| {
            let apart = difference((&loaded.encoder, &loaded.weights), (&encoder, &weights));
            (encoder, weights, apart)
        });
        (loaded, made)
    })?;
    let (encoder, weights, apart) = made.map_err(|error| Failure::usage(advice::of_enlarge(&error)))?;
    // Also where it is no number.
    if apart.is_nan() || apart > SAME {
        return Err(Failure::usage(format!(
            "--method {}: the larger model is another function. Its logits differ by {apart:.1e} of their spread, more \
             than {SAME:.0e}: `layer_norm_eps` = {} is not small beside the variance of what is normalised. Nothing is \
             written",
            method.name(),
            loaded.encoder.config.layer_norm_eps
        )));
    }
    model::save(&arguments.out, &encoder, &weights, None)?;
    model::copy_tokenizer(&loaded.folder, &arguments.out)?;
    let (small, large) = (loaded.encoder.parameter_count(), encoder.parameter_count());
    let c = &encoder.config;
    let width = f64::from(c.hidden_size) / f64::from(loaded.encoder.config.hidden_size);
    let scale = method.table_scale(width);
    match arguments.json.json {
        true => print::json(&json!({
            "method": method.name(),
            "table_scale": scale,
            "logit_difference": apart,
            "predicted_trace": predicted,
            "parameters": large,
            "parameters_small": small,
            "hidden_size": c.hidden_size,
            "num_hidden_layers": c.num_hidden_layers,
            "num_attention_heads": c.own_size("num_attention_heads"),
            "intermediate_size": c.own_size("intermediate_size"),
            "out": arguments.out,
        }))?,
        false => {
            let trace = predicted.map_or(String::new(), |t| format!("; its trace is {}", print::short(t)));
            print::line(&format!(
                "{large} parameters, {small} before: {}; the same function by {} (tables times {}, logits within \
                 {apart:.1e} of their spread){trace}; in {}",
                c.shape(),
                method.name(),
                print::short(scale),
                arguments.out.display()
            ))?;
        }
    }
    Ok(())
}

/// How new width is filled, with the trace that the larger model has.
struct Chosen {
    method: Enlargement,
    /// Where the small model's is given by tensor and the larger one's follows from it.
    predicted: Option<f64>,
}

fn choose(arguments: &Enlarge, small: &Loaded, size: Size) -> Result<Chosen, Failure> {
    let method = match arguments.method {
        EnlargeMethod::Duplicate | EnlargeMethod::Balanced => Enlargement::Duplicate,
        EnlargeMethod::Paper => Enlargement::Paper,
        EnlargeMethod::Zero => Enlargement::Zero,
    };
    let balanced = arguments.method == EnlargeMethod::Balanced;
    let Some(path) = &arguments.trace else {
        if balanced {
            return Err(Failure::usage(
                "--method balanced needs the small model's trace by tensor: `lowland measure trace SMALL EXAMPLES \
                 --matrix fisher --json > trace.json`, then --trace trace.json",
            ));
        }
        return Ok(Chosen { method, predicted: None });
    };
    let traces = by_tensor(path, &small.encoder)?;
    let law = match Law::new(&small.encoder, size, method) {
        Ok(law) => law,
        Err(model::Unlawful::Sizes(error)) => return Err(Failure::usage(advice::of_enlarge(&error))),
        Err(error) if balanced => return Err(Failure::usage(format!("--method balanced: {error}"))),
        Err(error) => {
            print::note(&format!("no predicted trace: {error}"));
            return Ok(Chosen { method, predicted: None });
        }
    };
    let shares: Shares = law.shares(&traces);
    if !balanced {
        return Ok(Chosen { method, predicted: Some(shares.at(method.table_scale(law.width()))) });
    }
    let scale = law.flattest(&shares).map_err(|error| Failure::usage(format!("--method balanced: {error}")))?;
    Ok(Chosen { method: Enlargement::Balanced(scale), predicted: Some(shares.at(scale)) })
}

/// The trace of each of a model's parameters, as `measure trace --json` prints them.
fn by_tensor(path: &Path, encoder: &Encoder) -> Result<Vec<f64>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io(path, &error))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| {
        wrong(format!("is no JSON ({error}); `lowland measure trace SMALL EXAMPLES --matrix fisher --json` prints it"))
    })?;
    let matrix = report["matrix"].as_str().unwrap_or("none");
    if !["fisher", "ggn", "empirical_fisher", "noise_covariance"].contains(&matrix) {
        return Err(wrong(format!(
            "is the trace of the matrix `{matrix}`; how a trace changes with the parametrisation is known of sums of \
             squared gradients: measure --matrix fisher, empirical_fisher or noise_covariance"
        )));
    }
    let Some(tensors) = report["per_tensor"].as_object() else {
        return Err(wrong(format!(
            "holds no trace by tensor, which the estimator `{}` does not tell; take random-signs, sampled-labels or \
             exact-labels with --sentences uniform",
            report["estimator"].as_str().unwrap_or("unknown")
        )));
    };
    if let Some(name) = tensors.keys().find(|name| encoder.find(name).is_none()) {
        return Err(wrong(format!("has a tensor `{name}`, which the small model has not: it is of another model")));
    }
    let one = |p: &model::Parameter| match tensors.get(&p.name).and_then(Value::as_f64) {
        Some(trace) if trace.is_finite() => Ok(trace),
        _ => Err(wrong(format!("lacks the trace of `{}`; measure all tensors, without --only", p.name))),
    };
    encoder.parameters.iter().map(one).collect()
}
/// `hidden=128,layers=4,heads=8,intermediate=512`, each of which may be left out, or a run config with its `[model]`.
pub(super) fn size(text: &str, small: &Encoder) -> Result<Size, Failure> {
    if text.ends_with(".toml") {
        let model = config::load(Path::new(text), &[])?.config.model;
        if model.kind != small.config.kind {
            return Err(Failure::usage(format!("{text}: `model.type` is not that of the small model")));
        }
        if model.bidirectional.is_some_and(|own| own != small.config.bidirectional) {
            return Err(Failure::usage(format!("{text}: `model.bidirectional` is not that of the small model")));
        }
        return Ok(Size {
            hidden: model.hidden_size,
            layers: model.num_hidden_layers,
            heads: model.num_attention_heads,
            intermediate: model.intermediate_size,
        });
    }
    let wrong = || {
        Failure::usage(format!(
            "SIZE `{text}`: write `hidden=128,layers=4,heads=8,intermediate=512` (parts may be left out), or a run \
             config that ends in .toml"
        ))
    };
    let mut size = Size::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = Some(value.trim().parse().map_err(|_| wrong())?);
        match key.trim() {
            "hidden" | "hidden_size" => size.hidden = value,
            "layers" | "num_hidden_layers" => size.layers = value,
            "heads" | "num_attention_heads" => size.heads = value,
            "intermediate" | "intermediate_size" => size.intermediate = value,
            _ => return Err(wrong()),
        }
    }
    Ok(size)
}
