//! The reverse rules of the f64 twins against central differences of the forward ones.

use super::{Case, Setting};
use crate::graph::{Role, TensorId};
use crate::random::{Purpose, Stream};
use crate::reference;

/// Step of the differences.
const H: f64 = 1e-5;

/// Entries tried of each parameter.
const ENTRIES: u32 = 8;

/// A parameter's adjoint against finite differences.
#[derive(Clone, Debug)]
pub struct Difference {
    pub parameter: String,
    /// Largest difference of the entries tried, as a share of the adjoint's largest value.
    pub error: f64,
}

/// Compares the adjoint of every parameter of a case, with one cotangent, at some entries drawn at random.
pub fn finite_differences(case: &Case) -> Vec<Difference> {
    let setting = Setting::new(case, 1, 64, false);
    let graph = &setting.graph;
    let mut values = setting.values.clone();
    reference::run(&setting.frame(), graph.nodes(), &mut values);
    // The scalar that is differentiated: the cotangent's inner product with the output.
    let loss = |parameter: TensorId, entry: usize, by: f64| {
        let mut values = setting.values.clone();
        values.get_mut(&parameter).expect("a given value")[entry] += by;
        reference::run(&setting.frame(), &graph.nodes()[..setting.forward], &mut values);
        let (output, cotangent) = (&values[&setting.output], &values[&setting.cotangent]);
        output.iter().zip(cotangent).map(|(a, b)| a * b).sum::<f64>()
    };
    let mut all = Vec::new();
    for (id, tensor) in graph.tensors().filter(|(_, t)| t.role == Role::Parameter) {
        let Some(adjoint) = setting.adjoints.get(&id) else { continue };
        let adjoint = &values[adjoint];
        let given = &setting.values[&id];
        let largest = adjoint.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        let mut random = Stream::new(17, Purpose::Test, u64::from(id.0));
        let mut error = 0.0f64;
        for _ in 0..ENTRIES {
            let entry = random.below(given.len() as u32) as usize;
            // Zeros behind a head's size are no parameters.
            if given[entry] == 0.0 {
                continue;
            }
            let slope = (loss(id, entry, H) - loss(id, entry, -H)) / (2.0 * H);
            let difference = (slope - adjoint[entry]).abs() / largest;
            error = if difference.is_nan() { f64::INFINITY } else { error.max(difference) };
        }
        all.push(Difference { parameter: tensor.name.clone(), error });
    }
    all
}
