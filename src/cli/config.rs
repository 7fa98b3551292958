//! `lowland config`: a config as it is resolved, its schema, the meaning of a key.

use serde_json::{Value, json};

use super::arguments::{Config, ConfigCommand, SchemaOf};
use super::failure::Failure;
use super::{bench_report, eval, measure, perplexity, print, regauge};
use crate::config::{self, Origin, Resolved};
use crate::sweep;
use crate::theory;

pub fn run(arguments: &Config) -> Result<(), Failure> {
    match &arguments.command {
        ConfigCommand::Show { config, json } => {
            let resolved = config::load(&config.config, &config.overrides)?;
            match json.json {
                true => print::json(&as_json(&resolved))?,
                false => print::line(as_text(&resolved).trim_end())?,
            }
        }
        ConfigCommand::Schema { of } => print::json(&schema(*of))?,
        ConfigCommand::Explain { key } => print::line(explanation(key)?.trim_end())?,
    }
    Ok(())
}

fn schema(of: SchemaOf) -> Value {
    match of {
        SchemaOf::Run => config::schema(),
        SchemaOf::Sweep => sweep::schema(),
        SchemaOf::Plan => sweep::plan_schema(),
        SchemaOf::Table => config::schema_of::<sweep::Table>(),
        SchemaOf::Eval => config::schema_of::<eval::EvalReport>(),
        SchemaOf::EvalText => config::schema_of::<perplexity::PerplexityReport>(),
        SchemaOf::MeasureTrace => config::schema_of::<measure::TraceReport>(),
        SchemaOf::MeasureHvp => config::schema_of::<measure::HvpReport>(),
        SchemaOf::MeasureSpectrum => config::schema_of::<measure::SpectrumReport>(),
        SchemaOf::MeasureNoise => config::schema_of::<measure::NoiseReport>(),
        SchemaOf::MeasureSharpness => config::schema_of::<measure::SharpnessReport>(),
        SchemaOf::MeasureLlc => config::schema_of::<measure::LlcReport>(),
        SchemaOf::MeasureFlatness => config::schema_of::<measure::FlatnessReport>(),
        SchemaOf::Regauge => config::schema_of::<regauge::RegaugeReport>(),
        SchemaOf::MeasurePerturb => config::schema_of::<measure::PerturbReport>(),
        SchemaOf::TheoryDyck => config::schema_of::<theory::DyckReport>(),
        SchemaOf::TheoryBrackets => config::schema_of::<theory::BracketsReport>(),
        SchemaOf::SelftestReport => config::schema_of::<bench_report::SelftestReport>(),
    }
}

fn as_json(resolved: &Resolved) -> Value {
    json!({ "config": resolved.config.shown(), "hash": resolved.hash(), "output": print::path(&resolved.output()) })
}

/// TOML with a comment behind every value that says where it came from.
fn as_text(resolved: &Resolved) -> String {
    let mut text = format!("# hash {}, run folder {}\n", resolved.hash(), resolved.output().display());
    let mut section = String::new();
    for line in resolved.config.to_toml().lines() {
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']').to_string();
        }
        match line.split_once(" = ").filter(|_| !line.starts_with('[')) {
            Some((key, _)) => {
                let path = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
                text += &format!("{line:<44} # {}\n", origin(&resolved.origin(&path)));
            }
            None => text += &format!("{line}\n"),
        }
    }
    text
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".into(),
        Origin::File { file, line } => format!("{file}:{line}"),
        Origin::Override(text) => format!("override {text}"),
    }
}

fn explanation(key: &str) -> Result<String, Failure> {
    let e = config::explain(key).map_err(Failure::usage)?;
    let mut text = String::new();
    if !e.key.is_empty() {
        text += &format!("{} ({})\n", e.key, e.kind);
    }
    text += &format!("{}\n", e.description);
    if let Some(default) = &e.default {
        text += &format!("Default: {default}\n");
    }
    if !e.inside.is_empty() {
        text += &format!("Keys: {}\n", e.inside.join(", "));
    }
    Ok(text)
}
