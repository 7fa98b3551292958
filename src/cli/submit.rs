//! `lowland sweep submit`: a sweep given to a queue, and what the queue says of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::arguments::{Engine, SweepSubmit};
use super::failure::Failure;
use super::print;
use crate::sweep::{self, ArrayScript, State, Submission, SweepPlan};

/// An array that was submitted; a line of `slurm/jobs.jsonl`.
#[derive(Serialize, Deserialize)]
struct Job {
    job: String,
    offset: usize,
    runs: Vec<usize>,
}

fn jobs_path(plan: &SweepPlan) -> PathBuf {
    plan.slurm_folder().join("jobs.jsonl")
}

/// Standard output of a program of the queue, where there is one and it did well.
fn asked(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What Slurm says of the runs that it has, by their numbers; `None` where nobody can be asked.
pub fn queued(plan: &SweepPlan) -> Option<BTreeMap<usize, String>> {
    let text = std::fs::read_to_string(jobs_path(plan)).ok()?;
    let jobs: Vec<Job> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = asked("squeue", &["-h", "-r", "-o", "%F %K %T %r"])?;
    let mut all = BTreeMap::new();
    for line in said.lines() {
        let mut words = line.split_whitespace();
        let (Some(job), Some(task), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        let Some(job) = jobs.iter().find(|j| j.job == job) else { continue };
        let Some(run) = task.parse::<usize>().ok().map(|task| task + job.offset) else { continue };
        let reason = words.collect::<Vec<_>>().join(" ");
        let reason = if ["", "None"].contains(&reason.as_str()) { String::new() } else { format!(" ({reason})") };
        all.insert(run, format!("{}{reason}", state.to_lowercase()));
    }
    Some(all)
}

/// `MaxArraySize` of the queue here.
fn most_tasks() -> Option<u32> {
    let said = asked("scontrol", &["show", "config"])?;
    let line = said.lines().find(|line| line.trim_start().starts_with("MaxArraySize"))?;
    line.split('=').nth(1)?.trim().parse().ok()
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}

/// Numbers of the runs that nobody has done, is at, or waits for.
fn missing(plan: &SweepPlan) -> Vec<usize> {
    let queued = queued(plan).unwrap_or_default();
    let standing = plan.status();
    // What others begin with comes first and has no number.
    let runs = standing.iter().skip(plan.starts.len()).enumerate();
    let open = runs.filter(|(_, run)| !matches!(run.state, State::Done | State::Running)).map(|(i, _)| i + 1);
    open.filter(|number| !queued.contains_key(number)).collect()
}

fn sbatch(script: &ArrayScript) -> Result<String, Failure> {
    let mut child = Command::new("sbatch")
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::usage(format!("sbatch: {e}; submit where Slurm is, or see the script by --dry-run")))?;
    child.stdin.take().expect("piped").write_all(script.text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Failure::usage(format!("sbatch refuses: {said}; [slurm] of the sweep file has what is asked for")));
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_string();
    Ok(said.split(';').next().unwrap_or(&said).to_string())
}

pub fn run(arguments: &SweepSubmit) -> Result<(), Failure> {
    let plan = sweep::plan(&arguments.file.sweep)?;
    super::sweep::prepare(&plan)?;
    sweep::check(&plan)?.iter().for_each(|text| print::note(text));
    match arguments.dry_run {
        true => {
            plan.check_submitted()?;
        }
        false => {
            if plan.submit()? {
                print::note(&format!("the plan is fixed: {}", plan.submitted_path().display()));
            }
        }
    }
    let to_do = Submission {
        program: std::env::current_exe()?,
        sweep: absolute(&arguments.file.sweep)?,
        folder: std::env::current_dir()?,
        runs: missing(&plan),
    };
    let json = arguments.file.json.json;
    if to_do.runs.is_empty() {
        match json {
            true => print::json(&json!({ "name": plan.name, "submitted": 0, "jobs": [] }))?,
            false => print::line(&format!("{}: nothing is missing that is not at work or queued", plan.name))?,
        }
        return Ok(());
    }
    let text = match arguments.engine {
        Engine::Slurm => return slurm(&plan, &to_do, arguments.dry_run, json),
        Engine::Hyperqueue => plan.hyperqueue_command(&to_do),
        Engine::Kubernetes => plan.kubernetes_manifest(&to_do),
    };
    match json {
        true => print::json(&json!({ "name": plan.name, "runs": to_do.runs, "text": text }))?,
        false => print::line(text.trim_end())?,
    }
    Ok(())
}

fn slurm(plan: &SweepPlan, to_do: &Submission, dry: bool, json: bool) -> Result<(), Failure> {
    let scripts = plan.slurm_scripts(to_do, most_tasks());
    if dry {
        match json {
            true => {
                let texts: Vec<&str> = scripts.iter().map(|s| s.text.as_str()).collect();
                print::json(&json!({ "name": plan.name, "runs": to_do.runs, "scripts": texts }))?
            }
            false => scripts.iter().try_for_each(|script| print::line(script.text.trim_end()))?,
        }
        return Ok(());
    }
    // A job whose log cannot be opened ends without a word.
    std::fs::create_dir_all(plan.slurm_folder())?;
    let mut jobs = Vec::new();
    for script in &scripts {
        let job = Job { job: sbatch(script)?, offset: script.offset, runs: script.runs.clone() };
        let line = serde_json::to_string(&job).map_err(std::io::Error::other)?;
        let mut file = std::fs::File::options().create(true).append(true).open(jobs_path(plan))?;
        writeln!(file, "{line}")?;
        jobs.push(job.job);
    }
    let count = to_do.runs.len();
    match json {
        true => print::json(&json!({ "name": plan.name, "submitted": count, "jobs": jobs }))?,
        false => print::line(&format!(
            "{}: {count} of {} runs submitted as {}; `lowland sweep status` tells how they stand",
            plan.name,
            plan.runs.len(),
            jobs.join(", ")
        ))?,
    }
    Ok(())
}
