//! Run configs: types, defaults, validation, schema. Unknown keys are errors; every key may be left out but the
//! language's source.
//!
//! ```
//! use lowland::config::RunConfig;
//! let text = "seed = 3\n[language]\nrandom = { levels = 2, symbols = 3, rules = 2, vocabulary = 12 }\n";
//! let config = RunConfig::parse(text, "demo.toml").unwrap();
//! assert_eq!((config.seed, config.train.batch_size), (3, 256));
//! let error = RunConfig::parse("[trian]\nsteps = 1\n", "demo.toml").unwrap_err().to_string();
//! assert!(error.contains("did you mean `train`"));
//! ```

mod algorithm;
mod explain;
mod identity;
mod language;
mod load;
mod measure;
mod model;
mod objective;
mod paths;
mod run;
mod schedule;
mod text;
mod train;

pub use algorithm::{Adversarial, AlgorithmKind, HeadKind, HeadReads, LabelNoise, Plain, Sam, SamNorm};
pub(crate) use explain::schema_of;
pub use explain::{Explanation, UnknownKey, explain, schema};
pub use identity::Names;
pub use language::{LanguageKind, LanguageSection};
pub(crate) use load::not_finite;
pub use load::{ConfigError, Origin, Resolved, load};
pub(crate) use measure::MOST_LABEL_GROUPS;
pub use measure::{
    FlatnessSection, HessianTraceSection, MeasureSection, NoiseSection, NoiseUnit, PerturbSection, TopSection,
    TraceSection, VolumeSection,
};
pub use model::ModelSection;
pub use objective::{
    EvaluateSection, LabelKind, LabelMix, MaskPolicy, ObjectiveKind, ObjectiveSection, PositionRange, Positions,
    RandomFrom, SeveralMasks,
};
pub(crate) use paths::as_text;
pub use paths::path_in;
pub use run::{AdapterSection, RunConfig};
pub use schedule::{ScheduleKind, Warmup, Wsd};
pub use text::{Files, OpenTextError, Watch};
pub use train::{AdamW, Branch, Fitting, MicroBatch, OptimizerKind, Precision, Sgd, Stop, TrainSection, WidthScaling};
