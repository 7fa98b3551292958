//! `lowland selftest --report DIR`: everything that tells of an adapter, in one command for whoever has one.
//!
//! Doctor, a training step, Hessian-vector products, mixed precision, a case that others publish, every variant against
//! f64, rates, each a part with a share of the time. The files are written before and after every part and before every
//! case of the comparison, whole or not at all: where a driver takes the process down, they hold what was known and the
//! name of what was running. A part that fails does not keep the others from running.

mod benches;
mod content;
mod markdown;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use content::SelftestReport;
use content::{Comparison, Machine, Part, Rate, Roofline, Status};

use super::arguments::Selftest;
use super::failure::Failure;
use super::{doctor, print, selftest as command};
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::model::Published;
use crate::ops::{Device, KernelChoice, Variants};
use crate::selftest;
use benches::Shape;

/// A part's name, and the share of the time that is over when it should be. Each does something however late it is: one
/// repeat, one case, one operation. What is cut into many pieces comes last.
const PARTS: [(&str, f64); 7] = [
    ("doctor", 0.05),
    ("step", 0.15),
    ("products", 0.30),
    ("mixed", 0.38),
    ("published", 0.46),
    ("comparison", 0.82),
    ("rates", 1.0),
];

/// What a part gave beside its numbers.
enum End {
    Done,
    Wrong(String),
    LeftOut(String),
}

/// The report as it grows, and where it is written.
struct Draft {
    report: SelftestReport,
    folder: PathBuf,
    start: Instant,
}

impl Draft {
    fn new(folder: &Path, budget: u64) -> Draft {
        let part = |(name, _): &(&str, f64)| Part {
            name: name.to_string(),
            status: Status::Waiting,
            message: None,
            seconds: None,
        };
        let report = SelftestReport {
            format: 1,
            lowland: env!("CARGO_PKG_VERSION").into(),
            finished: false,
            passed: None,
            running: None,
            seconds: 0.0,
            budget_seconds: budget as f64,
            machine: Machine::here(),
            parts: PARTS.iter().map(part).collect(),
            doctor: None,
            comparison: None,
            rates: None,
            roofline: None,
            step: None,
            products: None,
            mixed: None,
            published: None,
            left_out: Vec::new(),
        };
        Draft { report, folder: folder.into(), start: Instant::now() }
    }

    /// Both files, each by rename.
    fn write(&mut self) -> Result<(), Failure> {
        self.write_json()?;
        self.put("report.md", &markdown::text(&self.report))
    }

    fn write_json(&mut self) -> Result<(), Failure> {
        self.report.seconds = self.start.elapsed().as_secs_f64();
        let text = serde_json::to_string_pretty(&self.report).expect("plain values") + "\n";
        self.put("report.json", &text)
    }

    fn put(&self, name: &str, text: &str) -> Result<(), Failure> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).map_err(|e| Failure::io(&path, &e))
    }

    fn deadline(&self, part: usize) -> Instant {
        self.start + Duration::from_secs_f64(self.report.budget_seconds * PARTS[part].1)
    }

    fn running(&mut self, what: String) -> Result<(), Failure> {
        self.report.running = Some(what);
        self.write_json()
    }
}

pub fn run(
    adapter: &AdapterChoice,
    kernel_choice: &KernelChoice,
    arguments: &Selftest,
    folder: &Path,
) -> Result<(), Failure> {
    let shape = Shape::parse(&arguments.shape).map_err(Failure::usage)?;
    std::fs::create_dir_all(folder).map_err(|e| Failure::io(folder, &e))?;
    let draft = RefCell::new(Draft::new(folder, arguments.budget));
    draft.borrow_mut().write()?;
    let mut unusable = None;
    for (number, (name, _)) in PARTS.iter().enumerate() {
        if let Some(failure) = part(&draft, number, name, adapter, kernel_choice, shape)? {
            unusable.get_or_insert(failure);
        }
    }
    let mut draft = draft.into_inner();
    let bad = |status: Status| matches!(status, Status::Wrong | Status::Failed);
    let failed: Vec<&Part> = draft.report.parts.iter().filter(|p| bad(p.status)).collect();
    let message = failed.iter().map(|p| format!("{}: {}", p.name, p.message.as_deref().unwrap_or("failed")));
    let message = message.collect::<Vec<_>>().join("\n");
    draft.report.passed = Some(failed.is_empty());
    (draft.report.finished, draft.report.running) = (true, None);
    draft.write()?;
    match arguments.json.json {
        true => print::json(&draft.report)?,
        false => print::line(&markdown::text(&draft.report))?,
    }
    print::note(&format!("{} and report.json beside it", folder.join("report.md").display()));
    match (unusable, message.is_empty()) {
        (Some(failure), _) => Err(failure),
        (None, true) => Ok(()),
        (None, false) => Err(Failure { code: 1, message }),
    }
}

