//! The reverse rules of the f64 twins against central differences of the forward ones.

use super::setting::Setting;
use super::{Case, Pass, Work};
use crate::graph::{Emit, Role, TensorId};
use crate::ops::counts::MASKED;
use crate::random::{Purpose, Stream};
use crate::reference;

/// Step of the differences.
const H: f64 = 1e-5;

/// Entries tried of each parameter.
const ENTRIES: u32 = 8;

/// A parameter's adjoint against finite differences.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Its name in the graph.
    pub parameter: String,
    /// Largest difference of the entries tried, as a share of the adjoint's largest value.
    pub error: f64,
}

/// Compares the adjoint of every parameter of a case, with one cotangent, at some entries drawn at random.
pub fn finite_differences(case: &Case) -> Vec<Difference> {
    if matches!(case.work, Work::Update(_)) {
        return Vec::new();
    }
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

/// Step of second differences, taken at two steps and extrapolated (Richardson) to an error of O(h⁴).
const H2: f64 = 4e-4;

/// Compares tangents of the output, of every adjoint and the second-order sum with central differences along the same
/// direction.
pub fn directional_differences(case: &Case) -> Vec<Difference> {
    if case.pass == Pass::Gradient {
        return Vec::new();
    }
    let setting = Setting::new(case, 1, 64, false);
    let graph = &setting.graph;
    let moved = |by: f64| {
        let mut values = setting.values.clone();
        for (parameter, direction) in &setting.directions {
            let along = setting.values[direction].clone();
            for (value, d) in values.get_mut(parameter).expect("a given value").iter_mut().zip(along) {
                *value += by * d;
            }
        }
        reference::run(&setting.frame(), graph.nodes(), &mut values);
        values
    };
    let (here, ahead, behind) = (moved(0.0), moved(H), moved(-H));
    let compare = |name: String, got: &[f64], want: Vec<f64>| {
        let largest = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        let error = got.iter().zip(&want).map(|(g, w)| (g - w).abs() / largest).fold(0.0, f64::max);
        Difference { parameter: name, error: if got.iter().any(|g| g.is_nan()) { f64::INFINITY } else { error } }
    };
    let slope = |id: TensorId| ahead[&id].iter().zip(&behind[&id]).map(|(a, b)| (a - b) / (2.0 * H)).collect();
    let mut all = Vec::new();
    let adjoints =
        graph.tensors().filter(|(_, t)| t.role == Role::Parameter).filter_map(|(id, _)| setting.adjoints.get(&id));
    for id in adjoints.copied() {
        if let Some(tangent) = setting.tangents.get(&id) {
            all.push(compare(graph.tensor(id).name.clone(), &here[tangent], slope(id)));
        }
    }
    // The loss has one number a row, its tangent in the first of four columns.
    let loss = graph.tensor(setting.output).rows == MASKED;
    if let Some(tangent) = setting.tangents.get(&setting.output) {
        let want: Vec<f64> = slope(setting.output);
        let first = |v: &[f64]| v.iter().step_by(if loss { 4 } else { 1 }).copied().collect::<Vec<f64>>();
        all.push(compare("output".into(), &first(&here[tangent]), first(&want)));
    }
    if let Some(second) = setting.second {
        let objective = |values: &reference::Values| {
            let (output, cotangent) = (&values[&setting.output], &values[&setting.cotangent]);
            output.iter().zip(cotangent).map(|(a, b)| a * b).sum::<f64>()
        };
        let at = |h: f64| (objective(&moved(h)) - 2.0 * objective(&here) + objective(&moved(-h))) / (h * h);
        let wanted = (4.0 * at(H2) - at(2.0 * H2)) / 3.0;
        let got = here[&second].iter().sum::<f64>();
        // Against the sum of the terms' sizes, which may cancel.
        let size: f64 = here[&second].iter().map(|v| v.abs()).sum();
        all.push(Difference { parameter: "second order".into(), error: (got - wanted).abs() / size.max(1.0) });
    }
    all
}
