//! Every operation and variant on the chosen adapter against its f64 twin.

use crate::common::adapter::gpu;
use lowland::gpu::Gpu;
use lowland::ops::Variants;
use lowland::selftest;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[test]
fn every_variant_of_every_operation_matches_its_f64_twin() {
    let gpu = gpu();
    println!("{} {:?}", gpu.info().name, gpu.capabilities());
    let mixed = Variants::choose(gpu.capabilities()).mixed(gpu.capabilities());
    let all: Vec<Variants> = Variants::all(gpu.capabilities()).into_iter().chain(mixed).collect();
    let runs: Vec<_> = all.iter().flat_map(|v| selftest::cases().into_iter().map(move |case| (v, case))).collect();
    // All cases, or those with this in their name, to look into one.
    let part = std::env::var("LOWLAND_CASES").unwrap_or_default();
    let runs: Vec<_> = runs.into_iter().filter(|(_, case)| case.name.contains(&part)).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let check = |gpu: &Gpu| {
        while let Some((variants, case)) = runs.get(next.fetch_add(1, Relaxed)) {
            let outcome = selftest::run(gpu, variants, case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let line = format!("{:60} {:.1e} {:20} {variants}", case.name, outcome.error, outcome.tensor);
            println!("{line}");
            if !outcome.passed {
                failures.lock().unwrap().push(format!("{line}, more than {:.1e} [{variants:?}]", case.bound));
            }
        }
    };
    // Compiling is most of it, which a software adapter does on one thread a device.
    std::thread::scope(|scope| {
        scope.spawn(|| check(&self::gpu()));
        check(&gpu);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
