//! `lowland enlarge`: a small model inside a larger architecture, the same function.

use std::path::Path;

use serde_json::json;

use super::arguments::{Enlarge, EnlargeMethod};
use super::failure::Failure;
use super::{advice, print};
use crate::config;
use crate::interrupt;
use crate::model::{self, Encoder, Enlargement, Size};

pub fn run(arguments: &Enlarge) -> Result<(), Failure> {
    let small = arguments.small.clone();
    let loaded = interrupt::or_stop(move || model::load(&small))??;
    loaded.notes.iter().for_each(|n| print::note(n));
    let size = size(&arguments.size, &loaded.encoder)?;
    let method = match arguments.method {
        EnlargeMethod::Duplicate => Enlargement::Duplicate,
        EnlargeMethod::Zero => Enlargement::Zero,
    };
    if arguments.out.join("config.json").exists() {
        let message = format!("{}: holds a model already; give another folder", arguments.out.display());
        return Err(Failure::usage(message));
    }
    let (loaded, made) = interrupt::or_stop(move || {
        let made = model::enlarge(&loaded.encoder, &loaded.weights, size, method);
        (loaded, made)
    })?;
    let (encoder, weights) = made.map_err(|error| Failure::usage(advice::of_enlarge(&error)))?;
    model::save(&arguments.out, &encoder, &weights, None)?;
    model::copy_tokenizer(&arguments.small, &arguments.out)?;
    let (small, large) = (loaded.encoder.parameter_count(), encoder.parameter_count());
    let c = &encoder.config;
    match arguments.json.json {
        true => print::json(&json!({
            "method": if method == Enlargement::Zero { "zero" } else { "duplicate" },
            "parameters": large,
            "parameters_small": small,
            "hidden_size": c.hidden_size,
            "num_hidden_layers": c.num_hidden_layers,
            "num_attention_heads": c.own_size("num_attention_heads"),
            "intermediate_size": c.own_size("intermediate_size"),
            "out": arguments.out,
        }))?,
        false => print::line(&format!(
            "{large} parameters, {small} before: {}; the same function, in {}",
            c.shape(),
            arguments.out.display()
        ))?,
    }
    Ok(())
}

/// `hidden=128,layers=4,heads=8,intermediate=512`, each of which may be left out, or a run config with its `[model]`.
fn size(text: &str, small: &Encoder) -> Result<Size, Failure> {
    if text.ends_with(".toml") {
        let model = config::load(Path::new(text), &[])?.config.model;
        if model.kind != small.config.kind {
            return Err(Failure::usage(format!("{text}: `model.type` is not that of the small model")));
        }
        if model.bidirectional.is_some_and(|own| own != small.config.bidirectional) {
            return Err(Failure::usage(format!("{text}: `model.bidirectional` is not that of the small model")));
        }
        return Ok(Size {
            hidden: Some(model.hidden_size),
            layers: Some(model.num_hidden_layers),
            heads: model.num_attention_heads,
            intermediate: model.intermediate_size,
        });
    }
    let wrong = || {
        Failure::usage(format!(
            "SIZE `{text}`: write `hidden=128,layers=4,heads=8,intermediate=512` (parts may be left out), or a run config \
             that ends in .toml"
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
