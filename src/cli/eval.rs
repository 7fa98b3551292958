//! `lowland eval`: a model's loss on examples; against a known language also its excess loss.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::arguments::{Eval, Export};
use super::failure::{Failure, INPUT_OUTPUT};
use super::print;
use crate::config;
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::model::{self, Arena, ForwardPass, Loaded, RowLoss, dims_for, read_examples, save_tensors};
use crate::ops::batch::Sentence;
use crate::ops::{Labels, Variants, Wishes};
use crate::statistics::Estimate;
use crate::train::{Corpus, MaskedSentence, held_out_seed, masked_sentence};

/// Examples with what is known of them.
struct Examples {
    hard: Vec<Sentence>,
    /// The exact conditionals at the same positions and their entropies, for a language.
    soft: Option<(Vec<Sentence>, Vec<f64>)>,
}

pub fn run(adapter: &AdapterChoice, wishes: &Wishes, arguments: &Eval) -> Result<(), Failure> {
    let export = arguments.export.as_deref().map(parse_export).transpose()?;
    let loaded = model::load(&arguments.model)?;
    loaded.notes.iter().for_each(|n| print::note(n));
    let examples = examples(arguments, &loaded)?;
    let gpu = Gpu::open(adapter, Options::default())?;
    let variants = wishes.apply(Variants::choose(gpu.capabilities()), gpu.capabilities()).map_err(Failure::usage)?;
    let arena = Arena::of(&gpu, &loaded.encoder, &loaded.weights)?;
    let forward = |sentences: &[Sentence], labels, exports| {
        let dims = dims_for(sentences, arguments.batch as usize);
        ForwardPass::new(&gpu, &loaded.encoder, &arena, dims, &variants, labels, exports)
    };
    let pass = forward(&examples.hard, Labels::Hard, export.is_some())?;
    let mut exported = Exported::default();
    let mut rows: Vec<RowLoss> = Vec::new();
    for chunk in examples.hard.chunks(arguments.batch as usize) {
        rows.extend(pass.run(&gpu, chunk)?);
        match export {
            Some((Export::Logits, _)) => exported.logits(&gpu, &pass, chunk)?,
            Some((Export::Hidden, _)) => exported.hidden(&gpu, &pass, chunk)?,
            None => {}
        }
    }
    if let Some((what, path)) = export {
        exported.write(what, path, &examples.hard, &loaded)?;
    }
    let mut report = summary(&examples.hard, &rows, arguments);
    if let Some((soft, entropies)) = &examples.soft {
        let divergences: Vec<f64> =
            forward(soft, Labels::Soft, false)?.losses(&gpu, soft)?.iter().map(|r| r.divergence).collect();
        let excess = Estimate::of_mean(&divergences);
        let floor = Estimate::of_mean(entropies);
        report["excess_loss"] = json!(excess.value);
        report["excess_loss_standard_error"] = json!(excess.standard_error);
        report["entropy_floor"] = json!(floor.value);
        report["expected_loss"] = json!(floor.value + excess.value);
    }
    match arguments.json.json {
        true => print::json(&report)?,
        false => print::line(&text(&report))?,
    }
    Ok(())
}

fn parse_export(given: &[String]) -> Result<(Export, &Path), Failure> {
    let what = match given[0].as_str() {
        "logits" => Export::Logits,
        "hidden" => Export::Hidden,
        other => return Err(Failure::usage(format!("--export {other}: write `logits FILE` or `hidden FILE`"))),
    };
    Ok((what, Path::new(&given[1])))
}

fn examples(arguments: &Eval, loaded: &Loaded) -> Result<Examples, Failure> {
    let path = &arguments.examples;
    if path.extension().is_none_or(|e| e != "toml") {
        if !arguments.overrides.is_empty() || arguments.seed.is_some() {
            return Err(Failure::usage(format!(
                "{}: overrides and --seed belong to a run config, this is a file of examples",
                path.display()
            )));
        }
        let mut hard = read_examples(path, &loaded.encoder.config)?;
        hard.truncate(arguments.count.map_or(usize::MAX, |c| c as usize));
        return Ok(Examples { hard, soft: None });
    }
    let resolved = config::load(path, &arguments.overrides)?;
    let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, resolved.config.seed)?;
    check_vocabulary(loaded, &corpus, path)?;
    let count = arguments.count.unwrap_or(u64::from(resolved.config.evaluate.sentences));
    let seed = arguments.seed.unwrap_or(held_out_seed(corpus.seed));
    let made: Vec<MaskedSentence> =
        (0..count).into_par_iter().map(|i| masked_sentence(corpus.language.as_ref(), seed, i)).collect();
    let hard = made.iter().map(|m| Sentence { soft: Vec::new(), ..m.sentence.clone() }).collect();
    let (soft, entropies) = made.into_iter().map(|m| (m.sentence, m.entropy)).unzip();
    Ok(Examples { hard, soft: Some((soft, entropies)) })
}

