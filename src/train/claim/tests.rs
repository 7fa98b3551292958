//! Claims by threads and in files as other machines leave them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A second instead of a minute.
const FAST: Pace = Pace { beat: Duration::from_millis(50), stale: Duration::from_millis(400) };

fn take(path: &Path) -> Option<Claim> {
    match Claim::take_at(path, FAST, &|| true).unwrap() {
        Taken::Mine(claim) => Some(claim),
        Taken::Theirs(_) => None,
    }
}

/// A claim file of a process on another machine, last renewed so long ago.
fn left(path: &Path, age: Duration) -> Vec<u8> {
    let (_, mut holder) = make(path).unwrap().unwrap();
    holder.forget_place();
    let file = File::options().write(true).truncate(true).open(path).unwrap();
    write(&file, &holder).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    std::fs::read(path).unwrap()
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn one_of_many_takers_of_a_stale_claim_wins() {
    const TAKERS: usize = 8;
    for round in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.lock");
        left(&path, Duration::from_secs(3600));
        let (winners, ready, over) = (AtomicUsize::new(0), Barrier::new(TAKERS), Barrier::new(TAKERS));
        std::thread::scope(|scope| {
            for _ in 0..TAKERS {
                scope.spawn(|| {
                    ready.wait();
                    let claim = take(&path);
                    // All hold what they have until the last has finished trying.
                    over.wait();
                    if let Some(claim) = claim {
                        claim.shared.look(&mut claim.shared.state());
                        claim.check().unwrap();
                        winners.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(winners.load(Ordering::SeqCst), 1, "round {round}");
        assert!(names(folder.path()).is_empty(), "round {round} left {:?}", names(folder.path()));
    }
}

#[test]
fn many_turns_never_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Some(_claim) = take(&path) {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(turns.load(Ordering::SeqCst) > 20);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_claim_that_is_renewed_is_respected_however_old_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    let claim = take(&path).unwrap();
    let first = std::fs::read(&path).unwrap();
    std::thread::sleep(3 * FAST.stale);
    assert!(take(&path).is_none() && is_claimed(&path));
    claim.check().unwrap();
    let now = std::fs::read(&path).unwrap();
    assert!(first != now && first.len() == now.len(), "the heartbeat counts in place");
    drop(claim);
    assert!(!path.exists() && take(&path).is_some());
}

#[test]
fn a_claim_that_looks_left_and_wakes_up_is_respected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    // Asleep for an hour, it renews its claim a moment after somebody has come.
    let text = left(&path, Duration::from_secs(3600));
    let waking = std::thread::spawn({
        let path = path.clone();
        move || {
            std::thread::sleep(2 * FAST.beat);
            std::fs::write(&path, text).unwrap();
        }
    });
    assert!(take(&path).is_none());
    waking.join().unwrap();
}

#[test]
fn clocks_of_hosts_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    // Made just now by the server's clock, whatever its maker thinks: nothing in it is a time.
    let text = left(&path, Duration::ZERO);
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let known = ["host", "process", "machine", "started", "user", "token", "beat"];
    assert!(fields.keys().all(|key| known.contains(&key.as_str())), "{fields:?}");
    assert!(take(&path).is_none());
    std::thread::sleep(2 * FAST.stale);
    assert!(take(&path).is_some());
}

#[test]
fn a_claim_from_the_future_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    left(&path, Duration::ZERO);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    let begun = Instant::now();
    assert!(take(&path).is_some());
    assert!(begun.elapsed() >= FAST.stale);
}

#[test]
fn a_lost_claim_is_noticed_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    let claim = take(&path).unwrap();
    // Taken over while this process slept.
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    left(&path, Duration::ZERO);
    claim.shared.state().seen = SystemTime::UNIX_EPOCH;
    let lost = claim.check().unwrap_err();
    assert!(lost.to_string().contains("took over"), "{lost}");
    assert!(claim.check().is_err(), "once lost, always lost");
    let text = std::fs::read(&path).unwrap();
    drop(claim);
    assert_eq!(std::fs::read(&path).unwrap(), text, "the other's claim stays");
}

#[test]
fn a_removed_claim_is_noticed_by_its_heartbeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    let claim = take(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(claim.check().unwrap_err().to_string().contains("removed"));
}

#[test]
fn what_is_not_meant_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    let claim = take(&path).unwrap();
    // A taker that saw another claim here, long ago.
    assert!(!set_aside(&path, &|text| text == b"what it saw").unwrap());
    claim.shared.look(&mut claim.shared.state());
    claim.check().unwrap();
    assert_eq!(names(folder.path()), ["run.lock"]);
}

#[test]
fn an_empty_file_is_an_earlier_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    let file = File::create(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    file.lock().unwrap();
    assert!(take(&path).is_none() && is_claimed(&path), "one of them is at work");
    drop(file);
    assert!(take(&path).is_some());
}

#[test]
fn a_taker_that_died_at_it_does_not_stand_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.lock");
    left(&path, Duration::from_secs(3600));
    left(&folder.path().join("run.lock.takeover"), Duration::from_secs(3600));
    assert!(take(&path).is_some());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn only_a_file_that_is_there_is_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let error = Claim::take_at(&folder.path().join("nowhere/run.lock"), FAST, &|| true).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}
