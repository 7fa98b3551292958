//! dev
use crate::common::adapter::gpu;
use lowland::ops::Variants;
use lowland::selftest;

#[test]
fn dev() {
    let part = std::env::var("CASE").unwrap_or("lstm".into());
    if std::env::var("DIFF").is_ok() {
        for case in selftest::cases().iter().filter(|c| c.name.contains(&part)) {
            for d in selftest::finite_differences(case).into_iter().chain(selftest::directional_differences(case)) {
                println!("{} {} {:.1e}", case.name, d.parameter, d.error);
            }
        }
        return;
    }
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for case in selftest::cases().iter().filter(|c| c.name.contains(&part)) {
            let outcome = selftest::run(&gpu, &variants, case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            println!(
                "{} {:60} {:.1e} {:20} {}",
                outcome.passed,
                case.name,
                outcome.error,
                outcome.tensor,
                variants.row(lowland::ops::Family::Lstm).name
            );
        }
    }
}
