//! How large the noise on each parameter is.

use crate::curvature::{Named, Subject};
use crate::model::{Encoder, Part, Weights};

/// The scale of a parameter's noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoiseScale {
    /// |w| of its block: a row of a word, position or segment table, an entry of the bias over words, else a tensor, of
    /// queries, keys and values each its own. The blocks of `measure flatness`.
    #[default]
    Tensor,
    /// 1.
    Plain,
}

impl Named for NoiseScale {
    const ALL: &'static [NoiseScale] = &[NoiseScale::Tensor, NoiseScale::Plain];

    fn name(self) -> &'static str {
        match self {
            NoiseScale::Tensor => "tensor",
            NoiseScale::Plain => "plain",
        }
    }

    fn about(self) -> &'static str {
        match self {
            NoiseScale::Tensor => "Times |w| of each block: a tensor, or a row of a table",
            NoiseScale::Plain => "The same for every parameter",
        }
    }
}

impl NoiseScale {
    /// The scale of each number of a subject's vectors.
    pub fn of(self, subject: &Subject, weights: &Weights) -> Vec<f32> {
        let encoder = subject.encoder();
        if self == NoiseScale::Plain {
            return vec![1.0; subject.size()];
        }
        let mut scales = Vec::with_capacity(subject.size());
        for (number, values) in weights.0.iter().enumerate() {
            if subject.vectors().contains(number) {
                scales.extend(norms(encoder, number, values));
            }
        }
        scales
    }
}

/// |w| of the block that each number of a parameter belongs to.
fn norms(encoder: &Encoder, number: usize, values: &[f32]) -> Vec<f32> {
    let parameter = &encoder.parameters[number];
    let length = |own: &[f32]| own.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt() as f32;
    match (parameter.role.part, parameter.role.bias) {
        (Part::Table(_), _) => {
            let wide = values.len() / parameter.shape[0];
            values.chunks_exact(wide).flat_map(|row| std::iter::repeat_n(length(row), wide)).collect()
        }
        (Part::Decoder, true) => values.iter().map(|w| w.abs()).collect(),
        _ => {
            let pieces: Vec<usize> = (0..values.len()).map(|i| encoder.piece_of(number, i)).collect();
            let mut squares = [0.0f64; 3];
            values.iter().zip(&pieces).for_each(|(w, piece)| squares[*piece] += f64::from(*w).powi(2));
            pieces.iter().map(|piece| squares[*piece].sqrt() as f32).collect()
        }
    }
}
