//! The cost of a gradient and of a whole AdamW step, of plain products, and how cost grows with each size; all beside
//! the same in PyTorch, timed in turn in one run.
//!
//!     cargo bench --bench step -- [SHAPE ..] [--config FILE] [--set KEY=VALUE] [--part PART] [--runs N] [--json FILE]
//!
//! A shape is `width/layers/tokens/batch` (heads of 32 numbers or less), behind `lstm:`, `gpt2:` or `llama:` that of
//! such a model, a decoder with the loss of all next words; with `--config` the model and the sentences of a run
//! config. `smollm2-135m` is a case that others publish (`lowland::model::Published`), its forward pass and its
//! gradient. PyTorch is the one of `$LOWLAND_PEERS` (a Python interpreter), else of `target/peers` (`make peers`);
//! without it the table has only our own times. Absolute times mean little on shared machines: read the ratios.

mod peer;
mod products;
mod published;
mod race;
mod steps;
mod workload;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use lowland::gpu::{AdapterChoice, Gpu};
use lowland::model::{ModelKind, Published};
use lowland::ops::Variants;
use serde_json::{Value, json};

use peer::Peer;
use race::Times;
use workload::{Sizes, Workload};

type Error = Box<dyn std::error::Error>;

/// What there is to time.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// Gradients and training steps.
    Steps,
    /// Matrix products.
    Products,
    /// Each size doubled from a base.
    Scaling,
    /// A case that others publish.
    Published,
}

#[derive(Parser)]
struct Arguments {
    /// width/layers/tokens/batch, or smollm2-135m; only these steps are timed then
    shapes: Vec<String>,
    /// Take model and sentences of this run config too.
    #[arg(long)]
    config: Option<PathBuf>,
    /// An override of the config.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// What to time; all unless shapes or a config are given.
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
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
    /// Print where a step's time goes, by kernel, from timestamps.
    #[arg(long)]
    profile: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        let own = !self.shapes.is_empty() || self.config.is_some();
        if self.parts.is_empty() { !own || part == Part::Steps } else { self.parts.contains(&part) }
    }

    /// The shapes without the case that others publish, and whether that is among them.
    fn shapes(&self) -> (Vec<String>, bool) {
        let (published, own): (Vec<String>, _) =
            self.shapes.iter().cloned().partition(|shape| shape == Published::smollm2_135m().name);
        (own, !published.is_empty())
    }
}

/// `12.3 ms (PyTorch 4.5 ms, ratio 2.73 [2.70, 2.80])`
fn summary(times: &Times) -> String {
    let mut text = format!("{:9.2} ms", times.seconds() * 1e3);
    if let (Some(theirs), Some([low, median, high])) = (times.peer_seconds(), times.ratio()) {
        text += &format!(" (PyTorch {:.2} ms, ratio {median:.2} [{low:.2}, {high:.2}])", theirs * 1e3);
    }
    text
}

fn time_steps(gpu: &Gpu, arguments: &Arguments, peer: &mut Option<Peer>) -> Result<Vec<Value>, Error> {
    let (mut shapes, published) = arguments.shapes();
    if shapes.is_empty() && arguments.config.is_none() && !published {
        let transformers = ["64/2/16/64", "128/4/16/64", "128/4/16/256", "256/4/32/64"];
        shapes = transformers.into_iter().chain(["lstm:64/2/16/256", "lstm:128/2/16/256"]).map(String::from).collect();
        if !gpu.capabilities().software {
            shapes.extend(["512/8/32/64", "512/8/32/1024"].map(String::from));
        }
    }
    let mut workloads: Vec<Workload> =
        shapes.iter().map(|s| Ok(Workload::of(s, Sizes::parse(s)?))).collect::<Result<_, Error>>()?;
    if let Some(path) = &arguments.config {
        workloads.push(Workload::of_config(path, &arguments.overrides)?);
    }
    if workloads.is_empty() {
        return Ok(vec![]);
    }
    println!("\nwidth/layers/tokens/batch: a gradient, and a step with AdamW");
    let mut lines = Vec::new();
    for workload in &workloads {
        let steps = steps::race(gpu, workload, peer, arguments.runs, arguments.profile)?;
        println!(
            "{:16} {:>4} dispatches, first step after {:.2} s, {:.2} s of it for kernels",
            workload.name, steps.dispatches, steps.first, steps.kernels
        );
        println!("    gradient {}", summary(&steps.gradient));
        println!("    step     {}", summary(&steps.step));
        print_profile(&steps.profile);
        lines.push(steps.json(&workload.name));
    }
    Ok(lines)
}

fn print_profile(profile: &[(String, f64, usize)]) {
    let whole: f64 = profile.iter().map(|(_, seconds, _)| seconds).sum();
    for (kernel, seconds, dispatches) in profile {
        println!("    {:8.2} ms {:5.1} %  {dispatches:>3} x {kernel}", seconds * 1e3, 100.0 * seconds / whole);
    }
}

