//! Attempts at training a run. Each works in `RUN/attempts/TOKEN`, a run folder of its own, and becomes the run's by a
//! rename: the first that ends wins, whoever was thought to be at work. So a run is right even where two processes
//! trained it; its claim only saves time.
//!
//! - `TOKEN.owner` beside the folder says whose it is. What nobody owns, or who is gone owned, is gone on with by the
//!   next attempt; what somebody silent owns is copied and left to its owner.
//! - To end, an attempt makes a folder with a file of its name, and renames it to `RUN/published`, which is possible
//!   where none is: so one is first. Whoever finds it moves the attempt's files to where they belong, `result.json`
//!   last, and takes `published` away when that is there.
//! - One that comes too late is compared with what is there, recorded as `TOKEN.json`, and removed.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::error::RunFailure;
use super::folder;
use crate::config::Resolved;
use crate::train::{self, Holder, RunResult, checkpoints, is_of_training, newest};

/// Folder of the attempts at a run.
pub(super) const ATTEMPTS: &str = "attempts";
/// The folder that says which attempt is first, by the name of the file in it, while its files are moved.
pub(super) const PUBLISHED: &str = "published";
/// Ending of that folder's name before it is there.
const CLAIM: &str = ".claim";
/// What was in the run's own folder without an end: of an earlier version, or of another command.
const BEFORE: &str = "before";
const RESULT: &str = "result.json";

/// An attempt of this process.
pub(super) struct Attempt {
    run: PathBuf,
    token: String,
    /// The run folder to train in.
    pub folder: PathBuf,
}

/// What became of an attempt that ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The run's result is its result.
    First,
    /// The run had a result by another: whether it is the same.
    Late(bool),
}

/// An attempt, or an answer, that came after another one's; `attempts/TOKEN.json`.
#[derive(Debug, Serialize)]
struct Late<'a> {
    attempt: &'a str,
    host: &'a str,
    process: u32,
    /// The training, or the question and the step of its model.
    what: &'a str,
    /// `same` or `differs`, bit for bit.
    result: &'a str,
    /// The files that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differs: Vec<String>,
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> RunFailure {
    RunFailure::io(path)
}

/// Takes away what may be gone already.
pub(super) fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names in a folder, in order.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(super) fn attempts(run: &Path) -> Vec<String> {
    let root = run.join(ATTEMPTS);
    names(&root).into_iter().filter(|name| !name.ends_with(CLAIM) && root.join(name).is_dir()).collect()
}

fn owner_file(run: &Path, token: &str) -> PathBuf {
    run.join(ATTEMPTS).join(format!("{token}.owner"))
}

/// Times the limit of a claim after which nobody of another machine is waited for.
const PATIENCE: u32 = 10;

/// The attempt whose files are about to be moved to the run.
fn first(run: &Path) -> Option<String> {
    names(&run.join(PUBLISHED)).pop()
}

/// Whether somebody may come back to an attempt, or it is what is published. Who is gone publishes nothing any more, so
/// that the order of the questions matters.
fn is_in_use(run: &Path, token: &str) -> bool {
    let token = token.strip_suffix(CLAIM).unwrap_or(token);
    is_owned(run, token) || first(run).is_some_and(|first| first == token)
}

/// Whether somebody may come back to an attempt.
fn is_owned(run: &Path, token: &str) -> bool {
    let path = owner_file(run, token);
    let Some(owner) = Holder::read(&path) else { return false };
    if owner.is_gone() {
        return false;
    }
    if owner.is_of_this_machine() {
        return true;
    }
    let lock = run.join(ATTEMPTS).join(token).join(train::CLAIM);
    let heard = [path, lock].iter().filter_map(|p| std::fs::metadata(p).ok()?.modified().ok()).max();
    let limit = train::Pace::default().stale * PATIENCE;
    heard.is_some_and(|heard| SystemTime::now().duration_since(heard).unwrap_or(Duration::ZERO) < limit)
}

/// How far an attempt is: whether it ended, the step of its newest checkpoint, whether it is free to go on with.
type Progress = (bool, Option<u64>, bool);

fn progress(run: &Path, token: &str) -> Progress {
    let folder = run.join(ATTEMPTS).join(token);
    let step = newest(&folder.join("checkpoints")).0.map(|checkpoint| checkpoint.step);
    (folder.join(RESULT).exists(), step, !is_in_use(run, token))
}

