//! What `selftest --report` writes as `report.json`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::selftest::{Cost, Limit, Outcome, Peaks, Timing, known_gpu};

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
    /// doctor, step, products, mixed, published, comparison or rates.
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
    /// The rates beside what the adapter could do.
    pub roofline: Option<Roofline>,
    pub step: Option<Step>,
    pub products: Option<Products>,
    /// Null where the adapter has no products of mixed precision; the part's message says what it lacks.
    pub mixed: Option<Mixed>,
    /// Null where there was no time for it.
    pub published: Option<PublishedCase>,
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

/// A case that others publish, with random weights and without an optimiser.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PublishedCase {
    /// As it is called there.
    pub name: String,
    pub parameters: usize,
    pub tokens: usize,
    /// Repeats; medians count.
    pub repeats: usize,
    /// Seconds until both passes had run once: parameters drawn and sent, kernels compiled or read from a cache.
    pub first_seconds: f64,
    /// Forward pass and loss, without gradients.
    pub forward_seconds: f64,
    /// Forward pass, loss and backward pass.
    pub gradient_seconds: f64,
    /// 10⁹ multiplications and additions a second in the latter.
    pub gflops: f64,
    /// Mean loss; near ln V for random weights.
    pub loss: f64,
}

/// The least that operations take by their arithmetic and bytes, beside what they took.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Roofline {
    /// The GPU whose maker's peaks these are; null where they are the best rates of this report.
    pub gpu: Option<String>,
    /// Where the maker says so.
    pub source: Option<String>,
    /// 10⁹ multiplications and additions a second at most.
    pub gflops: f64,
    /// 10⁹ bytes a second at most.
    pub gbytes: f64,
    /// Each operation with the variant that is used.
    pub operations: Vec<Bounded>,
}

/// An operation under the roofline.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Bounded {
    pub operation: String,
    /// Multiplications and additions per byte; 0 where bytes alone count.
    pub intensity: f64,
    pub bound: Limit,
    /// The least that it takes.
    pub predicted_seconds: f64,
    pub measured_seconds: f64,
    /// The one over the other.
    pub share: f64,
}

impl Roofline {
    /// Of the rates of an adapter; `None` without any.
    pub fn of(adapter: &str, rates: &[Rate]) -> Option<Roofline> {
        let known = known_gpu(adapter);
        let most = |of: fn(&Rate) -> f64| rates.iter().map(of).fold(0.0, f64::max);
        let own = Peaks { gflops: most(|r| r.gflops.unwrap_or(0.0)), gbytes: most(|r| r.gbytes) };
        let peaks = known.map_or(own, |gpu| gpu.peaks);
        let bounded = |rate: &Rate| {
            let flops = rate.gflops.map_or(0.0, |gflops| 1e9 * gflops * rate.seconds);
            let cost = Cost { flops, bytes: 1e9 * rate.gbytes * rate.seconds };
            let (predicted_seconds, bound) = cost.least(&peaks);
            Bounded {
                operation: rate.operation.clone(),
                intensity: cost.intensity(),
                bound,
                predicted_seconds,
                measured_seconds: rate.seconds,
                share: predicted_seconds / rate.seconds,
            }
        };
        let operations: Vec<Bounded> = rates.iter().filter(|r| r.used && r.seconds > 0.0).map(bounded).collect();
        (!operations.is_empty()).then(|| Roofline {
            gpu: known.map(|gpu| gpu.name.into()),
            source: known.map(|gpu| gpu.source.into()),
            gflops: peaks.gflops,
            gbytes: peaks.gbytes,
            operations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(operation: &str, seconds: f64, gflops: Option<f64>, gbytes: f64) -> Rate {
        let (operation, shape) = (operation.into(), String::new());
        Rate { operation, shape, variant: None, used: true, seconds, gflops, gbytes }
    }

    #[test]
    fn a_known_gpu_is_held_against_its_makers_peaks() {
        // 6.7 TFLOP in 0.2 s are half of an H200's; 4.8 GB in 2 ms too.
        let rates = [rate("linear", 0.2, Some(33_500.0), 100.0), rate("add", 0.002, None, 2_400.0)];
        let made = Roofline::of("NVIDIA H200", &rates).unwrap();
        assert_eq!(made.gpu.as_deref(), Some("NVIDIA H200"));
        for (operation, bound) in made.operations.iter().zip([Limit::Arithmetic, Limit::Memory]) {
            assert_eq!(operation.bound, bound);
            assert!((operation.share - 0.5).abs() < 1e-9, "{}", operation.share);
        }
    }

    #[test]
    fn any_other_adapter_is_held_against_its_own_best() {
        let rates =
            [rate("linear", 0.1, Some(40.0), 1.0), rate("slow", 0.1, Some(10.0), 1.0), rate("add", 0.1, None, 8.0)];
        let made = Roofline::of("llvmpipe", &rates).unwrap();
        assert_eq!((made.gpu, made.gflops, made.gbytes), (None, 40.0, 8.0));
        let shares: Vec<f64> = made.operations.iter().map(|o| o.share).collect();
        assert!(shares.iter().zip([1.0, 0.25, 1.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{shares:?}");
        assert!(Roofline::of("llvmpipe", &[]).is_none());
    }
}
