//! Every operation and variant on the chosen adapter against its f64 twin.

use lowland::gpu::{AdapterChoice, Gpu, Options};
use lowland::ops::Variants;
use lowland::selftest;

/// The adapter under test: `LOWLAND_ADAPTER`, else the best.
fn gpu() -> Gpu {
    let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("LOWLAND_ADAPTER"));
    Gpu::open(&choice, Options::default()).expect("an adapter")
}

#[test]
fn every_variant_of_every_operation_matches_its_f64_twin() {
    let gpu = gpu();
    println!("{} {:?}", gpu.info().name, gpu.capabilities());
    let mut failures = Vec::new();
    for variants in Variants::all(gpu.capabilities()) {
        for case in selftest::cases() {
            let outcome = selftest::run(&gpu, &variants, &case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            println!("{:60} {:?} {:.1e} {}", case.name, variants.linear, outcome.error, outcome.tensor);
            if !outcome.passed {
                failures.push(format!("{} [{variants:?}]: {:.1e} > {:.1e} in {}", case.name, outcome.error, case.bound, outcome.tensor));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
