//! `lowland eval MODEL TEXT`: nats a token, perplexity and bits a byte of plain text, by sliding windows.

use schemars::JsonSchema;
use serde::Serialize;

use super::arguments::{Eval, FormatChoice};
use super::failure::Failure;
use super::print;
use super::progress::Gauge;
use crate::curvature::{Chunks, Progress};
use crate::gpu::{AdapterChoice, GpuError};
use crate::interrupt::{self, Interrupted};
use crate::model::{self, ForwardPass, Loaded, Model, Reach};
use crate::ops::batch::Sentence;
use crate::ops::{Device, Dims, KernelChoice, Labels};
use crate::text::{Documents, Pieces, TextFormat};
use crate::train::{PartSums, Windows};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PerplexityReport {
    /// Nats of a predicted token, all of all documents weighing the same.
    loss: f64,
    /// Of the loss, of parts of the text as a sample; null of a single part.
    loss_standard_error: Option<f64>,
    /// The parts that the standard errors are over: `documents` where there are several, else `windows`.
    standard_error_over: String,
    /// The loss as the loop of the page "Perplexity of fixed-length models" of `transformers` weighs it: it counts one
    /// token fewer of every window that overlaps the one before. Windows without an overlap give `loss` itself.
    transformers_loop_loss: f64,
    /// exp(loss).
    perplexity: f64,
    /// Of the perplexity.
    perplexity_standard_error: Option<f64>,
    /// Bits of a UTF-8 byte: all nats / ln 2 / all bytes. After an interrupt of the documents that were gone through to
    /// their end, null without one.
    bits_per_byte: Option<f64>,
    /// Of the bits.
    bits_per_byte_standard_error: Option<f64>,
    /// Predicted tokens.
    tokens: u64,
    /// UTF-8 bytes of the documents.
    bytes: u64,
    /// Documents with something to predict.
    documents: usize,
    /// Windows that they were gone through in.
    windows: usize,
    /// Tokens of a window.
    length: usize,
    /// Tokens between the beginnings of windows.
    stride: usize,
    /// False after an interrupt.
    reached: bool,
    /// Whether an interrupt ended it.
    interrupted: bool,
    /// Documents of a single token, of which nothing is predicted; their bytes are not counted.
    too_short: usize,
    /// Nats of each document in the order of the text, summed over its predicted tokens; null of one without such.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_example: Option<Vec<Option<f64>>>,
}

/// Whether EXAMPLES is plain text: by its ending, or because a flag says so.
pub fn is_text(arguments: &Eval) -> bool {
    let ending = arguments.on.examples.extension().and_then(|e| e.to_str()).unwrap_or_default();
    arguments.text || ["txt", "text", "md"].contains(&ending)
}

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Eval) -> Result<(), Failure> {
    refuse_others(arguments)?;
    let gauge = Gauge::new();
    let folder = arguments.on.model.clone();
    let loaded = interrupt::or_stop(move || model::load(&folder))??;
    loaded.notes.iter().for_each(|n| print::note(n));
    let windows = windows(arguments, &loaded)?;
    let pieces = pieces_of(&loaded)?;
    let files = [arguments.on.examples.clone()];
    let bytes = std::fs::metadata(&files[0]).map_or(0, |about| about.len());
    let mut documents = Documents::new(&files, format_of(arguments));
    let model = loaded.moved_to(&Device::open(adapter, kernel_choice)?)?;
    let mut reading = Reading::new(&model, windows, arguments.on.batch)?;
    let mut left = arguments.on.count.map_or(usize::MAX, |count| count as usize);
    let mut interrupted = false;
    'reading: while left > 0 {
        let batch = documents.batch(READ)?;
        if batch.is_empty() {
            break;
        }
        for text in batch.iter().take(left) {
            left -= 1;
            match reading.document(text, &pieces) {
                Err(error) if error.interrupted() => {
                    interrupted = true;
                    break 'reading;
                }
                other => other?,
            }
            let kib = |bytes: u64| bytes.div_ceil(1024) as usize;
            gauge.show("loss", "KiB", &Progress { done: kib(documents.read), of: kib(bytes), value: None });
        }
    }
    if !interrupted {
        match reading.flush() {
            Err(GpuError::Interrupted) => interrupted = true,
            other => other?,
        }
    }
    gauge.done();
    let short = reading.given.iter().filter(|number| number.is_none()).count();
    if short > 0 && short < reading.given.len() {
        print::note(&format!("{short} documents of a single token are left out: nothing stands before it"));
    }
    let report = reading.report(arguments.per_example, interrupted).map_err(|failure| match failure.code {
        // The file that has nothing to predict.
        super::failure::USAGE => Failure::usage(format!("{}: {}", files[0].display(), failure.message)),
        _ => failure,
    })?;
    match arguments.json.json {
        true => print::json(&report)?,
        false => print::line(&shown(&report))?,
    }
    match interrupted {
        true => Err(Failure::stopped("the numbers are of the windows until then")),
        false => Ok(()),
    }
}

