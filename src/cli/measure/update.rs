//! The part of `measure sharpness` that knows the optimiser: along its next update, and in its own units.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Session, finite, unless_interrupted};
use crate::cli::arguments::{Common, MeasureSharpness};
use crate::cli::failure::Failure;
use crate::curvature::{
    CurvatureError, Hutchinson, Lanczos, Matrix, ModelOperator, NoCritical, Operator, OptimizerState, ProbeKind,
    Progress, ScaledOperator, SharpnessAlong, SqrtDiagonal, Stopping, Subject, hutchinson, top_eigenpairs,
};
use crate::ops::UpdateRule;
use crate::ops::batch::Sentence;
use crate::statistics::{Estimate, Target};
use crate::train::optimizer_of;

/// Sharpness as an optimiser meets it. Null with a reason in `notes`, or where an interrupt came before.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct UpdateReport {
    /// `adamw` or `sgd`: the next update of a checkpoint's optimiser, with its moments; `gradient`: the plain gradient.
    update: String,
    /// uᵀHu / |u|² along the update u.
    directional: Option<f64>,
    /// Of the choice of examples with u held fixed, as of `quadratic_critical`, `critical` and `relative_critical`.
    directional_standard_error: Option<f64>,
    /// uᵀHu / gᵀu: what `critical` is where the loss is quadratic along u.
    quadratic_critical: Option<f64>,
    quadratic_critical_standard_error: Option<f64>,
    /// 2 / η_c with η_c the step at which the loss at θ - η u rises above that at θ, found by forward passes.
    critical: Option<f64>,
    critical_standard_error: Option<f64>,
    /// The same along the update by the gradient on the examples of `--update`.
    relative_critical: Option<f64>,
    relative_critical_standard_error: Option<f64>,
    /// Examples whose gradient is in the update; the loss along it is that of the others.
    update_examples: usize,
    /// The largest eigenvalue of P^-½ H P^-½, P = √v̂ + ε of a checkpoint's AdamW.
    preconditioned_eigenvalue: Option<f64>,
    /// Of the choice of examples, to first order, as of `largest_eigenvalue`.
    preconditioned_eigenvalue_standard_error: Option<f64>,
    /// ‖A v - λ v‖ with ‖v‖ = 1.
    preconditioned_residual: Option<f64>,
    preconditioned_converged: Option<bool>,
    /// Tr P^-½ H P^-½ = Σ H_jj / P_j.
    preconditioned_trace: Option<f64>,
    preconditioned_trace_standard_error: Option<f64>,
    /// Σ √F_jj of the Fisher matrix F, with the bias of the roots taken off.
    sqrt_diagonal_trace: Option<f64>,
    sqrt_diagonal_trace_standard_error: Option<f64>,
    /// What was taken off.
    sqrt_diagonal_trace_bias: Option<f64>,
    /// Reasons of what is null.
    notes: Vec<String>,
    #[serde(skip)]
    pub(super) cost: f64,
    #[serde(skip)]
    pub(super) interrupted: bool,
}

