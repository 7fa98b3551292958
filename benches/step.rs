//! The cost of a gradient and of a whole AdamW step, beside the same in PyTorch, timed in turn in one run.
//!
//!     cargo bench --bench step -- [SHAPE ..] [--config FILE] [--set KEY=VALUE] [--runs N] [--json FILE]
//!
//! A shape is `width/layers/tokens/batch` (heads of 32 numbers or less); with `--config` the model and the sentences of a
//! run config. PyTorch is the one of `$LOWLAND_PEERS` (a Python interpreter), else of `target/peers` (`make peers`); without
//! it the table has only our own times. Absolute times mean little on shared machines: read the ratios.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use clap::Parser;
use lowland::config::{self, TrainSection};
use lowland::gpu::{AdapterChoice, Gpu};
use lowland::model::{Encoder, GradientPass, ModelConfig, Vocabulary, Weights, dims_for};
use lowland::ops::batch::{Batch, Sentence};
use lowland::ops::{Labels, Variants};
use lowland::random::{Purpose, Stream};
use lowland::train::{Corpus, Micro, Trainer};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Arguments {
    /// width/layers/tokens/batch
    shapes: Vec<String>,
    /// Take model and sentences of this run config too.
    #[arg(long)]
    config: Option<PathBuf>,
    /// An override of the config.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Repeats of each; the median counts.
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Where to write the numbers, with the environment.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Adapter, as for `lowland`.
    #[arg(long, env = "LOWLAND_ADAPTER", default_value = "best")]
    adapter: String,
    /// Device for PyTorch.
    #[arg(long, default_value = "cpu")]
    peer_device: String,
    /// Print where a gradient's time goes, by kernel, from timestamps.
    #[arg(long)]
    profile: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is timed: a model and a batch.
struct Workload {
    name: String,
    model: ModelConfig,
    sentences: Vec<Sentence>,
}

impl Workload {
    /// Sentences all of one length, one masked word each.
    fn of_shape(text: &str) -> Result<Workload, Error> {
        let numbers: Vec<u32> = text.split('/').map(str::parse).collect::<Result<_, _>>()?;
        let [width, layers, tokens, batch] = numbers[..] else {
            return Err(format!("`{text}` is not width/layers/tokens/batch").into());
        };
        let model = ModelConfig {
            vocab_size: 204,
            hidden_size: width,
            num_hidden_layers: layers,
            num_attention_heads: (width / 32).max(2),
            intermediate_size: 4 * width,
            max_position_embeddings: tokens + 2,
            ..ModelConfig::default()
        };
        let mut random = Stream::new(1, Purpose::Test, 0);
        let sentences = (0..batch)
            .map(|_| {
                let words: Vec<u32> = (0..tokens - 2).map(|_| random.below(200)).collect();
                let position = random.below(tokens - 2) as usize;
                Vocabulary::mask(&words, position)
            })
            .collect();
        Ok(Workload { name: text.into(), model, sentences })
    }

    /// The first batch of a run config.
    fn of_config(path: &Path, overrides: &[String]) -> Result<Workload, Error> {
        let resolved = config::load(path, overrides)?;
        let config = &resolved.config;
        let corpus = Corpus::open(&config.language, &config.objective, config.seed)?;
        let model = config.model.model_config(corpus.vocabulary.len() as u32, corpus.language.max_length());
        let sentences = (0..u64::from(config.train.batch_size)).map(|i| corpus.sentence(i)).collect();
        Ok(Workload { name: resolved.name, model, sentences })
    }

    fn for_peer(&self) -> Value {
        let batch: Vec<Value> = self
            .sentences
            .iter()
            .map(|s| {
                let (positions, labels): (Vec<u32>, Vec<u32>) = s.masked.iter().copied().unzip();
                json!({ "input_ids": s.ids, "positions": positions, "labels": labels })
            })
            .collect();
        let m = &self.model;
        json!({ "prepare": {
            "vocab_size": m.vocab_size, "hidden_size": m.hidden_size, "num_hidden_layers": m.num_hidden_layers,
            "num_attention_heads": m.num_attention_heads, "intermediate_size": m.intermediate_size, "batch": batch,
        } })
    }
}

/// The other side of the race: a process that answers each line with one.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    about: Value,
}

