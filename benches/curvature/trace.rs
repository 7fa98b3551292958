//! The headline race: seconds until the trace of a trained model's loss over the language is known to a standard error
//! of 1 % (`--goal`), beside the paper's released method in PyTorch (one Gaussian probe by double backward for each
//! batch of 128 sentences). All arms run in turn, several times over, with other sentences, signs and probes each time.
//!
//! Whoever would take too long is extrapolated: with independent batches the error falls as 1/√n, so that the time is
//! (error / goal)² times what was spent. The released method and plain quadratic forms are; of ours the seconds are
//! those of runs that reached the error, pilots included. Both parts of the error count, probes and sentences.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lowland::config;
use lowland::curvature::{
    Chunks, Design, Designed, Drawing, Matrix, ModelOperator, ProbeKind, Setting, Split, Stopping, Subject,
    designed_trace, probes, split_trace,
};
use lowland::gpu::Gpu;
use lowland::model::{Loaded, Model, load};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw, Variants};
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Crossed, Estimate, Target};
use lowland::train::{Corpus, HeldOut, held_out_seed, held_out_sentence};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::Error;
use crate::peer::Peer;

/// Sentences of a batch of the released method.
const BATCH: usize = 128;

/// One way to know the trace: independent estimates with the seconds that each took.
struct Arm {
    name: &'static str,
    /// Of the Hessian, or of the Fisher matrix.
    matrix: &'static str,
    /// Whether each value is known to the goal; else they are few, and their scatter tells the time to it.
    reached: bool,
    /// (estimate, its standard error where it tells one, seconds).
    values: Vec<(f64, f64, f64)>,
    note: String,
    /// The relative standard error that is run for.
    goal: f64,
}

impl Arm {
    fn new(name: &'static str, matrix: &'static str, reached: bool) -> Arm {
        Arm { name, matrix, reached, values: vec![], note: String::new(), goal: 0.01 }
    }

    /// Mean over the values, with the error of their scatter or of a single one's own.
    fn mean(&self) -> Estimate {
        let mean = Estimate::of_mean(&self.values.iter().map(|v| v.0).collect::<Vec<f64>>());
        // Runs to the goal tell their errors better than the scatter of a few does.
        let own = self.values.iter().map(|v| v.1 * v.1).sum::<f64>().sqrt() / self.values.len() as f64;
        Estimate { standard_error: if self.reached { own } else { mean.standard_error }, ..mean }
    }

    /// Seconds to the goal, of `trace`, from some of the values.
    fn seconds(&self, trace: f64, rows: &[usize]) -> f64 {
        let n = rows.len() as f64;
        let seconds = rows.iter().map(|i| self.values[*i].2).sum::<f64>() / n;
        match self.reached {
            true => seconds,
            false => {
                let mean = rows.iter().map(|i| self.values[*i].0).sum::<f64>() / n;
                let variance = rows.iter().map(|i| (self.values[*i].0 - mean).powi(2)).sum::<f64>() / (n - 1.0);
                seconds * variance / (self.goal * trace).powi(2)
            }
        }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.values.len()).collect()
    }
}

/// How many times faster `arm` is than `base`, with a 95 % interval from drawing the values of both again.
fn times(base: &Arm, arm: &Arm, trace: f64) -> [f64; 3] {
    const DRAWS: u64 = 4000;
    let ratio = |b: &[usize], a: &[usize]| base.seconds(trace, b) / arm.seconds(trace, a);
    let again = |n: usize, stream: &mut Stream| (0..n).map(|_| stream.below(n as u32) as usize).collect::<Vec<_>>();
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|draw| {
            let mut stream = Stream::new(1, Purpose::Bootstrap, draw);
            ratio(&again(base.values.len(), &mut stream), &again(arm.values.len(), &mut stream))
        })
        .filter(|r| r.is_finite())
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |q: f64| drawn[((drawn.len() - 1) as f64 * q).round() as usize];
    [ratio(&base.all(), &arm.all()), at(0.025), at(0.975)]
}

