//! Block Lanczos with full reorthogonalisation: an orthonormal basis Q of a Krylov space and T = Qᵀ A Q. Golub and
//! Underwood 1977; reorthogonalised twice, against everything, since vectors are f32.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::curvature::operator::apply;
use crate::curvature::operator::vector::{orthogonalise, scale};
use crate::curvature::{CurvatureError, Operator, ProbeKind, norm, probe};

/// What is left of a unit vector is rounding below this; f32 products carry 1e-7 of the largest.
const BREAKDOWN: f64 = 3e-6;

/// A growing Krylov space.
pub(super) struct Krylov {
    pub basis: Vec<Vec<f32>>,
    /// Columns of Qᵀ A Q for the part of the basis that A has been applied to.
    columns: Vec<Vec<f64>>,
    /// The newest block against the one before it: rows of R.
    coupling: Vec<Vec<f64>>,
    /// Largest ‖A q‖ seen, the scale of rounding.
    pub scale: f64,
    /// How often a direction ran out and a random one took its place.
    pub restarts: usize,
    seed: u64,
    fresh: u64,
}

/// Ritz values and vectors' coordinates, and the residual of each by the recurrence.
pub(super) struct Ritz {
    pub values: Vec<f64>,
    /// `[value][place in the basis]`.
    pub coordinates: Vec<Vec<f64>>,
    pub residuals: Vec<f64>,
}

impl Krylov {
    /// Starts with what is given, as many of these as a block has, and with Gaussian directions of the seed where they
    /// are fewer.
    pub fn new(size: usize, block: usize, seed: u64, start: &[Vec<f32>]) -> Krylov {
        let mut krylov =
            Krylov { basis: vec![], columns: vec![], coupling: vec![], scale: 0.0, restarts: 0, seed, fresh: 0 };
        let block = block.min(size);
        for v in start.iter().filter(|v| v.len() == size).take(block) {
            let mut v = v.clone();
            let length = norm(&v);
            scale(&mut v, 1.0 / length);
            orthogonalise(&mut v, &krylov.basis);
            let left = norm(&v);
            // Not a number fails too.
            if left > 1e-4 {
                scale(&mut v, 1.0 / left);
                krylov.basis.push(v);
            }
        }
        while krylov.basis.len() < block {
            krylov.push_random(size);
        }
        krylov
    }

    /// Vectors that A was applied to.
    pub fn done(&self) -> usize {
        self.columns.len()
    }

    /// Whether the basis spans everything.
    pub fn complete(&self, size: usize) -> bool {
        self.done() == size
    }

    fn push_random(&mut self, size: usize) {
        loop {
            let mut v = probe(ProbeKind::Gaussian, self.seed, self.fresh, size);
            self.fresh += 1;
            let length = norm(&v);
            scale(&mut v, 1.0 / length);
            orthogonalise(&mut v, &self.basis);
            let left = norm(&v);
            // Fails only with bad luck in the last few directions of a small space; the next draw is another one.
            if left > 1e-4 {
                scale(&mut v, 1.0 / left);
                orthogonalise(&mut v, &self.basis);
                let left = norm(&v);
                scale(&mut v, 1.0 / left);
                return self.basis.push(v);
            }
        }
    }

    /// Applies A to the newest block and finds the next one.
    pub fn step(&mut self, operator: &dyn Operator) -> Result<(), CurvatureError> {
        let (low, high) = (self.done(), self.basis.len());
        let images = apply(operator, &self.basis[low..high])?;
        self.scale = images.iter().map(|w| norm(w)).fold(self.scale, f64::max);
        self.coupling.clear();
        for (place, mut w) in images.into_iter().enumerate() {
            let whole = norm(&w);
            let factors = orthogonalise(&mut w, &self.basis);
            self.columns.push(factors[..high].to_vec());
            for (row, c) in self.coupling.iter_mut().zip(&factors[high..]) {
                row[place] = *c;
            }
            let left = norm(&w);
            if left > BREAKDOWN * self.scale.max(whole) && left > 0.0 {
                scale(&mut w, 1.0 / left);
                orthogonalise(&mut w, &self.basis);
                let length = norm(&w);
                scale(&mut w, 1.0 / length);
                self.basis.push(w);
                let mut row = vec![0.0; high - low];
                row[place] = left;
                self.coupling.push(row);
            } else if self.basis.len() < operator.size() {
                self.restarts += 1;
                self.push_random(operator.size());
                self.coupling.push(vec![0.0; high - low]);
            }
        }
        Ok(())
    }

    /// The part of A that the space sees.
    pub fn ritz(&self) -> Ritz {
        let m = self.done();
        let t = DMatrix::from_fn(m, m, |i, j| self.entry(i, j));
        let eigen = SymmetricEigen::new(t);
        let last = self.coupling.first().map_or(0, Vec::len);
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].abs().total_cmp(&eigen.eigenvalues[*a].abs()));
        let residual = |column: usize| {
            let tail = |j: usize| eigen.eigenvectors[(m - last + j, column)];
            let squares = self.coupling.iter().map(|row| (0..last).map(|j| row[j] * tail(j)).sum::<f64>().powi(2));
            squares.sum::<f64>().sqrt()
        };
        Ritz {
            values: order.iter().map(|i| eigen.eigenvalues[*i]).collect(),
            coordinates: order.iter().map(|i| eigen.eigenvectors.column(*i).iter().copied().collect()).collect(),
            residuals: order.iter().map(|i| residual(*i)).collect(),
        }
    }

    /// T symmetrised: the lower entry is known where A was applied to the later vector, the upper where to the earlier
    /// one.
    fn entry(&self, i: usize, j: usize) -> f64 {
        let at = |row: usize, column: usize| self.columns[column].get(row).copied();
        match (at(i, j), at(j, i)) {
            (Some(a), Some(b)) => (a + b) / 2.0,
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::Dense;
    use crate::curvature::operator::vector::{add_combination, combination};

    #[test]
    fn residuals_by_recurrence_are_those_of_the_vectors() {
        let n = 40;
        let entry = |k: usize| {
            let (i, j) = (k / n, k % n);
            (1.0 + (i as f64 - j as f64).abs()).recip() + if i == j { i as f64 / 4.0 } else { 0.0 }
        };
        let matrix = Dense::new(n, (0..n * n).map(entry).collect()).unwrap();
        for block in [1, 3] {
            let mut krylov = Krylov::new(n, block, 1, &[]);
            for _ in 0..4 {
                krylov.step(&matrix).unwrap();
            }
            let ritz = krylov.ritz();
            for ((value, coordinates), stated) in ritz.values.iter().zip(&ritz.coordinates).zip(&ritz.residuals) {
                let v = combination(&krylov.basis[..krylov.done()], coordinates);
                let mut image = matrix.apply(std::slice::from_ref(&v)).unwrap().remove(0);
                add_combination(&mut image, &[v], &[-value]);
                assert!((norm(&image) - stated).abs() < 1e-4, "{} against {stated}", norm(&image));
            }
        }
    }
}
