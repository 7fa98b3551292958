//! How fast a software adapter is at one vector width: a driver reads the width when it is loaded, so each is measured
//! in a process of its own (`lowland lanes`, not for people), by `gpu::prepare_process`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::print;
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::selftest;

/// Longest wait for one width.
const PATIENCE: Duration = Duration::from_secs(50);

/// GFLOP/s with vectors of `bits` bits; `None` when the process fails or takes too long.
pub fn measure(bits: u32) -> Option<f64> {
    if bits == 256 {
        print::note("measuring, once for this driver, whether it is faster with 8 or with 16 lanes");
    }
    let mut child = Command::new(std::env::current_exe().ok()?)
        .args(["--adapter", "software", "lanes"])
        .env("LP_NATIVE_VECTOR_WIDTH", bits.to_string())
        .env_remove("LOWLAND_VARIANT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let start = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().parse().ok())?
}

/// The measured process.
pub fn run(adapter: &AdapterChoice) -> Result<(), Failure> {
    let gpu = Gpu::open(adapter, Options::default())?;
    Ok(print::line(&selftest::product_rate(&gpu)?.to_string())?)
}
