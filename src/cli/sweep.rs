//! `lowland sweep`: many runs from one file.

use std::path::Path;

use serde_json::json;

use super::arguments::{Sweep, SweepCommand, SweepFile, SweepRegister, SweepRun};
use super::failure::{Failure, INTERRUPTED};
use super::progress::Bar;
use super::{advice, crew, print, submit};
use crate::gpu::{AdapterChoice, Gpu};
use crate::ops::KernelChoice;
use crate::report;
use crate::sweep::{self, LOOKUP, PlannedRun, RunFailure, State, SweepError, SweepPlan, Table, Tally, Watcher};
use crate::train::{Observer, Progress};

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Sweep) -> Result<(), Failure> {
    match &arguments.command {
        SweepCommand::Plan(file) => plan(file),
        SweepCommand::Run(options) => work(adapter, kernel_choice, options),
        SweepCommand::Submit(options) => submit::run(options),
        SweepCommand::Register(options) => register(options),
        SweepCommand::Status(file) => status(file),
        SweepCommand::Collect(file) => collect(file),
    }
}

fn plan(file: &SweepFile) -> Result<(), Failure> {
    let plan = sweep::plan(&file.sweep)?;
    match plan.absent() {
        // A plan can be read where its language is not at hand.
        Some(path) => print::note(&format!(
            "{}: not there; the ids are those of an empty file, and what is asked of the models is not checked",
            path.display()
        )),
        None => {
            prepare(&plan)?;
            sweep::check(&plan)?.iter().for_each(|text| print::note(text));
        }
    }
    plan.notes.iter().for_each(|text| print::note(text));
    match file.json.json {
        true => print::json(&plan)?,
        false => print::line(&plan_text(&plan))?,
    }
    Ok(())
}

/// The sweep file's hash, and whether its plan says the same.
fn register(arguments: &SweepRegister) -> Result<(), Failure> {
    let plan = sweep::plan(&arguments.file.sweep)?;
    let hash = plan.hash()?;
    let found = plan.registration(arguments.plan.as_deref())?;
    if let Some(found) = &found
        && let Some(first) = found.differs.first()
    {
        let others = match found.differs.len() {
            1 => String::new(),
            n => format!(" (the first of {n} differences)"),
        };
        return Err(Failure::usage(format!(
            "{}: {first}{others}. Where nothing has been run, write `sweep_hash = \"{hash}\"` and what else has \
             changed into the plan; else the runs are another experiment, with a plan and seeds of its own",
            from_here(&plan, &found.file)
        )));
    }
    let tests: Vec<_> = found.iter().flat_map(|found| found.plan.hypotheses()).collect();
    if arguments.file.json.json {
        return Ok(print::json(&json!({
            "name": plan.name,
            "sweep_hash": hash,
            "plan": found.as_ref().map(|found| &found.file),
            "plan_hash": found.as_ref().map(|found| &found.plan_hash),
            "registered": found.is_some(),
            "runs": plan.runs.len(),
            "seeds": found.as_ref().map(|found| found.plan.seeds.list()),
            "tests": tests.iter().map(|(test, primary)| json!({"primary": primary, "test": test})).collect::<Vec<_>>(),
        }))?);
    }
    let mut out = format!("{}: sweep_hash = \"{hash}\"", plan.name);
    match &found {
        None => out += "\nThe sweep names no plan (`plan = \"FILE\"`): all that is found is exploratory",
        Some(found) => {
            let file = from_here(&plan, &found.file);
            out += &format!("\n{file} (hash {}) is of this sweep: {}", found.plan_hash, found.plan.question);
            for (test, primary) in &tests {
                let over = match (&test.measure, &test.between) {
                    (_, Some([a, b])) => format!(", {a} less {b}"),
                    (Some(measure), _) => format!(", over {measure}"),
                    _ => String::new(),
                };
                out += &format!(
                    "\n{}: {} of {}{over}; smallest effect {}",
                    if *primary { "primary" } else { "secondary" },
                    test.test.name(),
                    test.column(),
                    print::short(test.smallest_effect)
                );
            }
        }
    }
    Ok(print::line(&out)?)
}

