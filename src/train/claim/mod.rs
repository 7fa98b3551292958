//! Who works in a folder. A claim is a file that one process makes with `create_new` and renews while it works; in it
//! stand the host, the process and a heartbeat that counts up. No lock of the file system is needed.
//!
//! - A claim of a process of this machine that is gone is taken over at once.
//! - Any other is somebody's at work as long as it is renewed. Its age is told by the file server alone: the time of
//!   the claim against the time of a file that is made beside it now, so that hosts' clocks do not matter. A claim that
//!   looks left is then watched for some heartbeats: whoever wakes up (a suspended machine) renews it within that time.
//! - Taking over is a rename, by one at a time, and what was renamed is compared with what was seen; so one taker wins.
//! - Whoever lost its claim nevertheless finds out before it writes again, see [`Claim::check`].
//!
//! ```
//! use lowland::train::{Claim, Taken};
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("run.lock");
//! let Taken::Mine(claim) = Claim::take(&path, &|| true)? else { panic!("nobody else is here") };
//! assert!(claim.check().is_ok() && matches!(Claim::take(&path, &|| true)?, Taken::Theirs(_)));
//! drop(claim);
//! assert!(!path.exists());
//! # Ok::<(), std::io::Error>(())
//! ```

mod file;
mod process;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

pub use file::Holder;
pub(crate) use file::is_claimed;
use file::{Seen, is_of, make, set_aside, take_over, write};

/// How often a claim is renewed, and when it counts as left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time between two renewals.
    pub beat: Duration,
    /// Time without a renewal after which a claim is left.
    pub stale: Duration,
}

/// Seconds after which a claim that is not renewed counts as left.
const STALE: f64 = 60.0;

impl Default for Pace {
    /// `LOWLAND_CLAIM_SECONDS`, else a minute; twelve heartbeats in that time.
    fn default() -> Pace {
        let asked = std::env::var("LOWLAND_CLAIM_SECONDS").ok().and_then(|s| s.parse::<f64>().ok());
        let seconds = asked.filter(|s| (0.1..=86400.0).contains(s)).unwrap_or(STALE);
        Pace { beat: Duration::from_secs_f64(seconds / 12.0), stale: Duration::from_secs_f64(seconds) }
    }
}

/// Tries, a hundredth of a second apart, while others come and go.
const TRIES: u32 = 300;

/// What became of an attempt to take a claim.
#[derive(Debug)]
pub enum Taken {
    /// The claim is this process's now.
    Mine(Claim),
    /// Somebody else is at work; who, if the file tells.
    Theirs(Option<Holder>),
}

/// A claim that is held, renewed on a thread of its own and removed when it is dropped.
#[derive(Debug)]
pub struct Claim {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    holder: Holder,
    pace: Pace,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    over: bool,
    lost: Option<Lost>,
    /// When the file was last seen to be ours, by the clock that goes on while a machine sleeps.
    seen: SystemTime,
    /// When it was last renewed.
    renewed: Instant,
}

/// A claim is another's now, or gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", path.display(), message)]
pub struct Lost {
    /// File of the claim.
    pub path: PathBuf,
    /// Who has it, or that it is gone.
    pub message: String,
}

/// Claims that this process holds, for [`release_all`].
static HELD: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());

fn held() -> MutexGuard<'static, Vec<(PathBuf, String)>> {
    HELD.lock().unwrap_or_else(|e| e.into_inner())
}

/// Gives back all claims of this process, which is about to end without dropping them.
pub fn release_all() {
    for (path, token) in held().drain(..) {
        let _ = set_aside(&path, &|text| is_of(text, &token));
    }
}

impl Claim {
    /// Takes the claim at a path, where nobody is at work. Waits some heartbeats where a claim looks left, as long as
    /// `go_on` says so.
    ///
    /// # Errors
    /// What the file system says but that the file is there.
    pub fn take(path: &Path, go_on: &dyn Fn() -> bool) -> io::Result<Taken> {
        Claim::take_at(path, Pace::default(), go_on)
    }