/// Bytes of text that are read at once.
const READ: usize = 1 << 20;

/// Flags that say nothing about text.
fn refuse_others(arguments: &Eval) -> Result<(), Failure> {
    let file = arguments.on.examples.display();
    let given = [
        ("--seed", arguments.on.seed.is_some()),
        ("--positions", arguments.positions.is_some()),
        ("--export", arguments.export.is_some()),
        ("--as-sample", arguments.on.as_sample),
        ("an override", !arguments.on.overrides.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(Failure::usage(format!("{file}: {flag} belongs to a run config or to examples; this is text")))
        }
        None => Ok(()),
    }
}

fn format_of(arguments: &Eval) -> TextFormat {
    match arguments.format {
        Some(FormatChoice::Lines) => TextFormat::Lines,
        Some(FormatChoice::Documents) => TextFormat::Documents,
        Some(FormatChoice::Jsonl) => TextFormat::Jsonl,
        None if arguments.on.examples.extension().is_some_and(|e| e == "jsonl") => TextFormat::Jsonl,
        None => TextFormat::Documents,
    }
}

/// The windows that are asked for and that the model has positions for.
fn windows(arguments: &Eval, loaded: &Loaded) -> Result<Windows, Failure> {
    let config = &loaded.encoder.config;
    if config.reach() != Reach::Past {
        return Err(Failure::usage(format!(
            "{}: reads a text in both directions, so that it has no probability of the next token and no perplexity; \
             `lowland eval MODEL CONFIG` with `language.kind = \"text\"` gives its loss at masked tokens",
            loaded.folder.display()
        )));
    }
    let most = config.longest() as usize;
    let length = arguments.length.map_or(most, |length| length as usize);
    if length > most {
        return Err(Failure::usage(format!("--length {length}: the model has positions for {most} tokens")));
    }
    let stride = arguments.stride.map_or(length.div_ceil(2), |stride| stride as usize);
    if stride > length {
        let message = format!("--stride {stride}: is more than a window's {length} tokens; some would be in none");
        return Err(Failure::usage(message));
    }
    Ok(Windows { length, stride })
}

fn pieces_of(loaded: &Loaded) -> Result<Pieces, Failure> {
    let path = loaded.folder.join("tokenizer.json");
    if !path.exists() {
        return Err(Failure::usage(format!(
            "{}: has no tokenizer.json, which text is cut by; save the model's tokenizer beside it \
             (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`)",
            loaded.folder.display()
        )));
    }
    let pieces = Pieces::read(&path).map_err(Failure::usage)?;
    let (size, rows) = (pieces.size(), loaded.encoder.config.vocab_size);
    match size > rows {
        true => Err(Failure::usage(format!("{}: has {size} tokens, the model {rows} (vocab_size)", path.display()))),
        false => Ok(pieces),
    }
}

/// What has been gone through.
struct Reading {
    pass: ForwardPass,
    windows: Windows,
    batch: usize,
    /// Windows that wait for a batch to be full.
    waiting: Vec<Window>,
    documents: PartSums,
    parts: PartSums,
    bytes: Vec<f64>,
    /// Of every document that was read its number among those with something to predict.
    given: Vec<Option<usize>>,
    /// Sums as that loop has them.
    loop_nats: f64,
    loop_tokens: f64,
}

struct Window {
    /// Number of the document.
    document: usize,
    /// Whether it overlaps one before it.
    overlaps: bool,
    sentence: Sentence,
}

impl Reading {
    fn new(model: &Model, windows: Windows, batch: Option<u32>) -> Result<Reading, Failure> {
        let classes = model.encoder.classes() as usize;
        let batch = batch.map_or_else(|| Chunks::batch_for(windows.length, classes), |batch| batch as usize);
        let (sentences, length) = (batch as u32, windows.length as u32);
        let Some(rows) = sentences.checked_mul(length) else {
            let most = u32::MAX / length;
            let message = format!("--batch {batch}: of windows of {length} tokens a batch has {most} at most");
            return Err(Failure::usage(message));
        };
        let dims = Dims { rows, masked: rows, sentences, probes: 1, longest: 0 };
        let pass = ForwardPass::new(model, dims, Labels::Hard, false)?;
        let (documents, parts) = (PartSums::default(), PartSums::default());
        Ok(Reading {
            pass,
            windows,
            batch,
            waiting: vec![],
            documents,
            parts,
            bytes: vec![],
            given: vec![],
            loop_nats: 0.0,
            loop_tokens: 0.0,
        })
    }

