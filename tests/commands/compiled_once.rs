//! A driver compiles each kernel once. lavapipe puts the values of parameters into a kernel where they end loops, and
//! where that makes it longer or much shorter it compiles anew every time the kernel runs, and keeps what it made: runs
//! of many steps would take milliseconds more a step, and memory without end.

use std::process::Stdio;
use std::time::Duration;

use crate::folder::Folder;

/// Pieces of machine code in a process's memory that belong to no file, at most, while a command runs.
fn pieces_of_code(f: &Folder, arguments: &[&str]) -> usize {
    let mut child = f.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let maps = format!("/proc/{}/maps", child.id());
    let mut most = 0;
    loop {
        let pieces = std::fs::read_to_string(&maps).unwrap_or_default();
        let of_no_file = |line: &&str| line.contains(" r-xp ") && line.split_whitespace().count() == 5;
        most = most.max(pieces.lines().filter(of_no_file).count());
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments:?}: {status}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_kernel_is_compiled_again_in_a_longer_run() {
    let software = std::env::var("LOWLAND_ADAPTER").is_ok_and(|adapter| adapter == "software");
    if !software || !cfg!(target_os = "linux") {
        println!("skipped: a software adapter's code is looked for in Linux's memory maps (LOWLAND_ADAPTER=software)");
        return;
    }
    let f = Folder::new("[train]\nbatch_size = 32\nsteps = 300\n[evaluate]\nsentences = 50\n");
    let compare = |short: &[&str], long: &[&str]| {
        let pieces = [short, long].map(|arguments| pieces_of_code(&f, arguments));
        println!("{pieces:?} pieces of code: {long:?}");
        assert!(pieces[0] > 10, "no machine code is seen: {pieces:?}");
        assert!(pieces[1] <= pieces[0] + 8, "{pieces:?} pieces of code in a short run and a longer one: {long:?}");
    };
    for (number, knobs) in [
        ["train.optimizer={kind=\"adamw\",lr=1e-3}", "train.micro_batch=16"],
        ["train.optimizer={kind=\"sgd\",lr=1e-2,momentum=0.9}", "train.algorithm={kind=\"sam\",rho=0.05}"],
    ]
    .into_iter()
    .enumerate()
    {
        let [short, long] = [(15, "short"), (60, "long")]
            .map(|(steps, name)| [format!("train.steps={steps}"), format!("output={name}{number}")]);
        let command = |own: &[String; 2]| -> Vec<String> {
            ["train", "run.toml", knobs[0], knobs[1], &own[0], &own[1]].map(String::from).to_vec()
        };
        let [short, long] = [command(&short), command(&long)];
        fn words(all: &[String]) -> Vec<&str> {
            all.iter().map(String::as_str).collect()
        }
        compare(&words(&short), &words(&long));
    }
    let measure = ["measure", "trace", "long0/model", "run.toml", "--matrix", "hessian", "--count", "20"];
    let probes = |kind: &'static str, n: &'static str| [&measure[..], &["--estimator", kind, "--samples", n]].concat();
    compare(&probes("hutchinson", "16"), &probes("hutchinson", "100"));
    let chains =
        |steps| ["measure", "llc", "long0/model", "run.toml", "--count", "20", "--nbeta", "100", "--steps", steps];
    compare(&chains("10"), &chains("40"));
}