fn time_published(gpu: &Gpu, arguments: &Arguments, peer: &mut Option<Peer>) -> Result<Value, Error> {
    let workload = Workload::of_published(Published::smollm2_135m());
    println!("\na case that others publish: forward, and forward with backward");
    let times = published::race(gpu, &workload, peer, arguments.runs, arguments.profile)?;
    println!("{:16} {:>4} and {} dispatches", workload.name, times.dispatches[0], times.dispatches[1]);
    println!("    forward  {}", summary(&times.forward));
    println!("    gradient {}", summary(&times.gradient));
    print_profile(&times.profile);
    Ok(times.json(&workload.name))
}

fn time_products(gpu: &Gpu, runs: usize, peer: &mut Option<Peer>) -> Result<Vec<Value>, Error> {
    println!("\nproducts, m x k x n: GFLOP/s, and the rate as a share of PyTorch's");
    let mut lines = Vec::new();
    for product in products::shapes(&[(128, 4096), (256, 2048)]) {
        let times = product.race(gpu, peer, runs)?;
        let shape = format!("{} x {} x {}", product.m, product.k, product.n);
        print!("{:?} {shape:20} {:22} {:7.1}", product.layout, product.what, product.rate(times.seconds()));
        if let (Some(theirs), Some([low, median, high])) = (times.peer_seconds(), times.ratio()) {
            let rate = product.rate(theirs);
            print!("   (PyTorch {rate:7.1}, share {:.2} [{:.2}, {:.2}])", 1.0 / median, 1.0 / high, 1.0 / low);
        }
        println!();
        lines.push(product.json(&times));
    }
    Ok(lines)
}

fn time_scaling(gpu: &Gpu, runs: usize, peer: &mut Option<Peer>) -> Result<Vec<Value>, Error> {
    let base = Sizes { kind: ModelKind::default(), width: 128, layers: 2, tokens: 16, batch: 64, words: 1000 };
    let doubled = [
        ("base", base),
        ("2 x batch", Sizes { batch: 2 * base.batch, ..base }),
        ("2 x width", Sizes { width: 2 * base.width, ..base }),
        ("2 x layers", Sizes { layers: 2 * base.layers, ..base }),
        ("2 x length", Sizes { tokens: 2 * base.tokens, ..base }),
        ("2 x vocabulary", Sizes { words: 2 * base.words, ..base }),
    ];
    println!("\nscaling from {base:?}: a step, and its cost as a multiple of the base's");
    let mut lines = Vec::new();
    let mut at_base: Option<(f64, Option<f64>)> = None;
    for (name, sizes) in doubled {
        let steps = steps::race(gpu, &Workload::of(name, sizes), peer, runs, false)?;
        let (ours, theirs) = (steps.step.seconds(), steps.step.peer_seconds());
        let (base_ours, base_theirs) = *at_base.get_or_insert((ours, theirs));
        print!("{name:16} {:5.2}", ours / base_ours);
        if let (Some(theirs), Some(base_theirs)) = (theirs, base_theirs) {
            print!(" (PyTorch {:5.2})", theirs / base_theirs);
        }
        println!("   {}", summary(&steps.step));
        let mut line = steps.json(name);
        line["sizes"] = json!({
            "width": sizes.width, "layers": sizes.layers, "tokens": sizes.tokens, "batch": sizes.batch,
            "words": sizes.words,
        });
        line["multiple"] = json!(ours / base_ours);
        line["peer_multiple"] = json!(theirs.zip(base_theirs).map(|(t, b)| t / b));
        lines.push(line);
    }
    Ok(lines)
}

/// The processor's name, where the system tells it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(text.lines().find(|l| l.starts_with("model name"))?.split_once(':')?.1.trim().to_string())
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    lowland::gpu::prepare_process(None);
    let gpu = Gpu::open(&arguments.adapter.parse::<AdapterChoice>()?, Default::default())?;
    println!("on {}", gpu.info().name);
    let mut peer = Peer::start("torch_step.py", &arguments.peer_device);
    let mut whole = json!({
        "lowland": env!("CARGO_PKG_VERSION"),
        "system": std::env::consts::OS,
        "processor": processor(),
        "cores": std::thread::available_parallelism().map_or(0, |n| n.get()),
        "adapter": gpu.info().name,
        "driver": gpu.info().driver_info,
        "capabilities": gpu.capabilities(),
        "variants": Variants::choose(gpu.capabilities()),
        "runs": arguments.runs,
        "peer": peer.as_ref().map_or(Value::Null, |p| p.about.clone()),
    });
    if arguments.wants(Part::Steps) {
        whole["steps"] = json!(time_steps(&gpu, &arguments, &mut peer)?);
    }
    if arguments.wants(Part::Published) || arguments.shapes().1 {
        whole["published"] = time_published(&gpu, &arguments, &mut peer)?;
    }
    if arguments.wants(Part::Products) {
        whole["products"] = json!(time_products(&gpu, arguments.runs, &mut peer)?);
    }
    if arguments.wants(Part::Scaling) {
        whole["scaling"] = json!(time_scaling(&gpu, arguments.runs, &mut peer)?);
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&whole)? + "\n")?;
    }
    Ok(())
}
