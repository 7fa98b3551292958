//! Vectors of the model's size on their way to an adapter and back, a few matrices or a piece of a large one at a time:
//! the host holds none of them whole.

use std::ops::Range;

use rayon::prelude::*;

use super::pass::Pass;
use crate::curvature::{Block, CurvatureError, Subject};
use crate::gpu::{Buffer, GpuError};
use crate::graph::TensorId;
use crate::interrupt;
use crate::model::Encoder;

/// Bytes of vectors that are packed, or read, at once; more only where one matrix that is not stored as its parameter
/// is takes more.
const STEP: usize = 8 << 20;

/// Called with a probe's number, a range of its vector and the numbers there; of each probe in the order of its vector.
pub(in crate::curvature) type Each<'a> = &'a mut dyn FnMut(usize, Range<usize>, &[f32]);

/// Memory of a vector of the model's size for each probe.
pub(in crate::curvature) struct ProbeVectors {
    buffers: Vec<Buffer>,
    /// Bytes of one probe of each matrix.
    strides: Vec<usize>,
}

impl ProbeVectors {
    /// The memory of a tensor with probes for each of the model's matrices.
    pub(super) fn of(subject: &Subject, pass: &Pass, tensors: &[TensorId]) -> ProbeVectors {
        ProbeVectors::over(subject.encoder(), tensors.iter().map(|id| pass.bound.buffer(*id).clone()).collect())
    }

    /// The memory of each of the model's matrices, for any number of probes.
    pub(in crate::curvature) fn over(encoder: &Encoder, buffers: Vec<Buffer>) -> ProbeVectors {
        ProbeVectors { buffers, strides: encoder.matrices.iter().map(|m| m.padded_len() * 4).collect() }
    }

    /// Writes a block, with zeros for what is held still.
    pub(super) fn write(&self, subject: &Subject, block: &Block<'_>) -> Result<(), CurvatureError> {
        let (encoder, layout) = (subject.encoder(), subject.vectors());
        assert!(block.has_size(layout.size()), "a vector of another size");
        let mut upload = subject.gpu().upload();
        let (mut packed, mut bytes) = (Vec::new(), 0);
        for k in 0..block.len() {
            interrupt::check()?;
            for (m, stride) in self.strides.iter().enumerate() {
                let at = stride * k;
                if let Some(place) = layout.straight(encoder, m) {
                    for piece in pieces(place.clone()) {
                        let offset = at + (piece.start - place.start) * 4;
                        upload.write_at(&self.buffers[m], offset as u64, &block.numbers(k, piece));
                    }
                } else {
                    packed.push(m);
                    bytes += stride;
                }
                let last = m + 1 == self.strides.len();
                if bytes >= STEP || last {
                    let values: Vec<Vec<f32>> = packed.par_iter().map(|m| layout.pack(encoder, block, k, *m)).collect();
                    for (m, values) in packed.iter().zip(&values) {
                        upload.write_at(&self.buffers[*m], (self.strides[*m] * k) as u64, values);
                    }
                    packed.clear();
                    bytes = 0;
                }
            }
        }
        Ok(())
    }

    /// Reads the vectors of so many probes.
    pub(in crate::curvature) fn read(&self, subject: &Subject, probes: usize, each: Each<'_>) -> Result<(), GpuError> {
        let encoder = subject.encoder();
        let parameters: Vec<(usize, Range<usize>)> = subject.vectors().numbered(encoder).collect();
        let mut first = 0;
        while first < parameters.len() {
            let (number, place) = &parameters[first];
            let matrix = encoder.parameters[*number].matrix;
            if self.strides[matrix] * probes > STEP && subject.vectors().straight(encoder, matrix).is_some() {
                self.read_straight(subject, matrix, place, probes, each)?;
                first += 1;
                continue;
            }
            let mut matrices = Vec::new();
            let mut bytes = 0;
            let mut end = first;
            while end < parameters.len() {
                let m = encoder.parameters[parameters[end].0].matrix;
                if !matrices.contains(&m) {
                    if !matrices.is_empty() && bytes + self.strides[m] * probes > STEP {
                        break;
                    }
                    bytes += self.strides[m] * probes;
                    matrices.push(m);
                }
                end += 1;
            }
            self.read_packed(subject, &matrices, &parameters[first..end], probes, each)?;
            first = end;
        }
        Ok(())
    }