/// A plan's file as it is found from the working folder: a sweep file names it relative to itself.
fn from_here(plan: &SweepPlan, file: &str) -> String {
    let beside = plan.file.parent().unwrap_or(Path::new("")).join(file);
    if beside.exists() { beside.display().to_string() } else { file.into() }
}

/// Makes the tokens of the runs' text, where they are about text.
pub fn prepare(plan: &SweepPlan) -> Result<(), Failure> {
    match plan.examples {
        Some(_) => Ok(()),
        None => super::text::prepare(&plan.runs[0].resolved.config),
    }
}

fn plan_text(plan: &SweepPlan) -> String {
    let groups: std::collections::BTreeSet<&str> = plan.runs.iter().map(|run| run.group.as_str()).collect();
    let mut out = String::new();
    for start in &plan.starts {
        let who = if plan.starts.len() == 1 { "all others begin" } else { "the others of its seed begin" };
        out += &format!("{}  first, and {who} with its model  {}\n", start.id, start.overrides.join("  "));
    }
    for run in &plan.runs {
        match &run.given {
            Some(given) => out += &format!("{}  {}, seed {}  {}\n", run.id, run.label, run.seed, given.path.display()),
            None => out += &format!("{}  {}\n", run.id, run.overrides.join("  ")),
        }
    }
    let about = plan.examples.as_ref().map(|examples| &examples.path).or(plan.base.as_ref());
    let about = about.map_or(String::new(), |path| path.display().to_string());
    if plan.runs.iter().any(|run| run.given.is_some()) {
        return out + &format!("{}: {} models that are there, asked about {about}", plan.name, plan.runs.len());
    }
    out += &format!("{}: {} runs of {about}", plan.name, plan.runs.len());
    if groups.len() < plan.runs.len() {
        out += &format!(", {} but for the seed", groups.len());
    }
    if plan.excluded > 0 {
        out += &format!(", {} excluded", plan.excluded);
    }
    if plan.duplicates > 0 {
        out += &format!(", {} asked for twice", plan.duplicates);
    }
    out
}

fn work(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &SweepRun) -> Result<(), Failure> {
    let plan = sweep::plan(&arguments.file.sweep)?;
    plan.check_submitted()?;
    prepare(&plan).map_err(Failure::resumable)?;
    let mut crew = arguments.crew.clone();
    if crew.is_none() && arguments.index.is_none() {
        let workers = crew::plan(adapter, arguments.jobs.map(usize::from));
        if workers.len() > 1 {
            sweep::check(&plan)?;
            let name = crew.insert(sweep::crew_name());
            crew::work(&workers, name)?;
        }
    }
    let options = sweep::Options {
        fail_fast: arguments.fail_fast,
        retry_diverged: arguments.retry_diverged,
        crew,
        only: arguments.index.map(|number| number as usize - 1),
    };
    let open = || {
        let gpu = Gpu::open(adapter, crate::gpu::Options::default())?;
        print::note(&format!("{} on {}", plan.name, gpu.info().name));
        Ok(gpu)
    };
    let watcher = Screen { bar: Bar::new(1) };
    say_notes(&plan);
    let tally = sweep::run(&plan, &open, kernel_choice, options, &watcher);
    watcher.bar.done();
    let tally = tally?;
    // The page is about all runs, which one worker among others or one task of a queue need not see.
    if arguments.crew.is_some() || arguments.index.is_some() {
        if arguments.index.is_some() && arguments.file.json.json {
            print::json(&json!({
                "name": plan.name,
                "runs": tally.runs,
                "done": tally.done,
                "claimed_elsewhere": tally.claimed_elsewhere,
                "failed": tally.failed,
            }))?;
        }
        return ended(&plan, &tally);
    }
    let table = plan.collect()?;
    let (path, page) = publish(&plan, &table)?;
    match arguments.file.json.json {
        true => print::json(&json!({
            "name": plan.name,
            "runs": tally.runs,
            "done": tally.done,
            "claimed_elsewhere": tally.claimed_elsewhere,
            "failed": tally.failed,
            "models": table.rows.len(),
            "table": print::path(&path),
            "report": print::path(&page),
        }))?,
        false => {
            let mut text = format!(
                "{}: {} of {} {} done",
                plan.name,
                tally.done,
                tally.runs,
                if plan.runs[0].given.is_some() { "models" } else { "runs" }
            );
            if tally.claimed_elsewhere > 0 {
                text += &format!(", {} in the hands of other processes", tally.claimed_elsewhere);
            }
            if !tally.failed.is_empty() {
                text += &format!(", {} failed", tally.failed.len());
            }
            print::line(&text)?;
            print::line(&table_text(&table))?;
            print::line(&format!("table {}\nreport {}", path.display(), page.display()))?;
        }
    }
    ended(&plan, &tally)
}

