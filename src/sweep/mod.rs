//! Many runs from one file: planned, run where they are missing, examined, collected into a table; or models that are
//! there already, examined in the same way.
//!
//! ```no_run
//! let plan = lowland::sweep::plan("sweep.toml".as_ref())?;
//! for run in &plan.runs {
//!     println!("{} {}", run.id, run.overrides.join(" "));
//! }
//! let table = plan.collect()?;
//! println!("{} models, {} missing", table.rows.len(), table.missing.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ask;
mod attempt;
mod average;
mod check;
mod collect;
mod conventions;
mod costs;
mod covariates;
mod displacement;
mod error;
mod examine;
mod file;
mod folder;
mod gauge;
mod given;
mod matched;
mod plan;
mod probe_section;
mod probing;
mod question;
mod queue;
mod registration;
mod run;
mod submitted;
mod table;
mod tidy;

pub use average::Averaging;
pub use check::check;
pub use collect::{Standing, State};
pub use conventions::TraceConventions;
pub use displacement::Displacement;
pub use error::{FailureKind, RunFailure, SweepError};
pub use file::{Enlarge, EnlargeBy, EnlargeSize, ExamineSection, Models, schema};
pub use gauge::{GaugeSection, Gauged};
pub use given::{ExamplesFile, GivenModel};
pub use matched::Matched;
pub use plan::{PlannedRun, SweepPlan, plan};
pub use probe_section::{Method, ProbeSection, Reads};
pub use queue::{ARRAY, ArrayScript, SlurmSection, Submission};
pub use registration::{
    Decide, FIRST_SEED, Hypothesis, PlanFile, Registration, SeedRange, Seeds, Test, plan_schema, sweep_hash,
};
pub use run::{FailedRun, Options, Tally, Watcher, crew_name, run};
pub use submitted::{SubmittedRun, parse_submitted};
pub use table::{Accuracies, Collapse, LOOKUP, Missing, Row, Table, Task};
