//! The scale on which each parameter is free to move: the norm of its block, or 1.

use crate::curvature::passes::by_row;
use crate::curvature::{CurvatureError, Named, Refusal, Subject};
use crate::model::{Part, Piece};

/// The covariance D / γ of the local prior around a model's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prior {
    /// D = |w_block|², the blocks as those of flatness: rows of tables, entries of the bias over words, else tensors. A
    /// scale that moves a whole block moves nothing else; a block of zeros is held still.
    #[default]
    Block,
    /// D = 1.
    Isotropic,
}

impl Named for Prior {
    const ALL: &'static [Prior] = &[Prior::Block, Prior::Isotropic];

    fn name(self) -> &'static str {
        match self {
            Prior::Block => "block",
            Prior::Isotropic => "isotropic",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Prior::Block => "each number on the scale of its block's norm; a block of zeros is held still",
            Prior::Isotropic => "every number on the scale 1",
        }
    }
}

impl Prior {
    /// √D of each number that takes part, shape `[N]`: |w_block|, or 1.
    ///
    /// # Errors
    /// All blocks that take part are of zeros; what the adapter says.
    pub fn scales(self, subject: &Subject) -> Result<Vec<f64>, CurvatureError> {
        if self == Prior::Isotropic {
            return Ok(vec![1.0; subject.size()]);
        }
        let encoder = subject.encoder();
        let pieces = encoder.pieces();
        let weights = subject.read_weights()?;
        let mut scales = vec![0.0; subject.size()];
        for (number, place) in subject.vectors().numbered(encoder) {
            let (parameter, values) = (&encoder.parameters[number], &weights.0[number]);
            let first = pieces.iter().position(|p| p.parameter == number).expect("every parameter has a piece");
            let block = |i: usize| match by_row(encoder, pieces[first]) {
                true => i / width_of_row(pieces[first], values.len(), &parameter.shape),
                false => encoder.piece_of(number, i),
            };
            let mut squares: Vec<f64> = Vec::new();
            for (i, w) in values.iter().enumerate() {
                let block = block(i);
                squares.resize(squares.len().max(block + 1), 0.0);
                squares[block] += f64::from(*w).powi(2);
            }
            scales[place].iter_mut().enumerate().for_each(|(i, s)| *s = squares[block(i)].sqrt());
        }
        match scales.iter().any(|s| *s > 0.0) {
            true => Ok(scales),
            false => Err(Refusal::NoScale.into()),
        }
    }
}

/// Numbers of a row that is a block: an entry of a bias, a row of a table.
fn width_of_row(piece: Piece, len: usize, shape: &[usize]) -> usize {
    match piece.part {
        Part::Table(_) => len / shape[0],
        _ => 1,
    }
}
