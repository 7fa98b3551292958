//! How often the 95 % intervals of the measures of flatness and sharpness cover the truth, over repeats with examples
//! and draws of their own; the truth is that of every label of every example of a pool.
//!
//!     cargo bench --bench coverage -- [--model DIR --pool EXAMPLES.jsonl] [--repeats 200] [--count 256] [--draws 2]
//!                                [--only flatness|noise|update|preconditioned|diagonal]
//!                                [--records FILE]
//!
//! It tells how far it is on stderr; a part takes minutes, and with records goes on where it was ended.

mod sharpness;

use std::path::PathBuf;

use clap::Parser;
use lowland::curvature::{Chunks, Flatness, FlatnessOptions, Subject};
use lowland::gpu::{AdapterChoice, Gpu};
use lowland::model::{MASK, Model, load, read_examples};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw};
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Estimate, Target};

type Error = Box<dyn std::error::Error>;

/// Coverage of the intervals of `measure flatness`.
#[derive(Parser)]
struct Arguments {
    /// A model's folder; default: a random one of the tests
    #[arg(long, requires = "pool")]
    model: Option<PathBuf>,
    /// Its pool of examples; default: 1,000 random sentences
    #[arg(long, requires = "model")]
    pool: Option<PathBuf>,
    #[arg(long, default_value_t = 200)]
    repeats: u64,
    /// Examples of a repeat, drawn from the pool with replacement
    #[arg(long, default_value_t = 256)]
    count: usize,
    /// Draws of signs an example
    #[arg(long, default_value_t = 2)]
    draws: usize,
    /// One of its parts; default: all
    #[arg(long, value_parser = parts())]
    only: Option<String>,
    /// Where repeats are kept, so that those that are there are not run again; of one set of options only
    #[arg(long)]
    records: Option<PathBuf>,
    #[arg(long, env = "LOWLAND_ADAPTER", default_value = "best")]
    adapter: String,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn parts() -> Vec<&'static str> {
    std::iter::once("flatness").chain(sharpness::PARTS).collect()
}

/// Each measure with its bias, where it is a least of estimates.
fn measures(f: &Flatness) -> Vec<(&'static str, Estimate, f64)> {
    let plain = [
        ("trace", Some(f.trace)),
        ("scale_free_trace", Some(f.scale_free_trace)),
        ("relative_flatness", f.relative_flatness),
        ("logit_scale", Some(f.logit_scale)),
    ];
    let least = [("balanced_trace", f.balanced_trace.ok()), ("balanced_trace_all", f.balanced_trace_all.ok())];
    let plain = plain.into_iter().filter_map(|(name, e)| Some((name, e?, 0.0)));
    plain.chain(least.into_iter().filter_map(|(name, l)| l.map(|l| (name, l.trace, l.bias)))).collect()
}

/// What the repeats say of one measure.
#[derive(Clone, Default)]
struct Tally {
    repeats: f64,
    covered: u64,
    truth: f64,
    off: f64,
    squares: f64,
    stated: f64,
    bias: f64,
}

impl Tally {
    fn add(&mut self, estimate: Estimate, bias: f64, truth: f64) {
        let off = estimate.value - truth;
        self.repeats += 1.0;
        self.covered += u64::from(off.abs() <= 1.96 * estimate.standard_error);
        self.truth += truth;
        self.off += off;
        self.squares += off * off;
        self.stated += estimate.standard_error;
        self.bias += bias;
    }

    /// Under [`HEAD`]; the truth is the mean one where repeats have their own.
    fn row(&self) -> String {
        let mean = |sum: f64| sum / self.repeats;
        let (truth, off, stated, bias) = (mean(self.truth), mean(self.off), mean(self.stated), mean(self.bias));
        let deviation = (mean(self.squares) - off * off).max(0.0).sqrt();
        let (covered, repeats) = (self.covered, self.repeats);
        format!("{covered:>8} {repeats:>4} {truth:>11.5} {deviation:>11.5} {stated:>11.5} {off:>11.5} {bias:>11.5}")
    }
}