/// Values that are rows of a table: (name, value, error).
type Row = (&'static str, Option<f64>, Option<f64>);

impl UpdateReport {
    pub(super) fn rows(&self) -> [Row; 7] {
        [
            ("directional", self.directional, self.directional_standard_error),
            ("critical, quadratic", self.quadratic_critical, self.quadratic_critical_standard_error),
            ("critical", self.critical, self.critical_standard_error),
            ("relative critical", self.relative_critical, self.relative_critical_standard_error),
            ("preconditioned λ", self.preconditioned_eigenvalue, self.preconditioned_eigenvalue_standard_error),
            ("preconditioned trace", self.preconditioned_trace, self.preconditioned_trace_standard_error),
            ("trace of diag(F)^½", self.sqrt_diagonal_trace, self.sqrt_diagonal_trace_standard_error),
        ]
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn update(&self) -> &str {
        &self.update
    }

    /// Whether an eigenvalue was sought and not found to the tolerance.
    pub(super) fn unconverged(&self) -> bool {
        self.preconditioned_converged == Some(false)
    }
}

/// Examples of the update and of the loss along it, each a half: the update is then none of the loss's own, whose fall
/// along it would else hold the examples' noise.
pub(super) fn halves(sentences: &[Sentence]) -> [Vec<Sentence>; 2] {
    [0, 1].map(|half| sentences.iter().skip(half).step_by(2).cloned().collect())
}

/// Fewest examples of a half.
const FEWEST: usize = 2;

/// What of it is measured where.
pub(super) struct Update<'a> {
    pub session: &'a Session,
    pub arguments: &'a MeasureSharpness,
    pub sentences: &'a [Sentence],
    /// Those of `--update`.
    pub others: Option<&'a [Sentence]>,
}

impl Update<'_> {
    fn common(&self) -> &Common {
        &self.arguments.common
    }

    /// Measures one after another until an interrupt.
    pub fn measure(&self) -> Result<UpdateReport, Failure> {
        let mut r = UpdateReport::default();
        let state = match optimizer_of(&self.common().on.model, &self.session.model.encoder) {
            Ok(state) => Some(state),
            Err(why) => {
                r.notes.push(format!("the update is the plain gradient: {why}"));
                None
            }
        };
        r.update = match state.as_ref().map(|s| s.rule) {
            None => "gradient",
            Some(UpdateRule::AdamW { .. }) => "adamw",
            Some(UpdateRule::Sgd { .. }) => "sgd",
        }
        .into();
        self.own(state.as_ref(), &mut r)?;
        if !r.interrupted {
            self.relative(state.as_ref(), &mut r)?;
        }
        if !r.interrupted {
            self.preconditioned(state.as_ref(), &mut r)?;
        }
        if !r.interrupted {
            self.sqrt_diagonal(&mut r)?;
        }
        Ok(r)
    }

    fn subject(&self, sentences: &[Sentence]) -> Result<Subject, CurvatureError> {
        self.session.setting(self.common()).subject(sentences)
    }

    /// The update by the gradient on some examples, as the direction of another subject.
    fn along(
        &self,
        state: Option<&OptimizerState>,
        update: &[Sentence],
        loss: &[Sentence],
    ) -> Result<SharpnessAlong, CurvatureError> {
        let subject = self.subject(update)?;
        let gradient = subject.loss_gradient()?;
        let direction = match state {
            Some(state) => state.direction(&subject, &gradient)?,
            None => gradient,
        };
        drop(subject);
        SharpnessAlong::measure(&self.subject(loss)?, &direction, Target::Population)
    }

    fn own(&self, state: Option<&OptimizerState>, r: &mut UpdateReport) -> Result<(), Failure> {
        let [update, loss] = halves(self.sentences);
        if loss.len() < FEWEST {
            let needed = 2 * FEWEST;
            r.notes.push(format!(
                "directional, quadratic_critical and critical are null: half of the examples make the update and half \
                the loss, of {needed} at least"
            ));
            return Ok(());
        }
        self.session.gauge.phase("along the update");
        let Some(found) = unless_interrupted(self.along(state, &update, &loss))? else {
            r.interrupted = true;
            return Ok(());
        };
        r.update_examples = update.len();
        // Of a half of the examples.
        r.cost += 0.5 * (1.0 + found.gradient_equivalents);
        (r.directional, r.directional_standard_error) = both(&found.directional);
        let quadratic = found.quadratic_critical;
        (r.quadratic_critical, r.quadratic_critical_standard_error) = quadratic.as_ref().map_or((None, None), both);
        (r.critical, r.critical_standard_error) = kept("critical", &found.critical, &mut r.notes);
        if let Err(why) = quadratic {
            r.notes.push(format!("quadratic_critical is null: {why}"));
        }
        Ok(())
    }

    fn relative(&self, state: Option<&OptimizerState>, r: &mut UpdateReport) -> Result<(), Failure> {
        let Some(others) = self.others else {
            r.notes.push(
                "relative_critical is null: it is along the update of other examples, give them as --update".into(),
            );
            return Ok(());
        };
        self.session.gauge.phase("along the other update");
        let Some(found) = unless_interrupted(self.along(state, others, self.sentences))? else {
            r.interrupted = true;
            return Ok(());
        };
        r.cost += found.gradient_equivalents + others.len() as f64 / self.sentences.len() as f64;
        (r.relative_critical, r.relative_critical_standard_error) =
            kept("relative_critical", &found.critical, &mut r.notes);
        Ok(())
    }

    fn preconditioned(&self, state: Option<&OptimizerState>, r: &mut UpdateReport) -> Result<(), Failure> {
        let subject = self.subject(self.sentences)?;
        let scales = match state {
            Some(state) => state.preconditioner(&subject)?,
            None => None,
        };
        let Some(scales) = scales else {
            r.notes.push(
                "preconditioned_eigenvalue and preconditioned_trace are null: they take the second moments of a \
                checkpoint that AdamW trained"
                    .into(),
            );
            return Ok(());
        };
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let scaled = ScaledOperator::new(&operator, &scales)?;
        let what = lanczos(self.arguments, subject.size());
        let mut look = |p: &Progress| self.session.watch("preconditioned eigenvalue", "product", p);
        let Some(pairs) = unless_interrupted(top_eigenpairs(&scaled, &what, &mut look))? else {
            r.interrupted = true;
            return Ok(());
        };
        r.cost += pairs.gradient_equivalents;
        r.interrupted = pairs.interrupted;
        let place = largest(&pairs.eigenvalues);
        r.preconditioned_eigenvalue = Some(pairs.eigenvalues[place]);
        r.preconditioned_residual = Some(pairs.residuals[place]);
        r.preconditioned_converged = Some(pairs.converged[place]);
        if r.interrupted {
            return Ok(());
        }
        let error = unless_interrupted(scatter(&scaled, &subject, &pairs.vectors[place]))?;
        r.preconditioned_eigenvalue_standard_error = error.and_then(finite);
        let probing = Hutchinson {
            kind: ProbeKind::Rademacher,
            seed: self.common().seed(),
            stop: Stopping::after(self.arguments.samples as usize),
            block: self.common().probes as usize,
            target: Target::Population,
        };
        if subject.examples() < 2 {
            r.notes.push("preconditioned_trace is null: one example tells nothing of a population".into());
            return Ok(());
        }
        let mut look = |p: &Progress| self.session.watch("preconditioned trace", "probe", p);
        let Some(trace) = unless_interrupted(hutchinson(&scaled, &probing, &mut look))? else {
            r.interrupted = true;
            return Ok(());
        };
        r.interrupted = trace.interrupted;
        r.cost += trace.gradient_equivalents;
        r.preconditioned_trace = Some(trace.estimate);
        r.preconditioned_trace_standard_error = finite(trace.standard_error);
        Ok(())
    }

    fn sqrt_diagonal(&self, r: &mut UpdateReport) -> Result<(), Failure> {
        if self.sentences.len() < 2 {
            r.notes.push("sqrt_diagonal_trace is null: one example tells nothing of a population".into());
            return Ok(());
        }
        let subject = self.subject(self.sentences)?;
        let mut look = |p: &Progress| self.session.watch("diag(F)^½", "group", p);
        let found = SqrtDiagonal::measure(&subject, self.common().seed(), Target::Population, &mut look);
        match unless_interrupted(found)? {
            None => r.interrupted = true,
            Some(found) => {
                r.cost += found.gradient_equivalents;
                (r.sqrt_diagonal_trace, r.sqrt_diagonal_trace_standard_error) = both(&found.value);
                r.sqrt_diagonal_trace_bias = finite(found.bias);
            }
        }
        Ok(())
    }
}

