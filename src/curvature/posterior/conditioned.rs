//! A target in coordinates in which its covariance is about the identity: x = A z with A = a I + Σ (a_i - a) v_i v_iᵀ,
//! v_i orthonormal. A step of one size then suits steep and flat directions alike. Any invertible A leaves the density
//! of x as it is; a good one only mixes faster.

use super::chain::{Point, Target};
use crate::curvature::CurvatureError;

/// A target whose steep directions are known.
pub struct Conditioned<'t> {
    target: &'t dyn Target,
    /// a.
    base: f64,
    /// v_i and a_i.
    directions: Vec<(Vec<f64>, f64)>,
}

impl<'t> Conditioned<'t> {
    /// With a = `base` beside the directions, of unit length and orthogonal, shape `[d]` each.
    pub fn new(target: &'t dyn Target, base: f64, directions: Vec<(Vec<f64>, f64)>) -> Conditioned<'t> {
        assert!(directions.iter().all(|(v, _)| v.len() == target.size()), "directions of another size");
        Conditioned { target, base, directions }
    }

    /// A applied to a vector.
    fn stretched(&self, z: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = z.iter().map(|z| self.base * z).collect();
        for (v, a) in &self.directions {
            let along = (a - self.base) * v.iter().zip(z).map(|(v, z)| v * z).sum::<f64>();
            x.iter_mut().zip(v).for_each(|(x, v)| *x += along * v);
        }
        x
    }
}

impl Target for Conditioned<'_> {
    fn size(&self) -> usize {
        self.target.size()
    }

    fn at(&self, z: &[f64]) -> Result<Point, CurvatureError> {
        let point = self.target.at(&self.stretched(z))?;
        Ok(Point { gradient: self.stretched(&point.gradient), ..point })
    }
}
