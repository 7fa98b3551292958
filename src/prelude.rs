//! The names that most programs need: `use lowland::prelude::*`.

pub use crate::curvature::{CurvatureError, Dense, Measure, Operator, Subject, Trace};
pub use crate::language::{Grammar, Language, Pcfg, Truth, entropy_floor};
pub use crate::model::Model;
pub use crate::ops::Device;
