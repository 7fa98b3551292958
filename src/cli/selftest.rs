//! `lowland selftest`: every case and variant against the f64 reference, then the speed of each operation.

use serde_json::json;

use super::arguments::Selftest;
use super::failure::Failure;
use super::{bench_report, print, tune};
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::interrupt;
use crate::ops::{Device, KernelChoice, Variants};
use crate::selftest::{self, Outcome, Timing};

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Selftest) -> Result<(), Failure> {
    if let Some(folder) = &arguments.report {
        return bench_report::run(adapter, kernel_choice, arguments, folder);
    }
    let gpu = Gpu::open(adapter, Options::default())?;
    if let Some(config) = &arguments.tune {
        return tune::run(&gpu, config, arguments);
    }
    let chosen = Device::choosing(&gpu, kernel_choice)?.variants;
    let (mut outcomes, mut timings) = (Vec::new(), Vec::new());
    let compared = if arguments.time { Ok(()) } else { compare(&gpu, &mut outcomes) };
    let wanted = |name: &str| arguments.operation.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let note = |name: &str| print::note(&format!("timing {name}"));
    let ended =
        compared.and_then(|()| selftest::timings_into(&mut timings, &gpu, &chosen, &wanted, &note).map_err(Into::into));
    let interrupted = match ended {
        Ok(()) => false,
        Err(failure) if failure.interrupted() && !(outcomes.is_empty() && timings.is_empty()) => true,
        Err(failure) => return Err(failure),
    };
    if !interrupted && timings.is_empty() {
        return Err(Failure::usage("--operation fits none: give a part of a name as `selftest --time` prints it"));
    }
    let failed: Vec<&Outcome> = outcomes.iter().filter(|o| !o.passed).collect();
    if arguments.json.json {
        print::json(&json!({
            "adapter": gpu.info().name,
            "passed": failed.is_empty(),
            "reached": !interrupted,
            "interrupted": interrupted,
            "cases": outcomes,
            "timings": timings,
        }))?;
    } else {
        print::line(&format!("{}\n", gpu.info().name))?;
        if !arguments.time {
            print::line(comparison_text(&outcomes).trim_end())?;
        }
        print::line(&timing_text(&timings))?;
    }
    match failed.first() {
        None if interrupted => Err(Failure::stopped("the cases and timings until then are printed")),
        None => Ok(()),
        Some(first) => Err(Failure {
            code: 1,
            message: format!(
                "{} of {} cases are wrong on this adapter; the first: {} with {:?}, {} differs by {:.1e} ({:.1e} \
                 allowed). Do not trust its numbers; update the driver or choose another adapter.",
                failed.len(),
                outcomes.len(),
                first.case,
                first.variants,
                first.tensor,
                first.error,
                first.bound
            ),
        }),
    }
}

/// Variants that between them hold every row that an adapter can run, those of mixed precision among them.
pub fn every(gpu: &Gpu) -> Vec<Variants> {
    let caps = gpu.capabilities();
    let mut all: Vec<Variants> = Variants::all(caps);
    all.extend(Variants::choose(caps).mixed(caps));
    all
}

/// Compares every case with every variant, into a list that keeps what there is at an interrupt.
fn compare(gpu: &Gpu, outcomes: &mut Vec<Outcome>) -> Result<(), Failure> {
    let all = every(gpu);
    let cases = selftest::cases();
    for (i, variants) in all.iter().enumerate() {
        print::note(&format!("variants {}/{}: {variants}", i + 1, all.len()));
        for case in &cases {
            interrupt::check()?;
            outcomes.push(selftest::run(gpu, variants, case)?);
        }
    }
    Ok(())
}

/// The worst of all variants, one line per case.
fn comparison_text(outcomes: &[Outcome]) -> String {
    let mut out = format!("{:<56}{:>10}{:>10}\n", "case, worst of all variants", "error", "allowed");
    let mut seen: Vec<&str> = Vec::new();
    for o in outcomes {
        if seen.contains(&o.case.as_str()) {
            continue;
        }
        seen.push(&o.case);
        let worst =
            outcomes.iter().filter(|p| p.case == o.case).max_by(|a, b| a.error.total_cmp(&b.error)).unwrap_or(o);
        let verdict = if worst.passed { "" } else { "  WRONG" };
        out += &format!("{:<56}{:>10.1e}{:>10.1e}{verdict}\n", o.case, worst.error, worst.bound);
    }
    out
}

/// One line per variant, `*` the one that is used.
fn timing_text(timings: &[Timing]) -> String {
    let mut out = format!("\n  {:<34}{:<14}{:<34}{:>12}{:>18}\n", "operation", "variant", "shape", "time", "rate");
    for t in timings {
        let rate = match t.gflops {
            Some(gflops) => format!("{gflops:.1} GFLOP/s"),
            None => format!("{:.1} GB/s", t.gbytes),
        };
        let (mark, variant) = (if t.used { "*" } else { " " }, t.variant.unwrap_or(""));
        out +=
            &format!("{mark} {:<34}{variant:<14}{:<34}{:>9.3} ms{rate:>18}\n", t.operation, t.shape, t.seconds * 1e3);
    }
    out + "* used on this adapter"
}