impl Peer {
    fn start(device: &str) -> Option<Peer> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("LOWLAND_PEERS").map_or(root.join("target/peers/bin/python"), PathBuf::from);
        let script = root.join("benches/peers/torch_step.py");
        let child = Command::new(&python)
            .arg(script)
            .args(["--device", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            println!("PyTorch is left out: {} is not there (`make peers` makes it)", python.display());
            return None;
        };
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut peer = Peer { child, input, output, about: Value::Null };
        match peer.answer() {
            Ok(about) => peer.about = about,
            Err(_) => {
                println!("PyTorch is left out: {} lacks torch or transformers", python.display());
                return None;
            }
        }
        Some(peer)
    }

    fn answer(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn ask(&mut self, order: &Value) -> Result<Value, Error> {
        writeln!(self.input, "{order}")?;
        self.answer()
    }

    fn seconds(&mut self, order: &Value) -> Result<f64, Error> {
        Ok(self.ask(order)?["seconds"][0].as_f64().ok_or("no time came back")?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Median and quartiles.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|q| sorted[((sorted.len() - 1) as f64 * q).round() as usize])
}

/// Seconds and dispatches of each kernel in a gradient, the longest first; medians of some repeats.
fn profile(gpu: &Gpu, pass: &GradientPass, sentences: &[Sentence]) -> Result<Vec<(String, f64, usize)>, Error> {
    let mut repeats: HashMap<String, (Vec<f64>, usize)> = HashMap::new();
    for _ in 0..5 {
        let mut sums: HashMap<String, (f64, usize)> = HashMap::new();
        for (label, seconds) in pass.time(gpu, sentences)? {
            let kernel = label.split(" | ").next().unwrap_or(&label).to_string();
            let sum = sums.entry(kernel).or_default();
            *sum = (sum.0 + seconds, sum.1 + 1);
        }
        for (kernel, (seconds, dispatches)) in sums {
            let all = repeats.entry(kernel).or_default();
            all.0.push(seconds);
            all.1 = dispatches;
        }
    }
    let mut all: Vec<_> = repeats.into_iter().map(|(kernel, (s, n))| (kernel, quartiles(&s)[1], n)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(all)
}

fn race(
    gpu: &Gpu,
    workload: &Workload,
    peer: &mut Option<Peer>,
    runs: usize,
    with_profile: bool,
) -> Result<Value, Error> {
    let encoder = Encoder::new(&workload.model)?;
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let variants = Variants::choose(gpu.capabilities());
    let dims = dims_for(&workload.sentences, workload.sentences.len());
    let batch_size = workload.sentences.len() as u32;
    let train = TrainSection { batch_size, steps: 1_000_000, ..TrainSection::default() };
    let mut trainer = Trainer::new(gpu, &encoder, &weights, &train, Labels::Hard, dims, &variants, 1)?;
    let pass = GradientPass::new(gpu, &encoder, &trainer.parameters, dims, &variants, Labels::Hard)?;
    let masked: usize = workload.sentences.iter().map(|s| s.masked.len()).sum();
    let micros = [Micro { batch: Batch::new(pass.layout(), &workload.sentences), weight: 1.0 / masked as f32 }];
    if let Some(peer) = peer {
        peer.ask(&workload.for_peer())?;
    }
    let mut times: [[Vec<f64>; 2]; 2] = Default::default();
    for round in 0..runs + 2 {
        let mut one = [[0.0; 2]; 2];
        let start = Instant::now();
        pass.run(gpu, &workload.sentences)?;
        one[0][0] = start.elapsed().as_secs_f64();
        let start = Instant::now();
        trainer.advance(gpu, &micros)?;
        gpu.finish()?;
        one[1][0] = start.elapsed().as_secs_f64();
        if let Some(peer) = peer {
            one[0][1] = peer.seconds(&json!({ "run": "gradient", "times": 1 }))?;
            one[1][1] = peer.seconds(&json!({ "run": "step", "times": 1 }))?;
        }
        // The first rounds warm caches up.
        if round >= 2 {
            for what in 0..2 {
                for whose in 0..2 {
                    times[what][whose].push(one[what][whose]);
                }
            }
        }
    }
    let mut line = json!({
        "shape": workload.name,
        "parameters": encoder.parameter_count(),
        "tokens": workload.sentences.iter().map(|s| s.ids.len()).sum::<usize>(),
        "dispatches": trainer.dispatches(),
    });
    print!("{:18} {:>4} dispatches", workload.name, trainer.dispatches());
    for (name, [ours, theirs]) in ["gradient", "step"].into_iter().zip(&times) {
        let own = quartiles(ours)[1];
        line[name] = json!({ "seconds": own });
        print!("   {name} {:8.1} ms", own * 1e3);
        if peer.is_some() {
            let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
            let [low, median, high] = quartiles(&ratios);
            line[name]["peer_seconds"] = json!(quartiles(theirs)[1]);
            line[name]["ratio"] = json!(median);
            line[name]["ratio_quartiles"] = json!([low, high]);
            print!(" (PyTorch {:.1} ms, ratio {median:.2} [{low:.2}, {high:.2}])", quartiles(theirs)[1] * 1e3);
        }
    }
    println!();
    if with_profile && gpu.capabilities().timestamps {
        let all = profile(gpu, &pass, &workload.sentences)?;
        let whole: f64 = all.iter().map(|(_, seconds, _)| seconds).sum();
        for (kernel, seconds, dispatches) in &all {
            println!("  {:8.2} ms {:5.1} %  {dispatches:>3} x {kernel}", seconds * 1e3, 100.0 * seconds / whole);
        }
        println!("  {:8.2} ms in all", whole * 1e3);
        line["profile"] = json!(all);
    }
    Ok(line)
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    lowland::gpu::prepare_process();
    let gpu = Gpu::open(&arguments.adapter.parse::<AdapterChoice>()?, Default::default())?;
    println!("on {}", gpu.info().name);
    let mut peer = Peer::start(&arguments.peer_device);
    let mut shapes = arguments.shapes.clone();
    if shapes.is_empty() && arguments.config.is_none() {
        shapes = ["64/2/16/64", "128/4/16/64", "128/4/16/256", "256/4/32/64"].map(String::from).to_vec();
        if !gpu.capabilities().software {
            shapes.extend(["512/8/32/64", "512/8/32/1024"].map(String::from));
        }
    }
    let mut workloads: Vec<Workload> = shapes.iter().map(|s| Workload::of_shape(s)).collect::<Result<_, _>>()?;
    if let Some(path) = &arguments.config {
        workloads.push(Workload::of_config(path, &arguments.overrides)?);
    }
    let mut lines = Vec::new();
    for workload in &workloads {
        lines.push(race(&gpu, workload, &mut peer, arguments.runs, arguments.profile)?);
    }
    if let Some(path) = &arguments.json {
        let whole = json!({
            "lowland": env!("CARGO_PKG_VERSION"),
            "adapter": gpu.info().name,
            "driver": gpu.info().driver_info,
            "cores": std::thread::available_parallelism().map_or(0, |n| n.get()),
            "peer": peer.as_ref().map_or(Value::Null, |p| p.about.clone()),
            "steps": lines,
        });
        std::fs::write(path, serde_json::to_string_pretty(&whole)? + "\n")?;
    }
    Ok(())
}
