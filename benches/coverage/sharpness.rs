//! The rows of `measure perturb` and `measure sharpness`.

use lowland::curvature::{
    Chunks, CurvatureError, Hutchinson, Lanczos, Matrix, ModelOperator, NoiseScale, Operator, OptimizerState,
    Perturbation, PerturbationOptions, ScaledOperator, SharpnessAlong, SqrtDiagonal, Stopping, Subject, Trace,
    hutchinson, top_eigenpairs,
};
use lowland::model::{Model, Weights};
use lowland::ops::UpdateRule;
use lowland::ops::batch::Sentence;
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Estimate, Target};

use crate::Tally;

/// Sizes and draws of the noise.
const SIGMA: f64 = 0.02;
const DRAWS: usize = 16;
const PROBES: usize = 16;

/// Draws for the truth of the noise, and runs over the pool for that of the diagonal.
const TRUE_DRAWS: usize = 1000;
const TRUE_RUNS: u64 = 24;

pub struct Sharpness<'a> {
    pub model: &'a Model,
    pub pool: &'a [Sentence],
    pub repeats: u64,
}

/// (name, estimate, truth) of a repeat.
type Found = (&'static str, Estimate, f64);

impl Sharpness<'_> {
    fn subject(&self, sentences: &[Sentence]) -> Result<Subject, CurvatureError> {
        Subject::new(self.model, sentences, &[], &Chunks { batch: 256, probes: 8 })
    }

    /// An AdamW of which only the second moments matter here.
    fn state(&self, subject: &Subject) -> OptimizerState {
        let of = |scale: f64, square: bool| {
            let one = |(number, p): (usize, &lowland::model::Parameter)| {
                let mut random = Stream::new(11, Purpose::Test, number as u64);
                let mut one = || {
                    let x = scale * random.normal();
                    (if square { x * x + 1e-6 } else { x }) as f32
                };
                (0..p.len()).map(|_| one()).collect()
            };
            Weights(subject.encoder().parameters.iter().enumerate().map(one).collect())
        };
        let rule = UpdateRule::AdamW { betas: [0.9, 0.999], eps: 1e-8, decay: 0.0 };
        OptimizerState { rule, clip: 0.0, steps: 10_000, moments: vec![of(0.0, false), of(3e-3, true)] }
    }

    fn noise(
        &self,
        subject: &Subject,
        draws: usize,
        seed: u64,
        target: Target,
    ) -> Result<Perturbation, CurvatureError> {
        let (sigmas, scale) = (vec![SIGMA, SIGMA / 4.0], NoiseScale::Tensor);
        let what = PerturbationOptions { sigmas, scale, draws, seed, probes: 0, block: 8, target };
        Perturbation::measure(subject, &what, &mut |_| Ok(()))
    }

    fn preconditioned(
        &self,
        subject: &Subject,
        scales: &[f32],
        probes: usize,
        seed: u64,
    ) -> Result<(Estimate, Trace), CurvatureError> {
        let operator = ModelOperator::new(subject, Matrix::Hessian);
        let scaled = ScaledOperator::new(&operator, scales)?;
        let what = Lanczos { top: 1, tolerance: 1e-3, products: 200, block: 2, seed };
        let pairs = top_eigenpairs(&scaled, &what, &mut |_| Ok(()))?;
        let forms = scaled.quadratic_forms(&pairs.vectors[..1])?.swap_remove(0);
        let masked: Vec<f64> = subject.masked().iter().map(|m| *m as f64).collect();
        let sums: Vec<f64> = forms.iter().zip(&masked).map(|(x, m)| x * m).collect();
        let error = Estimate::of_ratio(&sums, &masked).standard_error;
        let top = Estimate { value: pairs.eigenvalues[0], standard_error: error, samples: masked.len() };
        let what =
            Hutchinson { seed, stop: Stopping::after(probes), target: Target::Population, ..Hutchinson::default() };
        Ok((top, hutchinson(&scaled, &what, &mut |_| Ok(()))?))
    }

    /// Prints a row for each measure.
    pub fn run(&self, drawn: &dyn Fn(u64) -> Vec<Sentence>) -> Result<(), CurvatureError> {
        let pool = self.subject(self.pool)?;
        let scales = self.state(&pool).preconditioner(&pool)?.expect("an AdamW has second moments");
        let noise = self.noise(&pool, TRUE_DRAWS, 1 << 40, Target::TheseExamples)?;
        let (top, trace) = self.preconditioned(&pool, &scales, TRUE_DRAWS, 1 << 40)?;
        let roots: Vec<f64> = (0..TRUE_RUNS)
            .map(|run| {
                let seed = (1 << 40) + run;
                Ok(SqrtDiagonal::measure(&pool, seed, Target::TheseExamples, &mut |_| Ok(()))?.value.value)
            })
            .collect::<Result<_, CurvatureError>>()?;
        let root = Estimate::of_mean(&roots);
        println!("\ntruths of the pool: rise {}, preconditioned trace {}, roots {root}", noise.rise[0], trace.estimate);
        let mut tallies: Vec<(&'static str, Tally, f64)> = Vec::new();
        for repeat in 1..=self.repeats {
            let sentences = drawn(repeat);
            let subject = self.subject(&sentences)?;
            let own = self.noise(&subject, DRAWS, repeat, Target::Population)?;
            let halves = [0, 1].map(|h| sentences.iter().skip(h).step_by(2).cloned().collect::<Vec<Sentence>>());
            let update = self.subject(&halves[0])?.loss_gradient()?;
            let along = SharpnessAlong::measure(&self.subject(&halves[1])?, &update, Target::Population)?;
            let truth = SharpnessAlong::measure(&pool, &update, Target::TheseExamples)?;
            let (own_top, own_trace) = self.preconditioned(&subject, &scales, PROBES, repeat)?;
            let roots = SqrtDiagonal::measure(&subject, repeat, Target::Population, &mut |_| Ok(()))?;
            let own_trace = Estimate {
                value: own_trace.estimate,
                standard_error: own_trace.standard_error,
                samples: own_trace.samples,
            };
            let mut found: Vec<Found> = vec![
                ("rise", own.rise[0], noise.rise[0].value),
                ("limit", own.limit, noise.limit.value),
                ("directional", along.directional, truth.directional.value),
                ("preconditioned_eigenvalue", own_top, top.value),
                ("preconditioned_trace", own_trace, trace.estimate),
                ("sqrt_diagonal_trace", roots.value, root.value),
            ];
            for (name, own, truth) in [
                ("quadratic_critical", along.quadratic_critical, truth.quadratic_critical),
                ("critical", along.critical, truth.critical),
            ] {
                if let (Ok(own), Ok(truth)) = (own, truth) {
                    found.push((name, own, truth.value));
                }
            }
            for (name, estimate, truth) in found {
                let place = tallies.iter().position(|t| t.0 == name).unwrap_or_else(|| {
                    tallies.push((name, Tally::default(), 0.0));
                    tallies.len() - 1
                });
                tallies[place].1.add(estimate, 0.0, truth);
                tallies[place].2 += truth / self.repeats as f64;
            }
        }
        println!(
            "{:26} {:>8} {:>11} {:>11} {:>11} {:>11}",
            "measure", "covered", "truth", "deviation", "stated", "mean off"
        );
        for (name, tally, truth) in &tallies {
            println!("{name:26} {}", tally.row(self.repeats as f64, *truth));
        }
        Ok(())
    }
}
