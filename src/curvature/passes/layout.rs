//! Vectors of the model's size: the numbers of the chosen parameters one after another, and where they lie in the
//! matrices that kernels work on.

use std::ops::Range;

use crate::curvature::{Block, CurvatureError, Refusal};
use crate::model::{Encoder, Parameter, Weights, in_order};

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

    /// Number and place of each parameter that takes part.
    pub(in crate::curvature) fn numbered<'e>(
        &'e self,
        encoder: &'e Encoder,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + 'e {
        let places = encoder.parameters.iter().zip(&self.offsets).enumerate();
        places.filter_map(|(number, (p, offset))| offset.map(|offset| (number, offset..offset + p.len())))
    }

    /// Place of what a matrix holds, where that is one parameter that takes part, in memory as it is in a vector but
    /// for padding behind.
    pub(super) fn straight(&self, encoder: &Encoder, matrix: usize) -> Option<Range<usize>> {
        let number = in_order(&encoder.parameters, &encoder.matrices, matrix)?;
        self.offsets[number].map(|offset| offset..offset + encoder.parameters[number].len())
    }

    /// A matrix of vector k of a block in memory layout, with zeros for what is held still.
    pub(super) fn pack(&self, encoder: &Encoder, block: &Block<'_>, k: usize, matrix: usize) -> Vec<f32> {
        let mut values = vec![0.0; encoder.matrices[matrix].padded_len()];
        for (parameter, place) in self.places(encoder).filter(|(p, _)| p.matrix == matrix) {
            let numbers = block.numbers(k, place);
            for (place, value) in parameter.places(&encoder.matrices[matrix]).zip(numbers.iter()) {
                values[place] = *value;
            }
        }
        values
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