/// What [`Tally::row`] has, behind 26 columns for the name.
fn head() -> String {
    let names = ["truth", "deviation", "stated", "mean off", "bias"].map(|name| format!(" {name:>11}")).concat();
    format!("{:26} {:>8} {:>4}{names}", "measure", "covered", "of")
}

fn main() -> Result<(), Error> {
    let a = Arguments::parse();
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/roberta-20"));
    let loaded = load(a.model.as_deref().unwrap_or(&default))?;
    let config = &loaded.encoder.config;
    let pool = match &a.pool {
        Some(path) => read_examples(path, config)?,
        None => (0..1000).map(|i| random_sentence(config.vocab_size, i)).collect(),
    };
    let gpu = Gpu::open(&a.adapter.parse::<AdapterChoice>()?, Default::default())?;
    let model = Model::new(&Device::of(&gpu), &loaded.encoder, &loaded.weights)?;
    let chunks = Chunks { batch: 256, probes: 8 };
    let measured = |sentences: &[Sentence], kind: LossDraw, seed: u64, target: Target| {
        let subject = Subject::new(&model, sentences, &[], &chunks)?;
        let what = FlatnessOptions { kind, seed, draws: a.draws, target, into: None };
        Flatness::measure(&subject, &what, &mut |_| Ok(()))
    };
    let drawn = |repeat: u64| -> Vec<Sentence> {
        let mut random = Stream::new(repeat, Purpose::Test, 0);
        let one = |_| pool[((random.uniform() * pool.len() as f64) as usize).min(pool.len() - 1)].clone();
        (0..a.count).map(one).collect()
    };
    println!("{} repeats of {} examples from {}, {} draws each", a.repeats, a.count, pool.len(), a.draws);
    let wanted = |part: &str| a.only.as_deref().is_none_or(|only| only == part);
    println!("\n{}", head());
    for part in sharpness::PARTS.into_iter().filter(|part| wanted(part)) {
        sharpness::Sharpness { model: &model, pool: &pool, repeats: a.repeats, records: a.records.clone() }
            .run(part, &drawn)?;
    }
    if !wanted("flatness") {
        return Ok(());
    }
    for target in [Target::Population, Target::TheseExamples] {
        let given = drawn(0);
        let of = if target == Target::Population { &pool } else { &given };
        let truth = measures(&measured(of, LossDraw::Exact, 0, Target::TheseExamples)?);
        let mut tallies = vec![Tally::default(); truth.len()];
        for repeat in 1..=a.repeats {
            let sentences = if target == Target::Population { drawn(repeat) } else { given.clone() };
            let found = measures(&measured(&sentences, LossDraw::Signs, repeat, target)?);
            for ((tally, (_, estimate, bias)), (_, truth, _)) in tallies.iter_mut().zip(&found).zip(&truth) {
                tally.add(*estimate, *bias, truth.value);
            }
        }
        println!("{target:?}");
        for (tally, (name, ..)) in tallies.iter().zip(&truth) {
            println!("{name:26} {}", tally.row());
        }
    }
    Ok(())
}

/// A sentence of 3 to 8 random words of which one or two are masked.
fn random_sentence(words: u32, number: u64) -> Sentence {
    let mut random = Stream::new(7, Purpose::Test, number);
    let mut below = |n: u32| ((random.uniform() * f64::from(n)) as u32).min(n - 1);
    let length = 3 + below(6);
    let mut ids: Vec<u32> = [0].into_iter().chain((0..length).map(|_| 4 + below(words - 4))).chain([2]).collect();
    let mut places = vec![1 + below(length)];
    if below(2) == 1 {
        places.push(1 + below(length));
    }
    places.sort_unstable();
    places.dedup();
    let masked: Vec<(u32, u32)> = places.iter().map(|p| (*p, ids[*p as usize])).collect();
    places.iter().for_each(|p| ids[*p as usize] = MASK);
    Sentence { ids, masked, ..Sentence::default() }
}
