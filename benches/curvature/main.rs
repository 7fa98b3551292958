//! What curvature costs in multiples of one gradient on the same batch, medians of alternating repeats in one run.
//!
//!     cargo bench --bench curvature -- [--shape 128/4/16/256] [--runs 7] [--profile] [--trace MODEL=CONFIG] [--goal 1]
//!         [--exact 512/8/110/12/8/29] [--json FILE]

// Shared with the other bench, which uses more of it.
mod exact;
#[allow(dead_code)]
#[path = "../step/peer.rs"]
mod peer;
mod trace;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use lowland::curvature::{Chunks, Cotangent, FormPass, Matrix, NormPass, ProbeKind, ProductPass, Subject, probes};
use lowland::gpu::{AdapterChoice, Gpu};
use lowland::model::{Encoder, GradientPass, Model, ModelConfig, TokenIds, Weights, dims_for};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels, LossDraw};
use lowland::random::{Purpose, Stream};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

/// Cost of curvature in gradients.
#[derive(Parser)]
struct Arguments {
    /// width/layers/tokens/sentences; may be repeated
    #[arg(long = "shape")]
    shapes: Vec<String>,
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Vectors or draws at once
    #[arg(long, default_value_t = 8)]
    probes: u32,
    /// Print where the time goes, by kernel
    #[arg(long)]
    profile: bool,
    /// Seconds until a trained model's trace is known to 1 % (`--goal`), beside PyTorch: MODEL=CONFIG[,KEY=VALUE..];
    /// may be repeated
    #[arg(long = "trace", value_name = "MODEL=CONFIG")]
    traces: Vec<String>,
    /// The standard error that is run for, in percent of the trace
    #[arg(long, default_value_t = 1.0)]
    goal: f64,
    /// Times that every arm of it runs
    #[arg(long, default_value_t = 4)]
    rounds: u64,
    /// Batches of the released method each time
    #[arg(long, default_value_t = 40)]
    batches: usize,
    /// Plain quadratic forms too, extrapolated from a few batches
    #[arg(long)]
    forms: bool,
    /// Sentences by design too
    #[arg(long)]
    designs: bool,
    /// Every label enumerated, beside the least that it could take: width/layers/tokens/sentences/positions/words
    #[arg(long = "exact", value_name = "SHAPE")]
    exact: Vec<String>,
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long, env = "LOWLAND_ADAPTER", default_value = "best")]
    adapter: String,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn workload(text: &str) -> Result<(Encoder, Vec<Sentence>), Error> {
    let numbers: Vec<u32> = text.split('/').map(str::parse).collect::<Result<_, _>>()?;
    let [width, layers, tokens, batch] = numbers[..] else {
        return Err(format!("`{text}` is not width/layers/tokens/sentences").into());
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
    let ids = TokenIds::new(200);
    let mut random = Stream::new(1, Purpose::Test, 0);
    let sentences = (0..batch)
        .map(|_| {
            let words: Vec<u32> = (0..tokens - 2).map(|_| random.below(200)).collect();
            let position = random.below(tokens - 2) as usize;
            ids.mask(&words, position)
        })
        .collect();
    Ok((Encoder::new(&model)?, sentences))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|q| sorted[((sorted.len() - 1) as f64 * q).round() as usize])
}

/// The longest kernels of a pass.
fn profile(title: &str, all: &[(String, f64)]) {
    let mut sums: std::collections::BTreeMap<String, (f64, usize)> = Default::default();
    for (label, seconds) in all {
        let kernel = label.split(" | ").next().unwrap_or(label).to_string();
        let sum = sums.entry(kernel).or_default();
        *sum = (sum.0 + seconds, sum.1 + 1);
    }
    let whole: f64 = all.iter().map(|(_, s)| s).sum();
    println!("  {title}: {:.1} ms, {} dispatches", whole * 1e3, all.len());
    let mut sorted: Vec<_> = sums.into_iter().collect();
    sorted.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (kernel, (seconds, n)) in sorted.iter().take(14) {
        println!("  {:9.2} ms {:5.1} %  {n:>3} x {kernel}", seconds * 1e3, 100.0 * seconds / whole);
    }
}

