//! How often the intervals of signs and residual hold the truth, over 200 seeds: the table of `docs/curvature.md`.
//! Minutes each, so that they run only when asked for:
//!
//! ```sh
//! cargo test --release --test model -- --ignored --nocapture --test-threads 1 split_coverage
//! ```

use crate::common::adapter::gpu;
use crate::split_traces::{Few, on, split, truth, whole};
use lowland::curvature::{SplitTrace, Stopping};
use lowland::statistics::Estimate;

/// Enough to tell 0.95 from 0.90, and stated errors a tenth too small.
const SEEDS: u64 = 200;

/// Runs of a language with the seeds from 1000, each with sentences, signs, vectors and a pilot of its own.
fn covers(known: bool, masked: u32) {
    let gpu = gpu();
    let model = on(&gpu);
    let truth = truth(&model, masked);
    let stop = Stopping::after(512).not_before(64);
    let run = |seed| split(&model, &Few { seed: 1000 + seed, known, masked }, stop, 256).unwrap();
    let runs: Vec<SplitTrace> = (0..SEEDS).map(run).collect();
    let mean = |of: &dyn Fn(&SplitTrace) -> usize| runs.iter().map(of).sum::<usize>() as f64 / SEEDS as f64;
    println!(
        "{:.0} draws from {:.0} sentences, {:.1} vectors, {:.1} signs",
        mean(&|r| r.measured),
        mean(&|r| r.frame),
        mean(&|r| r.vectors),
        mean(&|r| r.draws)
    );
    let mut wrong = vec![];
    let mut check = |what: &str, of: fn(&SplitTrace) -> Estimate, truth: f64| {
        let found: Vec<Estimate> = runs.iter().map(of).collect();
        let errors = Estimate::of_mean(&found.iter().map(|e| e.value - truth).collect::<Vec<_>>());
        let bias = errors.value / errors.standard_error;
        let seen = errors.standard_error * (SEEDS as f64).sqrt();
        let stated = (found.iter().map(|e| e.standard_error.powi(2)).sum::<f64>() / SEEDS as f64).sqrt();
        let beyond = |sign: f64| found.iter().filter(|e| sign * (e.value - truth) > 1.96 * e.standard_error).count();
        let (above, below) = (beyond(1.0), beyond(-1.0));
        let covered = SEEDS as usize - above - below;
        let said = format!(
            "{what}: truth {truth:.2}, bias {bias:.2} standard errors, stated / seen {:.2}, {covered} of {SEEDS} cover \
             ({above} above, {below} below)",
            stated / seen
        );
        println!("{said}");
        if bias.abs() > 3.5 || !(0.85..=1.15).contains(&(stated / seen)) || !(180..=198).contains(&covered) {
            wrong.push(said);
        }
    };
    check("Tr F", |r| r.fisher, truth[0]);
    check("Tr(H - F)", |r| r.residual, truth[1]);
    check("Tr H", whole, truth[0] + truth[1]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "minutes"]
fn intervals_cover_with_known_labels() {
    covers(true, 1);
}

#[test]
#[ignore = "minutes"]
fn intervals_cover_with_labels_of_the_data() {
    covers(false, 1);
}

#[test]
#[ignore = "minutes"]
fn intervals_cover_with_one_to_three_masked_words() {
    covers(true, 3);
}

#[test]
#[ignore = "minutes"]
fn intervals_cover_with_labels_of_the_data_at_one_to_three_words() {
    covers(false, 3);
}
