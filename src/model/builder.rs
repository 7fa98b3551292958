//! What encoders are put together from: parameters with their matrices and roles, and the pieces that families share.

use super::config::ModelConfig;
use super::parameters::{Axis, Initialise, Matrix, Parameter, Place};
use super::role::{Norm, Part, Role};
use crate::graph::{Emit, Graph, TensorId};
use crate::ops::{Affine, LayerNorm, Table};

/// A graph under construction.
pub(super) struct Builder<'c> {
    pub config: &'c ModelConfig,
    pub graph: Graph,
    pub matrices: Vec<Matrix>,
    pub tensors: Vec<TensorId>,
    pub parameters: Vec<Parameter>,
    /// The layer under construction.
    pub layer: Option<u32>,
    dropouts: u32,
}

impl Builder<'_> {
    pub(super) fn new(config: &ModelConfig) -> Builder<'_> {
        Builder {
            config,
            graph: Graph::default(),
            matrices: vec![],
            tensors: vec![],
            parameters: vec![],
            layer: None,
            dropouts: 0,
        }
    }

    /// A matrix for kernels: (its number, its tensor).
    pub(super) fn matrix(&mut self, name: &str, rows: u32, cols: u32, decay: bool) -> (usize, TensorId) {
        let tensor = self.graph.parameter(name, rows, cols);
        self.matrices.push(Matrix { name: name.into(), rows, cols, decay });
        self.tensors.push(tensor);
        (self.matrices.len() - 1, tensor)
    }

    pub(super) fn role(&self, part: Part, bias: bool) -> Role {
        Role { part, bias, layer: self.layer }
    }

    /// A parameter at some rows and columns of a matrix.
    pub(super) fn parameter(
        &mut self,
        role: Role,
        name: String,
        shape: &[u32],
        initialise: Initialise,
        place: impl Into<Place>,
        matrix: usize,
    ) {
        let (shape, place) = (shape.iter().map(|n| *n as usize).collect(), place.into());
        self.parameters.push(Parameter { name, role, shape, initialise, matrix, place });
    }

    /// A parameter that fills its matrix.
    fn whole(&mut self, part: Part, bias: bool, name: &str, shape: &[u32], initialise: Initialise) -> TensorId {
        let (rows, cols) = match shape {
            [rows, cols] => (*rows, *cols),
            _ => (1, shape[0]),
        };
        // Weight decay applies to matrices.
        let (matrix, tensor) = self.matrix(name, rows, cols, shape.len() == 2);
        self.parameter(self.role(part, bias), name.into(), shape, initialise, [Axis::Plain(0); 2], matrix);
        tensor
    }

    pub(super) fn table(&mut self, table: Table, name: &str, rows: u32, initialise: Initialise) -> TensorId {
        self.whole(Part::Table(table), false, name, &[rows, self.config.hidden_size], initialise)
    }

    pub(super) fn bias(&mut self, part: Part, name: &str, n: u32) -> TensorId {
        self.whole(part, true, name, &[n], Initialise::Zeros)
    }

    /// Weight of a linear layer, and its bias where it has one.
    pub(super) fn dense(
        &mut self,
        part: Part,
        name: &str,
        out: u32,
        inp: u32,
        bias: bool,
    ) -> (TensorId, Option<TensorId>) {
        let weight = self.whole(part, false, &format!("{name}.weight"), &[out, inp], Initialise::Normal);
        (weight, bias.then(|| self.bias(part, &format!("{name}.bias"), out)))
    }

    /// Weight and bias of a linear layer whose weight lies in the file as [in, out].
    pub(super) fn transposed(
        &mut self,
        part: Part,
        name: &str,
        out: u32,
        inp: u32,
        initialise: Initialise,
    ) -> (TensorId, TensorId) {
        let weight = format!("{name}.weight");
        let (matrix, tensor) = self.matrix(&weight, out, inp, true);
        let place = Place { rows: Axis::Plain(0), cols: Axis::Plain(0), transposed: true };
        self.parameter(self.role(part, false), weight, &[inp, out], initialise, place, matrix);
        (tensor, self.bias(part, &format!("{name}.bias"), out))
    }

    /// How a table of words begins: with zeros for padding, where there is a token of padding.
    pub(super) fn pad_row(&self) -> Initialise {
        self.config.pad_token_id.map_or(Initialise::Normal, Initialise::NormalBut)
    }

    /// Layer norm with scale and shift.
    pub(super) fn norm(&mut self, x: TensorId, norm: Norm, name: &str) -> TensorId {
        self.normalise(x, LayerNorm::new(self.config.layer_norm_eps, Affine::SCALE_AND_SHIFT), norm, name)
    }

    /// Layer norm or RMSNorm, with `{name}.weight` and `{name}.bias` where it has them. It begins as y = x̂.
    pub(super) fn normalise(&mut self, x: TensorId, op: LayerNorm, norm: Norm, name: &str) -> TensorId {
        let (part, d) = (Part::Norm(norm), self.graph.tensor(x).cols / op.heads);
        let mut parameters = Vec::new();
        if op.affine.scales() {
            let begin = if op.affine.one_plus() { Initialise::Zeros } else { Initialise::Ones };
            parameters.push(self.whole(part, false, &format!("{name}.weight"), &[d], begin));
        }
        if op.affine.shifts() {
            parameters.push(self.bias(part, &format!("{name}.bias"), d));
        }
        self.graph.normalise(x, op, &parameters)
    }

    /// Number of the next stream of random numbers.
    pub(super) fn next_stream(&mut self) -> u32 {
        self.dropouts += 1;
        self.dropouts
    }

    pub(super) fn dropout(&mut self, x: TensorId, p: f64) -> TensorId {
        let stream = self.next_stream();
        self.graph.dropout(x, p, stream)
    }

    /// A linear layer whose output is dropped out and added to a residual.
    pub(super) fn dense_into(
        &mut self,
        x: TensorId,
        w: TensorId,
        bias: Option<TensorId>,
        residual: TensorId,
    ) -> TensorId {
        let p = self.config.hidden_dropout_prob;
        if p == 0.0 {
            return self.graph.linear(x, w, bias, Some(residual));
        }
        let y = self.graph.linear(x, w, bias, None);
        let y = self.dropout(y, p);
        self.graph.add(residual, y)
    }
}
