//! What a person can do about a failure, put behind the facts that the rooms below give.

use std::io::ErrorKind;

use super::failure::Failure;
use crate::curvature::{Estimator, PlanError};
use crate::downstream::{DownstreamError, TaskError};
use crate::gpu::{Excess, GpuError, Limit};
use crate::model::EnlargeError;
use crate::report::ReportError;
use crate::sweep::RunFailure;
use crate::train::{PlanReport, Refusal, WrongNumbers};

/// What sets the sentences at once, where a run's config does and where a flag may.
const OF_A_RUN: &str = "`train.micro_batch`";
const OF_A_COMMAND: &str = "`train.micro_batch` (`--batch` of a command that has it)";

/// A failure of the adapter with what would help.
pub fn of_gpu(error: &GpuError) -> String {
    match error {
        GpuError::NoAdapter => format!(
            "{error}\nInstall a Vulkan driver for your GPU, or a software one: on Debian and Ubuntu `sudo apt install \
             mesa-vulkan-drivers libvulkan1` (`make demo` does it)."
        ),
        GpuError::NoSuchAdapter { there, .. } => {
            let names: Vec<String> = there.iter().enumerate().map(|(i, name)| format!("index:{i} {name}")).collect();
            format!("{error}\nThere are: {}. `lowland doctor` shows more.", names.join("; "))
        }
        GpuError::NotOpened { .. } => format!("{error}\nChoose another with --adapter; `lowland doctor` lists them."),
        GpuError::Limit(limit) => misfit(&of_limit(limit, OF_A_COMMAND)),
        GpuError::OutOfMemory { .. } => format!(
            "{error}.\nLower `train.micro_batch`, use a smaller model, or close other programs that use the GPU; \
             `lowland train CONFIG --dry-run` prints the memory plan."
        ),
        GpuError::Lost(_) => format!(
            "{error}\nA driver resets a GPU that does not answer in time: lower `train.micro_batch` so that one \
             submission is shorter, look into the system's log, then run the same command again: it resumes from the \
             newest checkpoint."
        ),
        GpuError::Timeout(_) => format!(
            "{error}.\nIf it is only slow (a software adapter with a large model), lower `train.micro_batch` or set \
             LOWLAND_WAIT_SECONDS to a larger number; if it hangs, try another adapter (`lowland doctor` lists them)."
        ),
        GpuError::Validation { .. } => {
            format!("{error}\nThis is a bug; please report it with the output of `lowland doctor --json`.")
        }
        GpuError::Compile { kernel, error } => format!("kernel `{kernel}`: {}", of_gpu(error)),
        GpuError::Loops { .. } => format!(
            "{error}\nTake shorter sentences, a narrower model, a GPU, or, of a transformer, `--variant attention=row`."
        ),
        GpuError::Interrupted | GpuError::Kernel { .. } => error.to_string(),
    }
}

/// A run that has no room, with a number of sentences that has.
pub fn of_memory(error: &GpuError, micro_batch: u32, fits: Option<u32>) -> String {
    match fits {
        Some(fits) => format!(
            "{error}.\nSet {OF_A_RUN} to {fits} or less ({micro_batch} now), or to \"auto\", which finds a size by \
             itself; the same run goes on from its newest checkpoint."
        ),
        None => of_gpu(error),
    }
}

/// A file of a run that cannot be read or written.
pub fn of_run_files(path: &std::path::Path, error: &std::io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(
            "{path}: {error}. What was written before is whole; make room and run the same command again, which goes \
             on from the newest checkpoint (`train.keep_checkpoints` says how many are kept)."
        ),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            format!("{path}: {error}. Give an `output` that can be written, or make this one so.")
        }
        _ => format!("{path}: {error}"),
    }
}

/// Kernels that cannot be trusted.
pub fn of_kernels(error: &WrongNumbers) -> String {
    format!(
        "{error}. Nothing was trained. `lowland selftest` tries every kernel: update the driver, or choose another \
         adapter (`lowland doctor` lists them) or other kernels (--variant)."
    )
}

fn misfit(why: &str) -> String {
    format!("the plan does not fit this adapter: {why}")
}