fn race(gpu: &Gpu, shape: &str, arguments: &Arguments) -> Result<Value, Error> {
    let (encoder, sentences) = workload(shape)?;
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let model = Model::new(&Device::of(gpu), &encoder, &weights)?;
    let chunks = Chunks { batch: sentences.len(), probes: arguments.probes };
    let subject = Subject::new(&model, &sentences, &[], &chunks)?;
    let dims = dims_for(&sentences, sentences.len());
    let gradient = GradientPass::new(&model, dims, Labels::Hard)?;
    let hessian = ProductPass::new(&subject, Matrix::Hessian)?;
    let ggn = ProductPass::new(&subject, Matrix::Ggn)?;
    let forms = FormPass::new(&subject, true)?;
    let norms = NormPass::new(&subject, Cotangent::Data)?;
    let signs = NormPass::new(&subject, Cotangent::Draw(LossDraw::Signs))?;
    let k = hessian.width().min(arguments.probes as usize).max(2);
    let block = probes(ProbeKind::Rademacher, 1, 0..k, subject.size());
    let time = |what: &dyn Fn() -> Result<(), Error>| -> Result<f64, Error> {
        let start = Instant::now();
        what()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let product = |pass: &ProductPass, n: usize| {
        time(&|| {
            pass.forget();
            pass.run(&subject, &block[..n])?;
            Ok(())
        })
    };
    let form = |n: usize| {
        time(&|| {
            forms.forget();
            forms.run(&subject, &block[..n])?;
            Ok(())
        })
    };
    let norm = |pass: &NormPass, n: usize| {
        time(&|| {
            pass.forget();
            pass.run(&subject, 0, 1, 0, n, |_, _, _, _| ())?;
            Ok(())
        })
    };
    const NAMES: [&str; 8] = [
        "per-example squared norms, all parameters",
        "Hv, first probe (primal pass included)",
        "Hv, each further probe",
        "Gv, first probe (primal pass included)",
        "Gv, each further probe",
        "vᵀHv, each further probe",
        "random-sign trace sample",
        "each further sign draw of the same examples",
    ];
    let mut costs: [Vec<f64>; 8] = Default::default();
    let mut gradients = Vec::new();
    for round in 0..arguments.runs + 1 {
        let one = time(&|| Ok(gradient.run(&sentences).map(|_| ())?))?;
        let further = (k - 1) as f64;
        let (h1, hk) = (product(&hessian, 1)?, product(&hessian, k)?);
        let (g1, gk) = (product(&ggn, 1)?, product(&ggn, k)?);
        let (f1, fk) = (form(1)?, form(k)?);
        let (s1, sk) = (norm(&signs, 1)?, norm(&signs, k)?);
        let again = time(&|| Ok(gradient.run(&sentences).map(|_| ())?))?;
        let values = [
            norm(&norms, 1)?,
            h1,
            (hk - h1) / further,
            g1,
            (gk - g1) / further,
            (fk - f1) / further,
            s1,
            (sk - s1) / further,
        ];
        if round > 0 {
            let unit = (one + again) / 2.0;
            gradients.push(unit);
            costs.iter_mut().zip(values).for_each(|(all, v)| all.push(v / unit));
        }
    }
    println!("{shape}: a gradient takes {:.1} ms, {k} probes at once", median(gradients) * 1e3);
    let mut line = json!({ "shape": shape, "probes": k });
    for (name, values) in NAMES.iter().zip(&costs) {
        let [low, middle, high] = quartiles(values);
        println!("  {middle:5.2} [{low:.2}, {high:.2}]  {name}");
        line[*name] = json!({ "gradients": middle, "quartiles": [low, high] });
    }
    if arguments.profile && gpu.capabilities().timestamps {
        profile("gradient", &gradient.time(&sentences)?);
        profile("norms", &norms.time(&subject, 1)?);
        profile("Hv, all probes", &hessian.time(&subject, k as u32)?);
        profile("vᵀHv, all probes", &forms.time(&subject, k as u32)?);
        profile("signs, all draws", &signs.time(&subject, k as u32)?);
    }
    Ok(line)
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    lowland::gpu::prepare_process(None);
    let gpu = Gpu::open(&arguments.adapter.parse::<AdapterChoice>()?, Default::default())?;
    println!("on {}", gpu.info().name);
    let mut shapes = arguments.shapes.clone();
    if shapes.is_empty() && arguments.traces.is_empty() && arguments.exact.is_empty() {
        shapes = ["128/4/16/256", "256/4/32/64"].map(String::from).to_vec();
    }
    let lines: Vec<Value> = shapes.iter().map(|s| race(&gpu, s, &arguments)).collect::<Result<_, _>>()?;
    let exact: Vec<Value> =
        arguments.exact.iter().map(|s| exact::race(&gpu, s, arguments.probes)).collect::<Result<_, _>>()?;
    let mut traces = Vec::new();
    let mut peer = if arguments.traces.is_empty() { None } else { peer::Peer::start("torch_trace.py", "cpu") };
    for text in &arguments.traces {
        let (model, config, overrides) = trace::parse(text)?;
        let wanted = trace::Wanted {
            goal: arguments.goal / 100.0,
            rounds: arguments.rounds,
            batches: arguments.batches,
            forms: arguments.forms,
            designs: arguments.designs,
        };
        traces.push(trace::race(&gpu, &model, &config, &overrides, &mut peer, wanted)?);
    }
    if let Some(path) = &arguments.json {
        let whole = json!({
            "lowland": env!("CARGO_PKG_VERSION"),
            "adapter": gpu.info().name,
            "driver": gpu.info().driver_info,
            "curvature": lines,
            "exact": exact,
            "traces": traces,
        });
        std::fs::write(path, serde_json::to_string_pretty(&whole)? + "\n")?;
    }
    Ok(())
}
