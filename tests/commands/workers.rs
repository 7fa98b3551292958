//! Several workers on one sweep: killed at any moment, stopped beyond their time, with file systems that lack locks or
//! are slow. In the end every run is there once, to the bits of an undisturbed sweep, and nothing else is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lowland::random::{Purpose, Stream};
use serde_json::Value;

use crate::RUN;
use crate::folder::{Folder, signal, text};

const BASE: &str = r#"
[language]
random = { levels = 2, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 4
[model]
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 1
intermediate_size = 16
[train]
steps = 40
batch_size = 16
optimizer = { kind = "adamw", lr = 5e-3 }
evaluate_every = 0
checkpoint_every = 10
[evaluate]
sentences = 20
"#;

const SWEEP: &str = r#"
name = "many"
base = "base.toml"
output = "OUT"
[grid]
seed = { from = 1, count = 20 }
[examine]
sentences = 20
[examine.measure]
trace = { sentences = 8 }
"#;

/// What a file system can be like, as a library that stands before the system's.
const NO_LOCKS: &str = "#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n";
const SLOW_RENAMES: &str = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <unistd.h>\n\
    int rename(const char *a, const char *b) {\n\
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, \"rename\");\n\
    usleep(40000); int done = real(a, b); usleep(40000); return done; }\n";

/// Content of the files below a folder, by their paths; of files that say when something was, that they are there.
fn files(root: &Path, folder: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(root, &path, all);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().display().to_string();
        // One for each attempt, as attempts that came late are.
        if name.contains("events.out.tfevents.") || name.contains("/attempts/") && name.ends_with(".json") {
            continue;
        }
        let of_hours = ["metrics.jsonl", "run.json", "result.json", "config.toml", "report.html", "costs.json"];
        let timed = of_hours.iter().any(|end| name.ends_with(end)) || name.contains("/curvature-");
        all.insert(name, if timed { vec![] } else { std::fs::read(&path).unwrap() });
    }
}

fn tree(f: &Folder, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    files(&f.path(name), &f.path(name), &mut all);
    all
}

/// Kills workers as often as asked and checks what is left.
fn kill(kills: usize, mode: &str) {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    let mut preload: Option<PathBuf> = None;
    if let Some(code) = [("no-locks", NO_LOCKS), ("slow-rename", SLOW_RENAMES)].iter().find(|(n, _)| *n == mode) {
        f.write("before.c", code.1);
        let library = f.path("before.so");
        let mut cc = Command::new("cc");
        match cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(f.path("before.c")).arg("-ldl").status() {
            Ok(status) if status.success() => preload = Some(library),
            other => return eprintln!("skipped: cc makes no shared library here ({other:?})"),
        }
    }
    f.write("whole.toml", &SWEEP.replace("OUT", "whole"));
    let begun = Instant::now();
    let whole = f.lowland(&["sweep", "run", "whole.toml"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let wanted = tree(&f, "whole");
    let alone = begun.elapsed();
    let mut random = Stream::new(7, Purpose::Test, kills as u64);
    let (mut done, mut rounds, mut late) = (0, 0, 0);
    while done < kills {
        rounds += 1;
        let (out, file) = (format!("cut-{rounds}"), format!("cut-{rounds}.toml"));
        f.write(&file, &SWEEP.replace("OUT", &out));
        let worker = || -> Child {
            let mut command = f.command(&["sweep", "run", &file]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).env("LOWLAND_CLAIM_SECONDS", "2");
            if let Some(library) = &preload {
                command.env("LD_PRELOAD", library);
            }
            command.spawn().unwrap()
        };
        let mut workers: Vec<Child> = (0..3).map(|_| worker()).collect();
        while done < kills {
            std::thread::sleep(alone.mul_f64(0.15 * random.uniform()));
            let one = random.below(3) as usize;
            // Who ended found nothing to do: all is done, or in the hands of others.
            match workers[one].try_wait().unwrap() {
                Some(status) if status.success() => break,
                Some(_) => {}
                None => {
                    workers[one].kill().unwrap();
                    workers[one].wait().unwrap();
                    done += 1;
                }
            }
            workers[one] = worker();
        }
        for mut worker in workers {
            worker.wait().unwrap();
        }
        // What was cut off beside the runs is taken for somebody's at work until then.
        std::thread::sleep(Duration::from_millis(2500));
        let last = worker().wait_with_output().unwrap();
        assert!(last.status.success(), "round {rounds}");
        let found = tree(&f, &out);
        let other = |a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
            a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
        };
        let (more, missing) = (other(&found, &wanted), other(&wanted, &found));
        assert!(more.is_empty() && missing.is_empty(), "round {rounds}: left {more:?}, missing {missing:?}");
        let differs: Vec<&String> = wanted.keys().filter(|name| found[*name] != wanted[*name]).collect();
        assert!(differs.is_empty(), "round {rounds}: {differs:?} differ");
        for run in std::fs::read_dir(f.path(format!("{out}/runs"))).unwrap() {
            let attempts = run.unwrap().path().join("attempts");
            for record in std::fs::read_dir(&attempts).into_iter().flatten() {
                let text = std::fs::read_to_string(record.unwrap().path()).unwrap();
                let record: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(record["result"], "same", "{record}");
                late += 1;
            }
        }
    }
    eprintln!(
        "{mode}: {done} kills in {rounds} sweeps of 20 runs by 3 workers: every run done once, same bits; {late} late \
         results, all the same"
    );
}

/// `scripts/kill_sweep.sh` asks for more, and for other file systems.
#[test]
fn killed_at_random_moments_workers_leave_every_run_done_once() {
    let kills = std::env::var("LOWLAND_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    kill(kills, &std::env::var("LOWLAND_TEST_KILL_MODE").unwrap_or_else(|_| "locks".into()));
}

/// One run, and a worker in the middle of it.
fn one_run(f: &Folder) -> PathBuf {
    f.write(
        "s.toml",
        "base = \"run.toml\"\noutput = \"s\"\n[grid]\nseed = [1]\n\"train.steps\" = [2000]\n\
         [examine]\nsentences = 50\n",
    );
    let plan = f.json(&["sweep", "plan", "s.toml", "--json"]);
    f.path(format!("s/runs/{}", plan["runs"][0]["id"].as_str().unwrap()))
}

fn attempts(run: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(run.join("attempts")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn at_step(f: &Folder, run: &Path, step: u64) -> Child {
    let mut command = f.command(&["sweep", "run", "s.toml"]);
    command.env("LOWLAND_CLAIM_SECONDS", "1").stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    let reached = |path: &PathBuf| {
        let metrics = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap_or_default();
        metrics.contains(&format!("\"step\":{step},"))
    };
    while !attempts(run).iter().any(reached) {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn stopped_beyond_its_time_a_worker_comes_late_and_is_compared() {
    let f = Folder::new(RUN);
    let run = one_run(&f);
    let first = at_step(&f, &run, 50);
    signal(&first, "-STOP");
    std::thread::sleep(Duration::from_millis(1500));
    let second = f.command(&["sweep", "run", "s.toml"]).env("LOWLAND_CLAIM_SECONDS", "1").output().unwrap();
    assert!(second.status.success(), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("resumed at step"), "{}", text(&second.stderr));
    let (result, table) = (std::fs::read(run.join("result.json")).unwrap(), f.read("s/table.json"));
    signal(&first, "-CONT");
    let first = first.wait_with_output().unwrap();
    let said = text(&first.stderr);
    assert!(
        first.status.success() && said.contains("another process had trained it; the result is the same"),
        "{said}"
    );
    assert!(std::fs::read(run.join("result.json")).unwrap() == result && f.read("s/table.json") == table);
    let left = attempts(&run);
    assert_eq!(left.len(), 1, "{left:?}");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&left[0]).unwrap()).unwrap();
    assert_eq!((&record["what"], &record["result"]), (&"training".into(), &"same".into()), "{record}");
}

#[test]
fn what_a_killed_worker_had_trained_is_gone_on_with_and_leaves_nothing() {
    let f = Folder::new(RUN);
    let run = one_run(&f);
    let mut child = at_step(&f, &run, 50);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!run.join("result.json").exists() && !run.join("checkpoints").exists());
    let status = f.json(&["sweep", "status", "s.toml", "--json"]);
    assert!(status["runs"][0]["step"].as_u64().unwrap() >= 40, "{status}");
    let output = f.lowland(&["sweep", "run", "s.toml"]);
    assert!(output.status.success() && text(&output.stderr).contains("resumed at step"), "{}", text(&output.stderr));
    let mut left: Vec<String> =
        std::fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    left.retain(|name| !name.starts_with("events.out."));
    left.sort();
    let wanted = ["checkpoints", "config.toml", "examined", "metrics.jsonl", "model", "result.json", "run.json"];
    assert_eq!(left, wanted);
    let config: toml::Table = std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(Path::new(config["output"].as_str().unwrap()).canonicalize().unwrap(), run.canonicalize().unwrap());
}

#[test]
fn several_workers_share_a_sweep_and_each_failure_is_met_once() {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    f.write(
        "s.toml",
        "base = \"base.toml\"\noutput = \"s\"\n[start]\noverrides = [\"train.steps=20\"]\n[grid]\nseed = [1, 2]\n\
         \"train.optimizer\" = [{ kind = \"sgd\", lr = 1e30 }, { kind = \"sgd\", lr = 0.1 }]\n",
    );
    let output = f.lowland(&["sweep", "run", "s.toml", "--jobs", "3", "--json"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&tally["done"], tally["failed"].as_array().unwrap().len()), (&2.into(), 2), "{tally}");
    assert!(error.contains("[1] ") && error.contains("[3] "), "{error}");
    let met = error.lines().filter(|line| line.contains("FAILED") && !line.contains("in an earlier attempt"));
    assert_eq!(met.count(), 2, "{error}");
}

#[test]
fn a_submitted_plan_is_fixed_and_scripts_hold_what_is_missing() {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    let slurm = "[slurm]\npartition = \"gpu\"\ntime = \"01:00:00\"\nparallel = 4\narray = 8\nhead = [\"#SBATCH \
                 --nice\"]\nsetup = [\"module load vulkan\"]\n";
    let sweep = SWEEP.replace("OUT", "s") + slurm;
    f.write("s.toml", &sweep);
    let submit = |engine: &str| {
        let output = f.lowland(&["sweep", "submit", "s.toml", "--engine", engine, "--dry-run"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let scripts = submit("slurm");
    assert!(!f.path("s").exists(), "nothing is written by --dry-run");
    for line in [
        "#SBATCH --array=0-7%4",
        "#SBATCH --array=0-3%4",
        "#SBATCH --partition=gpu",
        "#SBATCH --time=01:00:00",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@120",
        "#SBATCH --nice",
        "module load vulkan",
        "--index $((SLURM_ARRAY_TASK_ID + 17)) &",
    ] {
        assert!(scripts.lines().any(|l| l.ends_with(line)), "{line}\n{scripts}");
    }
    assert_eq!(scripts.matches("#!/bin/bash").count(), 3, "20 runs in arrays of 8");
    // What a shell makes of it.
    f.write("script.sh", &scripts);
    let checked = Command::new("sh").arg("-n").arg(f.path("script.sh")).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    // One run is done: it is not asked for again.
    let output = f.lowland(&["sweep", "run", "s.toml", "--index", "2", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&tally["runs"], &tally["done"]), (&1.into(), &1.into()));
    assert!(submit("slurm").contains("#SBATCH --array=0,2-7%4"));
    assert!(submit("hyperqueue").contains("--array 1,3-20 "));
    assert!(submit("kubernetes").contains("completions: 20\n"));
    // The plan is fixed by the first submission that is one; these engines submit nothing themselves.
    let output = f.lowland(&["sweep", "submit", "s.toml", "--engine", "hyperqueue"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan = f.read("s/plan.jsonl");
    assert_eq!(plan.lines().count(), 20);
    f.write("base.toml", &BASE.replace("steps = 40", "steps = 41"));
    for command in [&["sweep", "submit", "s.toml", "--engine", "hyperqueue"][..], &["sweep", "run", "s.toml"][..]] {
        let output = f.lowland(command);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("plan.jsonl: the sweep was submitted"), "{error}");
        assert!(error.contains("seed 1, is planned no longer"), "{error}");
    }
    assert_eq!(f.read("s/plan.jsonl"), plan);
    f.write("base.toml", BASE);
    f.write("s/plan.jsonl", &plan.replacen("\"number\":3", "\"number\":-3", 1));
    let output = f.lowland(&["sweep", "submit", "s.toml", "--engine", "hyperqueue"]);
    assert!(text(&output.stderr).contains("plan.jsonl:3: is no planned run"), "{}", text(&output.stderr));
    let output = f.lowland(&["sweep", "run", "s.toml", "--index", "21"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
