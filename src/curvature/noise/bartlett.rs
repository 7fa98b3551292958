//! Bartlett's identities: where the model's conditionals are the data's, the covariance Σ of the gradients, the Fisher
//! matrix F and the Hessian H have the same trace (Liu, Xie, Li, Ma 2023, Lemma 4.2). The ratios of the three over the
//! same examples say how far that holds.

use super::ratio_paired;
use crate::statistics::Estimate;

/// Values of each example whose means are the traces, all of the same examples. The shorter of two lists says of which.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExampleTraces<'a> {
    /// ‖g_i - ḡ‖² n / (n - 1).
    pub covariance: Option<&'a [f64]>,
    /// Tr F_i.
    pub fisher: &'a [f64],
    /// Tr H_i, or what it has beyond Tr F_i.
    pub hessian: Option<HessianTraces<'a>>,
}

/// Traces of the Hessian by probes that all examples share, so that the scatter of the examples does not tell
/// their error.
#[derive(Clone, Copy, Debug)]
pub enum HessianTraces<'a> {
    /// Tr H_i, and the probes' relative error of their mean.
    Whole(&'a [f64], f64),
    /// Tr H_i - Tr G_i by the same probes for both, which is small where the model fits, and the probes' error of its
    /// mean relative to Tr F.
    BeyondFisher(&'a [f64], f64),
}

/// Ratios of traces; `None` of what is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bartlett {
    /// Tr Σ / Tr F.
    pub covariance_over_fisher: Option<Estimate>,
    /// Tr Σ / Tr H; `None` where only what H has beyond F is known.
    pub covariance_over_hessian: Option<Estimate>,
    /// Tr H / Tr F.
    pub hessian_over_fisher: Option<Estimate>,
}

impl Bartlett {
    /// By the jackknife over examples; it sees all but the probes, whose part is added.
    pub fn of(traces: ExampleTraces<'_>) -> Bartlett {
        let ExampleTraces { covariance, fisher, hessian } = traces;
        let with =
            |ratio: Estimate, shared: f64| Estimate { standard_error: ratio.standard_error.hypot(shared), ..ratio };
        let over_hessian = |a: &[f64]| match hessian? {
            HessianTraces::Whole(h, probes) => {
                let ratio = paired(a, h);
                Some(with(ratio, ratio.value * probes))
            }
            HessianTraces::BeyondFisher(..) => None,
        };
        Bartlett {
            covariance_over_fisher: covariance.map(|covariance| paired(covariance, fisher)),
            covariance_over_hessian: covariance.and_then(over_hessian),
            hessian_over_fisher: hessian.map(|hessian| match hessian {
                HessianTraces::Whole(h, probes) => {
                    let ratio = paired(h, fisher);
                    with(ratio, ratio.value * probes)
                }
                // Tr H / Tr F = 1 + (Tr H - Tr G) / Tr F.
                HessianTraces::BeyondFisher(beyond, probes) => {
                    let ratio = paired(beyond, fisher);
                    with(Estimate { value: 1.0 + ratio.value, ..ratio }, probes)
                }
            }),
        }
    }
}

/// Σ a / Σ b over the examples that both are known of.
fn paired(a: &[f64], b: &[f64]) -> Estimate {
    let n = a.len().min(b.len());
    ratio_paired(&a[..n], &b[..n])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FISHER: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
    const HESSIAN: [f64; 4] = [1.5, 2.0, 2.5, 5.0];

    #[test]
    fn the_hessian_whole_and_beyond_the_fisher_matrix_give_one_ratio() {
        let beyond: Vec<f64> = HESSIAN.iter().zip(FISHER).map(|(h, f)| h - f).collect();
        let of = |hessian| Bartlett::of(ExampleTraces { covariance: None, fisher: &FISHER, hessian: Some(hessian) });
        let whole = of(HessianTraces::Whole(&HESSIAN, 0.0)).hessian_over_fisher.unwrap();
        let other = of(HessianTraces::BeyondFisher(&beyond, 0.0)).hessian_over_fisher.unwrap();
        assert!((whole.value - 1.1).abs() < 1e-12 && (whole.value - other.value).abs() < 1e-12);
        assert!((whole.standard_error - other.standard_error).abs() < 1e-12);
        // The probes' part comes in quadrature.
        let more = of(HessianTraces::Whole(&HESSIAN, 0.5)).hessian_over_fisher.unwrap();
        assert!((more.standard_error - whole.standard_error.hypot(0.55)).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_given_has_no_ratio() {
        let fewer = &HESSIAN[..3];
        let covariance = Bartlett::of(ExampleTraces { covariance: Some(fewer), fisher: &FISHER, hessian: None });
        assert_eq!(covariance.covariance_over_fisher.unwrap(), ratio_paired(fewer, &FISHER[..3]));
        assert!(covariance.hessian_over_fisher.is_none() && covariance.covariance_over_hessian.is_none());
    }
}
