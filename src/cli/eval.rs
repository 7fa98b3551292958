//! `lowland eval`: a model's loss on examples; against a known language also its excess loss.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::arguments::{Eval, Export, PositionChoice};
use super::examples::{self, Source};
use super::failure::{Failure, INPUT_OUTPUT};
use super::progress::Gauge;
use super::{perplexity, print};
use crate::config::{ObjectiveKind, Positions};
use crate::curvature::{Chunks, LossNormaliser, Progress};
use crate::gpu::{AdapterChoice, GpuError};
use crate::interrupt::Interrupted;
use crate::model::{ForwardPass, ModelConfig, RowLoss, dims_for, save_tensors};
use crate::ops::batch::Sentence;
use crate::ops::{Device, KernelChoice, Labels};
use crate::statistics::Estimate;
use crate::train::{KnownSentence, mean_of_sums, sums_by_sentence};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EvalReport {
    /// Mean cross-entropy of a masked position, or of a predicted token, in nats.
    loss: f64,
    /// Of the loss over examples; 0 where they are the target, null for a single one.
    standard_error: Option<f64>,
    /// Examples; after an interrupt those until then. The excess loss may be of fewer.
    count: usize,
    /// Masked positions, or predicted tokens, in them.
    masked_positions: usize,
    /// One of them in words.
    #[serde(skip)]
    predicted: &'static str,
    /// What the loss is the mean over: `sentence` (each has one masked word) or `predicted_token`.
    loss_normaliser: LossNormaliser,
    /// Mean KL divergence of the model from the exact conditional; null without a language.
    excess_loss: Option<f64>,
    /// Mean of log p - log p_model at the words that stood there, p exact: as `excess_loss` in the mean, with the
    /// scatter of the words. Over all next words of sentences it is (log p(sentence) - log p_model(sentence)) / tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    excess_loss_paired: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excess_loss_paired_standard_error: Option<f64>,
    /// What the standard error is about: `population` or `these examples`.
    target: String,
    /// Most bytes of buffers that there were on the adapter at once.
    peak_bytes: u64,
    /// Whether all examples were looked at: false after an interrupt.
    reached: bool,
    /// Whether a signal ended it; the exit code is 130 then.
    interrupted: bool,
    /// The loss of each example, summed over its predicted positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_example: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excess_loss_standard_error: Option<f64>,
    /// Mean entropy of the exact conditionals at the same positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy_floor: Option<f64>,
    /// Entropy floor plus excess loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_loss: Option<f64>,
    /// Why something is null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Eval) -> Result<(), Failure> {
    if perplexity::is_text(arguments) {
        return perplexity::run(adapter, kernel_choice, arguments);
    }
    let given = [
        ("--format", arguments.format.is_some()),
        ("--length", arguments.length.is_some()),
        ("--stride", arguments.stride.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        let file = arguments.on.examples.display();
        return Err(Failure::usage(format!("{file}: {flag} belongs to plain text; --text says that this is some")));
    }
    let export = arguments.export.as_deref().map(parse_export).transpose()?;
    let gauge = Gauge::new();
    let (loaded, source) = examples::open(adapter, kernel_choice, &arguments.on)?;
    gauge.phase("examples");
    if matches!(source, Source::File(_)) && arguments.on.seed.is_some() {
        let file = arguments.on.examples.display();
        return Err(Failure::usage(format!("{file}: --seed belongs to a run config, this is a file of examples")));
    }
    if matches!(source, Source::File(_)) && arguments.positions.is_some() {
        let file = arguments.on.examples.display();
        let message = format!("{file}: --positions belongs to a run config; these examples say what is masked");
        return Err(Failure::usage(message));
    }
    let sampled = source.sampled(&arguments.on);
    let mut notes = Vec::new();
    // What is fed, a language's sentence once with all next words or for each masked position; and the predicted
    // positions of each example.
    let (hard, truth, positions): (Vec<Sentence>, _, Vec<usize>) = match source {
        Source::File(sentences) => {
            let positions = sentences.iter().map(|s| s.masked.len()).collect();
            (sentences, None, positions)
        }
        Source::Language { held_out, count, usual, positions } => {
            if arguments.positions.is_some() && held_out.corpus.objective.kind == ObjectiveKind::Causal {
                let message =
                    "--positions belongs to `objective.kind = \"mlm\"`: \"causal\" asks about every next word";
                return Err(Failure::usage(message));
            }
            let (numbers, asked) = (0..count.unwrap_or(usual), arguments.positions.map_or(positions, positions_of));
            match held_out.exact(numbers.clone(), asked)? {
                Ok(made) => {
                    let positions = made.iter().map(|own| own.iter().map(|k| k.sentence.masked.len()).sum()).collect();
                    let all = || made.iter().flatten();
                    let hard = all().map(|k| Sentence { soft: Vec::new(), ..k.sentence.clone() }).collect();
                    let soft = all().map(|k| k.sentence.clone()).collect();
                    let sums =
                        |of: fn(&KnownSentence) -> f64| made.iter().map(|own| own.iter().map(of).sum()).collect();
                    let (entropies, log_probabilities) = (sums(|k| k.entropy), sums(|k| k.log_probability));
                    (hard, Some(Truth { soft, entropies, log_probabilities }), positions)
                }
                Err(none) => {
                    notes.push(format!("excess_loss: {none}"));
                    let made = held_out.labelled(numbers, asked)?;
                    let positions = made.iter().map(|own| own.iter().map(|s| s.masked.len()).sum()).collect();
                    (made.into_iter().flatten().collect(), None, positions)
                }
            }
        }
    };
    let model = loaded.moved_to(&Device::open(adapter, kernel_choice)?)?;
    let most = hard.iter().map(|s| s.masked.len()).max().unwrap_or(1);
    let usual = || {
        let most = Chunks::batch_for(most, model.encoder.classes() as usize);
        let most = ForwardPass::batch_for(&model, &hard, most, Labels::Hard, export.is_some());
        truth.as_ref().map_or(most, |truth| ForwardPass::batch_for(&model, &truth.soft, most, Labels::Soft, false))
    };
    let batch = arguments.on.batch.map_or_else(usual, |batch| batch as usize);
    let forward = |sentences: &[Sentence], labels, exports| {
        let dims = dims_for(sentences, batch);
        ForwardPass::new(&model, dims, labels, exports)
    };
    gauge.phase("loss");
    let pass = forward(&hard, Labels::Hard, export.is_some())?;
    let mut exported = Exported::default();
    let mut rows: Vec<RowLoss> = Vec::new();
    let mut done = 0;
    let show = |what: &str, done, of| gauge.show(what, "example", &Progress { done, of, value: None });
    for chunk in hard.chunks(batch) {
        let Some(losses) = unless_interrupted(pass.run(chunk))? else { break };
        rows.extend(losses);
        match export {
            Some((Export::Logits, _)) => exported.logits(&pass, chunk)?,
            Some((Export::Hidden, _)) => exported.hidden(&pass, chunk)?,
            None => {}
        }
        done += chunk.len();
        show("loss", done, hard.len());
    }
    if done == 0 {
        return Err(Interrupted.into());
    }
    let mut interrupted = done < hard.len();
    match export {
        Some((what, path)) if !interrupted => exported.write(what, path, &hard, &model.encoder.config)?,
        Some((_, path)) => print::note(&format!("{} is not written", path.display())),
        None => {}
    }
    // After an interrupt those examples all of whose positions were looked at.
    let looked_at = &positions[..whole(&positions, rows.len())];
    if looked_at.is_empty() {
        return Err(Interrupted.into());
    }
    let predicted = model.encoder.config.reach().predicted();
    let mut report = summary(looked_at, &rows, predicted, sampled, arguments.per_example);
    if let Some(truth) = truth.as_ref().filter(|_| !interrupted) {
        let pass = unless_interrupted(forward(&truth.soft, Labels::Soft, false))?;
        let mut divergences: Vec<f64> = Vec::new();
        let mut done = 0;
        for (pass, chunk) in pass.iter().flat_map(|p| truth.soft.chunks(batch).map(move |c| (p, c))) {
            let Some(rows) = unless_interrupted(pass.run(chunk))? else { break };
            divergences.extend(rows.iter().map(|r| r.divergence));
            done += chunk.len();
            show("excess loss", done, truth.soft.len());
        }
        interrupted = done < truth.soft.len();
        report.compare(truth, &divergences, &rows, &positions[..whole(&positions, divergences.len())]);
    }
    gauge.done();
    report.peak_bytes = model.gpu().memory().1;
    report.notes = notes;
    report.interrupted = interrupted;
    report.reached = !interrupted;
    match arguments.json.json {
        true => print::json(&report)?,
        false => print::line(&text(&report))?,
    }
    match interrupted {
        true => Err(Failure::stopped("the numbers are of the examples until then")),
        false => Ok(()),
    }
}

/// What a language says of its sentences.
struct Truth {
    /// With the exact conditionals as labels.
    soft: Vec<Sentence>,
    /// Of each sentence of the language, summed over its positions.
    entropies: Vec<f64>,
    /// Of the words that stood there, summed likewise.
    log_probabilities: Vec<f64>,
}

impl EvalReport {
    /// What the truth adds, over the first examples, with so many positions each.
    fn compare(&mut self, truth: &Truth, divergences: &[f64], rows: &[RowLoss], positions: &[usize]) {
        let (n, asked) = (positions.len(), positions.iter().sum());
        if n == 0 {
            return;
        }
        let excess = mean_of_sums(&sums_by_sentence(&divergences[..asked], positions), positions);
        let floor = mean_of_sums(&truth.entropies[..n], positions);
        let losses: Vec<f64> = rows[..asked].iter().map(|r| r.loss).collect();
        let losses = sums_by_sentence(&losses, positions);
        let apart: Vec<f64> = truth.log_probabilities.iter().zip(losses).map(|(known, loss)| known + loss).collect();
        let paired = mean_of_sums(&apart, positions);
        self.excess_loss = Some(excess.value);
        self.excess_loss_standard_error = Some(excess.standard_error);
        self.excess_loss_paired = Some(paired.value);
        self.excess_loss_paired_standard_error = Some(paired.standard_error);
        self.entropy_floor = Some(floor.value);
        self.expected_loss = Some(floor.value + excess.value);
    }
}

/// Nothing where a pass was interrupted.
fn unless_interrupted<T>(result: Result<T, GpuError>) -> Result<Option<T>, GpuError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(GpuError::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_export(given: &[String]) -> Result<(Export, &Path), Failure> {
    let what = match given[0].as_str() {
        "logits" => Export::Logits,
        "hidden" => Export::Hidden,
        other => return Err(Failure::usage(format!("--export {other}: write `logits FILE` or `hidden FILE`"))),
    };
    Ok((what, Path::new(&given[1])))
}

fn positions_of(choice: PositionChoice) -> Positions {
    match choice {
        PositionChoice::One => Positions::One,
        PositionChoice::All => Positions::All,
    }
}

/// Examples whose positions are all among the first `rows`.
fn whole(positions: &[usize], rows: usize) -> usize {
    let mut seen = 0;
    positions
        .iter()
        .take_while(|n| {
            seen += **n;
            seen <= rows
        })
        .count()
}

/// Mean loss per predicted position, of examples with so many positions each. Its standard error treats examples as
/// drawn, unless the file is all there is.
fn summary(
    positions: &[usize],
    rows: &[RowLoss],
    predicted: &'static str,
    sampled: bool,
    per_example_too: bool,
) -> EvalReport {
    let losses: Vec<f64> = rows[..positions.iter().sum()].iter().map(|r| r.loss).collect();
    let per_example = sums_by_sentence(&losses, positions);
    let counts: Vec<f64> = positions.iter().map(|n| *n as f64).collect();
    let estimate = Estimate::of_ratio(&per_example, &counts);
    let error = Some(estimate.standard_error).filter(|e| e.is_finite());
    EvalReport {
        loss: estimate.value,
        standard_error: if sampled { error } else { Some(0.0) },
        count: positions.len(),
        masked_positions: positions.iter().sum(),
        predicted,
        loss_normaliser: LossNormaliser::of(positions.len(), positions.iter().sum()),
        excess_loss: None,
        excess_loss_paired: None,
        excess_loss_paired_standard_error: None,
        target: if sampled { "population" } else { "these examples" }.into(),
        peak_bytes: 0,
        reached: true,
        interrupted: false,
        per_example: per_example_too.then_some(per_example),
        excess_loss_standard_error: None,
        entropy_floor: None,
        expected_loss: None,
        notes: vec![],
    }
}

fn text(report: &EvalReport) -> String {
    let error = match report.target == "population" {
        true => format!(" ± {:.6}", report.standard_error.unwrap_or(f64::NAN)),
        false => " (the mean of these examples; --as-sample gives it a standard error)".into(),
    };
    let unit = report.predicted;
    let mut out = format!("loss {:.6}{error} a {unit}, {} examples", report.loss, report.count);
    if report.masked_positions != report.count {
        out += &format!(" with {} {unit}s", report.masked_positions);
    }
    if report.interrupted {
        out += " (interrupted)";
    }
    let excess = (report.excess_loss, report.excess_loss_standard_error, report.entropy_floor);
    if let (Some(excess), Some(error), Some(floor)) = excess {
        out += &format!("\nexcess loss {excess:.6} ± {error:.6} over the entropy floor {floor:.6}");
        let paired = report.excess_loss_paired.zip(report.excess_loss_paired_standard_error);
        if let Some((value, error)) = paired.filter(|_| report.loss_normaliser == LossNormaliser::PredictedToken) {
            out += &format!("; paired, at the words that stood there, {value:.6} ± {error:.6}");
        }
    }
    for (i, loss) in report.per_example.iter().flatten().enumerate() {
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
    fn logits(&mut self, pass: &ForwardPass, chunk: &[Sentence]) -> Result<(), Failure> {
        let masked = chunk.iter().map(|s| s.masked.len()).sum();
        self.logits.extend(pass.logits(masked)?);
        Ok(())
    }

    fn hidden(&mut self, pass: &ForwardPass, chunk: &[Sentence]) -> Result<(), Failure> {
        let layers = pass.hidden(chunk.iter().map(|s| s.ids.len()).sum())?;
        self.hidden.resize(layers.len(), Vec::new());
        self.hidden.iter_mut().zip(layers).for_each(|(all, new)| all.extend(new));
        Ok(())
    }

    /// `logits` [masked, V]; or `hidden_states.i` [examples, longest, D], zero behind a sentence's end, with
    /// `attention_mask` [examples, longest].
    fn write(&self, what: Export, path: &Path, sentences: &[Sentence], config: &ModelConfig) -> Result<(), Failure> {
        let (v, d) = (config.vocab_size as usize, config.hidden_size as usize);
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
