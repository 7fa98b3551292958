//! The experiment on Theorem 6.1: both solutions, training that reaches the flattest one or does not, and how often a
//! head on a few examples solves the task.

use rayon::prelude::*;

use super::Tell;
use super::descent::{Regularised, descend, least_objective, regularised, stable_rate};
use super::dyck_report::{
    DownstreamLoss, DyckOptions, DyckReport, GradientDescent, HeadSuccess, LabelNoise, RandomFeatures, RegularisedAt,
};
use super::gradient_noise::{Passed, Sgd, sgd};
use super::head::Downstream;
use super::network::{Measured, Network};
use super::population::{Population, TheoryError};
use super::solutions::rank;
use crate::interrupt::{self, Interrupted};
use crate::random::{Purpose, Stream};
use crate::statistics::{Estimate, Proportion};

/// Most neurons.
const WIDEST: usize = 4096;
/// Draws of random features; their medians are reported.
const RANDOM: usize = 5;
/// Weights μ of the trace, one after another.
const WEIGHTS: [f64; 4] = [3e-2, 1e-2, 3e-3, 1e-3];
/// Numbers of examples whose success is counted.
const EXAMPLES: u64 = 10;
/// Numbers of examples whose mean loss is measured, and heads for each.
const MORE_EXAMPLES: [usize; 6] = [1, 2, 4, 8, 16, 32];
const HEADS: usize = 100;
/// The intervals of all numbers of examples hold together with 95 %, by Bonferroni's inequality.
const LEVEL: f64 = 1.0 - 0.05 / EXAMPLES as f64;
/// Points along a run of SGD.
const MARKS: u64 = 24;

impl DyckReport {
    /// Runs the experiment. An interrupt ends it with what there is.
    ///
    /// # Errors
    /// A length or a number of neurons that is refused.
    pub fn make(options: &DyckOptions, tell: Tell<'_>) -> Result<DyckReport, TheoryError> {
        let population = Population::dyck(options.length)?;
        if !(2..=WIDEST).contains(&options.neurons) {
            return Err(TheoryError::Neurons { neurons: options.neurons, most: WIDEST });
        }
        let mut report = DyckReport::begun(options, &population);
        let done = report.fill(options, &population, tell);
        report.interrupted = done.is_err();
        report.reached = done.is_ok();
        Ok(report)
    }

    fn begun(options: &DyckOptions, population: &Population) -> DyckReport {
        let flattest = Network::flattest(options.length).measure(population);
        let squared = (options.length - 1) as f64;
        DyckReport {
            length: options.length,
            neurons: options.neurons,
            seed: options.seed,
            sentences: population.count(),
            rank: rank(population),
            bound: 2.0 * squared.sqrt(),
            flattest_trace: flattest.trace,
            flattest_loss: flattest.loss,
            random_trace_balanced_limit: 2.0 * options.length as f64 * (2.0 * squared / std::f64::consts::PI).sqrt(),
            head_interval: format!(
                "Clopper-Pearson, {} % each, so that all {EXAMPLES} hold together with 95 %",
                100.0 * LEVEL
            ),
            ..DyckReport::default()
        }
    }

    fn fill(&mut self, options: &DyckOptions, population: &Population, tell: Tell<'_>) -> Result<(), Interrupted> {
        let free = Downstream::free(options.length);
        let flattest = Network::flattest(options.length);
        tell("heads on the flattest solution");
        self.head_success = successes(&flattest, &Downstream::of_population(population), options, 0)?;
        self.head_success_free = successes(&flattest, &free, options, 1)?;
        tell("random features");
        let random = self.random_features(options, population)?;
        tell("gradient descent");
        self.descents(options, population)?;
        tell("flatness-regularised training");
        let trained = self.regularise(options, population)?;
        tell("heads on other solutions");
        for (row, examples) in MORE_EXAMPLES.into_iter().enumerate() {
            let mean = |network: &Network| mean_loss(network, &free, examples, options.seed, row as u64);
            let sharp = mean(&flattest)?;
            let regular = mean(&trained)?;
            let random = random.as_ref().map(mean).transpose()?;
            self.downstream_loss.push(DownstreamLoss {
                examples,
                flattest: sharp.value,
                flattest_standard_error: sharp.standard_error,
                regularised: Some(regular.value),
                regularised_standard_error: Some(regular.standard_error),
                random: random.map(|r| r.value),
                random_standard_error: random.map(|r| r.standard_error),
            });
        }
        if options.noise_steps > 0 {
            tell("SGD with label noise");
            self.noise(options, population)?;
        }
        Ok(())
    }

    /// The first draw, for its heads.
    fn random_features(&mut self, o: &DyckOptions, population: &Population) -> Result<Option<Network>, Interrupted> {
        let mut first = None;
        for draw in 0..RANDOM {
            let (population, o) = (population.clone(), *o);
            // The factorisation of a large matrix does not look at the flag by itself.
            let made = interrupt::or_stop(move || {
                let mut stream = Stream::new(o.seed, Purpose::Projection, draw as u64);
                let network = Network::random_features(&population, o.neurons, &mut stream)?;
                let found = RandomFeatures {
                    measured: network.measure(&population),
                    trace_together: network.balanced_together(&population).measure(&population).trace,
                    trace_balanced: network.balanced(&population).measure(&population).trace,
                };
                Some((network, found))
            })?;
            let Some((network, found)) = made else {
                self.notes.push(format!(
                    "random features have rank {} over the masked sentences: fewer neurons cannot be free of loss",
                    self.rank
                ));
                return Ok(None);
            };
            self.random.push(found);
            first.get_or_insert(network);
        }
        let median = |of: fn(&RandomFeatures) -> f64| {
            let mut all: Vec<f64> = self.random.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            Some(all[all.len() / 2])
        };
        self.random_trace = median(|r| r.measured.trace);
        self.random_trace_together = median(|r| r.trace_together);
        self.random_trace_balanced = median(|r| r.trace_balanced);
        Ok(first)
    }