    fn document(&mut self, text: &str, pieces: &Pieces) -> Result<(), Failure> {
        let ids = pieces.framed_ids(text).map_err(Failure::usage)?;
        // Nothing is predicted of a single token.
        if ids.len() < 2 {
            self.given.push(None);
            return Ok(());
        }
        let number = self.bytes.len();
        self.given.push(Some(number));
        self.bytes.push(text.len() as f64);
        for (i, sentence) in self.windows.of(&ids).enumerate() {
            let overlaps = i > 0 && self.windows.stride < self.windows.length;
            self.waiting.push(Window { document: number, overlaps, sentence });
            if self.waiting.len() == self.batch {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Runs what waits.
    fn flush(&mut self) -> Result<(), GpuError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let sentences: Vec<Sentence> = self.waiting.iter().map(|window| window.sentence.clone()).collect();
        let rows = self.pass.run(&sentences)?;
        let mut rows = rows.iter();
        for window in self.waiting.drain(..) {
            let tokens = window.sentence.masked.len();
            let nats: f64 = rows.by_ref().take(tokens).map(|row| row.loss).sum();
            self.documents.add(window.document, nats, tokens);
            self.parts.add(self.parts.nats.len(), nats, tokens);
            let counted = (tokens - usize::from(window.overlaps)) as f64;
            self.loop_nats += nats / tokens as f64 * counted;
            self.loop_tokens += counted;
        }
        Ok(())
    }

    fn report(&self, per_example: bool, interrupted: bool) -> Result<PerplexityReport, Failure> {
        if self.parts.nats.is_empty() {
            return Err(match interrupted {
                true => Interrupted.into(),
                false => Failure::usage("the text has a single token; nothing stands before it to predict it from"),
            });
        }
        // Documents whose windows were all gone through.
        let whole = self.waiting.first().map_or(self.bytes.len(), |window| window.document);
        let several = whole > 1;
        let mean = match several {
            true => self.documents.mean(whole),
            false => self.parts.mean(self.parts.nats.len()),
        };
        let known = |error: f64| error.is_finite().then_some(error);
        let (loss, error) = (mean.value, known(mean.standard_error));
        let tokens: f64 =
            if several { self.documents.tokens[..whole].iter().sum() } else { self.parts.tokens.iter().sum() };
        let bytes: f64 = self.bytes[..whole].iter().sum();
        let bits = (whole > 0).then(|| tokens / bytes / std::f64::consts::LN_2);
        Ok(PerplexityReport {
            loss,
            loss_standard_error: error,
            standard_error_over: if several { "documents" } else { "windows" }.into(),
            transformers_loop_loss: if self.loop_tokens > 0.0 { self.loop_nats / self.loop_tokens } else { loss },
            perplexity: libm::exp(loss),
            perplexity_standard_error: error.map(|error| libm::exp(loss) * error),
            bits_per_byte: bits.map(|bits| bits * loss),
            bits_per_byte_standard_error: bits.zip(error).map(|(bits, error)| bits * error),
            tokens: tokens as u64,
            bytes: bytes as u64,
            documents: whole,
            windows: self.parts.nats.len(),
            length: self.windows.length,
            stride: self.windows.stride,
            reached: !interrupted,
            interrupted,
            too_short: self.given.iter().filter(|number| number.is_none()).count(),
            per_example: per_example.then(|| {
                let given = self.given.iter().take_while(|number| number.is_none_or(|number| number < whole));
                given.map(|number| number.map(|number| self.documents.nats[number])).collect()
            }),
        })
    }
}

fn shown(report: &PerplexityReport) -> String {
    let per_byte = report.bits_per_byte.map_or("bits a byte are not known".into(), |bits| {
        format!("{} bits a byte", print::with_error(bits, report.bits_per_byte_standard_error))
    });
    let mut text = format!(
        "loss {} nats a predicted token, perplexity {}, {per_byte}{}\n\
         {} tokens predicted of {} bytes in {} documents, {} windows of {} tokens every {}; standard errors over {}",
        print::with_error(report.loss, report.loss_standard_error),
        print::with_error(report.perplexity, report.perplexity_standard_error),
        if report.interrupted { " (interrupted)" } else { "" },
        report.tokens,
        report.bytes,
        report.documents,
        report.windows,
        report.length,
        report.stride,
        report.standard_error_over,
    );
    for (i, nats) in report.per_example.iter().flatten().enumerate() {
        text += &format!("\n{i}\t{}", nats.map_or("null".into(), |nats| nats.to_string()));
    }
    text
}
