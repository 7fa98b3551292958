//! What a trace needs of a product A v, summed up while it goes by.

use std::ops::Range;

use super::vector::DotOfPieces;

/// Sums of v and A v of one vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProductSums {
    /// vᵀ A v.
    pub form: f64,
    /// ‖A v‖².
    pub square: f64,
    /// Σ v_j (A v)_j over each part of the vector.
    pub parts: Vec<f64>,
}

impl ProductSums {
    /// Of a vector and its product.
    pub fn of(v: &[f32], image: &[f32], parts: &[Range<usize>]) -> ProductSums {
        let mut summing = Summing::new(parts);
        summing.add(0, v, image);
        summing.sums()
    }
}

/// The sums of a vector and its product that come a piece at a time, in order; with the same bits for any pieces.
pub(in crate::curvature) struct Summing {
    form: DotOfPieces,
    square: DotOfPieces,
    parts: Vec<(Range<usize>, DotOfPieces)>,
}

impl Summing {
    /// Of nothing yet.
    pub fn new(parts: &[Range<usize>]) -> Summing {
        Summing {
            form: DotOfPieces::default(),
            square: DotOfPieces::default(),
            parts: parts.iter().map(|part| (part.clone(), DotOfPieces::default())).collect(),
        }
    }

    /// The numbers from `first` on of both.
    pub fn add(&mut self, first: usize, v: &[f32], image: &[f32]) {
        self.form.add(v, image);
        self.square.add(image, image);
        for (part, sum) in &mut self.parts {
            let start = part.start.max(first);
            let end = part.end.min(first + v.len());
            if start < end {
                sum.add(&v[start - first..end - first], &image[start - first..end - first]);
            }
        }
    }

    /// What they come to.
    pub fn sums(&self) -> ProductSums {
        ProductSums {
            form: self.form.value(),
            square: self.square.value(),
            parts: self.parts.iter().map(|(_, sum)| sum.value()).collect(),
        }
    }
}
