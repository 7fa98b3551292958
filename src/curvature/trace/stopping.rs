//! When an estimator has done enough: one rule for all of them.

/// Ends an estimator at a relative error or at a number of samples: probes, products, pairs of example and draw, or
/// sentences, as the estimator says.
///
/// ```
/// use lowland::curvature::Stopping;
/// let stop = Stopping::at(0.01).not_before(16).at_most(8192);
/// assert!(stop.reached(100.0, 0.9) && !stop.reached(100.0, 1.1));
/// assert_eq!(Stopping::after(64).most, 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// Stop when standard error / |estimate| is at most this; `None` for `most` samples whatever their error.
    ///
    /// The standard error is itself estimated, with a relative error of about 1 / √(2 (K - 1)) from K samples, and a
    /// rule that looks at it after every sample stops early on a low one: take `minimum` large enough for the use.
    pub rel_error: Option<f64>,
    /// Do not stop at a relative error before this many samples.
    pub minimum: usize,
    /// Stop after this many samples in any case.
    pub most: usize,
}

impl Stopping {
    /// Exactly `most` samples.
    pub fn after(most: usize) -> Stopping {
        Stopping { rel_error: None, minimum: 0, most }
    }

    /// At a relative error, with no other bound yet.
    pub fn at(rel_error: f64) -> Stopping {
        Stopping { rel_error: Some(rel_error), minimum: 0, most: usize::MAX }
    }

    /// With another `minimum`.
    pub fn not_before(self, minimum: usize) -> Stopping {
        Stopping { minimum, ..self }
    }

    /// With another `most`.
    pub fn at_most(self, most: usize) -> Stopping {
        Stopping { most, ..self }
    }

    /// Whether the relative error is there; false where none is asked for. 0 ± 0 counts.
    pub fn reached(&self, value: f64, standard_error: f64) -> bool {
        self.rel_error.is_some_and(|r| standard_error <= r * value.abs())
    }

    /// Whether an estimate is as exact as asked for; true where nothing is asked.
    pub fn satisfied(&self, value: f64, standard_error: f64) -> bool {
        self.rel_error.is_none() || self.reached(value, standard_error)
    }

    /// Whether `samples` are enough with this estimate: the error is reached and the minimum there.
    pub fn ends(&self, samples: usize, value: f64, standard_error: f64) -> bool {
        samples >= self.minimum && self.reached(value, standard_error)
    }

    /// The standard error that is wanted of an estimate.
    pub fn wanted(&self, value: f64) -> Option<f64> {
        self.rel_error.map(|r| r * value.abs())
    }

    /// Whether the relative error, if there is one, can be had of any estimate.
    pub fn is_sensible(&self) -> bool {
        self.rel_error.is_none_or(|r| r > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_ends_at_its_error_and_not_before_its_minimum() {
        let stop = Stopping::at(0.1).not_before(5).at_most(9);
        assert!(!stop.ends(4, -10.0, 1.0) && stop.ends(5, -10.0, 1.0) && !stop.ends(5, 10.0, 1.01));
        assert!(stop.reached(0.0, 0.0) && !stop.reached(1.0, f64::NAN));
        assert!(!Stopping::after(9).ends(9, 1.0, 0.0) && Stopping::after(9).satisfied(1.0, 5.0));
        assert_eq!((stop.wanted(-10.0), Stopping::after(9).wanted(1.0)), (Some(1.0), None));
    }

    #[test]
    fn no_error_can_be_asked_for_that_no_estimate_has() {
        assert!(Stopping::after(1).is_sensible() && Stopping::at(0.01).is_sensible());
        assert!(!Stopping::at(0.0).is_sensible() && !Stopping::at(f64::NAN).is_sensible());
    }
}
