//! The trace of models of several sizes in every convention: as trained, embedded in the largest architecture by either
//! rule, and with the flattest scale of the tables between, all from one measurement by tensor of the model as trained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{enlargement, sizes};
use super::error::RunFailure;
use super::examine::{Examiner, Subject};
use super::plan::SweepPlan;
use crate::config::MeasureSection;
use crate::interrupt;
use crate::model::{Enlargement, Law, Size};

/// The Fisher trace of one function in several parametrisations. Errors are standard errors for the language as a
/// population; what cannot be is absent, and `note` says why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceConventions {
    /// The architecture that the model is embedded in: "width 64, 2 layers, 4 heads, feed-forward 256".
    pub into: String,
    /// Sentences measured.
    pub sentences: usize,
    /// Over the parameters as trained.
    pub own: f64,
    /// Of `own`.
    pub own_standard_error: f64,
    /// Embedded with the tables as they are and the norm before a tied head divided by the factor of the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<f64>,
    /// Of `duplicate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_standard_error: Option<f64>,
    /// Embedded with all tables divided by that factor, as in the script released with the paper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper: Option<f64>,
    /// Of `paper`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper_standard_error: Option<f64>,
    /// Embedded with the tables times the factor that makes the trace least, 2 √(E G) + R.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balanced: Option<f64>,
    /// Of `balanced`, to first order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balanced_standard_error: Option<f64>,
    /// What the square root of two estimates adds to `balanced` in the mean; it is not taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balanced_bias: Option<f64>,
    /// Factor on the tables of `balanced`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balanced_table_scale: Option<f64>,
    /// Why something is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl SweepPlan {
    /// The architecture in which models are compared by every convention: the one that curvature is taken in, or the
    /// largest where the models are of several sizes; `None` where nothing is measured, all are of one size, or one is
    /// a decoder, which no larger architecture holds.
    pub(super) fn compared_in(&self) -> Option<Size> {
        *self.compared.get_or_init(|| self.largest_compared())
    }

    fn largest_compared(&self) -> Option<Size> {
        self.examine.measure.as_ref()?;
        if self.runs.iter().any(|run| run.model_config(1, 1).kind.is_causal()) {
            return None;
        }
        // None where the type of model has no such size.
        let models = || self.runs.iter().map(|run| run.size());
        let of = |size: fn(Size) -> Option<u32>| (models().filter_map(size).min(), models().filter_map(size).max());
        let all = [of(|size| size.hidden), of(|size| size.layers), of(|size| size.heads), of(|size| size.intermediate)];
        match self.enlarged() {
            Some(size) => Some(sizes(size)),
            None if all.iter().all(|(least, most)| least == most) => None,
            None => Some(Size { hidden: all[0].1, layers: all[1].1, heads: all[2].1, intermediate: all[3].1 }),
        }
    }
}

impl Examiner<'_> {
    /// The traces of a model in every convention, on the sentences and with the draws of its curvature's trace.
    pub(super) fn conventions(
        &self,
        subject: &Subject<'_>,
        measure: &MeasureSection,
        into: Size,
    ) -> Result<TraceConventions, RunFailure> {
        let small = &subject.loaded.encoder;
        let method = enlargement(self.plan.examine.enlarge_by);
        let law = Law::new(small, into, method);
        let itself = || {
            let same = Law::new(small, Size::default(), Enlargement::Duplicate);
            same.expect("every model holds itself")
        };
        let instruments = self.instruments(subject, measure)?;
        let used = law.as_ref().map_or_else(|_| itself(), Law::clone);
        let found = instruments.conventions(&subject.model, &used, &|| !interrupt::requested())?;
        let mut row = TraceConventions {
            into: into.config(&small.config).shape(),
            sentences: instruments.count(measure.trace.sentences),
            own: found.own.value,
            own_standard_error: found.own.standard_error,
            ..TraceConventions::default()
        };
        if let Err(why) = law {
            row.note = Some(why.to_string());
            return Ok(row);
        }
        (row.duplicate, row.duplicate_standard_error) =
            (Some(found.duplicate.value), Some(found.duplicate.standard_error));
        (row.paper, row.paper_standard_error) = (Some(found.paper.value), Some(found.paper.standard_error));
        match found.balanced {
            Ok(balanced) => {
                (row.balanced, row.balanced_standard_error) =
                    (Some(balanced.trace.value), Some(balanced.trace.standard_error));
                (row.balanced_bias, row.balanced_table_scale) = (Some(balanced.bias), Some(balanced.scale));
            }
            Err(why) => row.note = Some(why.to_string()),
        }
        Ok(row)
    }
}
