//! What `selftest --report` writes as `report.json`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::selftest::{Outcome, Timing};

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not begun.
    Waiting,
    /// Begun; where the report stays so, the process ended there.
    Running,
    Done,
    /// It ran, and numbers are wrong.
    Wrong,
    /// It ended early with an error.
    Failed,
    /// Not run, or the adapter lacks what it needs; `message` says why.
    LeftOut,
}

impl Status {
    pub fn text(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Running => "running",
            Status::Done => "done",
            Status::Wrong => "WRONG",
            Status::Failed => "FAILED",
            Status::LeftOut => "left out",
        }
    }
}

/// One part and how it went.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Part {
    /// doctor, step, products, mixed, comparison or rates.
    pub name: String,
    pub status: Status,
    /// What went wrong, or why it was left out.
    pub message: Option<String>,
    pub seconds: Option<f64>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SelftestReport {
    /// Form of this file.
    pub format: u32,
    /// Version of lowland.
    pub lowland: String,
    /// Whether the command came to its end.
    pub finished: bool,
    /// Whether every part is done, or left out with a reason. Null until the end.
    pub passed: Option<bool>,
    /// What was running when this was written; null at the end. After a crash, where it was.
    pub running: Option<String>,
    pub seconds: f64,
    /// Seconds that the whole was planned for.
    pub budget_seconds: f64,
    pub machine: Machine,
    pub parts: Vec<Part>,
    /// What `doctor --json` prints.
    pub doctor: Option<serde_json::Value>,
    pub comparison: Option<Comparison>,
    pub rates: Option<Vec<Rate>>,
    pub step: Option<Step>,
    pub products: Option<Products>,
    /// Null where the adapter has no products of mixed precision; the part's message says what it lacks.
    pub mixed: Option<Mixed>,
    /// What was not done for want of time.
    pub left_out: Vec<String>,
}

/// What the adapter's rates depend on beside itself.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Machine {
    pub system: String,
    pub architecture: String,
    /// Name of the processor, where the system tells it.
    pub processor: Option<String>,
    /// Threads that may run at once.
    pub threads: Option<usize>,
}

impl Machine {
    pub fn here() -> Machine {
        let named =
            |line: &str| line.strip_prefix("model name").and_then(|l| l.split_once(": ")).map(|(_, n)| n.into());
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine {
            system: std::env::consts::OS.into(),
            architecture: std::env::consts::ARCH.into(),
            processor: text.lines().find_map(named),
            threads: std::thread::available_parallelism().ok().map(usize::from),
        }
    }
}

/// Every case and variant against f64.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Comparison {
    /// Sets of variants that between them hold every one that the adapter can run.
    pub variants: usize,
    /// Cases of each.
    pub cases: usize,
    /// Pairs of the two that ran, and that gave wrong numbers.
    pub ran: usize,
    pub wrong: usize,
    /// Of each case that ran, the variants with the largest error.
    pub worst: Vec<Worst>,
}

/// A case with the variants that are furthest off.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Worst {
    pub case: String,
    pub variants: String,
    /// The tensor with the largest difference.
    pub tensor: String,
    /// Largest difference as a share of the tensor's largest value; null where it is not finite.
    pub error: Option<f64>,
    pub bound: f64,
    pub passed: bool,
}

impl Comparison {
    pub fn add(&mut self, outcome: &Outcome) {
        self.ran += 1;
        self.wrong += usize::from(!outcome.passed);
        let made = Worst {
            case: outcome.case.clone(),
            variants: outcome.variants.to_string(),
            tensor: outcome.tensor.clone(),
            error: outcome.error.is_finite().then_some(outcome.error),
            bound: outcome.bound,
            passed: outcome.passed,
        };
        match self.worst.iter_mut().find(|w| w.case == made.case) {
            Some(known) if made.share() > known.share() => *known = made,
            Some(_) => {}
            None => self.worst.push(made),
        }
    }
}

impl Worst {
    /// Of what is allowed.
    pub fn share(&self) -> f64 {
        self.error.map_or(f64::INFINITY, |e| e / self.bound)
    }
}

/// How fast an operation is with a variant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Rate {
    pub operation: String,
    pub shape: String,
    pub variant: Option<String>,
    /// Whether this variant is the one that is used.
    pub used: bool,
    /// Median time of one run, all its dispatches together.
    pub seconds: f64,
    /// 10⁹ multiplications and additions a second, for what is bound by arithmetic.
    pub gflops: Option<f64>,
    /// 10⁹ bytes a second of tensors read and written once.
    pub gbytes: f64,
}

impl From<Timing> for Rate {
    fn from(t: Timing) -> Rate {
        Rate {
            operation: t.operation,
            shape: t.shape,
            variant: t.variant.map(String::from),
            used: t.used,
            seconds: t.seconds,
            gflops: t.gflops,
            gbytes: t.gbytes,
        }
    }
}

/// A training step with AdamW, and the gradient in it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// width/layers/tokens/sentences; heads of 32 numbers, feed-forward four times as wide, 204 words, one masked.
    pub shape: String,
    pub parameters: usize,
    pub tokens: usize,
    /// Repeats; medians count.
    pub repeats: usize,
    /// Seconds until the first step was done: kernels compiled, or read from a cache.
    pub first_seconds: f64,
    pub gradient_seconds: f64,
    pub step_seconds: f64,
    /// A step in gradients.
    pub step_in_gradients: f64,
    pub sentences_per_second: f64,
    /// 10⁹ multiplications and additions a second in the step.
    pub gflops: f64,
}

/// Hessian-vector products on the same batch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Products {
    pub shape: String,
    /// Vectors at once.
    pub vectors: usize,
    pub repeats: usize,
    pub gradient_seconds: f64,
    /// Hv of one vector, the pass over the batch with it.
    pub first_seconds: f64,
    /// Of the whole block.
    pub block_seconds: f64,
    /// Hv of the first vector in gradients.
    pub first_in_gradients: f64,
    /// Of each further one; null where only one has room.
    pub further_in_gradients: Option<f64>,
}

/// A step with products of f16 operands and f32 sums.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Mixed {
    pub shape: String,
    pub variants: String,
    pub repeats: usize,
    pub gradient_seconds: f64,
    pub step_seconds: f64,
    /// A step in single precision over this, in the same process.
    pub faster: Option<f64>,
    /// Norm of the gradient's difference from the one in single precision, over its norm.
    pub gradient_difference: f64,
}