/// What is too large and what would help; `knob` sets the sentences at once.
fn of_limit(limit: &Limit, knob: &str) -> String {
    match limit {
        Limit::Tensor(excess) => format!("{limit}\n{}", of_excess(excess, knob)),
        Limit::Binding { .. } => format!("{limit} Take a smaller model or another adapter."),
        Limit::Buffer { .. } => limit.to_string(),
        Limit::Host { .. } => {
            format!("{limit}\nSet {knob} lower, take shorter sentences or a smaller model, or end other programs.")
        }
        Limit::Image { .. } => format!("{limit}; set LOWLAND_IMAGES=0 or use a smaller model"),
    }
}

fn of_excess(excess: &Excess, knob: &str) -> String {
    let other = "another adapter (`lowland doctor` lists them and what the chosen one binds)";
    match (excess.most, excess.fixed, excess.fitting()) {
        (Some(most), ..) => format!("Set {knob} to {most} or less ({} now).", excess.sentences),
        (None, Some([rows, cols]), Some([most_rows, most_cols])) => format!(
            "No batch changes its size. With {cols} columns at most {most_rows} rows fit, with {rows} rows at most \
             {most_cols} columns: take a smaller vocabulary or `model.hidden_size`, or {other}."
        ),
        _ => format!(
            "A single sentence is too much for it already: take shorter sentences, a smaller model, or {other}."
        ),
    }
}

/// Why the plan of a run does not fit, and what would help.
pub fn of_refusal(refusal: &Refusal) -> String {
    let Refusal { part, limit, micro_batch } = refusal;
    let knob = if part.is_some() { OF_A_RUN } else { OF_A_COMMAND };
    let part = part.map_or(String::new(), |part| format!("{part}: "));
    match micro_batch {
        // One number for a step and an evaluation, whatever fits by itself.
        Some([most, now]) => format!("{part}{limit}\nSet {OF_A_RUN} to {most} or less ({now} now)."),
        None => format!("{part}{}", of_limit(limit, knob)),
    }
}

/// The failure of a run whose plan does not fit.
pub fn refused(plan: &PlanReport) -> Option<Failure> {
    let refusal = plan.refused.as_ref()?;
    Some(Failure { code: super::failure::MEMORY, message: misfit(&of_refusal(refusal)) })
}

/// A failure of a task's fits with what would help.
pub fn of_downstream(error: &DownstreamError) -> String {
    match error {
        DownstreamError::Gpu(error) => of_gpu(error),
        DownstreamError::Room(_) => {
            format!("{error}; project them to 512, read their mean (`features`), or take fewer sentences")
        }
        DownstreamError::Diverged { .. } => format!("{error}; lower --lr"),
        DownstreamError::Task(TaskError::FewRows { .. }) => {
            format!("{error}; give smaller --train, --validation and --test")
        }
        DownstreamError::Task(TaskError::Wrong { .. }) | DownstreamError::Interrupted { .. } => error.to_string(),
    }
}

/// Why a measurement cannot be had as the flags ask for it.
pub fn of_plan(error: &PlanError) -> String {
    match error {
        PlanError::Matrix { estimator: estimator @ Estimator::Drawn(_), matrix } => format!(
            "--estimator {estimator} estimates the Fisher matrix (= ggn): for {matrix} take quadratic-form, \
             hutchinson, hutch++ or xtrace"
        ),
        PlanError::Matrix { estimator: estimator @ Estimator::SignsAndResidual, matrix } => format!(
            "--estimator {estimator} estimates the Hessian's trace: for {matrix} take another (lowland measure trace \
             --help)"
        ),
        PlanError::Matrix { estimator, matrix } => format!(
            "--estimator {estimator} takes the labels of the data, its matrix is empirical_fisher or noise_covariance, \
             not {matrix}"
        ),
        PlanError::Draws(estimator) => {
            format!(
                "--draws belongs to sampled-labels, random-signs and signs-and-residual; {estimator} draws nothing an \
                 example"
            )
        }
        PlanError::Sampling { sampling, estimator } => format!(
            "--sentences {sampling} belongs to sampled-labels and random-signs; {estimator} takes sentences as they \
             come"
        ),
        PlanError::Samples(estimator) => {
            format!("--samples has no meaning for {estimator}, which draws nothing; --count says how many examples")
        }
        PlanError::Probe(estimator) => {
            format!("--probe belongs to estimators with probe vectors; {estimator} has none")
        }
        PlanError::XTraceSigns => error.to_string(),
        PlanError::RelativeError(share) => format!("--rel-error {share}: give a share above 0 and below 1, as 0.01"),
        PlanError::XTraceSample => format!("{error}: leave out --as-sample, or take quadratic-form"),
        PlanError::SamplesAndDraws => {
            "of a file every example is measured: give --samples or --draws, the other follows from the number of \
             examples"
                .into()
        }
        PlanError::SamplingOfExamples(sampling) => {
            format!("--sentences {sampling} draws from a language; of a file every example is measured, leave it out")
        }
        PlanError::FewDraws(sampling) => {
            format!("--sentences {sampling} needs at least 2 draws a sentence, which tell the error's parts apart")
        }
        PlanError::OneSign => format!("--draws 1: {error}"),
        PlanError::OneDeviation | PlanError::OneGradient => format!("{error}; give more (--count)"),
    }
}

