//! After a step whose loss or gradient was not finite: which tensor was the first.

use std::collections::HashMap;

use super::data::Micro;
use crate::gpu::GpuError;
use crate::graph::{Emit, Role, Tensor, TensorId};
use crate::model::{Given, Model, Recipe};
use crate::ops::{Dims, Labels};

/// Runs the step again, keeps every tensor and names the first one that is not finite, in the order of execution.
pub(super) fn first_bad_tensor(
    model: &Model,
    dims: Dims,
    labels: Labels,
    micros: &[Micro],
    scale: f32,
) -> Result<Option<String>, GpuError> {
    let (gpu, encoder) = (model.gpu(), &model.encoder);
    let (graph, _, weight, gradients) = encoder.with_gradient(labels);
    let values: Vec<TensorId> = graph
        .nodes()
        .iter()
        .flat_map(|n| n.outputs.clone())
        .filter(|id| graph.tensor(*id).role == Role::Value)
        .collect();
    let names: HashMap<TensorId, String> = gradients
        .iter()
        .zip(&encoder.matrices)
        .map(|(id, matrix)| (*id, format!("the gradient of `{}`", matrix.name)))
        .collect();
    let tensors: Vec<(TensorId, Tensor)> = values.iter().map(|id| (*id, graph.tensor(*id).clone())).collect();
    let recipe = Recipe::new(graph, encoder, labels).give(Given::Weight, [weight]).keep(&values);
    let bound = recipe.plan(model, dims, &[])?;
    for micro in micros {
        bound.write(&micro.batch, micro.weight * scale)?;
        let step = micro.batch.step(1);
        bound.plan.run(gpu, &step)?;
        for (id, tensor) in &tensors {
            let rows = step.count(tensor.rows) as usize;
            let data: Vec<f32> = gpu.read(bound.buffer(*id), rows * 4 * tensor.cols4() as usize)?;
            if data.iter().any(|v| !v.is_finite()) {
                return Ok(Some(names.get(id).cloned().unwrap_or_else(|| format!("`{}`", tensor.name))));
            }
        }
    }
    Ok(None)
}
