//! Which matrix of a model is meant and how its trace is estimated, spelled in one way by programs, the command line,
//! configs and JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{CurvatureError, Design, GradientOperator, Matrix, ModelOperator, Moment, Operator, ProbeKind, Subject};
use crate::ops::LossDraw;

/// Values with names, in the order in which they are listed.
pub trait Named: Copy + Sized + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// The name on the command line, in configs and in JSON.
    fn name(self) -> &'static str;

    /// What it is, for a list of them; empty where the name says it.
    fn about(self) -> &'static str {
        ""
    }

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
/// assert_eq!(Estimator::default().name(), "quadratic-form");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Estimator {
    /// Squared gradient norms for draws about the model's own predictions: labels, as in Liu, Xie, Li, Ma 2023, random
    /// signs, or every label in turn.
    Drawn(LossDraw),
    /// The same for the data's own labels.
    DataLabels,
    /// Tr F by random signs and Tr(H - F) by quadratic forms of what the Hessian has beside it.
    SignsAndResidual,
    /// vᵀ(Av) through products.
    Hutchinson,
    /// vᵀAv without products.
    #[default]
    QuadraticForm,
    /// A sketch of the range exactly, the rest by probes.
    HutchPlusPlus,
    /// Leave-one-out sketches.
    Xtrace,
}

impl Estimator {
    /// Whether it takes probe vectors of the model's size.
    pub fn has_probes(self) -> bool {
        matches!(self, Estimator::Hutchinson | Estimator::QuadraticForm | Estimator::HutchPlusPlus | Estimator::Xtrace)
    }
}

impl Named for Estimator {
    const ALL: &'static [Estimator] = &[
        Estimator::Drawn(LossDraw::Label),
        Estimator::Drawn(LossDraw::Signs),
        Estimator::Drawn(LossDraw::Exact),
        Estimator::DataLabels,
        Estimator::SignsAndResidual,
        Estimator::Hutchinson,
        Estimator::QuadraticForm,
        Estimator::HutchPlusPlus,
        Estimator::Xtrace,
    ];

    fn name(self) -> &'static str {
        match self {
            Estimator::Drawn(LossDraw::Label) => "sampled-labels",
            Estimator::Drawn(LossDraw::Signs) => "random-signs",
            Estimator::Drawn(LossDraw::Exact) => "exact-labels",
            Estimator::DataLabels => "data-labels",
            Estimator::SignsAndResidual => "signs-and-residual",
            Estimator::Hutchinson => "hutchinson",
            Estimator::QuadraticForm => "quadratic-form",
            Estimator::HutchPlusPlus => "hutch++",
            Estimator::Xtrace => "xtrace",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Estimator::Drawn(LossDraw::Label) => "Squared gradient norms for labels drawn from the model (the paper's)",
            Estimator::Drawn(LossDraw::Signs) => {
                "The same for random signs on the square root of the softmax Hessian: a smaller variance"
            }
            Estimator::Drawn(LossDraw::Exact) => "The same for every label in turn: no draw",
            Estimator::DataLabels => {
                "The same for the data's own labels: the empirical Fisher matrix, or the noise covariance"
            }
            Estimator::SignsAndResidual => {
                "Tr H = Tr F + Tr(H - F): the first by random signs, the rest by quadratic forms of fewer sentences"
            }
            Estimator::Hutchinson => "vᵀ(Av) through products: per-tensor traces and r_eff",
            Estimator::QuadraticForm => "vᵀAv without products: the same number cheaper, no per-tensor traces",
            Estimator::HutchPlusPlus => "A sketch of the range exactly, the rest by probes",
            Estimator::Xtrace => "Leave-one-out sketches",
        }
    }
}

impl Named for LossDraw {
    const ALL: &'static [LossDraw] = &[LossDraw::Label, LossDraw::Signs, LossDraw::Exact];

    fn name(self) -> &'static str {
        Estimator::Drawn(self).name()
    }

    fn about(self) -> &'static str {
        Estimator::Drawn(self).about()
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
    /// Whether it is of the gradients of examples' summed losses, not of the mean loss.
    pub fn of_sums(self) -> bool {
        matches!(self, CurvatureMatrix::EmpiricalFisher | CurvatureMatrix::NoiseCovariance)
    }

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

impl Named for ProbeKind {
    const ALL: &'static [ProbeKind] = &[ProbeKind::Rademacher, ProbeKind::Gaussian];

    fn name(self) -> &'static str {
        match self {
            ProbeKind::Rademacher => "rademacher",
            ProbeKind::Gaussian => "gaussian",
        }
    }
}

/// How sentences of a language are chosen for estimators that draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// One like the other.
    #[default]
    Uniform,
    /// From a frame of which a forward pass tells where much of the trace is to be expected.
    Designed(Design),
}

impl Named for Sampling {
    const ALL: &'static [Sampling] =
        &[Sampling::Uniform, Sampling::Designed(Design::Stratified), Sampling::Designed(Design::Importance)];

    fn name(self) -> &'static str {
        match self {
            Sampling::Uniform => "uniform",
            Sampling::Designed(Design::Stratified) => "stratified",
            Sampling::Designed(Design::Importance) => "importance",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Sampling::Uniform => "One like the other",
            Sampling::Designed(Design::Stratified) => "In strata of like prediction, more where it scatters",
            Sampling::Designed(Design::Importance) => "In proportion to the prediction, weighted back",
        }
    }
}

/// Whose labels gradients are taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelSource {
    /// The data's.
    #[default]
    Data,
    /// Drawn from the model.
    Model,
}

impl Named for LabelSource {
    const ALL: &'static [LabelSource] = &[LabelSource::Data, LabelSource::Model];

    fn name(self) -> &'static str {
        match self {
            LabelSource::Data => "data",
            LabelSource::Model => "model",
        }
    }
}

/// Reads and shows values by their names.
macro_rules! by_name {
    ($($named:ty),*) => {$(
        impl FromStr for $named {
            type Err = Unknown;

            fn from_str(name: &str) -> Result<$named, Unknown> {
                read(name)
            }
        }

        impl fmt::Display for $named {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Serialize for $named {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    )*};
}

by_name!(Estimator, CurvatureMatrix, ProbeKind, Sampling, LabelSource);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_names_draws_as_the_command_line_names_their_estimators() {
        for draw in [LossDraw::Label, LossDraw::Signs, LossDraw::Exact] {
            let name = Estimator::Drawn(draw).name();
            assert_eq!(serde_json::to_value(draw).unwrap(), name);
            assert_eq!(serde_json::from_value::<LossDraw>(name.into()).unwrap(), draw);
        }
    }

    #[test]
    fn every_name_is_read_back_and_written_to_json() {
        fn all<T: Named + FromStr + Serialize + PartialEq + fmt::Debug>() {
            for value in T::ALL {
                assert_eq!(T::named(value.name()), Some(*value));
                assert_eq!(serde_json::to_value(value).unwrap(), value.name());
                assert!(value.aliases().iter().all(|name| T::named(name) == Some(*value)));
            }
            assert!("none".parse::<T>().is_err());
        }
        all::<Estimator>();
        all::<CurvatureMatrix>();
        all::<ProbeKind>();
        all::<Sampling>();
        all::<LabelSource>();
    }
}