/// A model with sentences of its language.
struct Ground<'g> {
    gpu: &'g Gpu,
    loaded: Loaded,
    corpus: Corpus,
    variants: Variants,
    /// The relative standard error that is run for.
    goal: f64,
}

impl Ground<'_> {
    /// Held-out sentences.
    fn sentences(&self, from: u64, count: u64) -> Vec<Sentence> {
        let seed = held_out_seed(self.corpus.seed);
        let (language, tokens) = (self.corpus.truth().expect("of a grammar"), self.corpus.tokens.as_ref());
        (from..from + count).into_par_iter().map(|i| held_out_sentence(language, tokens, seed, i)).collect()
    }

    /// The language with other sentences each round.
    fn language(&self, round: u64) -> HeldOut {
        HeldOut { corpus: self.corpus.clone(), seed: held_out_seed(self.corpus.seed) ^ (round + 1) << 32 }
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

    /// Squared norms of drawn gradients until the goal.
    fn drawn(&self, kind: LossDraw, round: u64, most: u64) -> Result<((f64, f64, f64), String), Error> {
        let sentences = self.sentences((1 << 40) + (round << 20), most);
        let subject = self.subject(&sentences, 256, 8)?;
        let mut drawing = Drawing::new(&subject, kind, round, 2)?;
        // Kernels are compiled by the first batch, which is drawn again.
        Drawing::new(&subject, kind, round, 2)?.batch(&subject)?;
        let start = Instant::now();
        let trace =
            drawing.run(&subject, Target::Population, &Stopping::at(self.goal).not_before(512), &mut |_| Ok(()))?.trace;
        let seconds = start.elapsed().as_secs_f64();
        // Where the sentences did not do, the time that the rest would take.
        let short = (trace.standard_error / trace.estimate / self.goal).powi(2).max(1.0);
        let note = format!("{} sentences, 2 draws each", drawing.examples());
        let more = if trace.reached { "" } else { ", extrapolated" };
        Ok(((trace.estimate, trace.standard_error / short.sqrt(), seconds * short), note + more))
    }

    /// The Hessian's trace by its two parts until the goal, the pilot counted.
    fn split(&self, round: u64) -> Result<((f64, f64, f64), String), Error> {
        // Sentences and their exact conditionals are made while the clock runs.
        let language = self.language(round);
        let Loaded { encoder, weights, .. } = &self.loaded;
        let model = Model::new(&Device::new(self.gpu, self.variants), encoder, weights)?;
        let setting = Setting::of(&model);
        let stop = Stopping::at(self.goal).not_before(256).at_most(1 << 20);
        let what = Split { seed: round, draws: None, stop };
        if round == 0 {
            // Kernels are compiled by a first run.
            let small = Split { stop: Stopping::after(64).not_before(256), ..what.clone() };
            split_trace(&setting, &language, &small, &mut |_| Ok(()))?;
        }
        let start = Instant::now();
        let found = split_trace(&setting, &language, &what, &mut |_| Ok(()))?;
        let seconds = start.elapsed().as_secs_f64();
        let trace = &found.trace;
        assert!(trace.reached, "{} ± {} after {:?}", trace.estimate, trace.standard_error, found.sentences);
        let note = format!(
            "Tr F = {} from {} sentences with {} draws, Tr(H − F) = {} from {} with {} probes of a frame of {}",
            found.fisher, found.sentences[0], found.draws, found.residual, found.measured, found.vectors, found.frame
        );
        Ok(((trace.estimate, trace.standard_error, seconds), note))
    }

    /// The Fisher trace over sentences that a design draws from a frame, whose forward passes count too.
    fn designed(&self, design: Design, round: u64) -> Result<((f64, f64, f64), String), Error> {
        let language = self.language(round);
        let Loaded { encoder, weights, .. } = &self.loaded;
        let model = Model::new(&Device::new(self.gpu, self.variants), encoder, weights)?;
        let setting = Setting::of(&model);
        let stop = Stopping::at(self.goal).not_before(512).at_most(256);
        let mut what = Designed { design, kind: LossDraw::Signs, seed: round + 2, draws: 2, stop, frame: Some(512) };
        // Kernels are compiled by a first run.
        designed_trace(&setting, &language, &what, &mut |_| Ok(()))?;
        (what.stop.most, what.frame) = (1 << 15, None);
        let start = Instant::now();
        let found = designed_trace(&setting, &language, &what, &mut |_| Ok(()))?;
        let seconds = start.elapsed().as_secs_f64();
        let (trace, note) = (&found.trace, format!("{} sentences from a frame of {}", found.measured, found.frame));
        let short = (trace.standard_error / trace.estimate / self.goal).powi(2).max(1.0);
        let more = if short > 1.0 { ", extrapolated" } else { "" };
        Ok(((trace.estimate, trace.standard_error / short.sqrt(), seconds * short), note + more))
    }

    /// vᵀHv over batches of 64 sentences, 8 probes of its own for each: (estimate, none, seconds) of every batch.
    fn forms(&self, round: u64, batches: usize) -> Result<Vec<(f64, f64, f64)>, Error> {
        let (batch, k) = (64, 8);
        let sentences = self.sentences((1 << 41) + (round << 20), (batches * batch) as u64);
        let one = |(b, own): (usize, &[Sentence])| {
            let subject = self.subject(own, batch, k as u32)?;
            let operator = ModelOperator::new(&subject, Matrix::Hessian);
            let block = probes(ProbeKind::Rademacher, round, b * k..(b + 1) * k, subject.size());
            // Planned, and compiled by a first run, outside the time.
            operator.forms(&block)?;
            operator.forget_forms();
            let start = Instant::now();
            let mut crossed = Crossed::new(subject.weights());
            operator.forms(&block)?.iter().for_each(|form| crossed.push(&form.hessian));
            let seconds = start.elapsed().as_secs_f64();
            Ok::<_, Error>((crossed.parts(Target::TheseExamples).value, 0.0, seconds))
        };
        sentences.chunks(batch).enumerate().map(one).collect()
    }
}

