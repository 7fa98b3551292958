//! A model's parameters under the names of its file, and where they lie in the matrices that kernels work on.
//!
//! Queries, keys and values share one matrix, heads are padded to a multiple of 4, and every matrix is padded with
//! zeros to multiples of 4; the paddings stay zero in training because their gradients are zero.

use std::borrow::Cow;

use super::role::{Part, Role};
use crate::ops::Dims;
use crate::random::{Purpose, Stream};

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initialise {
    /// 0, as biases and shifts.
    Zeros,
    /// 1, as the scales of layer norms.
    Ones,
    /// Normal with the config's `initializer_range`.
    Normal,
    /// Normal with the config's `initializer_range` times this number.
    NormalTimes(f64),
    /// Normal, with one row of zeros (the pad token's).
    NormalBut(u32),
    /// Uniform between this number and its negative.
    Uniform(f64),
}

/// How an axis of a parameter lies in its matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// From an offset on.
    Plain(u32),
    /// Heads of `size`, each padded to a multiple of 4, from an offset on.
    Heads { offset: u32, size: u32 },
    /// Queries, keys and values of so many heads of `size`, in the file those of a head one behind another, in memory
    /// all queries first, then keys, then values, each head padded to a multiple of 4.
    Interleaved { heads: u32, size: u32 },
    /// The four gates of an LSTM, one block of its units after another in the file, side by side for each unit in
    /// memory.
    Gates { units: u32 },
}

impl Axis {
    fn at(self, i: usize) -> usize {
        match self {
            Axis::Plain(offset) => offset as usize + i,
            Axis::Heads { offset, size } => {
                let size = size as usize;
                offset as usize + i / size * size.next_multiple_of(4) + i % size
            }
            Axis::Interleaved { heads, size } => {
                let (heads, size) = (heads as usize, size as usize);
                let (head, part) = (i / (3 * size), i / size % 3);
                (part * heads + head) * size.next_multiple_of(4) + i % size
            }
            Axis::Gates { units } => i % units as usize * 4 + i / units as usize,
        }
    }
}

/// Where a parameter lies in its matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// How its numbers lie along the matrix's rows.
    pub rows: Axis,
    /// And along its columns.
    pub cols: Axis,
    /// Whether the file has the matrix's columns first.
    pub transposed: bool,
}

impl From<[Axis; 2]> for Place {
    fn from([rows, cols]: [Axis; 2]) -> Place {
        Place { rows, cols, transposed: false }
    }
}

/// A parameter of the model.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in the model file.
    pub name: String,
    /// What it is to the model.
    pub role: Role,
    /// `[out, in]`, `[rows, columns]` or `[n]`, as in the file; GPT-2's are `[in, out]`.
    pub shape: Vec<usize>,
    /// Its values before training.
    pub initialise: Initialise,
    /// Number of its matrix in [`Encoder::matrices`](super::Encoder::matrices).
    pub matrix: usize,
    pub(super) place: Place,
}

impl Parameter {
    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Place of each of its numbers in its matrix's memory, in order.
    pub fn places(&self, matrix: &Matrix) -> impl Iterator<Item = usize> + use<> {
        let (rows, cols) = match self.shape.as_slice() {
            [n] => (1, *n),
            [rows, cols] => (*rows, *cols),
            other => unreachable!("parameters have one or two axes, not {other:?}"),
        };
        let wide = matrix.cols.next_multiple_of(4) as usize;
        let Place { rows: row, cols: col, transposed } = self.place;
        let place = move |r: usize, c: usize| row.at(r) * wide + col.at(c);
        (0..rows).flat_map(move |r| (0..cols).map(move |c| if transposed { place(c, r) } else { place(r, c) }))
    }

    /// The vec4 of its matrix's rows (of its vector's columns) that it takes up: the first, and how many.
    pub(super) fn rows4(&self) -> [u32; 2] {
        let (axis, numbers) = match *self.shape.as_slice() {
            [_, n] if self.place.transposed => (self.place.rows, n),
            [n, _] => (self.place.rows, n),
            _ => (self.place.cols, self.len()),
        };
        let [first, last] = [0, numbers - 1].map(|i| (axis.at(i) / 4) as u32);
        [first, last + 1 - first]
    }

    /// What number i of it is to attention, where it is a projection to queries, keys or values of heads of `size`
    /// numbers: (the part, which number of its head).
    pub(crate) fn projected(&self, i: usize, size: usize) -> Option<(Part, usize)> {
        let part = self.role.part;
        if !matches!(part, Part::Query | Part::Key | Part::Value | Part::QueryKeyValue) {
            return None;
        }
        let (unit, units) = match *self.shape.as_slice() {
            [_, units] if self.place.transposed => (i % units, units),
            [units, inputs] => (i / inputs, units),
            _ => (i, self.len()),
        };
        let interleaved = [self.place.rows, self.place.cols].iter().any(|a| matches!(a, Axis::Interleaved { .. }));
        let part = match part {
            Part::QueryKeyValue if interleaved => [Part::Query, Part::Key, Part::Value][unit / size % 3],
            Part::QueryKeyValue => [Part::Query, Part::Key, Part::Value][unit / (units / 3)],
            own => own,
        };
        Some((part, unit % size))
    }
}

