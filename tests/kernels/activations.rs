//! Activations and their derivatives on the adapter over the whole line, against their f64 twins.

use crate::common::adapter::gpu;
use lowland::graph::{Count, Emit, Graph};
use lowland::ops::{Activation, Device, Rule, call};
use lowland::reference::activation;
use lowland::reference::jet::Jet;

/// f, f' and f'' of numbers as the kernels compute them.
fn computed(f: Activation, numbers: &[f32]) -> [Vec<f32>; 3] {
    let mut graph = Graph::default();
    let n = numbers.len();
    let mut given = |name: &str| graph.input(name, Count::Fixed(1), n as u32);
    let (x, one, zero) = (given("x"), given("one"), given("zero"));
    let value = graph.activation(f, x);
    let slope = graph.push(call(f, Rule::Vjp(0), &[x, one]), "slope")[0];
    let second = graph.push(call(f, Rule::VjpJvp(0), &[x, one, one, zero]), "second")[0];
    let given = [(x, numbers), (one, &vec![1.0; n]), (zero, &vec![0.0; n])];
    let values = graph.evaluate(&Device::of(&gpu()), 1, &given, &[value, slope, second]).unwrap();
    values.try_into().expect("one for each that is wanted")
}

#[test]
fn every_activation_is_single_precision_from_tail_to_tail() {
    let mut numbers: Vec<f32> = (-6000..=6000).map(|i| i as f32 * 2.5e-3 + 1e-4).collect();
    for size in [1e-30, 1e-6, 17.0, 88.0, 110.0, 3e4, 1e18] {
        numbers.extend([size, -size]);
    }
    numbers.resize(numbers.len().next_multiple_of(4), 0.0);
    for f in Activation::ALL {
        let computed = computed(f, &numbers);
        let second = |f, x| activation::slope(f, Jet::along(x, 1.0)).first;
        let twins: [fn(Activation, f64) -> f64; 3] = [activation::forward, activation::slope, second];
        for ((what, got), twin) in ["f", "f'", "f''"].into_iter().zip(&computed).zip(twins) {
            let mut worst = (0.0, 0.0);
            for (x, got) in numbers.iter().zip(got) {
                let want = twin(f, f64::from(*x));
                // Of values the rounding of a number of their argument's size, of derivatives that of a number near 1.
                let scale = if what == "f" { f64::from(x.abs()).max(1.0) } else { 1.0 };
                let error = (f64::from(*got) - want).abs() / scale;
                assert!(!error.is_nan(), "{f:?} {what}({x}) = {got}, not {want}");
                worst = if error > worst.0 { (error, *x) } else { worst };
            }
            println!("{f:?} {what}: {:.1e} at {}", worst.0, worst.1);
            assert!(worst.0 <= 1e-6, "{f:?} {what}: {:.1e} at {}", worst.0, worst.1);
        }
    }
}

/// Training stops at what is not a number; no activation may turn it into one.
#[test]
fn what_is_not_a_number_stays_so() {
    for f in Activation::ALL {
        let [value, slope, _] = computed(f, &[f32::NAN, 1.0, 0.0, -1.0]);
        assert!(value[0].is_nan(), "{f:?}: {value:?}");
        assert!(value[1..].iter().chain(&slope[1..]).all(|v| v.is_finite()), "{f:?}: {value:?} {slope:?}");
    }
    assert_eq!(computed(Activation::Relu, &[0.0, 1.0, -1.0, 0.5])[1], [0.0, 1.0, 0.0, 1.0]);
}
