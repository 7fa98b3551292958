//! The questions that a sweep asks of a model, and the form of the answers. Each answer is a file of its own, named
//! after the question with everything that can change the answer, so that a question is asked once.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::plan::SweepPlan;
use super::probe_section::ProbeSection;
use super::table::{Accuracies, Task};
use crate::config::{MeasureSection, Positions};
use crate::downstream::Alignment;
use crate::model::Size;
use crate::train::Measurement;

/// One question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'p> {
    Evaluation,
    /// The loss on examples, of which no conditional is known.
    Loss,
    Curvature(&'p MeasureSection),
    /// How much of the last representations is a function of the exact conditional.
    Alignment,
    /// The trace in every convention, for models of several sizes.
    Conventions(&'p MeasureSection, Size),
    Probe(&'p ProbeSection),
    /// How far a model in another gauge is from itself; of those alone.
    Gauge,
    /// The last model of a run beside the average of its weights, where it has one.
    Average,
}

/// Curvature with the parameters that it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Curved {
    pub parametrisation: String,
    pub measurement: Measurement,
}

/// An alignment, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Aligned {
    pub alignment: Option<Alignment>,
    pub reason: Option<String>,
}

/// A task's accuracy with the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Probed {
    pub task: Task,
    pub accuracies: Accuracies,
}

/// Version of the answers' form; another one asks anew.
const FORMAT: u32 = 1;

impl SweepPlan {
    /// All questions to a model; those that need no model come last.
    pub(super) fn questions(&self) -> Vec<Question<'_>> {
        let examine = &self.examine;
        let mut all = vec![if self.examples.is_some() { Question::Loss } else { Question::Evaluation }];
        all.extend(examine.measure.as_ref().map(Question::Curvature));
        let sized = examine.measure.as_ref().zip(self.compared_in());
        all.extend(sized.map(|(measure, into)| Question::Conventions(measure, into)));
        all.extend(examine.alignment.then_some(Question::Alignment));
        all.extend(examine.probe.iter().map(Question::Probe));
        all
    }
}

impl Question<'_> {
    /// File of the answer.
    pub(super) fn file(&self, plan: &SweepPlan) -> String {
        let examine = &plan.examine;
        let (name, settings) = match self {
            Question::Evaluation => {
                // Answers from before there was a choice are those of one position.
                let asked = match examine.positions {
                    Positions::One => json!(examine.sentences),
                    Positions::All => json!([examine.sentences, "all"]),
                };
                ("evaluation".to_string(), asked)
            }
            Question::Loss => ("loss".to_string(), json!(examine.sentences)),
            Question::Curvature(measure) => {
                ("curvature".to_string(), json!([measure, plan.enlarged(), examine.enlarge_by]))
            }
            Question::Alignment => ("alignment".to_string(), json!(examine.sentences)),
            Question::Gauge => ("gauge".to_string(), json!(1)),
            Question::Average => ("average".to_string(), json!([examine.sentences, examine.positions])),
            Question::Conventions(measure, into) => {
                let into = [into.hidden, into.layers, into.heads, into.intermediate];
                ("conventions".to_string(), json!([measure.trace, into, examine.enlarge_by]))
            }
            Question::Probe(probe) => {
                let name = format!("probe {}", probe.name(&probe.task)).to_lowercase();
                (name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), json!(probe))
            }
        };
        let text = json!([FORMAT, examine.seed, settings]).to_string();
        format!("{name}-{}.json", &blake3::hash(text.as_bytes()).to_hex()[..8])
    }

    /// File of the reason why there is no answer.
    pub(super) fn failure_file(&self, plan: &SweepPlan) -> String {
        self.file(plan).replace(".json", ".failure.json")
    }

    /// The question in words, for progress.
    pub(super) fn text(&self) -> String {
        match self {
            Question::Evaluation | Question::Loss => "loss".into(),
            Question::Curvature(_) => "curvature".into(),
            Question::Alignment => "alignment".into(),
            Question::Average => "loss beside that of the average of the weights".into(),
            Question::Gauge => "representations beside its own gauge's".into(),
            Question::Conventions(..) => "trace in every convention".into(),
            Question::Probe(probe) => format!("task {}", probe.name(&probe.task)),
        }
    }
}

/// An answer as it was kept.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}