/// The three eigenvalues of largest absolute value, among which the largest is looked for.
pub(super) fn lanczos(arguments: &MeasureSharpness, size: usize) -> Lanczos {
    Lanczos {
        top: 3.min(size),
        tolerance: arguments.tolerance,
        products: arguments.products as usize,
        block: 2.min(arguments.common.probes as usize),
        seed: arguments.common.seed(),
    }
}

/// The place of the largest.
pub(super) fn largest(eigenvalues: &[f64]) -> usize {
    (0..eigenvalues.len()).max_by(|a, b| eigenvalues[*a].total_cmp(&eigenvalues[*b])).unwrap_or(0)
}

/// The standard error of vᵀAv for the choice of examples.
pub(super) fn scatter(operator: &dyn Operator, subject: &Subject, v: &[f32]) -> Result<f64, CurvatureError> {
    let forms = operator.quadratic_forms(&[v.to_vec()])?.swap_remove(0);
    let positions: Vec<f64> = subject.masked().iter().map(|m| *m as f64).collect();
    let sums: Vec<f64> = forms.iter().zip(&positions).map(|(form, m)| form * m).collect();
    Ok(Estimate::of_ratio(&sums, &positions).standard_error)
}

fn both(e: &Estimate) -> (Option<f64>, Option<f64>) {
    (finite(e.value), finite(e.standard_error))
}

fn kept(name: &str, of: &Result<Estimate, NoCritical>, notes: &mut Vec<String>) -> (Option<f64>, Option<f64>) {
    match of {
        Ok(estimate) => both(estimate),
        Err(why) => {
            notes.push(format!("{name} is null: {why}"));
            (None, None)
        }
    }
}
