//! Theorem 6.1 of the paper in a language small enough to enumerate, in f64 on the host: which of the models without
//! loss is the flattest, and which one transfers.
//!
//! One layer of uniform attention, one of ReLU units. A sentence of T brackets is masked at one place; attention adds
//! up the encodings of the others, so that the model reads z in {+1, -1, 0}ᵀ with its only 0 at the mask, and f(z) = Σᵢ
//! aᵢ relu(wᵢ·z). The feature that transfers is S = Σ z, what is open less what is closed: it points along (1, .., 1).
//! What of this is the paper's and what is reconstructed stands in `docs/theory.md`.
//!
//! ```
//! use lowland::theory::{Network, Population};
//! let population = Population::dyck(6)?;
//! let flattest = Network::flattest(6);
//! let found = flattest.measure(&population);
//! assert!(found.loss < 1e-30 && (found.trace - 2.0 * 5f64.sqrt()).abs() < 1e-12);
//! # Ok::<(), lowland::theory::TheoryError>(())
//! ```

mod brackets;
mod descent;
mod dyck;
mod dyck_report;
mod gradient_noise;
mod head;
mod network;
mod population;
mod solutions;

pub use brackets::{BracketsOptions, BracketsReport, Course, Mark};
pub use descent::{Regularised, Solution, descend, least_objective, regularised};
pub use dyck_report::{
    DownstreamLoss, DyckOptions, DyckReport, GradientDescent, HeadSuccess, LabelNoise, RandomFeatures, RegularisedAt,
};
pub use gradient_noise::{Passed, Sgd, sgd};
pub use head::{Downstream, Transfer};
pub use network::{Measured, Network};
pub use population::{LONGEST, Loss, Population, TheoryError};
pub use solutions::rank;

/// What is being done, as progress.
pub type Tell<'t> = &'t (dyn Fn(&str) + Sync);
