//! Every operation and variant on the chosen adapter against its f64 twin.

use crate::common::adapter::gpu;
use lowland::ops::Variants;
use lowland::selftest;

#[test]
fn every_variant_of_every_operation_matches_its_f64_twin() {
    let gpu = gpu();
    println!("{} {:?}", gpu.info().name, gpu.capabilities());
    let mut failures = Vec::new();
    let mixed = Variants::choose(gpu.capabilities()).mixed(gpu.capabilities());
    for variants in Variants::all(gpu.capabilities()).into_iter().chain(mixed) {
        for case in selftest::cases() {
            let outcome = selftest::run(&gpu, &variants, &case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            println!("{:60} {:.1e} {:20} {variants}", case.name, outcome.error, outcome.tensor);
            if !outcome.passed {
                failures.push(format!(
                    "{} [{variants:?}]: {:.1e} > {:.1e} in {}",
                    case.name, outcome.error, case.bound, outcome.tensor
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
