//! The Fisher (= Gauss-Newton) trace from squared norms of per-example gradients of drawn cotangents: no vector of the
//! model's size, one pass back a draw.
//!
//! With u drawn so that E[u uᵀ] = diag(p) − p pᵀ at every masked position, E‖Jᵀu‖² is the trace. Labels from the model
//! are the paper's choice; random signs have a smaller variance once the model is confident (`docs/curvature.md`).

use super::Stopping;
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    Cotangent, CurvatureError, Estimator, NormPass, Observe, Progress, Refusal, Subject, Trace, WordGroups,
};
use crate::ops::{GroupDraw, LossDraw};
use crate::statistics::{Estimate, Target};

/// Squared norms of drawn gradients, collected batch after batch.
pub struct Drawing {
    kind: LossDraw,
    seed: u64,
    draws: usize,
    /// Draws of a position where they are enumerated.
    columns: usize,
    pass: NormPass,
    /// Of the mean over an example's positions: `[example][draw]`; for exact labels a single sum.
    values: Vec<Vec<f64>>,
    weights: Vec<f64>,
    /// Sum over examples of the mean over draws, for each parameter.
    parameters: Vec<f64>,
    kept: Vec<Kept>,
    masked: usize,
    cost: f64,
    gradient_flops: f64,
}

/// A weighted sum over the parameters' traces.
struct Kept {
    factors: Vec<f64>,
    /// `[example][draw]`, as those of the trace itself.
    values: Vec<Vec<f64>>,
}

/// A trace and its parts.
#[derive(Clone, Debug)]
pub struct DrawnTrace {
    /// Over all parameters that take part.
    pub trace: Trace,
    /// (name, trace) of each parameter that takes part.
    pub per_tensor: Vec<(String, f64)>,
}

impl Drawing {
    /// Plans for `draws` draws an example (for [`LossDraw::Exact`] as many as there are positions times words but one).
    pub fn new(subject: &Subject, kind: LossDraw, seed: u64, draws: usize) -> Result<Drawing, CurvatureError> {
        let pass = NormPass::new(subject, Cotangent::Draw(kind))?;
        // The loss's own Hessian has one rank less than there are words.
        Drawing::of(subject, pass, (kind, subject.model.encoder.classes() as usize - 1), seed, draws)
    }

    /// Random signs along the principal axes of the words ([`Cotangent::SignsAlongAxes`]).
    pub fn along_axes(subject: &Subject, seed: u64, draws: usize) -> Result<Drawing, CurvatureError> {
        let pass = NormPass::new(subject, Cotangent::SignsAlongAxes)?;
        let columns = subject.model.encoder.classes() as usize - 1;
        Drawing::of(subject, pass, (LossDraw::Signs, columns), seed, draws)
    }

    /// The same of one part of the trace by groups of words ([`LabelSplit`](crate::curvature::LabelSplit)).
    pub(super) fn grouped(
        subject: &Subject,
        draw: GroupDraw,
        groups: &WordGroups,
        seed: u64,
        draws: usize,
    ) -> Result<Drawing, CurvatureError> {
        let kind = if draw.exact { LossDraw::Exact } else { LossDraw::Signs };
        let pass = NormPass::grouped(subject, draw, groups)?;
        Drawing::of(subject, pass, (kind, draw.columns(subject.model.encoder.classes()) as usize), seed, draws)
    }

    fn of(
        subject: &Subject,
        pass: NormPass,
        (kind, columns): (LossDraw, usize),
        seed: u64,
        draws: usize,
    ) -> Result<Drawing, CurvatureError> {
        if draws == 0 {
            return Err(Refusal::NoDraws.into());
        }
        Ok(Drawing {
            kind,
            seed,
            draws,
            columns,
            pass,
            values: vec![],
            weights: vec![],
            parameters: vec![0.0; subject.model.encoder.parameters.len()],
            kept: vec![],
            masked: 0,
            cost: 0.0,
            gradient_flops: subject.gradient_flops(),
        })
    }

    /// Keeps weighted sums over the parameters' traces beside the plain one, `factors[sum][parameter]`: for
    /// [`combined`](Drawing::combined).
    pub fn keeping(mut self, factors: impl IntoIterator<Item = Vec<f64>>) -> Drawing {
        assert!(self.values.is_empty(), "sums are chosen before anything is measured");
        self.kept = factors.into_iter().map(|factors| Kept { factors, values: vec![] }).collect();
        self
    }