    /// Reads a matrix that is one parameter as it is, piece by piece.
    fn read_straight(
        &self,
        subject: &Subject,
        matrix: usize,
        place: &Range<usize>,
        probes: usize,
        each: Each<'_>,
    ) -> Result<(), GpuError> {
        for k in 0..probes {
            for piece in pieces(place.clone()) {
                let at = self.strides[matrix] * k + (piece.start - place.start) * 4;
                let window = self.buffers[matrix].window(at as u64..(at + piece.len() * 4) as u64);
                let values: Vec<f32> = subject.gpu().read(&window, piece.len())?;
                each(k, piece, &values);
            }
        }
        Ok(())
    }

    /// Reads some matrices, all probes of them, and gives some of their parameters.
    fn read_packed(
        &self,
        subject: &Subject,
        matrices: &[usize],
        parameters: &[(usize, Range<usize>)],
        probes: usize,
        each: Each<'_>,
    ) -> Result<(), GpuError> {
        let encoder = subject.encoder();
        let parts: Vec<(&Buffer, usize)> =
            matrices.iter().map(|m| (&self.buffers[*m], self.strides[*m] * probes)).collect();
        let read = subject.gpu().read_many(&parts)?;
        let of = |m: usize| {
            let at = matrices.iter().position(|own| *own == m).expect("a matrix of one of the parameters");
            bytemuck::cast_slice::<u8, [u8; 4]>(&read[at])
        };
        for k in 0..probes {
            let gather = |(number, _): &(usize, Range<usize>)| {
                let parameter = &encoder.parameters[*number];
                let numbers = self.strides[parameter.matrix] / 4;
                let packed = &of(parameter.matrix)[k * numbers..(k + 1) * numbers];
                let places = parameter.places(&encoder.matrices[parameter.matrix]);
                places.map(|place| f32::from_ne_bytes(packed[place])).collect::<Vec<f32>>()
            };
            let values: Vec<Vec<f32>> = parameters.par_iter().map(gather).collect();
            parameters.iter().zip(&values).for_each(|((_, place), values)| each(k, place.clone(), values));
        }
        Ok(())
    }

    /// Runs all batches of a subject and gives the sums over them of what each leaves here for so many probes. Several
    /// batches are summed in double precision, which takes 8 bytes a number of the host; a single one nothing.
    pub(super) fn sums(
        &self,
        subject: &Subject,
        probes: usize,
        run: &mut dyn FnMut(usize) -> Result<(), CurvatureError>,
        each: Each<'_>,
    ) -> Result<(), CurvatureError> {
        if subject.batches.len() == 1 {
            run(0)?;
            return Ok(self.read(subject, probes, each)?);
        }
        let mut sums = vec![vec![0.0f64; subject.size()]; probes];
        for batch in 0..subject.batches.len() {
            run(batch)?;
            self.read(subject, probes, &mut |k, range, values| add(&mut sums[k][range], values))?;
        }
        for (k, sum) in sums.into_iter().enumerate() {
            for piece in pieces(0..sum.len()) {
                let values: Vec<f32> = sum[piece.clone()].iter().map(|x| *x as f32).collect();
                each(k, piece, &values);
            }
        }
        Ok(())
    }
}

/// Adds numbers to sums.
pub(in crate::curvature) fn add(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, x)| *sum += f64::from(*x));
}

/// A range in pieces of [`STEP`] bytes.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let step = STEP / size_of::<f32>();
    range.clone().step_by(step).map(move |start| start..(start + step).min(range.end))
}
