//! The headline race: seconds until the trace of a trained model's loss is known to 1 % standard error over the
//! language, beside the paper's released method in PyTorch (one Gaussian probe by double backward for each batch of 128
//! sentences).
//!
//! Whoever would take too long is extrapolated: with independent batches the error falls as 1/√n, so that the time is
//! (error / 1 %)² times what was spent. Both parts of the error count, probes and sentences.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lowland::config;
use lowland::curvature::{
    Chunks, Design, Designed, Drawing, Matrix, ModelOperator, Numbered, ProbeKind, Setting, Stopping, Subject,
    designed_trace, probes,
};
use lowland::gpu::Gpu;
use lowland::interrupt::Interrupted;
use lowland::model::{Loaded, Model, load};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw, Variants};
use lowland::statistics::{Crossed, Target};
use lowland::train::{Corpus, held_out_seed, held_out_sentence, masked_sentence};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::Error;
use crate::peer::Peer;

/// Relative standard error that both must reach.
const GOAL: f64 = 0.01;
/// Sentences of a batch of the released method.
const BATCH: usize = 128;

/// One way to know the trace.
struct Entry {
    name: &'static str,
    trace: f64,
    error: f64,
    /// Seconds spent.
    seconds: f64,
    note: String,
}

impl Entry {
    /// Seconds to the goal.
    fn goal(&self) -> f64 {
        self.seconds * (self.error / self.trace / GOAL).powi(2)
    }
}

/// Sentences that are made, as a language.
struct Listed {
    sentences: Vec<Sentence>,
    longest: u32,
}

impl Numbered for Listed {
    fn sentences(&self, numbers: Range<u64>) -> Result<Vec<Sentence>, Interrupted> {
        Ok(self.sentences[numbers.start as usize..numbers.end as usize].to_vec())
    }

    fn longest(&self) -> u32 {
        self.longest
    }

    fn most_predicted(&self) -> u32 {
        1
    }
}

/// A model with sentences of its language.
struct Ground<'g> {
    gpu: &'g Gpu,
    loaded: Loaded,
    corpus: Corpus,
    variants: Variants,
}

