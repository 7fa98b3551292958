//! A trace as a reader sees it.

use std::fmt::{self, Display, Formatter};

use super::Trace;
use crate::statistics::{Estimate, Target};

/// `41.32 ± 0.37 (probes 0.31, sentences 0.20)`; without the parentheses where the examples are the target.
impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let whole = Estimate { value: self.estimate, standard_error: self.standard_error, samples: self.samples };
        write!(f, "{whole}")?;
        if self.target == Target::Population {
            let part = |error: f64| match error.is_finite() {
                true => format!("{error:.*}", whole.decimals()),
                false => "unknown".into(),
            };
            let [probes, data] = [self.standard_error_probe, self.standard_error_data].map(part);
            write!(f, " (probes {probes}, sentences {data})")?;
        }
        match (self.interrupted, self.reached) {
            (true, _) => write!(f, ", interrupted"),
            (false, false) => write!(f, ", less exact than asked for"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::Estimator;
    use crate::statistics::Parts;

    fn trace(target: Target) -> Trace {
        let parts =
            Parts { value: 41.318, standard_error: 0.369, standard_error_probe: 0.31, standard_error_data: 0.2 };
        Trace::of(Estimator::QuadraticForm, parts, target, vec![])
    }

    #[test]
    fn a_trace_shows_both_parts_of_its_error() {
        assert_eq!(trace(Target::Population).to_string(), "41.32 ± 0.37 (probes 0.31, sentences 0.20)");
        assert_eq!(trace(Target::TheseExamples).to_string(), "41.32 ± 0.37");
        assert!(trace(Target::TheseExamples).cut_short(true).to_string().ends_with("interrupted"));
    }
}