/// Why a model cannot be enlarged, with what would do.
pub fn of_enlarge(error: &EnlargeError) -> String {
    match error {
        EnlargeError::Widened { .. } => format!("{error}; use --method duplicate for width"),
        _ => error.to_string(),
    }
}

/// Why a page cannot be made, with what would help.
pub fn of_report(error: &ReportError) -> String {
    match error {
        ReportError::NoRun(_) => format!("{error}; `lowland train` makes one"),
        ReportError::Empty(_) => format!("{error}; `lowland train` makes the one, `lowland sweep` the other"),
        ReportError::Table { .. } => format!("{error}; `lowland sweep collect` writes it anew"),
        ReportError::Run { .. } | ReportError::Io { .. } => error.to_string(),
    }
}

/// A failure of one of a sweep's runs with what would help.
pub fn of_run(failure: &RunFailure) -> String {
    match failure {
        RunFailure::Downstream(error) => of_downstream(error),
        RunFailure::Before { .. } => {
            let text = failure.to_string();
            format!("{}; --retry-diverged tries again)", text.trim_end_matches(')'))
        }
        failure => failure.gpu().map_or_else(|| failure.to_string(), of_gpu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::FailureKind;

    #[test]
    fn facts_come_first_and_advice_behind_them() {
        let memory = GpuError::OutOfMemory { doing: "making a buffer".into(), detail: "none left".into() };
        assert_eq!(
            of_gpu(&memory),
            "out of memory on the adapter while making a buffer (none left).\nLower `train.micro_batch`, use a smaller \
             model, or close other programs that use the GPU; `lowland train CONFIG --dry-run` prints the memory plan."
        );
        let there = vec!["llvmpipe (Vulkan)".to_string(), "lavapipe (Vulkan)".to_string()];
        assert_eq!(
            of_gpu(&GpuError::NoSuchAdapter { choice: "index:9".into(), there }),
            "no usable adapter: none fits index:9\nThere are: index:0 llvmpipe (Vulkan); index:1 lavapipe (Vulkan). \
             `lowland doctor` shows more."
        );
        let error = Box::new(GpuError::Validation { doing: "making a pipeline".into(), detail: "no".into() });
        assert_eq!(
            of_gpu(&GpuError::Compile { kernel: "add:main".into(), error }),
            "kernel `add:main`: the driver refused a call (making a pipeline): no\nThis is a bug; please report it \
             with the output of `lowland doctor --json`."
        );
        let before = RunFailure::Before { kind: FailureKind::Diverged, message: "diverged (at last)".into() };
        assert_eq!(of_run(&before), "diverged (at last) (in an earlier attempt; --retry-diverged tries again)");
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let excess = Excess {
            what: "the tensor `x` (64 x 8)".into(),
            bytes: 3 << 20,
            limit: 2 << 20,
            bound: true,
            sentences: 64,
            most: Some(42),
            fixed: None,
        };
        assert_eq!(
            of_gpu(&excess.clone().into()),
            "the plan does not fit this adapter: the tensor `x` (64 x 8) takes 3.0 MiB, and this adapter binds at most \
             2.0 MiB.\nSet `train.micro_batch` (`--batch` of a command that has it) to 42 or less (64 now)."
        );
        let refusal = Refusal { part: Some("a step"), limit: excess.into(), micro_batch: Some([40, 64]) };
        assert_eq!(
            of_refusal(&refusal),
            "a step: the tensor `x` (64 x 8) takes 3.0 MiB, and this adapter binds at most 2.0 MiB.\n\
             Set `train.micro_batch` to 40 or less (64 now)."
        );
    }
}