impl Ground<'_> {
    /// Held-out sentences, with the exact conditionals as labels where asked for.
    fn sentences(&self, from: u64, count: u64, soft: bool) -> Vec<Sentence> {
        let seed = held_out_seed(self.corpus.seed);
        let (language, tokens) = (self.corpus.truth().expect("of a grammar"), self.corpus.tokens.as_ref());
        let one = |i| match soft {
            true => masked_sentence(language, tokens, seed, i).sentence,
            false => held_out_sentence(language, tokens, seed, i),
        };
        (from..from + count).into_par_iter().map(one).collect()
    }

    fn subject(&self, sentences: &[Sentence], batch: usize, probes: u32) -> Result<Subject, Error> {
        let Loaded { encoder, weights, .. } = &self.loaded;
        Ok(Subject::new(
            &Model::new(&Device::new(self.gpu, self.variants), encoder, weights)?,
            sentences,
            &[],
            &Chunks { batch, probes },
        )?)
    }

    /// Squared norms of drawn gradients until the goal, or all sentences.
    fn drawn(&self, name: &'static str, kind: LossDraw, draws: usize, most: u64) -> Result<Entry, Error> {
        let sentences = self.sentences(1 << 20, most, false);
        let subject = self.subject(&sentences, 256, 8)?;
        let mut drawing = Drawing::new(&subject, kind, 1, draws)?;
        // Kernels are compiled by the first batch, which is drawn again.
        Drawing::new(&subject, kind, 1, draws)?.batch(&subject)?;
        let start = Instant::now();
        let trace =
            drawing.run(&subject, Target::Population, &Stopping::at(GOAL).not_before(512), &mut |_| Ok(()))?.trace;
        let seconds = start.elapsed().as_secs_f64();
        let more = if trace.reached { "" } else { ", extrapolated" };
        let note = format!("{} sentences, {draws} draws each{more}", drawing.examples());
        Ok(Entry { name, trace: trace.estimate, error: trace.standard_error, seconds, note })
    }

    /// The same over sentences that a design draws from a frame, whose forward passes count too.
    fn designed(&self, name: &'static str, design: Design, goal: f64) -> Result<Entry, Error> {
        // Made before the clock starts, as the others' are.
        let longest = self.corpus.language.max_length() as u32 + 2;
        let language = Listed { sentences: self.sentences(1 << 20, 1 << 17, false), longest };
        let Loaded { encoder, weights, .. } = &self.loaded;
        let model = Model::new(&Device::new(self.gpu, self.variants), encoder, weights)?;
        let setting = Setting::of(&model);
        let mut what = Designed {
            design,
            kind: LossDraw::Signs,
            seed: 2,
            draws: 2,
            stop: Stopping::at(goal).not_before(512).at_most(256),
            frame: Some(512),
        };
        // Kernels are compiled by a first run.
        designed_trace(&setting, &language, &what, &mut |_| Ok(()))?;
        (what.stop.most, what.frame) = (1 << 14, None);
        let start = Instant::now();
        let found = designed_trace(&setting, &language, &what, &mut |_| Ok(()))?;
        let seconds = start.elapsed().as_secs_f64();
        let more = if found.trace.standard_error <= GOAL * found.trace.estimate { "" } else { ", extrapolated" };
        let note = format!("{} sentences from a frame of {}, 2 draws each{more}", found.measured, found.frame);
        Ok(Entry { name, trace: found.trace.estimate, error: found.trace.standard_error, seconds, note })
    }

    /// Quadratic forms, K probes of its own for each batch of sentences: vᵀHv, and vᵀ(H − G)v with expected labels.
    fn forms(&self, batches: usize, batch: usize, k: u32, residual: bool) -> Result<(f64, f64, f64), Error> {
        let sentences = self.sentences(1 << 21, (batches * batch) as u64, residual);
        let mut estimates = Vec::new();
        let mut seconds = 0.0;
        for (b, own) in sentences.chunks(batch).enumerate() {
            let subject = self.subject(own, batch, k)?;
            let operator = ModelOperator::new(&subject, Matrix::Hessian);
            let block = probes(ProbeKind::Rademacher, 1, b * k as usize..(b + 1) * k as usize, subject.size());
            // Planned, and compiled by a first run, outside the time.
            operator.forms(&block)?;
            operator.forget_forms();
            let start = Instant::now();
            let mut crossed = Crossed::new(subject.weights());
            for form in operator.forms(&block)? {
                let minus = |(h, g): (&f64, &f64)| if residual { h - g } else { *h };
                crossed.push(&form.hessian.iter().zip(&form.ggn).map(minus).collect::<Vec<f64>>());
            }
            seconds += start.elapsed().as_secs_f64();
            estimates.push(crossed.parts(Target::TheseExamples).value);
        }
        let n = estimates.len() as f64;
        let mean = estimates.iter().sum::<f64>() / n;
        let error = (estimates.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
        Ok((mean, error, seconds))
    }
}