/// A driver that hangs is given up after this, so that the other parts have their time.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

/// As always, but for the wait, where nobody has set it.
fn options() -> Options {
    let options = Options::default();
    match std::env::var_os("LOWLAND_WAIT_SECONDS") {
        Some(_) => options,
        None => Options { timeout: LONGEST_WAIT, ..options },
    }
}

/// Runs one part on a device of its own and records how it went; gives the failure where no adapter can be used.
fn part(
    draft: &RefCell<Draft>,
    number: usize,
    name: &str,
    adapter: &AdapterChoice,
    kernel_choice: &KernelChoice,
    shape: Shape,
) -> Result<Option<Failure>, Failure> {
    let start = Instant::now();
    print::note(&format!("{name} ({} of {})", number + 1, PARTS.len()));
    {
        let mut draft = draft.borrow_mut();
        draft.report.parts[number].status = Status::Running;
        draft.report.running = Some(name.into());
        draft.write()?;
    }
    let case = Published::smollm2_135m();
    let work = || -> Result<End, Failure> {
        let gpu = Gpu::open(adapter, options())?;
        let chosen = Device::choosing(&gpu, kernel_choice)?.variants;
        let deadline = draft.borrow().deadline(number);
        match name {
            "doctor" => {
                let (report, verdict) = doctor::examine(&gpu, kernel_choice)?;
                draft.borrow_mut().report.doctor = Some(report);
                Ok(verdict.map_or_else(|f| End::Wrong(f.message), |()| End::Done))
            }
            "comparison" => compare(draft, &gpu, deadline),
            "rates" => rates(draft, &gpu, &chosen, deadline),
            "step" => {
                let made = benches::step(&gpu, &chosen, shape, deadline)?;
                draft.borrow_mut().report.step = Some(made);
                Ok(End::Done)
            }
            "products" => {
                let made = benches::products(&gpu, &chosen, shape, deadline)?;
                draft.borrow_mut().report.products = Some(made);
                Ok(End::Done)
            }
            "published" => {
                let rate = draft.borrow().report.step.as_ref().map(|s| s.gflops * 1e9);
                match no_time_for(&case, rate, draft.borrow().report.budget_seconds)? {
                    Some(why) => Ok(End::LeftOut(why)),
                    None => {
                        let made = benches::published(&gpu, &chosen, &case, deadline)?;
                        draft.borrow_mut().report.published = Some(made);
                        Ok(End::Done)
                    }
                }
            }
            _ => match chosen.mixed(gpu.capabilities()) {
                Err(why) => Ok(End::LeftOut(format!("no products of mixed precision here: {why}"))),
                Ok(variants) => {
                    let single = draft.borrow().report.step.as_ref().map(|s| s.step_seconds);
                    let made = benches::mixed(&gpu, &chosen, &variants, shape, single, deadline)?;
                    // f16 operands have 11 bits; a gradient that is a tenth off is another one.
                    let off = made.gradient_difference;
                    draft.borrow_mut().report.mixed = Some(made);
                    let right = off.is_finite() && off < 0.1;
                    Ok(if right {
                        End::Done
                    } else {
                        End::Wrong(format!("the gradient is off by {off:.1e} of its norm"))
                    })
                }
            },
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let mut draft = draft.borrow_mut();
    let mut unusable = None;
    let (status, message) = match outcome {
        Ok(Ok(End::Done)) => (Status::Done, None),
        Ok(Ok(End::Wrong(why))) => (Status::Wrong, Some(why)),
        Ok(Ok(End::LeftOut(why))) => (Status::LeftOut, Some(why)),
        Ok(Err(failure)) => {
            let message = failure.message.clone();
            if failure.code == 6 {
                unusable = Some(failure);
            }
            (Status::Failed, Some(message))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            (Status::Failed, Some(format!("a panic, which is a bug: {}", text.unwrap_or("without a message"))))
        }
    };
    if let Some(message) = &message {
        print::note(&format!("{name}: {}: {message}", status.text()));
    }
    let seconds = Some(start.elapsed().as_secs_f64());
    draft.report.parts[number] = Part { name: name.into(), status, message, seconds };
    draft.write()?;
    Ok(unusable)
}

/// Why a case that others publish is left out: what it takes until it has run once would be more than a quarter of the
/// whole report. Its rate is taken to be that of the step.
fn no_time_for(case: &Published, rate: Option<f64>, budget: f64) -> Result<Option<String>, Failure> {
    /// Seconds to draw and send 135 million parameters and to compile kernels, whatever the adapter.
    const MAKING: f64 = 8.0;
    let Some(rate) = rate else { return Ok(Some("there is no step to tell how long it would take".into())) };
    // Two rounds of the gradient and the third of it that goes forward.
    let needed = MAKING + 2.0 * 4.0 / 3.0 * benches::published_flops(case)? / rate;
    Ok((needed > budget / 4.0).then(|| {
        format!(
            "{} would take about {needed:.0} s of {budget:.0}; --budget {:.0} has room for it",
            case.name,
            4.0 * needed
        )
    }))
}

/// Every case with every variant, those that are used first.
fn compare(draft: &RefCell<Draft>, gpu: &Gpu, deadline: Instant) -> Result<End, Failure> {
    let (all, cases) = (command::every(gpu), selftest::cases());
    let known = Comparison { variants: all.len(), cases: cases.len(), ..Comparison::default() };
    draft.borrow_mut().report.comparison = Some(known);
    for (i, variants) in all.iter().enumerate() {
        print::note(&format!("variants {}/{}: {variants}", i + 1, all.len()));
        for (done, case) in cases.iter().enumerate() {
            if i + done > 0 && Instant::now() > deadline {
                let left = (all.len() - i) * cases.len() - done;
                let text = format!("{left} of {} comparisons, from variants {variants} on", all.len() * cases.len());
                draft.borrow_mut().report.left_out.push(text);
                return verdict(draft);
            }
            draft.borrow_mut().running(format!("comparison: {} with {variants}", case.name))?;
            let outcome = selftest::run(gpu, variants, case)?;
            if let Some(comparison) = &mut draft.borrow_mut().report.comparison {
                comparison.add(&outcome);
            }
        }
    }
    verdict(draft)
}

fn verdict(draft: &RefCell<Draft>) -> Result<End, Failure> {
    let draft = draft.borrow();
    let Some(c) = draft.report.comparison.as_ref().filter(|c| c.wrong > 0) else { return Ok(End::Done) };
    let first =
        c.worst.iter().find(|w| !w.passed).map_or(String::new(), |w| format!("; {} with {}", w.case, w.variants));
    Ok(End::Wrong(format!("{} of {} comparisons are wrong{first}", c.wrong, c.ran)))
}

/// Every operation with every variant, at the shape of `selftest --time`.
fn rates(draft: &RefCell<Draft>, gpu: &Gpu, chosen: &Variants, deadline: Instant) -> Result<End, Failure> {
    // An operation at a time, so that what is known is written before the next.
    for (i, name) in selftest::timed_operations(gpu).into_iter().enumerate() {
        if i > 0 && Instant::now() > deadline {
            draft.borrow_mut().report.left_out.push(format!("the rate of {name}"));
            continue;
        }
        draft.borrow_mut().running(format!("rates: {name}"))?;
        let note = |name: &str| print::note(&format!("timing {name}"));
        let timings = selftest::timings(gpu, chosen, &|wanted| wanted == name, &note)?;
        let mut draft = draft.borrow_mut();
        let report = &mut draft.report;
        let rates = report.rates.get_or_insert_default();
        rates.extend(timings.into_iter().map(Rate::from));
        report.roofline = Roofline::of(&gpu.info().name, rates);
    }
    Ok(End::Done)
}
