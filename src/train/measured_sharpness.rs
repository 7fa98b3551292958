//! The eigenvalues of the Hessian and the rise of the loss under noise on the weights, along the way.

use std::sync::PoisonError;

use super::evaluate::mean_of_sums;
use super::measure::{CHUNKS, Check, Instruments};
use super::measurement::{Measurement, known};
use crate::config::{NoiseUnit, PerturbSection, TopSection};
use crate::curvature::{
    Chunks, CurvatureError, Lanczos, Matrix, ModelOperator, NoiseScale, Operator, Perturbation, PerturbationOptions,
    Subject, top_eigenpairs_from,
};
use crate::model::Model;
use crate::statistics::Target;

impl Instruments {
    /// The eigenvalues of H of largest absolute value.
    pub(super) fn top(
        &self,
        model: &Model,
        settings: &TopSection,
        m: &mut Measurement,
        check: Check<'_>,
    ) -> Result<(), CurvatureError> {
        let subject = self.subject(model, settings.sentences)?;
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let what = Lanczos {
            top: settings.count as usize,
            tolerance: settings.tolerance,
            products: settings.products as usize,
            seed: self.seed,
            ..Lanczos::default()
        };
        let start = match settings.warm_start {
            true => std::mem::take(&mut *self.warm.lock().unwrap_or_else(PoisonError::into_inner)),
            false => vec![],
        };
        let warm = start.iter().any(|v| v.len() == operator.size());
        let found = top_eigenpairs_from(&operator, &what, &start, &mut |_| check())?;
        if found.interrupted {
            return Err(CurvatureError::Interrupted);
        }
        let forms = operator.quadratic_forms(&found.vectors[..1])?;
        // λ is the sum of the examples' forms of summed losses over all predicted positions.
        let masked = subject.masked();
        let sums: Vec<f64> = forms[0].iter().zip(&masked).map(|(form, m)| form * *m as f64).collect();
        let scatter = mean_of_sums(&sums, &masked);
        m.largest_eigenvalue = found.eigenvalues.first().copied();
        m.largest_eigenvalue_standard_error = known(scatter.standard_error);
        m.eigenvalue_residual = found.residuals.first().copied();
        m.eigenvalue_converged = found.converged.first().copied();
        m.eigenvalue_products = Some(found.products as u64);
        m.eigenvalue_warm_start = settings.warm_start.then_some(warm);
        if settings.count > 1 {
            m.eigenvalues = found.eigenvalues;
            m.eigenvalue_residuals = found.residuals;
        }
        if settings.warm_start {
            *self.warm.lock().unwrap_or_else(PoisonError::into_inner) = found.vectors;
        }
        Ok(())
    }

    /// The rise of the loss under noise on the weights.
    pub(super) fn perturb(
        &self,
        model: &Model,
        settings: &PerturbSection,
        m: &mut Measurement,
        check: Check<'_>,
    ) -> Result<(), CurvatureError> {
        let subject = Subject::new(&model.for_short(), &self.exact, &[], &Chunks { batch: self.batch, ..CHUNKS })?;
        let scale = match settings.scale {
            NoiseUnit::Tensor => NoiseScale::Tensor,
            NoiseUnit::Plain => NoiseScale::Plain,
        };
        let what = PerturbationOptions {
            sigmas: settings.sigma.clone(),
            scale,
            draws: settings.draws as usize,
            seed: self.seed,
            probes: 0,
            block: CHUNKS.probes as usize,
            target: Target::Population,
        };
        let found = Perturbation::measure(&subject, &what, &mut |_| check())?;
        if found.interrupted {
            return Err(CurvatureError::Interrupted);
        }
        m.perturb_sigma = settings.sigma.clone();
        m.perturb_rise = found.rise.iter().map(|e| e.value).collect();
        m.perturb_rise_standard_error = found.rise.iter().map(|e| e.standard_error).collect();
        Ok(())
    }
}