impl Attempt {
    /// Begins one, under the run's claim, with what an earlier one left.
    pub fn begin(run: &Path) -> Result<Attempt, RunFailure> {
        let root = run.join(ATTEMPTS);
        std::fs::create_dir_all(&root).map_err(failed(&root))?;
        move_published(run)?;
        set_before_aside(run)?;
        let own = Holder::here();
        let token = own.token().to_string();
        let attempt = Attempt { run: run.into(), folder: root.join(&token), token };
        folder::write(&owner_file(run, &attempt.token), &own)?;
        let mut others: Vec<(String, Progress)> =
            attempts(run).into_iter().map(|other| (other.clone(), progress(run, &other))).collect();
        others.sort_by_key(|(_, progress)| *progress);
        if let Some((best, (ended, step, free))) = others.pop() {
            let from = root.join(&best);
            if free {
                std::fs::rename(&from, &attempt.folder).map_err(failed(&from))?;
                let owner = owner_file(run, &best);
                gone_is_fine(std::fs::remove_file(&owner)).map_err(failed(&owner))?;
            } else if ended || step.is_some() {
                copy_run(&from, &attempt.folder).map_err(failed(&attempt.folder))?;
            }
        }
        remove_free(run, Some(&attempt.token)).map_err(failed(&root))?;
        Ok(attempt)
    }

    /// Makes what was trained the run's own, where it has no result yet.
    pub fn publish(self, resolved: &Resolved) -> Result<End, RunFailure> {
        train::settle(&self.folder, resolved, &self.run)?;
        self.take_place()
    }

    /// Becomes the run's, or is compared with what became it.
    fn take_place(self) -> Result<End, RunFailure> {
        let is_there = |folder: &Path| folder.join(RESULT).exists();
        loop {
            if is_there(&self.run) {
                return self.late().map(End::Late);
            }
            if !self.claim_place()? {
                move_published(&self.run)?;
                continue;
            }
            // A place that was free again, since the run has its result; of the first one that result is moved away.
            let late = is_there(&self.run) && is_there(&self.folder);
            move_published(&self.run)?;
            if late {
                continue;
            }
            let owner = owner_file(&self.run, &self.token);
            gone_is_fine(std::fs::remove_file(&owner)).map_err(failed(&owner))?;
            return match is_there(&self.run) {
                true => Ok(End::First),
                false => Err(RunFailure::io(&self.folder)(ErrorKind::NotFound.into())),
            };
        }
    }

    /// Whether this attempt is the first at the place from which files are moved.
    fn claim_place(&self) -> Result<bool, RunFailure> {
        let claim = self.run.join(ATTEMPTS).join(format!("{}{CLAIM}", self.token));
        std::fs::create_dir_all(&claim).map_err(failed(&claim))?;
        let name = claim.join(&self.token);
        std::fs::write(&name, "").map_err(failed(&name))?;
        let published = self.run.join(PUBLISHED);
        let done = std::fs::rename(&claim, &published);
        if done.is_ok() {
            return Ok(true);
        }
        gone_is_fine(std::fs::remove_dir_all(&claim)).map_err(failed(&claim))?;
        match done {
            // Where one is, systems differ in how they say so.
            Err(e) if [ErrorKind::DirectoryNotEmpty, ErrorKind::AlreadyExists].contains(&e.kind()) => Ok(false),
            Err(e) if !published.exists() => Err(RunFailure::io(&published)(e)),
            _ => Ok(false),
        }
    }

    /// Compares with what is published, records it, and is gone.
    fn late(&self) -> Result<bool, RunFailure> {
        let differs = differences(&self.run, &self.folder);
        let same = differs.is_empty();
        record(&self.run, &self.token, "training", differs)?;
        remove(&self.run, &self.token).map_err(failed(&self.folder))?;
        Ok(same)
    }

    /// Leaves it to the next one; what has nothing to go on with is removed.
    pub fn release(self) -> Result<(), RunFailure> {
        let empty = checkpoints(&self.folder.join("checkpoints")).is_empty() && !self.folder.join(RESULT).exists();
        let left = match empty {
            true => remove(&self.run, &self.token),
            false => gone_is_fine(std::fs::remove_file(owner_file(&self.run, &self.token))),
        };
        left.map_err(failed(&self.folder))?;
        let _ = std::fs::remove_dir(self.run.join(ATTEMPTS));
        Ok(())
    }
}

/// Records what came too late.
fn record(run: &Path, token: &str, what: &str, differs: Vec<String>) -> Result<(), RunFailure> {
    let own = Holder::here();
    let result = if differs.is_empty() { "same" } else { "differs" };
    let late = Late { attempt: token, host: &own.host, process: own.process, what, result, differs };
    folder::write(&run.join(ATTEMPTS).join(format!("{token}.json")), &late)
}

/// Records an answer that came after another one's to the same question.
pub(super) fn late_answer(run: &Path, what: &str, path: &Path, answer: &serde_json::Value) -> Result<(), RunFailure> {
    let read = |text: String| serde_json::from_str(&text).ok().map(without_hours);
    let there = std::fs::read_to_string(path).ok().and_then(read);
    let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let differs = if there == read(answer.to_string()) { vec![] } else { vec![name()] };
    record(run, Holder::here().token(), what, differs)
}

