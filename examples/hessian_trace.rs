//! The Hessian of a model's loss: its trace to a relative error, a product, its largest eigenvalues.
//!
//!     cargo run --release --example hessian_trace -- FOLDER
//!
//! FOLDER holds a model as `transformers` writes it, and `examples.jsonl` beside it (see `lowland eval --help`).
//! Without one, a small model of the test suite is measured.

use std::error::Error;
use std::path::Path;

use lowland::prelude::*;

/// Measures the model of the folder that is named on the command line, or a small one of the tests.
pub fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1);
    run(folder.as_deref().unwrap_or("tests/fixtures/bert-tiny").as_ref())
}

/// Prints traces, a product and eigenvalues of the model in a folder.
pub fn run(folder: &Path) -> Result<(), Box<dyn Error>> {
    let device = Device::from_env()?;
    let model = Model::load(&device, folder)?;
    let loss = model.over(&model.read_examples(folder.join("examples.jsonl"))?)?;
    println!("{} parameters, {} examples, on {}", loss.size(), loss.examples(), device.gpu.info().name);

    // The Gauss-Newton (= Fisher) trace until its standard error is 5 % of it. The examples are the target: only the
    // probes are random.
    println!("Tr G = {}", loss.gauss_newton().trace().relative_error(0.05)?);

    // The Hessian's, with the examples as a sample of what they came from: the error has two parts. Its trace may be
    // near 0, so that a number of probes is given and no relative error.
    let hessian = loss.hessian();
    println!("Tr H = {}", hessian.trace().of_population().probes(256)?);

    // H g, g the gradient: curvature along the way down.
    let gradient = loss.loss_gradient()?;
    let product = hessian.times(&gradient)?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    println!("gᵀHg / gᵀg = {:.4}", dot(&gradient, &product) / dot(&gradient, &gradient));

    println!("largest eigenvalues\n{}", hessian.top(3)?);

    // The Gauss-Newton matrix has no negative eigenvalue; the Hessian may have some.
    let negative = |spectrum: lowland::curvature::Quadrature| -> f64 {
        let probes = spectrum.nodes.len() as f64;
        spectrum
            .nodes
            .iter()
            .flatten()
            .filter(|(value, _)| *value < -1e-4)
            .map(|(_, share)| share / probes)
            .sum::<f64>()
            .abs()
    };
    println!("share of negative eigenvalues: {:.2} of H, {:.2} of G", negative(hessian.spectrum()?), {
        negative(loss.gauss_newton().spectrum()?)
    });
    Ok(())
}
