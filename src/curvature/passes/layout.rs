//! Vectors of the model's size: the numbers of the chosen parameters one after another, and where they lie in the
//! matrices that kernels work on.

use std::ops::Range;

use rayon::prelude::*;

use crate::curvature::{CurvatureError, Refusal};
use crate::model::{Encoder, Parameter, Weights};

/// The parameters that take part in a measurement, in the order of the model file's names in [`Encoder::parameters`].
#[derive(Clone, Debug)]
pub struct VectorLayout {
    /// Place of each parameter in a vector; `None` for those that are held still.
    offsets: Vec<Option<usize>>,
    size: usize,
    names: Vec<String>,
}

impl VectorLayout {
    /// All parameters, or those with a name that some pattern fits. In a pattern `*` stands for anything.
    ///
    /// # Errors
    /// A pattern that fits no name.
    pub fn new(encoder: &Encoder, patterns: &[String]) -> Result<VectorLayout, CurvatureError> {
        let names: Vec<String> = encoder.parameters.iter().map(|p| p.name.clone()).collect();
        if let Some(lost) = patterns.iter().find(|p| !names.iter().any(|n| fits(p, n))) {
            return Err(Refusal::NoSuchParameter {
                pattern: lost.to_string(),
                example: names.last().cloned().unwrap_or_default(),
            }
            .into());
        }
        let mut size = 0;
        let offsets = encoder
            .parameters
            .iter()
            .map(|p| {
                let wanted = patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, &p.name));
                wanted.then(|| {
                    size += p.len();
                    size - p.len()
                })
            })
            .collect();
        Ok(VectorLayout { offsets, size, names })
    }

    /// Numbers in a vector.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether parameter i takes part.
    pub fn contains(&self, parameter: usize) -> bool {
        self.offsets[parameter].is_some()
    }

    /// Names of the parameters that are held still.
    pub fn left_out(&self) -> Vec<&str> {
        self.names.iter().zip(&self.offsets).filter(|(_, o)| o.is_none()).map(|(n, _)| n.as_str()).collect()
    }

    /// (name, place) of each parameter that takes part.
    pub fn parts<'e>(&'e self, encoder: &'e Encoder) -> impl Iterator<Item = (&'e str, Range<usize>)> + 'e {
        self.places(encoder).map(|(parameter, place)| (parameter.name.as_str(), place))
    }

    /// Each parameter that takes part, with its place.
    pub fn places<'e>(&'e self, encoder: &'e Encoder) -> impl Iterator<Item = (&'e Parameter, Range<usize>)> + 'e {
        encoder.parameters.iter().zip(&self.offsets).filter_map(|(p, o)| o.map(|o| (p, o..o + p.len())))
    }

    /// A vector in the memory layout of some of the matrices, with zeros for what is held still.
    pub fn pack(&self, encoder: &Encoder, vector: &[f32], matrices: Range<usize>) -> Vec<Vec<f32>> {
        assert_eq!(vector.len(), self.size, "a vector of another size");
        let one = |m: usize| {
            let mut values = vec![0.0; encoder.matrices[m].padded_len()];
            for (parameter, offset) in encoder.parameters.iter().zip(&self.offsets).filter(|(p, _)| p.matrix == m) {
                if let Some(offset) = offset {
                    let places = parameter.places(&encoder.matrices[m]);
                    for (place, value) in places.zip(&vector[*offset..*offset + parameter.len()]) {
                        values[place] = *value;
                    }
                }
            }
            values
        };
        matrices.into_par_iter().map(one).collect()
    }

    /// Adds the numbers of matrices in memory layout to a vector.
    pub fn accumulate(&self, encoder: &Encoder, packed: &[&[f32]], vector: &mut [f64]) {
        let mut rest = vector;
        let mut parts = Vec::new();
        for (parameter, offset) in encoder.parameters.iter().zip(&self.offsets) {
            if offset.is_some() {
                let (own, others) = std::mem::take(&mut rest).split_at_mut(parameter.len());
                parts.push((parameter, own));
                rest = others;
            }
        }
        parts.into_par_iter().for_each(|(parameter, own)| {
            let matrix = &encoder.matrices[parameter.matrix];
            for (place, value) in parameter.places(matrix).zip(own) {
                *value += f64::from(packed[parameter.matrix][place]);
            }
        });
    }

    /// The weights, moved along a vector: θ + factor v.
    pub fn moved(&self, weights: &Weights, vector: &[f32], factor: f64) -> Weights {
        assert_eq!(vector.len(), self.size, "a vector of another size");
        let one = |(values, offset): (&Vec<f32>, &Option<usize>)| match offset {
            None => values.clone(),
            Some(offset) => {
                let step = &vector[*offset..*offset + values.len()];
                values.iter().zip(step).map(|(x, v)| (f64::from(*x) + factor * f64::from(*v)) as f32).collect()
            }
        };
        Weights(weights.0.iter().zip(&self.offsets).map(one).collect())
    }

    /// A vector of the values of parameters.
    pub fn gather(&self, weights: &Weights) -> Vec<f32> {
        weights.0.iter().zip(&self.offsets).filter(|(_, o)| o.is_some()).flat_map(|(w, _)| w.iter().copied()).collect()
    }
}

/// Whether a name fits a pattern in which `*` stands for any letters.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            let Some(rest) = name.strip_prefix(head) else { return false };
            rest.char_indices().map(|(i, _)| &rest[i..]).chain([""]).any(|rest| fits(tail, rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        assert!(fits("a.b", "a.b") && !fits("a.b", "a.bc") && !fits("b", "a.b"));
        assert!(fits("*.weight", "x.weight") && fits("a*c*", "abc") && fits("*", "") && !fits("a*c", "ab"));
    }
}
