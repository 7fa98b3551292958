//! Blocks of parameters, over which measures and methods without scale normalise: each row of a table of words,
//! positions or segments, each entry of the output bias, and else each tensor of the model's file.

use super::encoder::Encoder;
use super::role::Part;
use super::store::Arena;
use crate::ops::block_ascent::Segment;

/// vec4 of a segment at most: the work of one workgroup.
const MOST4: u32 = 4096;

/// A run of vec4 of one block in a matrix.
#[derive(Clone, Copy, Debug)]
struct Run {
    matrix: usize,
    first4: u32,
    size4: u32,
    block: u32,
    single: bool,
}

/// Runs of all blocks, those of a block one after another, and how many blocks there are.
fn runs(encoder: &Encoder) -> (Vec<Run>, usize) {
    let (mut all, mut blocks) = (Vec::new(), 0u32);
    for parameter in &encoder.parameters {
        let single = parameter.role.part == Part::Decoder && parameter.role.bias;
        let wide = match (parameter.role.part, parameter.shape.as_slice()) {
            (Part::Table(_), [_, columns]) => *columns,
            _ => parameter.len(),
        };
        let mut places: Vec<usize> = parameter.places(&encoder.matrices[parameter.matrix]).collect();
        for of_block in places.chunks_mut(wide.max(1)) {
            of_block.sort_unstable();
            let begun = all.len();
            for place in of_block.iter().map(|place| (place / 4) as u32) {
                match all[begun..].last_mut() {
                    Some(Run { first4, size4, .. }) if place < *first4 + *size4 => {}
                    Some(Run { first4, size4, .. }) if place == *first4 + *size4 && *size4 < MOST4 => *size4 += 1,
                    _ => all.push(Run { matrix: parameter.matrix, first4: place, size4: 1, block: blocks, single }),
                }
            }
            blocks += 1;
        }
    }
    (all, blocks as usize)
}

/// Segments and blocks of a model's parameters, up to the windows of matrices that are larger than a binding may be.
pub fn block_counts(encoder: &Encoder) -> (usize, usize) {
    let (all, blocks) = runs(encoder);
    (all.len(), blocks)
}

/// The blocks as segments of an arena's chunks.
pub fn segments(encoder: &Encoder, arena: &Arena) -> Vec<Segment> {
    let mut all = Vec::new();
    for Run { matrix, first4, size4, block, single } in runs(encoder).0 {
        let memory = &arena.matrices[matrix];
        let (first, end) = (memory.offset() / 16 + u64::from(first4), memory.offset() / 16 + u64::from(first4 + size4));
        for (chunk, whole) in arena.chunks.iter().enumerate().filter(|(_, c)| c.buffer.same_block(memory)) {
            let begin = whole.buffer.offset() / 16;
            let (from, to) = (first.max(begin), end.min(begin + u64::from(whole.size4)));
            if from < to {
                let (first4, size4) = ((from - begin) as u32, (to - from) as u32);
                all.push(Segment { chunk, first4, size4, block, single });
            }
        }
    }
    all
}