/// Removes an attempt, its owner's name last.
fn remove(run: &Path, token: &str) -> io::Result<()> {
    gone_is_fine(std::fs::remove_dir_all(run.join(ATTEMPTS).join(token)))?;
    gone_is_fine(std::fs::remove_file(owner_file(run, token)))
}

/// Removes what nobody comes back to, but for one.
pub(super) fn remove_free(run: &Path, but: Option<&str>) -> io::Result<()> {
    let tokens = names(&run.join(ATTEMPTS)).into_iter().filter_map(|name| {
        let folder = run.join(ATTEMPTS).join(&name).is_dir().then(|| name.clone());
        folder.or(name.strip_suffix(".owner").map(str::to_string))
    });
    for token in tokens.filter(|token| Some(token.as_str()) != but) {
        if !is_in_use(run, &token) {
            remove(run, &token)?;
        }
    }
    Ok(())
}

/// Moves the files of the attempt that is first to where they belong. May be done by several at once, and gone on with.
pub(super) fn move_published(run: &Path) -> Result<(), RunFailure> {
    let Some(token) = first(run) else {
        let _ = std::fs::remove_dir(run.join(PUBLISHED));
        return Ok(());
    };
    let from = run.join(ATTEMPTS).join(&token);
    let result = run.join(RESULT);
    let mut all = names(&from);
    all.sort_by_key(|name| name == RESULT);
    for name in all {
        if result.exists() {
            break;
        }
        // Folders of a run that came to nothing before may have one name.
        let free = |to: &PathBuf| !to.is_dir();
        let names = std::iter::once(name.clone()).chain((2..).map(|i| format!("{name}-{i}")));
        let to = names.map(|name| run.join(name)).find(free).expect("names do not end");
        gone_is_fine(std::fs::rename(from.join(&name), &to)).map_err(failed(&to))?;
    }
    train::sync_folder(run).map_err(failed(run))?;
    // Of the first one nothing is left; one that came late is compared by its owner.
    let _ = std::fs::remove_dir(&from);
    let name = run.join(PUBLISHED).join(&token);
    gone_is_fine(std::fs::remove_file(&name)).map_err(failed(&name))?;
    // Another one may stand there.
    let _ = std::fs::remove_dir(run.join(PUBLISHED));
    Ok(())
}

/// Moves what the run's own folder has of a training without a good end to where attempts are. What another process
/// puts there at this moment, who thinks the run its own, is no such thing: it is there before `published` is gone, and
/// behind that its good end.
fn set_before_aside(run: &Path) -> Result<(), RunFailure> {
    let left = loop {
        let left: Vec<String> = names(run).into_iter().filter(|name| is_of_training(name)).collect();
        if left.is_empty() || first(run).is_none() {
            break left;
        }
        move_published(run)?;
    };
    if left.is_empty() || folder::result(run).is_some() {
        return Ok(());
    }
    let before = run.join(ATTEMPTS).join(BEFORE);
    std::fs::create_dir_all(&before).map_err(failed(&before))?;
    left.iter().try_for_each(|name| std::fs::rename(run.join(name), before.join(name))).map_err(failed(run))
}

/// Copies a run folder that its owner may still write in: what is not whole is left out or found out by who reads it.
fn copy_run(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if name == train::CLAIM || name.contains(".tmp") || name.starts_with(&format!("{}.", train::CLAIM)) {
            continue;
        }
        let copied = match from.is_dir() {
            true => copy_run(&from, &to),
            false => std::fs::copy(&from, &to).map(drop),
        };
        gone_is_fine(copied)?;
    }
    Ok(())
}

/// JSON without what depends on the hour and the machine's load.
fn without_hours(mut value: serde_json::Value) -> serde_json::Value {
    const HOURS: [&str; 5] = ["seconds", "measure_seconds", "part_seconds", "peak_bytes", "queue_idle"];
    match &mut value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| !HOURS.contains(&key.as_str()));
            map.values_mut().for_each(|v| *v = without_hours(v.take()));
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(|v| *v = without_hours(v.take())),
        _ => {}
    }
    value
}

/// The files of two results of one run that are not the same: the models' and `result.json`.
fn differences(one: &Path, other: &Path) -> Vec<String> {
    let json = |folder: &Path| -> Option<serde_json::Value> {
        RunResult::read(folder)?;
        let text = std::fs::read_to_string(folder.join(RESULT)).ok()?;
        serde_json::from_str(&text).ok().map(without_hours)
    };
    let mut differs = Vec::new();
    if json(one) != json(other) {
        differs.push(RESULT.to_string());
    }
    for model in ["model", "model-ema"] {
        let mut files = names(&one.join(model));
        files.extend(names(&other.join(model)));
        files.sort();
        files.dedup();
        for file in files {
            let hash = |folder: &Path| {
                let mut hasher = blake3::Hasher::new();
                let file = crate::files::open(&folder.join(model).join(&file)).ok()?;
                hasher.update_reader(file).ok()?;
                Some(hasher.finalize())
            };
            if hash(one) != hash(other) {
                differs.push(format!("{model}/{file}"));
            }
        }
    }
    differs
}