/// The released method: some batches.
fn released(peer: &mut Peer, batches: usize, round: u64) -> Result<Vec<(f64, f64, f64)>, Error> {
    let answer = peer.ask(&json!({ "hutchinson": { "batch": BATCH, "batches": batches, "seed": round + 1 } }))?;
    // Its threads spin for a while after their work.
    std::thread::sleep(Duration::from_millis(300));
    let list =
        |key: &str| -> Vec<f64> { answer[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    Ok(list("estimates").into_iter().zip(list("seconds")).map(|(x, s)| (x, 0.0, s)).collect())
}

/// Gives the released method its model and sentences, twice as many as it takes at once.
fn prepare(peer: &mut Peer, model: &Path, ground: &Ground<'_>, batches: usize) -> Result<(), Error> {
    let file = std::env::temp_dir().join(format!("lowland-trace-{}.jsonl", std::process::id()));
    let lines: String = ground
        .sentences(1 << 42, (2 * batches * BATCH) as u64)
        .iter()
        .map(|s| {
            let (positions, labels): (Vec<u32>, Vec<u32>) = s.masked.iter().copied().unzip();
            format!("{}\n", json!({ "input_ids": s.ids, "masked_positions": positions, "labels": labels }))
        })
        .collect();
    std::fs::write(&file, lines)?;
    peer.ask(&json!({ "load": { "model": model, "examples": file } }))?;
    std::fs::remove_file(&file)?;
    // Its first batch is slower.
    released(peer, 2, 1 << 20).map(drop)
}

/// What of the race is wanted.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// The relative standard error that is run for.
    pub goal: f64,
    /// Times that every arm runs.
    pub rounds: u64,
    /// Batches of the released method each time.
    pub batches: usize,
    /// Whether plain quadratic forms run too, of which a few batches are extrapolated.
    pub forms: bool,
    /// Whether sentences by design run too.
    pub designs: bool,
}

/// Runs the race on one model; `None` without PyTorch still prints our side.
pub fn race(
    gpu: &Gpu,
    model: &Path,
    config: &Path,
    overrides: &[String],
    peer: &mut Option<Peer>,
    wanted: Wanted,
) -> Result<Value, Error> {
    let resolved = config::load(config, overrides)?;
    let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, resolved.config.seed)?;
    let variants = Variants::choose(gpu.capabilities());
    let ground = Ground { gpu, loaded: load(model)?, corpus, variants, goal: wanted.goal };
    let percent = 100.0 * wanted.goal;
    println!("{}: {} parameters, {}", resolved.name, ground.loaded.encoder.parameter_count(), gpu.info().name);
    let mut arms = vec![
        Arm::new("Tr H, released method (PyTorch)", "hessian", false),
        Arm::new("Tr H, quadratic forms", "hessian", false),
        Arm::new("Tr H, signs and residual", "hessian", true),
        Arm::new("Tr F, random signs", "fisher", true),
        Arm::new("Tr F, sampled labels", "fisher", true),
    ];
    if wanted.designs {
        arms.push(Arm::new("Tr F, signs, importance", "fisher", true));
        arms.push(Arm::new("Tr F, signs, strata", "fisher", true));
    }
    for arm in &mut arms {
        arm.goal = wanted.goal;
    }
    if let Some(peer) = peer {
        prepare(peer, model, &ground, wanted.batches)?;
    }
    for round in 0..wanted.rounds {
        if let Some(peer) = peer {
            arms[0].values.extend(released(peer, wanted.batches, round)?);
        }
        if wanted.forms {
            arms[1].values.extend(ground.forms(round, 16)?);
        }
        let mut put = |i: usize, (value, note): ((f64, f64, f64), String)| {
            println!("  round {round}, {}: {:.3} ± {:.3}, {:.2} s ({note})", arms[i].name, value.0, value.1, value.2);
            arms[i].values.push(value);
            arms[i].note = note;
        };
        put(2, ground.split(round)?);
        put(3, ground.drawn(LossDraw::Signs, round, 1 << 16)?);
        put(4, ground.drawn(LossDraw::Label, round, 1 << 16)?);
        if wanted.designs {
            put(5, ground.designed(Design::Importance, round)?);
            put(6, ground.designed(Design::Stratified, round)?);
        }
    }
    arms[0].note = format!("{} batches of {BATCH}, extrapolated", arms[0].values.len());
    arms[1].note = format!("{} batches of 64, 8 probes each, extrapolated", arms[1].values.len());
    // The goal is a share of the best known value.
    let [hessian, fisher] = [2, 3].map(|i: usize| arms[i].mean().value);
    let of = |arm: &Arm| if arm.matrix == "hessian" { hessian } else { fisher };
    let mut lines = vec![];
    for arm in arms.iter().filter(|arm| !arm.values.is_empty()) {
        let (mean, seconds) = (arm.mean(), arm.seconds(of(arm), &arm.all()));
        let ratio = (!arms[0].values.is_empty()).then(|| times(&arms[0], arm, hessian));
        let shown = ratio.map_or(String::new(), |[r, low, high]| format!("{r:7.1} times [{low:.1}, {high:.1}]"));
        let (value, error, note) = (mean.value, mean.standard_error, &arm.note);
        println!("  {:34} {value:9.3} ± {error:7.3}  {seconds:9.2} s to {percent} % {shown}  ({note})", arm.name);
        lines.push(json!({ "estimator": arm.name, "matrix": arm.matrix, "trace": value, "standard_error": error,
            "seconds_to_goal": seconds, "times": ratio, "values": arm.values, "note": note }));
    }
    Ok(json!({ "model": resolved.name, "goal": wanted.goal, "entries": lines }))
}

/// `MODEL=CONFIG` or `MODEL=CONFIG,KEY=VALUE,..`.
pub fn parse(text: &str) -> Result<(PathBuf, PathBuf, Vec<String>), Error> {
    let (model, rest) = text.split_once('=').ok_or("--trace wants MODEL=CONFIG")?;
    let mut rest = rest.split(',');
    let config = rest.next().unwrap_or_default();
    Ok((model.into(), config.into(), rest.map(String::from).collect()))
}
