//! Where Theorems 4.3 and 6.1 meet: soft brackets under cross-entropy. The least loss is not 0, so that the noise of
//! sampled labels does not vanish at a solution, and plain SGD drifts towards flat ones by itself.
//!
//! Two neurons along (1, .., 1) with a c = 4κ solve it; Tr H = E[ p (1-p) (c² S² + (T-1) a²) ] is least at
//! 8 κ √( (T-1) E[p (1-p)] E[p (1-p) S²] ). Term by term no solution is below 8 κ √(T-1) E[p (1-p) |S|].

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::Tell;
use super::descent::{Regularised, regularised};
use super::gradient_noise::{Sgd, sgd};
use super::head::Downstream;
use super::network::{Measured, Network};
use super::population::{Loss, Population, TheoryError};
use crate::interrupt::{self, Interrupted};
use crate::random::{Purpose, Stream};
use crate::statistics::Estimate;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BracketsOptions {
    /// T: even, 4 to [`LONGEST`](super::LONGEST).
    pub length: usize,
    /// κ, the preference for balance.
    pub kappa: f64,
    /// M: 2 to 1024.
    pub neurons: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Solutions that SGD starts from.
    pub starts: usize,
    /// t = η² k / B at the end of every run.
    pub time: f64,
}

const WIDEST: usize = 1024;
/// η and B of the runs.
const RUNS: [(f64, usize); 4] = [(0.2, 32), (0.1, 8), (0.1, 32), (0.05, 8)];
const MARKS: u64 = 12;
/// Labelled examples of the downstream task, and heads at each mark.
const EXAMPLES: usize = 4;
const HEADS: usize = 200;

/// Means over the starts at one point of the runs, with their standard errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Mark {
    /// Steps of SGD.
    pub step: u64,
    /// t = η² k / B.
    pub time: f64,
    /// Trace of the Hessian of the loss.
    pub trace: f64,
    /// Over the starts.
    pub trace_standard_error: f64,
    /// Over the entropy floor.
    pub excess_loss: f64,
    /// Over the starts.
    pub excess_loss_standard_error: f64,
    /// η Tr / (4 B), where SGD hovers once it is at equilibrium.
    pub expected_excess_loss: f64,
    /// |cos(wᵢ, (1, .., 1))|, weighted by |wᵢ||aᵢ|.
    pub alignment: f64,
    /// Over the starts.
    pub alignment_standard_error: f64,
    /// Share of the features' variance that is a function of S, whatever the a of each.
    pub share_of_sum: f64,
    /// Over the starts.
    pub share_of_sum_standard_error: f64,
    /// Share of the sentences whose sign of S a head on `examples` labelled ones tells.
    pub accuracy: f64,
    /// Over the starts.
    pub accuracy_standard_error: f64,
}

/// Runs of one learning rate and batch size.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Course {
    /// η.
    pub rate: f64,
    /// B.
    pub batch: usize,
    /// Points along the run, at equal distances.
    pub marks: Vec<Mark>,
}

/// What came out; parts that an interrupt kept from being made are empty or null.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct BracketsReport {
    /// T.
    pub length: usize,
    /// κ, the preference for balance.
    pub kappa: f64,
    /// M.
    pub neurons: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Solutions that SGD started from.
    pub starts: usize,
    /// Masked sentences.
    pub sentences: usize,
    /// In nats for a masked bracket, exact.
    pub entropy_floor: f64,
    /// The least trace of two neurons along (1, .., 1).
    pub two_neuron_trace: f64,
    /// No solution is below it.
    pub bound: f64,
    /// Of the best restart of training on L + 0.001 Tr, with its excess loss and alignment.
    pub regularised_trace: Option<f64>,
    /// Over the entropy floor.
    pub regularised_loss: Option<f64>,
    /// See [`Measured::alignment`].
    pub regularised_alignment: Option<f64>,
    /// Accuracy with its features.
    pub regularised_accuracy: Option<f64>,
    /// Labelled examples of the downstream task.
    pub examples: usize,
    /// Accuracy with the features of the two-neuron solution.
    pub two_neuron_accuracy: Option<f64>,
    /// SGD at several learning rates and batch sizes, from the same starts.
    pub courses: Vec<Course>,
    /// What did not go as asked.
    pub notes: Vec<String>,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Whether everything is there.
    pub reached: bool,
}

impl BracketsReport {
    /// Runs the experiment. An interrupt ends it with what there is.
    ///
    /// # Errors
    /// A length, a kappa or a number of neurons that is refused.
    pub fn make(options: &BracketsOptions, tell: Tell<'_>) -> Result<BracketsReport, TheoryError> {
        let population = Population::brackets(options.length, options.kappa)?;
        if !(2..=WIDEST).contains(&options.neurons) {
            return Err(TheoryError::Neurons { neurons: options.neurons, most: WIDEST });
        }
        let mut report = BracketsReport::begun(options, &population);
        let done = report.fill(options, &population, tell);
        report.interrupted = done.is_err();
        report.reached = done.is_ok();
        Ok(report)
    }