/// The command's end by how the runs ended.
fn ended(plan: &SweepPlan, tally: &Tally) -> Result<(), Failure> {
    // What runs begin with and the lookup table may have failed beside the plan's runs.
    let beside = tally.failed.iter().filter(|failed| plan.runs.iter().all(|run| run.id != failed.run)).count();
    match tally.failed.first() {
        Some(first) => Err(Failure {
            code: first.kind.into(),
            message: format!(
                "{} of {} runs failed; the first, {} ({}, seed {}): {}",
                tally.failed.len(),
                tally.runs + beside,
                first.run,
                first.label,
                first.seed,
                first.message
            ),
        }),
        None if tally.claimed_elsewhere > 0 => Err(Failure {
            code: INTERRUPTED,
            message: format!(
                "{} of {} runs are in the hands of other processes, which go on with them (`lowland sweep status` \
                 tells when they are done); the same command takes what they leave",
                tally.claimed_elsewhere, tally.runs
            ),
        }),
        None => Ok(()),
    }
}

fn status(file: &SweepFile) -> Result<(), Failure> {
    let plan = sweep::plan(&file.sweep)?;
    let all = plan.status();
    // Folders are believed; what the queue says stands beside them.
    let queued = submit::queued(&plan);
    let of_queue = |i: usize| queued.as_ref()?.get(&(i + 1).checked_sub(plan.starts.len())?);
    if file.json.json {
        let mut runs = serde_json::to_value(&all).map_err(std::io::Error::other)?;
        for (i, run) in runs.as_array_mut().into_iter().flatten().enumerate() {
            if let Some(said) = of_queue(i) {
                run["queue"] = json!(said);
            }
        }
        return Ok(print::json(&json!({ "name": plan.name, "runs": runs }))?);
    }
    let word = |state: State| match state {
        State::Done => "done",
        State::Running => "running",
        State::Partial => "begun",
        State::Failed => "failed",
        State::Missing => "missing",
    };
    let mut out = String::new();
    for (i, run) in all.iter().enumerate() {
        let steps = if run.steps > 0 { format!("step {}/{}  ", run.step, run.steps) } else { String::new() };
        out += &format!(
            "{}  {:<8} {steps}{}/{} answers  {}, seed {}{}{}\n",
            run.run,
            word(run.state),
            run.answers,
            run.questions,
            run.label,
            run.seed,
            of_queue(i).map_or(String::new(), |said| format!("  queue: {said}")),
            run.failure.as_ref().map_or(String::new(), |f| format!("  {}", f.lines().next().unwrap_or("")))
        );
    }
    let count = |state: State| all.iter().filter(|run| run.state == state).count();
    let counts: Vec<String> = [State::Done, State::Running, State::Partial, State::Failed, State::Missing]
        .into_iter()
        .filter(|state| count(*state) > 0)
        .map(|state| format!("{} {}", count(state), word(state)))
        .collect();
    out += &format!("{}: {} of {} runs", plan.name, counts.join(", "), all.len());
    Ok(print::line(&out)?)
}

/// What is worth a note about a plan and its language.
fn say_notes(plan: &SweepPlan) {
    plan.notes.iter().for_each(|text| print::note(text));
    if plan.examples.is_none() {
        print::notes_of(&plan.runs[0].resolved.config);
    }
}

fn collect(file: &SweepFile) -> Result<(), Failure> {
    let plan = sweep::plan(&file.sweep)?;
    say_notes(&plan);
    let table = plan.collect()?;
    let (path, page) = publish(&plan, &table)?;
    if file.json.json {
        return Ok(print::json(&table)?);
    }
    print::line(&table_text(&table))?;
    Ok(print::line(&format!("table {}\nreport {}", path.display(), page.display()))?)
}

