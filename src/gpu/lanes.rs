//! Settings of the process that drivers read, above all how many lanes lavapipe's subgroups have.
//!
//! lavapipe compiles for vectors of 256 bits (8 lanes) or, on processors with AVX-512, of 512 (16 lanes), whichever
//! `LP_NATIVE_VECTOR_WIDTH` says. Mesa 22 is faster with 512, Mesa 25 and 26 many times slower
//! (`docs/performance-adapters.md`), so the width is measured, once for each driver: by a caller that runs a product in
//! a process of its own at either width, since a driver reads the variable when it is loaded and never again.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::cache::cache_folder;

const WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";
const CACHE: &str = "MESA_SHADER_CACHE_DIR";

/// Bits of lavapipe's vectors that there is a choice between.
const NARROW: u32 = 256;
const WIDE: u32 = 512;

/// The factor by which the wide vectors must be faster.
const GAIN: f64 = 1.1;

/// Longest time that one process measures for another.
const PATIENCE: Duration = Duration::from_secs(120);

static REASON: OnceLock<String> = OnceLock::new();

/// The reason where nobody has measured yet.
pub const UNMEASURED: &str = "the driver's choice; its widths are not measured yet";

/// The setting for the lanes of software adapters in this process, and its reason.
pub fn lanes_reason() -> Option<&'static str> {
    REASON.get().map(String::as_str)
}

/// Sets what drivers read; call it first in `main`, before there is a second thread. What is set already stays.
///
/// * Mesa's device-selection layer prints to standard error where it finds no display; adapters are chosen here.
/// * lavapipe's vector width, as measured by `measure` (bits to a rate, in a process of its own) or by a process
///   before. Without either it stays the driver's own choice.
/// * Mesa's shader cache takes code of one width for that of another, so each width gets a folder of its own.
pub fn prepare_process(measure: Option<&dyn Fn(u32) -> Option<f64>>) {
    if std::env::var_os("NODEVICE_SELECT").is_none() {
        set("NODEVICE_SELECT", "1".as_ref());
    }
    let (width, reason) = match std::env::var(WIDTH) {
        Ok(given) => (Some(given), format!("{WIDTH} is set")),
        Err(_) => match width(measure) {
            Ok((width, reason)) => (Some(width.to_string()), reason),
            Err(reason) => (None, reason),
        },
    };
    let _ = REASON.set(reason);
    let Some(width) = width else { return };
    if std::env::var_os(CACHE).is_none() {
        let Some(folder) = cache_folder() else { return };
        let folder = folder.join(format!("mesa-{width}"));
        if std::fs::create_dir_all(&folder).is_err() {
            return;
        }
        set(CACHE, folder.as_os_str());
    }
    set(WIDTH, width.as_ref());
}

fn set(name: &str, value: &OsStr) {
    // SAFETY: no other thread exists yet that could read the environment (`prepare_process` asks for that).
    unsafe { std::env::set_var(name, value) }
}

/// The width to set and why, or why none.
fn width(measure: Option<&dyn Fn(u32) -> Option<f64>>) -> Result<(u32, String), String> {
    if !wide_vectors() {
        return Err("the driver's choice; this processor has no AVX-512 to choose otherwise".into());
    }
    if std::env::var_os(CACHE).is_some() {
        return Err(format!("the driver's choice, since {CACHE} is set and may hold code of its width"));
    }
    let driver = driver_files();
    if driver.is_empty() {
        return Err("the driver's choice; there is no lavapipe here".into());
    }
    let kept = cache_folder().map(|folder| folder.join("lanes").join(key(&driver)));
    let kept = kept.ok_or("the driver's choice; there is no cache folder to keep a measurement in")?;
    let rates = match (read(&kept), measure) {
        (Some(rates), _) => rates,
        (None, Some(measure)) => measured(&kept, measure)?,
        (None, None) => return Err(UNMEASURED.into()),
    };
    Ok(chosen(rates))
}

/// The faster width of the rates with (narrow, wide) vectors.
fn chosen((narrow, wide): (f64, f64)) -> (u32, String) {
    let width = if wide > GAIN * narrow { WIDE } else { NARROW };
    let reason = format!(
        "{width}-bit vectors: products measured at {narrow:.1} GFLOP/s with {NARROW} bits, {wide:.1} with {WIDE}, on \
         this driver"
    );
    (width, reason)
}

