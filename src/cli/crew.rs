//! Several workers on one sweep: each a process of its own, so that one that dies takes no other along.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::failure::{Failure, INTERRUPTED};
use super::print;
use crate::gpu::{ADAPTER_VARIABLE, AdapterChoice};
use crate::interrupt;

/// Adapters that a sweep uses at once where it is left to it: every discrete one.
fn adapters(choice: &AdapterChoice) -> Vec<String> {
    if *choice != AdapterChoice::Best || std::env::var_os(ADAPTER_VARIABLE).is_some() {
        return vec![];
    }
    let found = crate::gpu::list().into_iter().map(|adapter| adapter.get_info());
    let discrete = found.filter(|a| a.device_type == wgpu::DeviceType::DiscreteGpu && !a.device_pci_bus_id.is_empty());
    let mut ids: Vec<String> = discrete.map(|a| format!("pci:{}", a.device_pci_bus_id)).collect();
    ids.dedup();
    ids
}

/// The workers of a sweep: as many as were asked for, else one an adapter. Workers share adapters in turn.
pub fn plan(choice: &AdapterChoice, jobs: Option<usize>) -> Vec<Option<String>> {
    match jobs {
        Some(0 | 1) => vec![None],
        jobs => {
            let adapters = adapters(choice);
            let of = |i: usize| adapters.get(i % adapters.len().max(1)).cloned();
            (0..jobs.unwrap_or(adapters.len()).max(1)).map(of).collect()
        }
    }
}

/// The variable by which Mesa's software driver takes its number of threads.
const THREADS_VARIABLE: &str = "LP_NUM_THREADS";

/// Threads of the software driver in each of some workers, as many to all, and no more than there are cores: two
/// processes of one thread get more done than one of two (`docs/performance.md`). None for one worker, and where it is
/// said already.
fn threads(workers: usize, cores: usize, said: bool) -> Option<usize> {
    (workers > 1 && !said).then_some((cores / workers).max(1))
}

/// Runs the workers to their ends. How each run stands then is in the folders; a worker that died has left its run to
/// whoever comes next.
pub fn work(workers: &[Option<String>], crew: &str) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads(workers.len(), cores, std::env::var_os(THREADS_VARIABLE).is_some());
    let mut children: Vec<Child> = Vec::new();
    for (i, adapter) in workers.iter().enumerate() {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).args(["--crew", crew]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(adapter) = adapter {
            command.env(ADAPTER_VARIABLE, adapter);
        }
        if let Some(threads) = threads {
            command.env(THREADS_VARIABLE, threads.to_string());
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                stop(&mut children);
                return Err(Failure::from(error));
            }
        };
        if let Some(said) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(said).lines().map_while(Result::ok) {
                    print::note(&format!("[{}] {line}", i + 1));
                }
            });
        }
        children.push(child);
    }
    let mut told = false;
    while children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
        if interrupt::requested() && !told {
            told = true;
            // On a terminal they have heard it themselves, and a second signal ends at once; so only where there is
            // none.
            if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                stop(&mut children);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    match interrupt::requested() {
        true => Err(Failure {
            code: INTERRUPTED,
            message: "interrupted; what was done is kept, run the same command again to go on".into(),
        }),
        false => Ok(()),
    }
}

/// Asks workers to end.
fn stop(children: &mut [Child]) {
    for child in children.iter_mut().filter_map(|c| matches!(c.try_wait(), Ok(None)).then_some(c)) {
        #[cfg(unix)]
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).stdin(Stdio::null()).status();
        #[cfg(not(unix))]
        let _ = child.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_as_many_as_asked_for() {
        let software = AdapterChoice::Software;
        assert_eq!(plan(&software, None), [None]);
        assert_eq!(plan(&software, Some(3)), [None, None, None]);
        assert_eq!(plan(&software, Some(1)), [None]);
    }

    #[test]
    fn workers_share_the_cores() {
        assert_eq!(threads(2, 2, false), Some(1));
        assert_eq!(threads(3, 8, false), Some(2));
        assert_eq!(threads(8, 2, false), Some(1));
        assert_eq!(threads(1, 8, false), None);
        assert_eq!(threads(2, 8, true), None);
    }
}