/// The released method: batches until the variance is known well enough to extrapolate.
fn released(peer: &mut Peer, model: &Path, ground: &Ground<'_>, batches: usize) -> Result<Entry, Error> {
    let file = std::env::temp_dir().join(format!("lowland-trace-{}.jsonl", std::process::id()));
    let lines: String = ground
        .sentences(1 << 22, (batches * BATCH) as u64, false)
        .iter()
        .map(|s| {
            let (positions, labels): (Vec<u32>, Vec<u32>) = s.masked.iter().copied().unzip();
            format!("{}\n", json!({ "input_ids": s.ids, "masked_positions": positions, "labels": labels }))
        })
        .collect();
    std::fs::write(&file, lines)?;
    peer.ask(&json!({ "load": { "model": model, "examples": file } }))?;
    let answer = peer.ask(&json!({ "hutchinson": { "batch": BATCH, "batches": batches, "seed": 1 } }))?;
    std::fs::remove_file(&file)?;
    let list =
        |key: &str| -> Vec<f64> { answer[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let (estimates, seconds) = (list("estimates"), list("seconds"));
    let n = estimates.len() as f64;
    let mean = estimates.iter().sum::<f64>() / n;
    let error = (estimates.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    Ok(Entry {
        name: "Tr H, released method (PyTorch)",
        trace: mean,
        error,
        seconds: seconds.iter().sum(),
        note: format!("{} batches of {BATCH}, extrapolated", estimates.len()),
    })
}

/// Runs the race on one model; `None` without PyTorch still prints our side.
pub fn race(
    gpu: &Gpu,
    model: &Path,
    config: &Path,
    overrides: &[String],
    peer: &mut Option<Peer>,
) -> Result<Value, Error> {
    let resolved = config::load(config, overrides)?;
    let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, resolved.config.seed)?;
    let variants = Variants::choose(gpu.capabilities());
    let ground = Ground { gpu, loaded: load(model)?, corpus, variants };
    let mut entries = Vec::new();
    if let Some(peer) = peer {
        entries.push(released(peer, model, &ground, 60)?);
    }
    let (trace, error, seconds) = ground.forms(48, 64, 8, false)?;
    entries.push(Entry {
        name: "Tr H, quadratic forms",
        trace,
        error,
        seconds,
        note: "48 batches of 64, 8 probes each, extrapolated".into(),
    });
    let signs = ground.drawn("Tr F, random signs", LossDraw::Signs, 2, 1 << 14)?;
    let (rest, rest_error, rest_seconds) = ground.forms(24, 64, 8, true)?;
    entries.push(Entry {
        name: "Tr H, signs and residual forms",
        trace: signs.trace + rest,
        error: signs.error.hypot(rest_error),
        seconds: signs.seconds + rest_seconds,
        note: format!("random signs, and Tr(H − G) = {rest:.3} ± {rest_error:.3} with expected labels"),
    });
    entries.push(signs);
    entries.push(ground.drawn("Tr F, sampled labels", LossDraw::Label, 2, 1 << 14)?);
    println!("{}: {} parameters, {}", resolved.name, ground.loaded.encoder.parameter_count(), gpu.info().name);
    // Where 1 % would take more than the sentences at hand, as much as they give.
    let goal = (1.1 * entries.last().map_or(GOAL, |e| e.error / e.trace)).max(GOAL);
    entries.push(ground.designed("Tr F, signs, importance", Design::Importance, goal)?);
    entries.push(ground.designed("Tr F, signs, strata", Design::Stratified, goal)?);
    let base = entries[0].goal();
    for e in &entries {
        let times = if peer.is_some() { format!("{:7.1} times", base / e.goal()) } else { String::new() };
        println!("  {:34} {:9.3} ± {:7.3}  {:9.2} s to 1 % {times}  ({})", e.name, e.trace, e.error, e.goal(), e.note);
    }
    let line = |e: &Entry| {
        json!({ "estimator": e.name, "trace": e.trace, "standard_error": e.error, "seconds_spent": e.seconds,
                "seconds_to_goal": e.goal(), "note": e.note })
    };
    Ok(json!({ "model": resolved.name, "goal": GOAL, "entries": entries.iter().map(line).collect::<Vec<Value>>() }))
}

/// `MODEL=CONFIG` or `MODEL=CONFIG,KEY=VALUE,..`.
pub fn parse(text: &str) -> Result<(PathBuf, PathBuf, Vec<String>), Error> {
    let (model, rest) = text.split_once('=').ok_or("--trace wants MODEL=CONFIG")?;
    let mut rest = rest.split(',');
    let config = rest.next().unwrap_or_default();
    Ok((model.into(), config.into(), rest.map(String::from).collect()))
}