    fn descents(&mut self, options: &DyckOptions, population: &Population) -> Result<(), Interrupted> {
        const STEPS: usize = 20_000;
        for (arm, start) in [0.03, 1.0].into_iter().enumerate() {
            let mut stream = Stream::new(options.seed, Purpose::Initialise, 1 << 32 | arm as u64);
            let heads = start / (options.neurons as f64).sqrt();
            let mut network = Network::random(options.length, options.neurons, start, heads, &mut stream);
            let rate = stable_rate(&network, population);
            let steps = descend(&mut network, population, rate, STEPS, 1e-10)?;
            self.gradient_descent.push(GradientDescent { start, steps, measured: network.measure(population) });
        }
        Ok(())
    }

    /// The network of the best restart at the smallest weight.
    fn regularise(&mut self, options: &DyckOptions, population: &Population) -> Result<Network, Interrupted> {
        let how = Regularised {
            weights: WEIGHTS.to_vec(),
            steps: 1500,
            rate: 0.02,
            restarts: options.restarts,
            seed: options.seed,
        };
        let mut last = None;
        for (weight, ends) in WEIGHTS.into_iter().zip(regularised(population, options.neurons, &how)?) {
            let best = ends.iter().min_by(|a, b| a.0.objective.total_cmp(&b.0.objective)).expect("a restart at least");
            self.regularised.push(RegularisedAt {
                weight,
                best: best.0,
                least_objective: least_objective(options.length, weight),
                restarts: ends.iter().map(|end| end.0).collect(),
            });
            self.regularised_trace = Some(best.0.measured.trace);
            self.regularised_loss = Some(best.0.measured.loss);
            self.regularised_alignment = Some(best.0.measured.alignment);
            last = Some(best.1.clone());
        }
        Ok(last.expect("a weight at least"))
    }

    /// From a solution of gradient descent: with label noise, and the same without as a control.
    fn noise(&mut self, options: &DyckOptions, population: &Population) -> Result<(), Interrupted> {
        const BATCH: usize = 8;
        // Neurons of trace 1.5 each at the start.
        let scale = (1.5 / (options.length - 1) as f64).sqrt();
        let mut stream = Stream::new(options.seed, Purpose::LabelNoise, 0);
        let mut start = Network::random(options.length, options.neurons, scale, scale, &mut stream);
        let rate = stable_rate(&start, population);
        descend(&mut start, population, rate, 5_000, 1e-6)?;
        // Stable, and no larger than makes the noise's loss small.
        let rate = (4.0 * stable_rate(&start, population)).min(0.02);
        let run = |label_noise: f64| -> Result<LabelNoise, Interrupted> {
            let how = Sgd { rate, batch: BATCH, steps: options.noise_steps, label_noise };
            let mut stream = Stream::new(options.seed, Purpose::LabelNoise, 1);
            let mut course = Vec::new();
            sgd(&start, population, &how, MARKS, &mut stream, |step, network| {
                course.push(Passed { step, time: how.time(step), measured: network.measure(population) });
            })?;
            let late = &course[course.len() / 2..];
            let mean = |of: fn(&Measured) -> f64| late.iter().map(|p| of(&p.measured)).sum::<f64>() / late.len() as f64;
            Ok(LabelNoise {
                sgd: how,
                late_loss: mean(|m| m.loss),
                expected_late_loss: rate * label_noise * label_noise * mean(|m| m.trace) / (4.0 * BATCH as f64),
                course,
            })
        };
        self.label_noise = [0.5, 0.0].into_par_iter().map(run).collect::<Result<_, _>>()?;
        if self.label_noise.iter().any(|arm| arm.course.last().is_none_or(|last| last.step < options.noise_steps)) {
            self.notes.push("SGD diverged; its course ends where its values were last finite".into());
        }
        Ok(())
    }
}

/// Successes on 1 to [`EXAMPLES`] examples.
fn successes(
    network: &Network,
    task: &Downstream,
    options: &DyckOptions,
    which: u64,
) -> Result<Vec<HeadSuccess>, Interrupted> {
    let count = |examples: u64| {
        let one = |draw: usize| {
            interrupt::check()?;
            let index = (which * (EXAMPLES + 1) + examples) << 32 | draw as u64;
            let mut stream = Stream::new(options.seed, Purpose::Downstream, index);
            Ok(u64::from(task.transfer(network, examples as usize, &mut stream).is_perfect()))
        };
        let perfect: Vec<u64> = (0..options.draws).into_par_iter().map(one).collect::<Result<_, _>>()?;
        let found = Proportion::of(perfect.iter().sum(), options.draws as u64, LEVEL);
        Ok(HeadSuccess {
            examples,
            probability: found.value,
            low: found.low,
            high: found.high,
            expected: 1.0 - 0.5f64.powi(examples as i32),
            draws: options.draws as u64,
        })
    };
    (1..=EXAMPLES).map(count).collect()
}

/// The mean loss of [`HEADS`] heads, on the same examples for every network.
fn mean_loss(
    network: &Network,
    task: &Downstream,
    examples: usize,
    seed: u64,
    row: u64,
) -> Result<Estimate, Interrupted> {
    let one = |draw: usize| {
        interrupt::check()?;
        let mut stream = Stream::new(seed, Purpose::Sample, row << 32 | draw as u64);
        Ok(task.transfer(network, examples, &mut stream).loss)
    };
    let losses: Vec<f64> = (0..HEADS).into_par_iter().map(one).collect::<Result<_, _>>()?;
    Ok(Estimate::of_mean(&losses))
}