/// Writes the table and the page about it.
fn publish(plan: &SweepPlan, table: &Table) -> Result<(std::path::PathBuf, std::path::PathBuf), Failure> {
    let path = plan.write_table(table)?;
    let page = report::write_sweeps(&plan.output, None)?;
    Ok((path, page))
}

/// One line per model.
fn table_text(table: &Table) -> String {
    let percent = |p: f64| format!("{:.1}", 100.0 * p);
    let mut lines = Vec::new();
    for row in &table.rows {
        let mut line = format!("{:<28} seed {:<3}", row.label, row.seed);
        if row.path.is_none() {
            line += &format!(" step {:<7}", row.step);
        }
        if let Some(e) = &row.examples {
            line += &format!(" loss {:.4} ± {:.4}", e.loss, e.loss_standard_error);
        }
        if let Some(e) = &row.evaluation {
            match (e.excess_loss, e.excess_loss_standard_error) {
                (Some(excess), Some(error)) => {
                    line += &format!(" excess {excess:.4} ± {error:.4}");
                    line += if row.saturated { "  " } else { " !" };
                }
                _ => line += &format!(" loss {}", print::with_error(e.loss, e.loss_standard_error)),
            }
        }
        if let Some(c) = &row.curvature {
            line += &format!(" Tr F {}", print::with_error(c.fisher_trace, Some(c.fisher_trace_standard_error)));
            if let Some(trace) = c.hessian_trace {
                line += &format!(" Tr H {}", print::with_error(trace, c.hessian_trace_standard_error));
            }
        }
        for a in &row.downstream {
            let error = a.standard_error.map_or(String::new(), |e| format!(" ± {}", percent(e)));
            line += &format!("  {} {} %{error}", a.task, percent(a.accuracy));
        }
        lines.push(line);
        lines.extend(row.notes.iter().map(|note| format!("    not known: {}", note.lines().next().unwrap_or(""))));
    }
    for missing in &table.missing {
        let reason = missing.reason.lines().next().unwrap_or("");
        lines.push(format!("{:<28} seed {:<3} missing: {reason}", missing.label, missing.seed));
    }
    let saturated = table.rows.iter().filter(|row| row.saturated && row.evaluation.is_some()).count();
    let models = table.rows.iter().filter(|row| row.run != LOOKUP).count();
    if table.rows.iter().any(|row| row.examples.is_some()) {
        lines.push(format!("{models} models"));
        return lines.join("\n");
    }
    lines.push(format!(
        "{models} models, {saturated} with an excess loss below {} nats{}",
        table.saturation_bound,
        if saturated < models { " (the others are marked !)" } else { "" }
    ));
    lines.join("\n")
}

/// Shows a sweep on standard error.
struct Screen {
    bar: Bar,
}

impl Observer for Screen {
    fn progress(&self, progress: &Progress) {
        self.bar.progress(progress);
    }

    fn note(&self, text: &str) {
        self.bar.note(text);
    }
}

impl Watcher for Screen {
    fn begins(&self, number: usize, of: usize, run: &PlannedRun) {
        let what = if run.given.is_some() { "model" } else { "run" };
        let place = if number == 0 { "first".to_string() } else { format!("{what} {number} of {of}") };
        self.bar.note(&format!("{place}: {}, seed {} ({})", run.label, run.seed, run.id));
    }

    fn asks(&self, run: &PlannedRun, step: u64, what: &str) {
        let at = if run.given.is_some() { String::new() } else { format!(", step {step}") };
        self.bar.note(&format!("{}, seed {}{at}: {what}", run.label, run.seed));
    }

    fn fails(&self, run: &PlannedRun, failure: &RunFailure) {
        self.bar.note(&format!("FAILED {}, seed {} ({}): {}", run.label, run.seed, run.id, self.explain(failure)));
    }

    fn explain(&self, failure: &RunFailure) -> String {
        advice::of_run(failure)
    }
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Failure {
        Failure { code: error.kind.into(), message: error.to_string() }
    }
}

impl From<RunFailure> for Failure {
    fn from(error: RunFailure) -> Failure {
        Failure { code: error.kind().into(), message: advice::of_run(&error) }
    }
}
