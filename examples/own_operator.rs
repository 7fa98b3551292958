//! An operator of one's own: a symmetric matrix that is never written down, given to the estimators of traces and
//! spectra.
//!
//!     cargo run --release --example own_operator
//!
//! The matrix is the Laplacian of a path of n points with free ends, 2 on the diagonal and -1 beside it. Its
//! eigenvalues are known, 2 - 2 cos(π k / (n + 1)), so that every estimate can be compared with the truth.

use std::error::Error;
use std::f64::consts::PI;

use lowland::prelude::*;

/// The Laplacian of a path of `0` points.
struct Path(usize);

impl Path {
    fn row(&self, v: &[f32], i: usize) -> f64 {
        let at = |j: Option<usize>| j.and_then(|j| v.get(j)).map_or(0.0, |x| f64::from(*x));
        2.0 * at(Some(i)) - at(i.checked_sub(1)) - at(Some(i + 1))
    }
}

impl Operator for Path {
    fn size(&self) -> usize {
        self.0
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        Ok(block.iter().map(|v| (0..self.0).map(|i| self.row(v, i) as f32).collect()).collect())
    }

    // One number per vector and example; here there is one example, the matrix itself.
    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        let form = |v: &Vec<f32>| (0..self.0).map(|i| f64::from(v[i]) * self.row(v, i)).sum();
        Ok(block.iter().map(|v| vec![form(v)]).collect())
    }

    fn weights(&self) -> &[f64] {
        &[1.0]
    }

    // Costs are in a unit of one's own: here one product.
    fn product_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }

    fn form_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }
}

/// Measures a matrix that is never written down.
pub fn main() -> Result<(), Box<dyn Error>> {
    let n = 400;
    let path = Path(n);
    let eigenvalue = |k: usize| 2.0 - 2.0 * (PI * k as f64 / (n + 1) as f64).cos();

    let trace = path.trace().relative_error(0.01)?;
    println!("trace {trace} from {} probes; it is {}", trace.samples, 2 * n);
    assert!((trace.estimate - 2.0 * n as f64).abs() < 5.0 * trace.standard_error);

    let top = path.top(2)?;
    println!("largest eigenvalues\n{top}\nthey are {:.6} and {:.6}", eigenvalue(n), eigenvalue(n - 1));
    assert!((top.eigenvalues[0] - eigenvalue(n)).abs() < 1e-3);

    // Moments of the spectrum: of this matrix the mean is 2 and the mean square 6 - 2 / n.
    let spectrum = path.spectrum()?;
    println!("mean eigenvalue {}, mean square {}", spectrum.moment(1), spectrum.moment(2));
    Ok(())
}