/// Refuses a model of another language: its numbers would be about other words.
pub(super) fn check_vocabulary(loaded: &Loaded, corpus: &Corpus, path: &Path) -> Result<(), Failure> {
    let wanted = corpus.vocabulary.len();
    let has = loaded.encoder.config.vocab_size as usize;
    if has != wanted {
        return Err(Failure::usage(format!(
            "the model has {has} words, the language of {} has {wanted}",
            path.display()
        )));
    }
    if let Some(vocabulary) = &loaded.vocabulary
        && let Some((a, b)) = vocabulary.words().iter().zip(corpus.vocabulary.words()).find(|(a, b)| a != b)
    {
        return Err(Failure::usage(format!(
            "the model's vocab.txt has `{a}` where the language of {} has `{b}`",
            path.display()
        )));
    }
    let longest = corpus.language.max_length() + 2;
    let positions = loaded.encoder.config.longest() as usize;
    if longest > positions {
        return Err(Failure::usage(format!(
            "sentences have up to {longest} tokens, the model has positions for {positions}"
        )));
    }
    Ok(())
}

/// Mean loss per masked position. Its standard error treats examples as drawn, unless the file is all there is.
fn summary(sentences: &[Sentence], rows: &[RowLoss], arguments: &Eval) -> Value {
    let mut rest = rows;
    let per_example: Vec<f64> = sentences
        .iter()
        .map(|s| {
            let (own, others) = rest.split_at(s.masked.len());
            rest = others;
            own.iter().map(|r| r.loss).sum()
        })
        .collect();
    let counts: Vec<f64> = sentences.iter().map(|s| s.masked.len() as f64).collect();
    let estimate = Estimate::of_ratio(&per_example, &counts);
    let language = arguments.examples.extension().is_some_and(|e| e == "toml");
    let sampled = language || arguments.as_sample;
    let mut report = json!({
        "loss": estimate.value,
        "standard_error": if sampled { estimate.standard_error } else { 0.0 },
        "count": sentences.len(),
        "masked_positions": rows.len(),
        "excess_loss": null,
        "target": if sampled { "population" } else { "these examples" },
    });
    if arguments.per_example {
        report["per_example"] = json!(per_example);
    }
    report
}

fn text(report: &Value) -> String {
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    let error = match report["target"] == "population" {
        true => format!(" ± {:.6}", number("standard_error")),
        false => " (the mean of these examples; --as-sample gives it a standard error)".into(),
    };
    let mut out = format!("loss {:.6}{error}, {} examples", number("loss"), report["count"]);
    if report["excess_loss"].is_f64() {
        out += &format!(
            "\nexcess loss {:.6} ± {:.6} over the entropy floor {:.6}",
            number("excess_loss"),
            number("excess_loss_standard_error"),
            number("entropy_floor")
        );
    }
    for (i, loss) in report["per_example"].as_array().into_iter().flatten().enumerate() {
        out += &format!("\n{i}\t{loss}");
    }
    out
}

/// What is kept for `--export`.
#[derive(Default)]
struct Exported {
    logits: Vec<f32>,
    /// A list of packed rows for the embedding and each layer.
    hidden: Vec<Vec<f32>>,
}

impl Exported {
    fn logits(&mut self, gpu: &Gpu, pass: &ForwardPass, chunk: &[Sentence]) -> Result<(), Failure> {
        let masked = chunk.iter().map(|s| s.masked.len()).sum();
        self.logits.extend(pass.logits(gpu, masked)?);
        Ok(())
    }

    fn hidden(&mut self, gpu: &Gpu, pass: &ForwardPass, chunk: &[Sentence]) -> Result<(), Failure> {
        let layers = pass.hidden(gpu, chunk.iter().map(|s| s.ids.len()).sum())?;
        self.hidden.resize(layers.len(), Vec::new());
        self.hidden.iter_mut().zip(layers).for_each(|(all, new)| all.extend(new));
        Ok(())
    }

    /// `logits` [masked, V]; or `hidden_states.i` [examples, longest, D], zero behind a sentence's end, with
    /// `attention_mask` [examples, longest].
    fn write(&self, what: Export, path: &Path, sentences: &[Sentence], loaded: &Loaded) -> Result<(), Failure> {
        let (v, d) = (loaded.encoder.config.vocab_size as usize, loaded.encoder.config.hidden_size as usize);
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        match what {
            Export::Logits => tensors.push(("logits".into(), vec![self.logits.len() / v, v], self.logits.clone())),
            Export::Hidden => {
                let longest = sentences.iter().map(|s| s.ids.len()).max().unwrap_or(0);
                let shape = vec![sentences.len(), longest];
                let mask = sentences.iter().flat_map(|s| (0..longest).map(|t| f32::from(t < s.ids.len()))).collect();
                for (i, packed) in self.hidden.iter().enumerate() {
                    let mut padded = vec![0.0; sentences.len() * longest * d];
                    let mut from = 0;
                    for (s, sentence) in sentences.iter().enumerate() {
                        let size = sentence.ids.len() * d;
                        padded[s * longest * d..][..size].copy_from_slice(&packed[from..from + size]);
                        from += size;
                    }
                    tensors.push((format!("hidden_states.{i}"), vec![sentences.len(), longest, d], padded));
                }
                tensors.push(("attention_mask".into(), shape, mask));
            }
        }
        let views = tensors.iter().map(|(name, shape, values)| (name.as_str(), shape.as_slice(), values.as_slice()));
        save_tensors(path, views)
            .map_err(|e| Failure { code: INPUT_OUTPUT, message: format!("{}: {e}", path.display()) })
    }
}