    /// The same at another pace than the default; all that share a folder have the same.
    ///
    /// # Errors
    /// As [`Claim::take`].
    pub fn take_at(path: &Path, pace: Pace, go_on: &dyn Fn() -> bool) -> io::Result<Taken> {
        let mut last = None;
        for _ in 0..TRIES {
            if let Some((file, holder)) = make(path)? {
                return Ok(Taken::Mine(Claim::start(path, file, holder, pace)));
            }
            let Some(seen) = Seen::read(path)? else { continue };
            last = seen.holder.clone();
            match seen.is_held(path, pace, go_on)? {
                Some(true) => return Ok(Taken::Theirs(seen.holder)),
                Some(false) => {
                    if let Some((file, holder)) = take_over(path, &seen, pace)? {
                        return Ok(Taken::Mine(Claim::start(path, file, holder, pace)));
                    }
                }
                None => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Taken::Theirs(last))
    }

    fn start(path: &Path, file: File, holder: Holder, pace: Pace) -> Claim {
        // A later change of the working directory does not matter.
        let path = std::path::absolute(path).unwrap_or(path.to_path_buf());
        held().push((path.clone(), holder.token.clone()));
        let state = State { over: false, lost: None, seen: SystemTime::now(), renewed: Instant::now() };
        let shared = Arc::new(Shared { path, holder, pace, state: Mutex::new(state), wake: Condvar::new() });
        let thread = std::thread::Builder::new().name("claim".into()).spawn({
            let shared = shared.clone();
            move || shared.renew(file)
        });
        // Without a thread it grows stale, which the checks notice when somebody takes it.
        Claim { shared, thread: thread.ok() }
    }

    /// Whether it is still ours; to be asked before anything is written. Looks at the file once a second.
    ///
    /// # Errors
    /// When it is not: whoever has it now may be writing.
    pub fn check(&self) -> Result<(), Lost> {
        let mut state = self.shared.state();
        let recent = |seen: SystemTime| seen.elapsed().is_ok_and(|age| age < Duration::from_secs(1));
        if state.lost.is_none() && !recent(state.seen) {
            self.shared.look(&mut state);
        }
        state.lost.clone().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Compares the file with what is ours.
    fn look(&self, state: &mut State) {
        let lost = |message: String| Some(Lost { path: self.path.clone(), message });
        for tries in 0..4 {
            match Seen::read(&self.path) {
                Ok(Some(now)) if is_of(&now.text, &self.holder.token) => {
                    state.seen = SystemTime::now();
                    return;
                }
                Ok(Some(now)) => {
                    let by = now.holder.map_or("another process".into(), |h| h.to_string());
                    state.lost = lost(format!(
                        "{by} took over, since nothing was heard of this process for {:.0} s; nothing more is written \
                         here",
                        self.pace.stale.as_secs_f64()
                    ));
                    return;
                }
                // Somebody may have it in hand for a moment, to see that it is not left.
                Ok(None) if tries < 3 => std::thread::sleep(Duration::from_millis(30)),
                Ok(None) => state.lost = lost("the claim was removed; nothing more is written here".into()),
                // A server that does not answer is no loss yet.
                Err(e) if state.renewed.elapsed() > self.pace.stale => {
                    state.lost = lost(format!("the claim could not be renewed ({e}); nothing more is written here"));
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Writes heartbeats into the file that was made, wherever it is now, until the claim is over or lost.
    fn renew(&self, file: File) {
        let mut holder = self.holder.clone();
        let mut state = self.state();
        for beat in 1u64.. {
            let next = Instant::now() + self.pace.beat;
            while !state.over && Instant::now() < next {
                let left = next.saturating_duration_since(Instant::now());
                state = self.wake.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0;
            }
            if state.over || state.lost.is_some() {
                return;
            }
            drop(state);
            holder.beat = format!("{beat:012}");
            let written = write(&file, &holder);
            state = self.state();
            if written.is_ok() {
                state.renewed = Instant::now();
            }
            self.look(&mut state);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let (path, token) = (&self.shared.path, &self.shared.holder.token);
        held().retain(|(_, held)| held != token);
        if Seen::read(path).is_ok_and(|seen| seen.is_some_and(|seen| is_of(&seen.text, token))) {
            let _ = set_aside(path, &|text| is_of(text, token));
        }
    }
}

#[cfg(test)]
mod tests;