/// The newest step of the attempts at a run, by their checkpoints.
pub(super) fn newest_step(run: &Path) -> u64 {
    let roots = attempts(run).into_iter().map(|token| run.join(ATTEMPTS).join(token));
    let steps = roots.chain([run.to_path_buf()]).filter_map(|folder| newest(&folder.join("checkpoints")).0);
    steps.map(|checkpoint| checkpoint.step).max().unwrap_or(0)
}

/// Whether an attempt is at work now.
pub(super) fn is_at_work(run: &Path) -> bool {
    attempts(run).iter().any(|token| train::is_claimed(&run.join(ATTEMPTS).join(token).join(train::CLAIM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn ended(run: &Path, token: &str) -> Attempt {
        let folder = run.join(ATTEMPTS).join(token);
        write(&folder.join("model/config.json"), "{}");
        write(&folder.join("checkpoints/step-9/state.json"), "{}");
        write(&folder.join("metrics.jsonl"), "");
        write(&folder.join(RESULT), "{}");
        write(&owner_file(run, token), "{}");
        Attempt { run: run.into(), folder, token: token.into() }
    }

    #[test]
    fn of_attempts_that_end_at_once_one_is_first_and_the_others_are_recorded() {
        const WORKERS: usize = 6;
        for round in 0..20 {
            let root = tempfile::tempdir().unwrap();
            let run = root.path().join("run");
            let attempts: Vec<Attempt> = (0..WORKERS).map(|i| ended(&run, &format!("t{i}"))).collect();
            let ready = std::sync::Barrier::new(WORKERS);
            let ends: Vec<End> = std::thread::scope(|scope| {
                let workers = attempts.into_iter().map(|attempt| {
                    let ready = &ready;
                    scope.spawn(move || {
                        ready.wait();
                        attempt.take_place().unwrap()
                    })
                });
                workers.collect::<Vec<_>>().into_iter().map(|worker| worker.join().unwrap()).collect()
            });
            let firsts = ends.iter().filter(|end| **end == End::First).count();
            assert_eq!(firsts, 1, "round {round}: {ends:?}");
            assert!(ends.iter().all(|end| *end != End::Late(false)), "round {round}: {ends:?}");
            let mut left = names(&run);
            left.retain(|name| name != ATTEMPTS);
            assert_eq!(left, ["checkpoints", "metrics.jsonl", "model", RESULT], "round {round}: {ends:?}");
            assert_eq!(names(&run.join("model")), ["config.json"]);
            let records = names(&run.join(ATTEMPTS));
            assert!(records.iter().all(|name| name.ends_with(".json")), "round {round}: {records:?}");
            assert_eq!(records.len(), WORKERS - 1, "round {round}: {ends:?}, {records:?}");
        }
    }

    #[test]
    fn what_is_being_published_is_not_set_aside() {
        const FILES: usize = 300;
        for round in 0..10 {
            let root = tempfile::tempdir().unwrap();
            let run = root.path().join("run");
            let attempt = ended(&run, "t0");
            let result = r#"{"status": "done", "steps": 9, "training_loss": 1.0, "loss": 1.0, "excess_loss": null,
                "excess_loss_standard_error": null, "entropy_floor": null, "sentences": 1, "parameters": 1,
                "seconds": 1.0}"#;
            write(&attempt.folder.join(RESULT), result);
            assert!(folder::result(&attempt.folder).is_some());
            (0..FILES).for_each(|i| write(&attempt.folder.join(format!("result-{i:03}.json")), "{}"));
            std::thread::scope(|scope| {
                let at_work = scope.spawn(|| attempt.take_place().unwrap());
                // Others begin in the meantime.
                while !at_work.is_finished() {
                    set_before_aside(&run).unwrap();
                }
                assert_eq!(at_work.join().unwrap(), End::First);
            });
            assert!(!run.join(ATTEMPTS).join(BEFORE).exists(), "round {round}: {:?}", names(&run));
            let left = names(&run).iter().filter(|name| is_of_training(name)).count();
            assert_eq!(left, FILES + 4, "round {round}: {:?}", names(&run));
        }
        // Of what has no end another one begins anew.
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("run");
        write(&run.join("checkpoints/step-9/state.json"), "{}");
        set_before_aside(&run).unwrap();
        assert_eq!(names(&run), [ATTEMPTS]);
    }
}
