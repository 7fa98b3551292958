//! The rows of `measure perturb` and `measure sharpness`, in four parts that can be run one at a time.

use std::fs::{OpenOptions, read_to_string};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use lowland::curvature::{
    Chunks, CurvatureError, Hutchinson, Lanczos, Matrix, ModelOperator, NoiseScale, Operator, OptimizerState,
    Perturbation, PerturbationOptions, ScaledOperator, SharpnessAlong, SqrtDiagonal, Stopping, Subject, hutchinson,
    top_eigenpairs_from,
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

/// Runs over the pool for a truth, and draws or probes of each of them.
const TRUE_RUNS: u64 = 24;
const TRUE_DRAWS: usize = 40;

/// Their seeds, from here on, which no repeat has.
const TRUE_SEED: u64 = 1 << 40;

/// What can be run alone.
pub const PARTS: [&str; 4] = ["noise", "update", "preconditioned", "diagonal"];

pub struct Sharpness<'a> {
    pub model: &'a Model,
    pub pool: &'a [Sentence],
    pub repeats: u64,
    /// What was found is kept here and not measured again, so that a part can be run in pieces.
    pub records: Option<PathBuf>,
}

/// (name, estimate, truth) of a repeat.
type Found = (&'static str, Estimate, f64);

/// The same as a record has it.
type Kept = (String, Estimate, f64);

/// What a part finds in a repeat of these sentences.
type Repeat<'r> = dyn FnMut(u64, &[Sentence]) -> Result<Vec<Found>, CurvatureError> + 'r;

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

    /// Prints the rows of one of [`PARTS`].
    pub fn run(&self, part: &str, drawn: &dyn Fn(u64) -> Vec<Sentence>) -> Result<(), CurvatureError> {
        let started = Instant::now();
        let pool = self.subject(self.pool)?;
        match part {
            "noise" => self.noise(&pool, drawn)?,
            "update" => self.update(&pool, drawn)?,
            "preconditioned" => self.preconditioned(&pool, drawn)?,
            _ => self.diagonal(&pool, drawn)?,
        }
        eprintln!("{part}: {:.0} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// The words of each record that begins with this one.
    fn recorded(&self, first: &str) -> Vec<Vec<String>> {
        let text = self.records.as_ref().and_then(|file| read_to_string(file).ok()).unwrap_or_default();
        let words = |line: &str| line.split('\t').map(String::from).collect::<Vec<String>>();
        text.lines().map(words).filter(|line| line[0] == first).collect()
    }

    fn record(&self, line: &[String]) {
        if let Some(file) = &self.records {
            let mut file = OpenOptions::new().append(true).create(true).open(file).expect("records can be written");
            writeln!(file, "{}", line.join("\t")).expect("records can be written");
        }
    }

    /// The truths of a part, means over runs of seeds that no repeat has; each run is kept.
    fn truths(
        &self,
        part: &str,
        runs: u64,
        measure: &dyn Fn(u64) -> Result<Vec<f64>, CurvatureError>,
    ) -> Result<Vec<f64>, CurvatureError> {
        let key = format!("{part}, truth");
        let numbers = |line: &Vec<String>| line[1..].iter().map(|text| number(text)).collect::<Vec<f64>>();
        let mut all: Vec<Vec<f64>> = self.recorded(&key).iter().map(numbers).collect();
        for run in all.len() as u64..runs {
            let found = measure(TRUE_SEED + run)?;
            self.record(&[vec![key.clone()], found.iter().map(f64::to_string).collect()].concat());
            all.push(found);
        }
        let of = |i: usize| Estimate::of_mean(&all.iter().map(|run| run[i]).collect::<Vec<f64>>());
        let truths: Vec<Estimate> = (0..all[0].len()).map(of).collect();
        let shown: Vec<String> = truths.iter().map(Estimate::to_string).collect();
        eprintln!("{part}: the truth is {}", shown.join(", "));
        Ok(truths.iter().map(|e| e.value).collect())
    }

    /// The repeats of a part, and its rows.
    fn repeated(
        &self,
        part: &str,
        drawn: &dyn Fn(u64) -> Vec<Sentence>,
        one: &mut Repeat<'_>,
    ) -> Result<(), CurvatureError> {
        let kept = |line: &Vec<String>| -> (u64, Kept) {
            let (value, standard_error) = (number(&line[3]), number(&line[4]));
            (
                number(&line[1]) as u64,
                (line[2].clone(), Estimate { value, standard_error, samples: 1 }, number(&line[5])),
            )
        };
        let mut all: Vec<(u64, Kept)> = self.recorded(part).iter().map(kept).collect();
        for repeat in 1..=self.repeats {
            if all.iter().any(|(r, _)| *r == repeat) {
                continue;
            }
            for (name, e, truth) in one(repeat, &drawn(repeat))? {
                let numbers = [e.value, e.standard_error, truth].map(|x| x.to_string());
                self.record(&[vec![part.into(), repeat.to_string(), name.into()], numbers.into()].concat());
                all.push((repeat, (name.into(), e, truth)));
            }
            if repeat % 20 == 0 {
                eprintln!("{part}: {repeat} of {}", self.repeats);
            }
        }
        let mut tallies: Vec<(String, Tally)> = Vec::new();
        for (_, (name, estimate, truth)) in all.into_iter().filter(|(repeat, _)| *repeat <= self.repeats) {
            let place = tallies.iter().position(|t| t.0 == name).unwrap_or_else(|| {
                tallies.push((name, Tally::default()));
                tallies.len() - 1
            });
            tallies[place].1.add(estimate, 0.0, truth);
        }
        for (name, tally) in &tallies {
            println!("{name:26} {}", tally.row());
        }
        Ok(())
    }

    fn noise(&self, pool: &Subject, drawn: &dyn Fn(u64) -> Vec<Sentence>) -> Result<(), CurvatureError> {
        let measure = |subject: &Subject, draws: usize, seed: u64, target: Target| {
            let (sigmas, scale) = (vec![SIGMA, SIGMA / 4.0], NoiseScale::Tensor);
            let what = PerturbationOptions { sigmas, scale, draws, seed, probes: 0, block: 8, target };
            Perturbation::measure(subject, &what, &mut |_| Ok(()))
        };
        let truths = self.truths("noise", TRUE_RUNS, &|seed| {
            let found = measure(pool, TRUE_DRAWS, seed, Target::TheseExamples)?;
            Ok(vec![found.rise[0].value, found.limit.value])
        })?;
        self.repeated("noise", drawn, &mut |repeat, sentences| {
            let own = measure(&self.subject(sentences)?, DRAWS, repeat, Target::Population)?;
            Ok(vec![("rise", own.rise[0], truths[0]), ("limit", own.limit, truths[1])])
        })
    }

    /// The update is that of the first half of a repeat's sentences, and the truth along it that of the pool.
    fn update(&self, pool: &Subject, drawn: &dyn Fn(u64) -> Vec<Sentence>) -> Result<(), CurvatureError> {
        self.repeated("update", drawn, &mut |_, sentences| {
            let half = |h: usize| sentences.iter().skip(h).step_by(2).cloned().collect::<Vec<Sentence>>();
            let update = self.subject(&half(0))?.loss_gradient()?;
            let own = SharpnessAlong::measure(&self.subject(&half(1))?, &update, Target::Population)?;
            let truth = SharpnessAlong::measure(pool, &update, Target::TheseExamples)?;
            let mut found = vec![("directional", own.directional, truth.directional.value)];
            for (name, own, truth) in [
                ("quadratic_critical", own.quadratic_critical, truth.quadratic_critical),
                ("critical", own.critical, truth.critical),
            ] {
                if let (Ok(own), Ok(truth)) = (own, truth) {
                    found.push((name, own, truth.value));
                }
            }
            Ok(found)
        })
    }

    /// Searches begin at the pool's eigenvector: the value is the same to within the tolerance.
    fn preconditioned(&self, pool: &Subject, drawn: &dyn Fn(u64) -> Vec<Sentence>) -> Result<(), CurvatureError> {
        let scales = self.state(pool).preconditioner(pool)?.expect("an AdamW has second moments");
        let eigen = |subject: &Subject, scales: Option<&[f32]>, start: &[Vec<f32>], seed: u64| {
            let operator = ModelOperator::new(subject, Matrix::Hessian);
            let ones = vec![1.0; operator.size()];
            let scaled = ScaledOperator::new(&operator, scales.unwrap_or(&ones))?;
            let what = Lanczos { top: 1, tolerance: 3e-3, products: 200, block: 2, seed };
            let pairs = top_eigenpairs_from(&scaled, &what, start, &mut |_| Ok(()))?;
            assert!(pairs.converged[0], "{:?}", pairs.residuals);
            let forms = scaled.quadratic_forms(&pairs.vectors[..1])?.swap_remove(0);
            let masked: Vec<f64> = subject.masked().iter().map(|m| *m as f64).collect();
            let sums: Vec<f64> = forms.iter().zip(&masked).map(|(x, m)| x * m).collect();
            let standard_error = Estimate::of_ratio(&sums, &masked).standard_error;
            Ok::<_, CurvatureError>((
                Estimate { value: pairs.eigenvalues[0], standard_error, samples: masked.len() },
                pairs.vectors,
            ))
        };
        let trace = |subject: &Subject, probes: usize, seed: u64, target: Target| {
            let operator = ModelOperator::new(subject, Matrix::Hessian);
            let what = Hutchinson { seed, stop: Stopping::after(probes), target, ..Hutchinson::default() };
            let found = hutchinson(&ScaledOperator::new(&operator, &scales)?, &what, &mut |_| Ok(()))?;
            let (value, standard_error, samples) = (found.estimate, found.standard_error, found.samples);
            Ok::<_, CurvatureError>(Estimate { value, standard_error, samples })
        };
        let (plain, first) = eigen(pool, None, &[], TRUE_SEED)?;
        let (top, second) = eigen(pool, Some(&scales), &[], TRUE_SEED)?;
        let truths = self.truths("preconditioned", TRUE_RUNS, &|seed| {
            Ok(vec![plain.value, top.value, trace(pool, TRUE_DRAWS, seed, Target::TheseExamples)?.value])
        })?;
        self.repeated("preconditioned", drawn, &mut |repeat, sentences| {
            let subject = self.subject(sentences)?;
            Ok(vec![
                ("largest_eigenvalue", eigen(&subject, None, &first, repeat)?.0, truths[0]),
                ("preconditioned_eigenvalue", eigen(&subject, Some(&scales), &second, repeat)?.0, truths[1]),
                ("preconditioned_trace", trace(&subject, PROBES, repeat, Target::Population)?, truths[2]),
            ])
        })
    }

    fn diagonal(&self, pool: &Subject, drawn: &dyn Fn(u64) -> Vec<Sentence>) -> Result<(), CurvatureError> {
        let truths = self.truths("diagonal", TRUE_RUNS, &|seed| {
            Ok(vec![SqrtDiagonal::measure(pool, seed, Target::TheseExamples, &mut |_| Ok(()))?.value.value])
        })?;
        self.repeated("diagonal", drawn, &mut |repeat, sentences| {
            let own = SqrtDiagonal::measure(&self.subject(sentences)?, repeat, Target::Population, &mut |_| Ok(()))?;
            Ok(vec![("sqrt_diagonal_trace", own.value, truths[0])])
        })
    }
}

fn number(text: &str) -> f64 {
    text.parse().expect("a record has numbers")
}
