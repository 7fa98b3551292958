//! One flag of the process: somebody wants it to stop (Ctrl-C, SIGTERM, or a caller's [`request`]).
//!
//! It is set once and looked at everywhere: before a piece of work is given to an adapter (`gpu::Program`), after every
//! block of an estimator, in long loops of the host. Whoever sees it keeps what is done and returns; nothing is begun
//! any more. [`or_stop`] is for work of the host that cannot look by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Work that was broken off because the process is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Asks everything in this process to stop where it can; false if that was asked for before.
pub fn request() -> bool {
    !REQUESTED.swap(true, Ordering::SeqCst)
}

/// Whether that was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Takes a request back, for a process that goes on with something else.
pub fn clear() {
    REQUESTED.store(false, Ordering::SeqCst);
}

/// An error once the process is to stop.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}

/// How often a waiting thread looks at the flag.
const LOOK: Duration = Duration::from_millis(20);

/// Does work of the host on a thread of its own and gives its result; once the process is to stop, gives that up at
/// once.
///
/// The work is then left to itself and ends with the process, so that it must not write what others read.
///
/// # Panics
/// Where the work panics.
pub fn or_stop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Interrupted> {
    check()?;
    let (sender, receiver) = sync_channel(1);
    let worker = std::thread::spawn(move || {
        // A receiver that is gone has given up.
        let _ = sender.send(work());
    });
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => check()?,
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a worker sends its result before it ends"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_not_interrupted_gives_its_result() {
        assert_eq!(or_stop(|| 6 * 7), Ok(42));
    }

    #[test]
    fn a_panic_of_the_work_is_one_of_the_caller() {
        assert!(std::panic::catch_unwind(|| or_stop(|| panic!("in the work"))).is_err());
    }
}