    /// Examples that were measured.
    pub fn examples(&self) -> usize {
        self.values.len()
    }

    /// Measures the subject's next batch; false when there is none left. Interrupted, the batch counts for nothing.
    pub fn batch(&mut self, subject: &Subject) -> Result<bool, CurvatureError> {
        self.watched(subject, &mut |_| Ok(()))
    }

    /// The same with a look at every block of draws.
    pub fn watched(&mut self, subject: &Subject, observe: Observe<'_>) -> Result<bool, CurvatureError> {
        let Some(batch) = subject.batches.iter().position(|b| b.start == self.values.len()) else { return Ok(false) };
        let range = subject.batches[batch].clone();
        let masked: Vec<usize> = subject.sentences[range.clone()].iter().map(|s| s.masked.len()).collect();
        let draws = match self.kind {
            LossDraw::Exact => masked.iter().max().copied().unwrap_or(0) * self.columns,
            _ => self.draws,
        };
        let mut values = vec![vec![0.0; draws]; range.len()];
        let mut sums = vec![0.0; self.parameters.len()];
        let mut kept = vec![values.clone(); self.kept.len()];
        for first in (0..draws).step_by(self.pass.width()) {
            let block = self.pass.width().min(draws - first);
            self.pass.run(subject, batch, self.seed, first as u32, block, |k, example, parameter, value| {
                values[example - range.start][first + k] += value;
                sums[parameter] += value;
                for (all, sum) in kept.iter_mut().zip(&self.kept) {
                    all[example - range.start][first + k] += sum.factors[parameter] * value;
                }
            })?;
            if draws > self.pass.width() {
                observe(&Progress { done: first + block, of: draws, value: None })?;
            }
        }
        let flops = self.pass.flops();
        self.cost += (flops[0] + flops[1] * draws as f64) / self.gradient_flops * range.len() as f64;
        let mean = if self.kind == LossDraw::Exact { 1.0 } else { draws as f64 };
        self.parameters.iter_mut().zip(&sums).for_each(|(all, sum)| *all += sum / mean);
        let exact = self.kind == LossDraw::Exact;
        let of_a_position = |mut own: Vec<f64>, positions: usize| {
            own.iter_mut().for_each(|v| *v /= positions as f64);
            if exact { vec![own.iter().sum()] } else { own }
        };
        for (sum, values) in self.kept.iter_mut().zip(kept) {
            sum.values.extend(values.into_iter().zip(&masked).map(|(own, positions)| of_a_position(own, *positions)));
        }
        for (own, positions) in values.into_iter().zip(&masked) {
            let own = of_a_position(own, *positions);
            if own.iter().any(|v| !v.is_finite()) {
                return Err(CurvatureError::NotFinite("a gradient's norm"));
            }
            self.values.push(own);
            self.weights.push(*positions as f64);
            self.masked += positions;
        }
        Ok(true)
    }

    /// What is known so far, of the mean loss over the examples measured.
    pub fn result(&self, subject: &Subject, target: Target) -> DrawnTrace {
        let mut trace = self.trace_of(&self.values, target);
        trace.gradient_equivalents = self.cost / self.values.len().max(1) as f64;
        let parameters = subject.model.encoder.parameters.iter().zip(&self.parameters).enumerate();
        let per_tensor = parameters
            .filter(|(i, _)| subject.vectors.contains(*i))
            .map(|(_, (p, sum))| (p.name.clone(), sum / self.masked.max(1) as f64))
            .collect();
        DrawnTrace { trace, per_tensor }
    }

    /// A combination of the sums that are kept, with the error that they have together.
    pub fn combined(&self, coefficients: &[f64], target: Target) -> Estimate {
        assert_eq!(coefficients.len(), self.kept.len(), "a coefficient for each sum");
        let at = |i: usize, k: usize| coefficients.iter().zip(&self.kept).map(|(c, sum)| c * sum.values[i][k]).sum();
        let one = |(i, own): (usize, &Vec<f64>)| (0..own.len()).map(|k| at(i, k)).collect();
        let values: Vec<Vec<f64>> = self.values.iter().enumerate().map(one).collect();
        let trace = self.trace_of(&values, target);
        Estimate { value: trace.estimate, standard_error: trace.standard_error, samples: trace.samples }
    }

