//! After a step whose loss or gradient was not finite: which tensor was the first.

use std::collections::HashMap;

use super::data::Micro;
use crate::gpu::{Buffer, Gpu, GpuError};
use crate::graph::{Emit, Plan, Role, TensorId};
use crate::model::{Arena, Encoder};
use crate::ops::{BatchBuffers, Dims, Labels, Variants};

/// Runs the step again, keeps every tensor and names the first one that is not finite, in the order of execution.
#[allow(clippy::too_many_arguments)]
pub(super) fn first_bad_tensor(
    gpu: &Gpu,
    encoder: &Encoder,
    parameters: &Arena,
    dims: Dims,
    variants: &Variants,
    labels: Labels,
    micros: &[Micro],
    scale: f32,
) -> Result<Option<String>, GpuError> {
    let (graph, _, weight, gradients) = encoder.with_gradient(labels);
    let layout = encoder.batch_layout(variants);
    let soft = labels == Labels::Soft;
    let batch = BatchBuffers::new(gpu, &dims, &layout, variants, encoder.config.vocab_size, soft)?;
    let mut outside: HashMap<TensorId, Buffer> =
        encoder.tensors.iter().copied().zip(parameters.matrices.iter().cloned()).collect();
    outside.insert(weight, batch.weight.clone());
    let values: Vec<TensorId> = graph
        .nodes()
        .iter()
        .flat_map(|n| n.outputs.clone())
        .filter(|id| graph.tensor(*id).role == Role::Value)
        .collect();
    let plan = Plan::new(gpu, &graph, dims, variants, &batch, &outside, &values)?;
    let names: HashMap<TensorId, String> = gradients
        .iter()
        .zip(&encoder.matrices)
        .map(|(id, matrix)| (*id, format!("the gradient of `{}`", matrix.name)))
        .collect();
    for micro in micros {
        batch.write(gpu, &micro.batch, micro.weight * scale);
        let step = micro.batch.step(1);
        plan.run(gpu, &step)?;
        for id in &values {
            let tensor = graph.tensor(*id);
            let rows = step.count(tensor.rows) as usize;
            let buffer = plan.buffer(*id).expect("every tensor is kept");
            let data: Vec<f32> = gpu.read(buffer, rows * 4 * tensor.cols4() as usize)?;
            if data.iter().any(|v| !v.is_finite()) {
                return Ok(Some(names.get(id).cloned().unwrap_or_else(|| format!("`{}`", tensor.name))));
            }
        }
    }
    Ok(None)
}
