//! A claim's file: made, read, judged, and taken away from who left it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::Pace;
use super::process::{self, Place};

/// Heartbeats for which a claim that looks left is watched.
const WATCH: u32 = 3;
/// Bytes that no claim has; what is behind them is not read.
const LONGEST: u64 = 1 << 16;

/// Whose claim it is; the file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the machine.
    pub host: String,
    /// Number of the process on it.
    pub process: u32,
    /// Where process numbers have their meaning, and when this one began; absent where the system does not tell.
    #[serde(flatten)]
    place: Place,
    /// No other claim has it.
    pub(super) token: String,
    /// Counts up; always as many digits.
    pub(super) beat: String,
}

impl Holder {
    /// This process, under a token that nobody else has.
    pub(crate) fn here() -> Holder {
        let here = process::here();
        Holder {
            host: here.host.clone(),
            process: here.process,
            place: here.place.clone(),
            token: token(),
            beat: format!("{:012}", 0),
        }
    }

    /// What no other has.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Reads the file of a claim, or one like it.
    pub(crate) fn read(path: &Path) -> Option<Holder> {
        Seen::read(path).ok()??.holder
    }

    /// Whether it is certain that the process exists no longer.
    pub(crate) fn is_gone(&self) -> bool {
        process::is_gone(&self.place, self.process)
    }

    /// Whether [`Holder::is_gone`] would know.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        let own = &process::here().place;
        own.machine.is_some() && self.place.machine == own.machine && self.place.user == own.user
    }
}

#[cfg(test)]
impl Holder {
    /// As if it were on another machine.
    pub(super) fn forget_place(&mut self) {
        self.place.machine = Some("another boot".into());
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.process, self.host)
    }
}

/// A path beside another: its name and more.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{more}"));
    path.with_file_name(name)
}

/// 16 hexadecimal digits that no other claim has.
fn token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let here = process::here();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let text = format!("{} {:?} {} {now} {count}", here.host, here.place, here.process);
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

/// Makes a claim's file; `None` where there is one.
pub(super) fn make(path: &Path) -> io::Result<Option<(File, Holder)>> {
    let file = match File::options().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(e) => return Err(e),
    };
    let holder = Holder::here();
    if let Err(error) = write(&file, &holder) {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(Some((file, holder)))
}

/// Writes the whole content over what stands there, of the same length.
pub(super) fn write(mut file: &File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_string(holder).expect("plain values") + "\n";
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// A claim as it was found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub text: Vec<u8>,
    modified: SystemTime,
    pub holder: Option<Holder>,
}

impl Seen {
    /// `None` where there is no claim.
    pub(super) fn read(path: &Path) -> io::Result<Option<Seen>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let modified = file.metadata()?.modified()?;
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        let holder = serde_json::from_slice(&text).ok();
        Ok(Some(Seen { text, modified, holder }))
    }

    /// Whether it is known that nobody can come back to it.
    fn is_dead(&self) -> bool {
        self.holder.as_ref().is_some_and(|h| process::is_gone(&h.place, h.process))
    }

    /// An empty file under a lock is how versions up to 0.1.0 say that they are at work.
    fn is_locked(&self, path: &Path) -> bool {
        self.text.is_empty()
            && matches!(File::open(path).map(|f| f.try_lock()), Ok(Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Whether somebody is at work, as far as one look tells; `None` where it must be watched, and for how long.
    fn at_once(&self, path: &Path, pace: Pace) -> io::Result<Result<bool, Duration>> {
        if self.is_dead() {
            return Ok(Ok(false));
        }
        if self.is_locked(path) {
            return Ok(Ok(true));
        }
        Ok(match servers_now(path)?.duration_since(self.modified) {
            Ok(age) if age < pace.stale => Ok(true),
            // Nobody renews it: made by an earlier version, or by who died at it.
            Ok(_) if self.text.is_empty() => Ok(false),
            Ok(_) => Err(pace.beat * WATCH),
            Err(ahead) if ahead.duration() < pace.stale => Ok(true),
            // The server's clock was set back; nothing but looking helps.
            Err(_) => Err(pace.stale),
        })
    }

    /// Whether somebody is at work; takes some heartbeats where the claim looks left. `None`: it changed, look again.
    pub(super) fn is_held(&self, path: &Path, pace: Pace, go_on: &dyn Fn() -> bool) -> io::Result<Option<bool>> {
        let watch = match self.at_once(path, pace)? {
            Ok(known) => return Ok(Some(known)),
            Err(watch) => watch,
        };
        let begun = Instant::now();
        while begun.elapsed() < watch {
            std::thread::sleep((pace.beat / 5).min(Duration::from_millis(200)));
            if !go_on() {
                return Ok(Some(true));
            }
            let same = |now: &Seen| now.text == self.text && now.modified == self.modified;
            if !Seen::read(path)?.is_some_and(|now| same(&now)) {
                return Ok(None);
            }
        }
        Ok(Some(false))
    }
}

/// What time it is for the server of a folder.
fn servers_now(path: &Path) -> io::Result<SystemTime> {
    let touched = beside(path, &format!("now-{}", token()));
    let time = File::options().write(true).create_new(true).open(&touched).and_then(|mut file| {
        file.write_all(b"\n")?;
        file.sync_all()?;
        file.metadata()?.modified()
    });
    let _ = std::fs::remove_file(&touched);
    time
}

/// Renames a claim away and removes it if it is the one that was meant; else it is put back where nobody took its
/// place.
pub(super) fn set_aside(path: &Path, meant: &dyn Fn(&[u8]) -> bool) -> io::Result<bool> {
    let aside = beside(path, &format!("aside-{}", token()));
    match std::fs::rename(path, &aside) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    }
    if meant(&std::fs::read(&aside)?) {
        std::fs::remove_file(&aside)?;
        return Ok(true);
    }
    match std::fs::hard_link(&aside, path) {
        // A file system without links.
        Err(e) if e.kind() != ErrorKind::AlreadyExists && !path.exists() => std::fs::rename(&aside, path)?,
        _ => std::fs::remove_file(&aside)?,
    }
    Ok(false)
}

/// Takes a claim that nobody comes back to. `None`: something changed meanwhile, look again.
pub(super) fn take_over(path: &Path, seen: &Seen, pace: Pace) -> io::Result<Option<(File, Holder)>> {
    let guard = beside(path, "takeover");
    let Some((_, own)) = make(&guard)? else {
        // One at a time, unless that one died at it.
        if let Some(other) = Seen::read(&guard)?
            && matches!(other.at_once(&guard, pace)?, Ok(false) | Err(_))
        {
            set_aside(&guard, &|text| text == other.text)?;
        }
        return Ok(None);
    };
    let taken = (|| {
        let same = Seen::read(path)?.is_some_and(|now| now.text == seen.text);
        if !same || !set_aside(path, &|text| text == seen.text)? {
            return Ok(None);
        }
        make(path)
    })();
    set_aside(&guard, &|text| is_of(text, &own.token))?;
    taken
}

pub(super) fn is_of(text: &[u8], token: &str) -> bool {
    serde_json::from_slice::<Holder>(text).is_ok_and(|h| h.token == token)
}

/// Whether a process is at work under a claim now.
pub(crate) fn is_claimed(path: &Path) -> bool {
    let Ok(Some(seen)) = Seen::read(path) else { return false };
    let pace = Pace::default();
    match seen.at_once(path, pace) {
        Ok(known) => known.unwrap_or(false),
        // A folder that cannot be written: by this machine's clock.
        Err(_) => !seen.is_dead() && seen.modified.elapsed().is_ok_and(|age| age < pace.stale),
    }
}
