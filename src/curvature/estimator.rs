//! Which matrix of a model is meant and how its trace is estimated, spelled in one way by programs, the command line and
//! JSON.

use std::fmt;
use std::str::FromStr;

use super::{CurvatureError, GradientOperator, Matrix, ModelOperator, Moment, Operator, Subject};
use crate::ops::LossDraw;

/// Values with names, in the order in which they are listed.
pub trait Named: Copy + Sized + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// The name on the command line, in configs and in JSON.
    fn name(self) -> &'static str;

    /// What it is, for a list of them.
    fn about(self) -> &'static str;

    /// Other spellings that are read too.
    fn aliases(self) -> &'static [&'static str] {
        &[]
    }

    /// The value of a name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name || value.aliases().contains(&name))
    }
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is none of {}", known.join(", "))]
pub struct Unknown {
    name: String,
    known: Vec<&'static str>,
}

fn read<T: Named>(name: &str) -> Result<T, Unknown> {
    let known = || T::ALL.iter().map(|value| value.name()).collect();
    T::named(name).ok_or_else(|| Unknown { name: name.into(), known: known() })
}

/// How a trace is estimated.
///
/// ```
/// use lowland::curvature::{Estimator, Named};
/// assert_eq!("hutch++".parse::<Estimator>().unwrap(), Estimator::HutchPlusPlus);
/// assert_eq!(Estimator::RandomSigns.name(), "random-signs");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// Squared gradient norms for labels drawn from the model, as in Liu, Xie, Li, Ma 2022.
    SampledLabels,
    /// The same for random signs on the square root of the softmax Hessian.
    RandomSigns,
    /// The same for every label in turn: no draw.
    ExactLabels,
    /// The same for the data's own labels.
    DataLabels,
    /// vᵀ(Av) through products.
    Hutchinson,
    /// vᵀAv without products.
    QuadraticForm,
    /// A sketch of the range exactly, the rest by probes.
    HutchPlusPlus,
    /// Leave-one-out sketches.
    Xtrace,
}

impl Estimator {
    /// What is drawn at every masked position, for estimators by squared gradient norms of the model's own labels.
    pub fn draw(self) -> Option<LossDraw> {
        match self {
            Estimator::SampledLabels => Some(LossDraw::Label),
            Estimator::RandomSigns => Some(LossDraw::Signs),
            Estimator::ExactLabels => Some(LossDraw::Exact),
            _ => None,
        }
    }

    /// The estimator that draws this.
    pub fn of_draw(draw: LossDraw) -> Estimator {
        match draw {
            LossDraw::Label => Estimator::SampledLabels,
            LossDraw::Signs => Estimator::RandomSigns,
            LossDraw::Exact => Estimator::ExactLabels,
        }
    }

    /// Whether it takes probe vectors of the model's size.
    pub fn has_probes(self) -> bool {
        matches!(self, Estimator::Hutchinson | Estimator::QuadraticForm | Estimator::HutchPlusPlus | Estimator::Xtrace)
    }
}

impl Named for Estimator {
    const ALL: &'static [Estimator] = &[
        Estimator::SampledLabels,
        Estimator::RandomSigns,
        Estimator::ExactLabels,
        Estimator::DataLabels,
        Estimator::Hutchinson,
        Estimator::QuadraticForm,
        Estimator::HutchPlusPlus,
        Estimator::Xtrace,
    ];

    fn name(self) -> &'static str {
        match self {
            Estimator::SampledLabels => "sampled-labels",
            Estimator::RandomSigns => "random-signs",
            Estimator::ExactLabels => "exact-labels",
            Estimator::DataLabels => "data-labels",
            Estimator::Hutchinson => "hutchinson",
            Estimator::QuadraticForm => "quadratic-form",
            Estimator::HutchPlusPlus => "hutch++",
            Estimator::Xtrace => "xtrace",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Estimator::SampledLabels => "Squared gradient norms for labels drawn from the model (the paper's)",
            Estimator::RandomSigns => {
                "The same for random signs on the square root of the softmax Hessian: a smaller variance"
            }
            Estimator::ExactLabels => "The same for every label in turn: no draw",
            Estimator::DataLabels => {
                "The same for the data's own labels: the empirical Fisher matrix, or the noise covariance"
            }
            Estimator::Hutchinson => "vᵀ(Av) through products: per-tensor traces and r_eff",
            Estimator::QuadraticForm => "vᵀAv without products: the same number cheaper, no per-tensor traces",
            Estimator::HutchPlusPlus => "A sketch of the range exactly, the rest by probes",
            Estimator::Xtrace => "Leave-one-out sketches",
        }
    }
}

/// A matrix of a model's curvature or gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurvatureMatrix {
    /// Of the mean loss.
    Hessian,
    /// Gauss-Newton.
    Ggn,
    /// The same matrix as the Gauss-Newton matrix, by its meaning for labels of the model.
    Fisher,
    /// Σ g_i g_iᵀ / n for the labels of the data.
    EmpiricalFisher,
    /// Σ (g_i - ḡ)(g_i - ḡ)ᵀ / (n - 1).
    NoiseCovariance,
}

impl CurvatureMatrix {
    /// The matrix of a subject, known by its products.
    ///
    /// # Errors
    /// A covariance of fewer than 2 examples.
    pub fn operator(self, subject: &Subject) -> Result<Box<dyn Operator + '_>, CurvatureError> {
        Ok(match self {
            CurvatureMatrix::Hessian => Box::new(ModelOperator::new(subject, Matrix::Hessian)),
            CurvatureMatrix::Ggn | CurvatureMatrix::Fisher => Box::new(ModelOperator::new(subject, Matrix::Ggn)),
            CurvatureMatrix::EmpiricalFisher => Box::new(GradientOperator::new(subject, Moment::EmpiricalFisher)?),
            CurvatureMatrix::NoiseCovariance => Box::new(GradientOperator::new(subject, Moment::NoiseCovariance)?),
        })
    }
}

impl Named for CurvatureMatrix {
    const ALL: &'static [CurvatureMatrix] = &[
        CurvatureMatrix::Hessian,
        CurvatureMatrix::Ggn,
        CurvatureMatrix::Fisher,
        CurvatureMatrix::EmpiricalFisher,
        CurvatureMatrix::NoiseCovariance,
    ];

    fn name(self) -> &'static str {
        match self {
            CurvatureMatrix::Hessian => "hessian",
            CurvatureMatrix::Ggn => "ggn",
            CurvatureMatrix::Fisher => "fisher",
            CurvatureMatrix::EmpiricalFisher => "empirical_fisher",
            CurvatureMatrix::NoiseCovariance => "noise_covariance",
        }
    }

    fn about(self) -> &'static str {
        match self {
            CurvatureMatrix::Hessian => "Of the mean loss",
            CurvatureMatrix::Ggn => "Gauss-Newton: the Hessian of the loss with the model linearised",
            CurvatureMatrix::Fisher => "Labels from the model; the same matrix as ggn",
            CurvatureMatrix::EmpiricalFisher => "Labels from the data",
            CurvatureMatrix::NoiseCovariance => "The same of the gradients' deviations from their mean",
        }
    }

    fn aliases(self) -> &'static [&'static str] {
        match self {
            CurvatureMatrix::EmpiricalFisher => &["empirical-fisher"],
            CurvatureMatrix::NoiseCovariance => &["noise-covariance", "noise"],
            _ => &[],
        }
    }
}

impl FromStr for Estimator {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Estimator, Unknown> {
        read(name)
    }
}

impl FromStr for CurvatureMatrix {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<CurvatureMatrix, Unknown> {
        read(name)
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for CurvatureMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