/// A matrix that kernels work on: one parameter or several.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// For labels and errors; that of its parameter where it is one.
    pub name: String,
    /// Rows, those of all its parameters one after another.
    pub rows: u32,
    /// Columns; in memory a row is padded with zeros to a multiple of 4.
    pub cols: u32,
    /// Whether weight decay applies: to matrices, not to biases and layer norms.
    pub decay: bool,
}

impl Matrix {
    /// Numbers in memory, padding included.
    pub fn padded_len(&self) -> usize {
        let dims = Dims { rows: 0, masked: 0, sentences: 0, probes: 1, longest: 0 };
        dims.size4(crate::gpu::Count::Fixed(self.rows), self.cols) as usize * 4
    }
}

/// The parameter that a matrix holds alone and in its order, so that the matrix's memory is the parameter's numbers and
/// zeros behind them.
pub(crate) fn in_order(parameters: &[Parameter], matrices: &[Matrix], matrix: usize) -> Option<usize> {
    let mut own = (0..parameters.len()).filter(|i| parameters[*i].matrix == matrix);
    let (number, others) = (own.next()?, own.next());
    let Parameter { place, shape, .. } = &parameters[number];
    let plain = !place.transposed && [place.rows, place.cols] == [Axis::Plain(0); 2];
    let dense = shape.len() == 1 || matrices[matrix].cols.is_multiple_of(4);
    (others.is_none() && plain && dense).then_some(number)
}

/// Values of all parameters, in the order of [`Encoder::parameters`](super::Encoder::parameters).
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(pub Vec<Vec<f32>>);

impl Weights {
    /// The weights that a seed begins with.
    pub fn initial(parameters: &[Parameter], range: f64, seed: u64) -> Weights {
        let one = |(i, parameter): (usize, &Parameter)| {
            let mut random = Stream::new(seed, Purpose::Initialise, i as u64);
            let mut drawn = |one: fn(&mut Stream) -> f64, range: f64| -> Vec<f32> {
                (0..parameter.len()).map(|_| (one(&mut random) * range) as f32).collect()
            };
            match parameter.initialise {
                Initialise::Zeros => vec![0.0; parameter.len()],
                Initialise::Ones => vec![1.0; parameter.len()],
                Initialise::Normal => drawn(Stream::normal, range),
                Initialise::NormalTimes(factor) => drawn(Stream::normal, range * factor),
                Initialise::Uniform(bound) => drawn(|random| 2.0 * random.uniform() - 1.0, bound),
                Initialise::NormalBut(row) => {
                    let mut values = drawn(Stream::normal, range);
                    let wide = parameter.shape[1];
                    if let Some(zeros) = values.get_mut(row as usize * wide..(row as usize + 1) * wide) {
                        zeros.fill(0.0);
                    }
                    values
                }
            }
        };
        Weights(parameters.iter().enumerate().map(one).collect())
    }

    /// The matrices in memory layout.
    pub fn pack(&self, parameters: &[Parameter], matrices: &[Matrix]) -> Vec<Vec<f32>> {
        (0..matrices.len()).map(|i| self.packed(parameters, matrices, i).into_owned()).collect()
    }

    /// One of them; the parameter itself where it lies in memory as it does in the file.
    pub fn packed(&self, parameters: &[Parameter], matrices: &[Matrix], matrix: usize) -> Cow<'_, [f32]> {
        let size = matrices[matrix].padded_len();
        match self.leading(parameters, matrices, matrix) {
            short if short.len() < size => {
                let mut whole = short.into_owned();
                whole.resize(size, 0.0);
                Cow::Owned(whole)
            }
            whole => whole,
        }
    }

    /// One of them without the padding behind its last number where that saves a copy.
    pub(super) fn leading(&self, parameters: &[Parameter], matrices: &[Matrix], matrix: usize) -> Cow<'_, [f32]> {
        if let Some(number) = in_order(parameters, matrices, matrix) {
            return Cow::Borrowed(&self.0[number]);
        }
        let size = matrices[matrix].padded_len();
        let mut packed = vec![0.0; size];
        for (parameter, values) in parameters.iter().zip(&self.0).filter(|(p, _)| p.matrix == matrix) {
            for (place, value) in parameter.places(&matrices[matrix]).zip(values) {
                packed[place] = *value;
            }
        }
        Cow::Owned(packed)
    }

    /// The parameters from matrices in memory layout.
    pub fn unpack(packed: &[Vec<f32>], parameters: &[Parameter], matrices: &[Matrix]) -> Weights {
        let one = |p: &Parameter| p.places(&matrices[p.matrix]).map(|place| packed[p.matrix][place]).collect();
        Weights(parameters.iter().map(one).collect())
    }
}