/// Measures both widths and keeps the rates, unless another process is at it: then waits for that.
fn measured(kept: &Path, measure: &dyn Fn(u32) -> Option<f64>) -> Result<(f64, f64), String> {
    let unkept = |e: std::io::Error| format!("the driver's choice; {} cannot be written: {e}", kept.display());
    std::fs::create_dir_all(kept.parent().expect("a file in a folder")).map_err(unkept)?;
    let busy = kept.with_extension("busy");
    let start = std::time::Instant::now();
    while let Err(e) = File::create_new(&busy).and_then(|mut file| write!(file, "{}", std::process::id())) {
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            return Err(unkept(e));
        }
        if let Some(rates) = read(kept) {
            return Ok(rates);
        }
        if start.elapsed() > PATIENCE || is_left(&busy) {
            // Whoever measured is dead.
            let _ = std::fs::remove_file(&busy);
            continue;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // The width that nothing speaks against where the other cannot be had.
    let rates = measure(NARROW).map(|narrow| (narrow, measure(WIDE).unwrap_or(0.0)));
    if let Some((narrow, wide)) = rates {
        let beside = kept.with_extension(std::process::id().to_string());
        let _ = std::fs::write(&beside, format!("{narrow} {wide}\n")).and_then(|()| std::fs::rename(&beside, kept));
    }
    let _ = std::fs::remove_file(&busy);
    rates.ok_or("the driver's choice; its speed could not be measured".into())
}

/// Whether the process that a file names is gone, where that can be seen (Linux).
fn is_left(busy: &Path) -> bool {
    let process = std::fs::read_to_string(busy).ok().and_then(|text| text.parse::<u32>().ok());
    process.is_some_and(|p| Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{p}")).exists())
}

fn read(kept: &Path) -> Option<(f64, f64)> {
    let text = std::fs::read_to_string(kept).ok()?;
    let (narrow, wide) = text.trim().split_once(' ')?;
    Some((narrow.parse().ok()?, wide.parse().ok()?))
}

/// lavapipe's manifests and the libraries they name, where these are found.
fn driver_files() -> Vec<PathBuf> {
    let listed = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find_map(std::env::var_os);
    let manifests: Vec<PathBuf> = match listed {
        Some(list) => std::env::split_paths(&list).collect(),
        None => ["/usr/local/share", "/usr/share", "/etc"]
            .iter()
            .filter_map(|root| std::fs::read_dir(Path::new(root).join("vulkan/icd.d")).ok())
            .flat_map(|folder| folder.filter_map(|entry| Some(entry.ok()?.path())))
            .collect(),
    };
    let lavapipe = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lvp_icd"));
    let mut all = Vec::new();
    for manifest in manifests.into_iter().filter(lavapipe) {
        let text = std::fs::read_to_string(&manifest).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let library = value["ICD"]["library_path"].as_str().unwrap_or_default().to_string();
        all.push(manifest);
        let folders = [String::new(), "/usr/lib/".into(), format!("/usr/lib/{}-linux-gnu/", std::env::consts::ARCH)];
        all.extend(folders.iter().map(|f| PathBuf::from(format!("{f}{library}"))).find(|p| p.is_file()));
    }
    all.sort();
    all
}

/// A name for what these files hold, without reading them all.
fn key(files: &[PathBuf]) -> String {
    let mut hash = blake3::Hasher::new();
    for file in files {
        let about = std::fs::metadata(file).ok();
        let changed = about.as_ref().and_then(|a| a.modified().ok());
        hash.update(format!("{file:?} {:?} {changed:?}\n", about.map(|a| a.len())).as_bytes());
    }
    hash.finalize().to_hex()[..16].to_string()
}

/// Whether lavapipe can run 512-bit vectors here.
fn wide_vectors() -> bool {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    {
        std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
    }
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    false
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::{chosen, key, measured, read};

    #[test]
    fn the_faster_width_is_chosen_and_a_tie_is_narrow() {
        assert_eq!(chosen((38.8, 66.9)).0, 512);
        assert_eq!(chosen((44.8, 8.0)).0, 256);
        assert_eq!(chosen((40.0, 42.0)).0, 256);
        assert!(chosen((44.8, 8.0)).1.contains("44.8 GFLOP/s with 256 bits, 8.0 with 512"));
    }

    #[test]
    fn a_driver_is_measured_once() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("lanes/driver");
        let asked = RefCell::new(Vec::new());
        let measure = |bits: u32| {
            asked.borrow_mut().push(bits);
            Some(f64::from(bits))
        };
        assert_eq!(measured(&kept, &measure), Ok((256.0, 512.0)));
        assert_eq!(read(&kept), Some((256.0, 512.0)));
        assert_eq!(*asked.borrow(), [256, 512]);
        // Another process is at it and done soon.
        std::fs::write(kept.with_extension("busy"), "").unwrap();
        assert_eq!(measured(&kept, &|_| panic!("measured again")), Ok((256.0, 512.0)));
        std::fs::remove_file(kept.with_extension("busy")).unwrap();
        // It was killed at it.
        if std::path::Path::new("/proc/self").exists() {
            let mut dead = std::process::Command::new("true").spawn().unwrap();
            dead.wait().unwrap();
            std::fs::remove_file(&kept).unwrap();
            std::fs::write(kept.with_extension("busy"), dead.id().to_string()).unwrap();
            let start = std::time::Instant::now();
            assert_eq!(measured(&kept, &measure), Ok((256.0, 512.0)));
            assert!(start.elapsed() < Duration::from_secs(60) && !kept.with_extension("busy").exists());
        }
        // The wide width dies; then both do.
        let _ = std::fs::remove_file(&kept);
        let _ = std::fs::remove_file(kept.with_extension("busy"));
        assert_eq!(measured(&kept, &|bits| (bits == 256).then_some(9.0)), Ok((9.0, 0.0)));
        assert!(measured(&folder.path().join("other"), &|_| None).unwrap_err().contains("could not be measured"));
        // Another driver.
        let library = folder.path().join("lib.so");
        std::fs::write(&library, "1").unwrap();
        let before = key(std::slice::from_ref(&library));
        std::fs::write(&library, "22").unwrap();
        assert_ne!(key(&[library]), before);
    }
}