    fn begun(o: &BracketsOptions, population: &Population) -> BracketsReport {
        let bend = |i: usize| Loss::Logistic.least_bend(population.targets[i]);
        let floor = |i: usize| crate::language::entropy(&[population.targets[i], 1.0 - population.targets[i]]);
        let absolute = population.mean(|i| bend(i) * population.sum(i).abs());
        BracketsReport {
            length: o.length,
            kappa: o.kappa,
            neurons: o.neurons,
            seed: o.seed,
            starts: o.starts,
            sentences: population.count(),
            entropy_floor: population.mean(floor),
            two_neuron_trace: Network::flattest_brackets(population, o.kappa).measure(population).trace,
            bound: 8.0 * o.kappa * ((o.length - 1) as f64).sqrt() * absolute,
            examples: EXAMPLES,
            ..BracketsReport::default()
        }
    }

    fn fill(&mut self, o: &BracketsOptions, population: &Population, tell: Tell<'_>) -> Result<(), Interrupted> {
        let task = Downstream::signs(population);
        let two = Network::flattest_brackets(population, o.kappa);
        self.two_neuron_accuracy = Some(accuracy(&two, &task, o.seed)?);
        tell("flatness-regularised training");
        let how = Regularised { weights: vec![1e-2, 1e-3], steps: 2000, rate: 0.02, restarts: 5, seed: o.seed };
        let ends = regularised(population, o.neurons, &how)?.pop().expect("a weight at least");
        let best = ends.iter().min_by(|a, b| a.0.objective.total_cmp(&b.0.objective)).expect("a restart at least");
        self.regularised_trace = Some(best.0.measured.trace);
        self.regularised_loss = Some(best.0.measured.loss);
        self.regularised_alignment = Some(best.0.measured.alignment);
        self.regularised_accuracy = Some(accuracy(&best.1, &task, o.seed)?);
        tell("solutions to start from");
        let how = Regularised { weights: vec![0.0], steps: 4000, rate: 0.02, restarts: o.starts, seed: o.seed + 1 };
        let starts = regularised(population, o.neurons, &how)?.pop().expect("a weight at least");
        let starts: Vec<Network> = starts.into_iter().map(|end| end.1).collect();
        for (run, (rate, batch)) in RUNS.into_iter().enumerate() {
            tell(&format!("SGD, learning rate {rate}, batch {batch}"));
            let steps = (o.time * batch as f64 / (rate * rate)).round() as u64;
            let how = Sgd { rate, batch, steps: steps.max(MARKS), label_noise: 0.0 };
            let one = |start: usize| course(&starts[start], population, &task, &how, o.seed, (run, start));
            let all: Vec<Vec<At>> = (0..o.starts).into_par_iter().map(one).collect::<Result<_, _>>()?;
            let marks = all.iter().map(Vec::len).min().unwrap_or(0);
            if marks <= MARKS as usize {
                self.notes.push(format!("SGD with learning rate {rate} and batch {batch} diverged"));
            }
            let mark = |at: usize| Mark::of(&how, &all.iter().map(|run| run[at]).collect::<Vec<At>>());
            self.courses.push(Course { rate, batch, marks: (0..marks).map(mark).collect() });
        }
        Ok(())
    }
}

/// A network at a step.
#[derive(Clone, Copy)]
struct At {
    step: u64,
    measured: Measured,
    share_of_sum: f64,
    accuracy: f64,
}

impl Mark {
    fn of(how: &Sgd, at: &[At]) -> Mark {
        let mean = |of: &dyn Fn(&At) -> f64| Estimate::of_mean(&at.iter().map(of).collect::<Vec<f64>>());
        let (trace, excess) = (mean(&|a| a.measured.trace), mean(&|a| a.measured.loss));
        let (alignment, accuracy) = (mean(&|a| a.measured.alignment), mean(&|a| a.accuracy));
        let share = mean(&|a| a.share_of_sum);
        Mark {
            step: at[0].step,
            time: how.time(at[0].step),
            trace: trace.value,
            trace_standard_error: trace.standard_error,
            excess_loss: excess.value,
            excess_loss_standard_error: excess.standard_error,
            expected_excess_loss: how.rate * trace.value / (4.0 * how.batch as f64),
            alignment: alignment.value,
            alignment_standard_error: alignment.standard_error,
            share_of_sum: share.value,
            share_of_sum_standard_error: share.standard_error,
            accuracy: accuracy.value,
            accuracy_standard_error: accuracy.standard_error,
        }
    }
}

fn course(
    start: &Network,
    population: &Population,
    task: &Downstream,
    how: &Sgd,
    seed: u64,
    (run, number): (usize, usize),
) -> Result<Vec<At>, Interrupted> {
    let mut stream = Stream::new(seed, Purpose::LabelNoise, (run as u64) << 32 | number as u64);
    let mut passed = Vec::new();
    sgd(start, population, how, MARKS, &mut stream, |step, network| passed.push((step, network.clone())))?;
    let at = |(step, network): (u64, Network)| {
        Ok(At {
            step,
            measured: network.measure(population),
            share_of_sum: network.share_of_sum(population),
            accuracy: accuracy(&network, task, seed)?,
        })
    };
    passed.into_iter().map(at).collect()
}

/// Mean accuracy of [`HEADS`] heads on [`EXAMPLES`] examples, the same for every network.
fn accuracy(network: &Network, task: &Downstream, seed: u64) -> Result<f64, Interrupted> {
    let mut sum = 0.0;
    for draw in 0..HEADS {
        interrupt::check()?;
        let mut stream = Stream::new(seed, Purpose::Downstream, draw as u64);
        sum += task.transfer(network, EXAMPLES, &mut stream).accuracy;
    }
    Ok(sum / HEADS as f64)
}
