//! Many runs from one file.
//!
//! ```no_run
//! for run in lowland::sweep::plan("sweep.toml".as_ref())?.runs {
//!     println!("{} {}", run.id, run.overrides.join(" "));
//! }
//! # Ok::<(), lowland::sweep::SweepError>(())
//! ```

mod plan;
mod table;

pub use plan::{Plan, PlannedRun, SweepError, plan};
pub use table::{Accuracies, Collapse, Missing, Row, Table, Task};