    fn trace_of(&self, values: &[Vec<f64>], target: Target) -> Trace {
        let mut trace = Trace::of_draws(Estimator::Drawn(self.kind), &self.weights, values, target);
        if self.kind == LossDraw::Exact {
            // Nothing is drawn: what scatters are the examples.
            let data = if target == Target::Population { trace.standard_error } else { 0.0 };
            trace.standard_error = data;
            trace.standard_error_probe = 0.0;
            trace.standard_error_data = data;
        }
        trace
    }

    /// Trace of each example's mean over its positions, `[example][draw]`.
    pub fn values(&self) -> &[Vec<f64>] {
        &self.values
    }

    /// Trace of each example's mean over its positions, averaged over the draws, and the number of its positions.
    pub fn per_example(&self) -> Vec<(f64, usize)> {
        let mean = |v: &Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
        self.values.iter().map(mean).zip(self.weights.iter().map(|w| *w as usize)).collect()
    }

    /// Goes through the subject's batches until they end, or, where they are a sample of a population, until `stop`
    /// says so, in examples. Interrupted, it is of the examples until then.
    pub fn run(
        &mut self,
        subject: &Subject,
        target: Target,
        stop: &Stopping,
        observe: Observe<'_>,
    ) -> Result<DrawnTrace, CurvatureError> {
        while let Some(more) = unless_interrupted(self.batch(subject))? {
            if !more {
                break;
            }
            let result = self.result(subject, target);
            let (value, error) = (result.trace.estimate, result.trace.standard_error);
            let progress = Progress { done: self.values.len(), of: subject.examples(), value: Some((value, error)) };
            let interrupted = unless_interrupted(observe(&progress))?.is_none();
            if stop.ends(self.values.len(), value, error) && target == Target::Population {
                return Ok(result);
            }
            if interrupted {
                break;
            }
        }
        let interrupted = self.values.len() < subject.examples();
        if self.values.is_empty() {
            return Err(CurvatureError::Interrupted);
        }
        let mut result = self.result(subject, target);
        result.trace.reached = stop.satisfied(result.trace.estimate, result.trace.standard_error);
        result.trace = result.trace.cut_short(interrupted);
        Ok(result)
    }
}

/// Squared norms of the gradients of each example's summed loss, for the labels of the data: in all, and for each
/// parameter.
pub struct Norms {
    /// ‖g_i‖² over the parameters that take part.
    pub squared: Vec<f64>,
    /// `[parameter][example]`; empty for those that are held still.
    pub per_parameter: Vec<Vec<f64>>,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
    /// Whether an interrupt ended it; then they are of the first examples only.
    pub interrupted: bool,
}

impl Norms {
    /// Of all examples, or of those until an interrupt.
    pub fn measure(subject: &Subject, observe: Observe<'_>) -> Result<Norms, CurvatureError> {
        let pass = NormPass::new(subject, Cotangent::Data)?;
        let n = subject.examples();
        let mut norms = Norms {
            squared: vec![0.0; n],
            per_parameter: (0..subject.model.encoder.parameters.len())
                .map(|p| if subject.vectors.contains(p) { vec![0.0; n] } else { vec![] })
                .collect(),
            gradient_equivalents: pass.flops().iter().sum::<f64>() / subject.gradient_flops(),
            interrupted: false,
        };
        let mut done = 0;
        for batch in 0..subject.batches.len() {
            let measured = pass.run(subject, batch, 0, 0, 1, |_, example, parameter, value| {
                norms.squared[example] += value;
                norms.per_parameter[parameter][example] += value;
            });
            if unless_interrupted(measured)?.is_none() {
                break;
            }
            done = subject.batches[batch].end;
            if unless_interrupted(observe(&Progress { done, of: n, value: None }))?.is_none() {
                break;
            }
        }
        if done == 0 {
            return Err(CurvatureError::Interrupted);
        }
        norms.interrupted = done < n;
        norms.squared.truncate(done);
        norms.per_parameter.iter_mut().for_each(|values| values.truncate(done));
        Ok(norms)
    }
}
