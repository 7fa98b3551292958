//! Every reverse rule against central differences of the f64 twins, the operation in mid-graph with cotangents behind
//! it.
//!
//! No adapter is needed: the twins are compared with themselves here, and the kernels with the twins in `kernels.rs`.

use lowland::selftest;

/// Central differences of step h err by O(h²) and, through rounding, by ε/h: with h = 1e-5 about 1e-10 of values near
/// 1. The loss of a case sums up to some hundred terms.
const BOUND: f64 = 2e-7;

/// A second difference errs by ε/h², at h = 4e-4 about 1e-9 of values near 1, of which there are some hundred.
const SECOND_BOUND: f64 = 1e-6;

#[test]
fn every_tangent_matches_finite_differences_of_its_twin() {
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in selftest::cases() {
        for d in selftest::directional_differences(&case) {
            compared += 1;
            let bound = if d.parameter.starts_with("second") { SECOND_BOUND } else { BOUND };
            if d.error.is_nan() || d.error > bound {
                failures.push(format!("{}: {} differs by {:.1e}", case.name, d.parameter, d.error));
            }
        }
    }
    println!("{compared} tangents compared");
    assert!(compared > 100, "only {compared} tangents were compared");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_reverse_rule_matches_finite_differences_of_its_twin() {
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in selftest::cases() {
        for d in selftest::finite_differences(&case) {
            compared += 1;
            if d.error.is_nan() || d.error > BOUND {
                failures.push(format!("{}: {} differs by {:.1e}", case.name, d.parameter, d.error));
            }
        }
    }
    println!("{compared} parameters compared");
    assert!(compared > 100, "only {compared} parameters were compared");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
