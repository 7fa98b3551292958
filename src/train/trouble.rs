//! A run in spite of its adapter: kernels that compute wrong numbers are found before the first step, a device that is
//! lost is opened again once, and what has no room is tried with fewer sentences at once.

use std::sync::Mutex;

use super::observer::Observer;
use super::past::is_of;
use super::run::{Outcome, RunError, allocate, go};
use crate::config::{MicroBatch, Resolved};
use crate::gpu::{Gpu, GpuError};
use crate::ops::Variants;
use crate::selftest;

/// Kernels whose numbers are not those of the reference.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "kernels compute wrong numbers on {adapter}: in `{case}` with {variants:?}, {tensor} differs by {error:.1e} \
     ({bound:.1e} allowed)"
)]
pub struct WrongNumbers {
    /// Its name.
    pub adapter: String,
    /// The case of the self-test.
    pub case: String,
    /// What ran.
    pub variants: Variants,
    /// The tensor with the largest difference.
    pub tensor: String,
    /// That difference, as a share of the tensor's largest value.
    pub error: f64,
    /// The largest that is allowed.
    pub bound: f64,
}

/// Adapters and variants that gave the right numbers in this process.
static SOUND: Mutex<Vec<(String, Variants)>> = Mutex::new(Vec::new());

/// Compares one case of the self-test with the reference, once for an adapter and its variants.
pub(super) fn check_kernels(gpu: &Gpu, variants: &Variants) -> Result<(), RunError> {
    let info = gpu.info();
    let subject = (format!("{} {} {}", info.name, info.driver, info.driver_info), *variants);
    let sound = || SOUND.lock().unwrap_or_else(|e| e.into_inner());
    if sound().contains(&subject) {
        return Ok(());
    }
    let outcome = selftest::run(gpu, variants, &selftest::quick())?;
    judge(&outcome, &info.name)?;
    sound().push(subject);
    Ok(())
}

fn judge(outcome: &selftest::Outcome, adapter: &str) -> Result<(), WrongNumbers> {
    let selftest::Outcome { case, variants, error, tensor, bound, passed } = outcome;
    match passed {
        true => Ok(()),
        false => Err(WrongNumbers {
            adapter: adapter.into(),
            case: case.clone(),
            variants: *variants,
            tensor: tensor.clone(),
            error: *error,
            bound: *bound,
        }),
    }
}

/// Trains as a config says; goes on from the newest whole checkpoint where there is one, also with more steps than the
/// run had. A device that is lost is opened again once, and the run goes on from its checkpoint; with
/// [`MicroBatch::Fitting`] what has no room is tried with half of the sentences, down to one.
///
/// # Errors
/// [`RunError::Interrupted`] or [`RunError::Unbegun`] after [`crate::interrupt::request`], [`RunError::Diverged`]
/// before a step that is not finite is taken, [`RunError::Claimed`] and [`RunError::Lost`] when the folder is in
/// another's hands, [`RunError::Kernels`] before the first step, [`RunError::Memory`] with a number of sentences that
/// fits, and whatever the adapter or the disk refuses. A folder of another run is refused; what fails before the first
/// step leaves nothing in it.
pub fn run(gpu: &Gpu, resolved: &Resolved, observer: &dyn Observer) -> Result<Outcome, RunError> {
    let mut resolved = resolved.clone();
    let auto = resolved.config.train.micro_batch == Some(MicroBatch::AUTO);
    if auto {
        resolved.config.train.fitted = kept(&resolved);
    }
    let mut reopened: Option<Gpu> = None;
    loop {
        let device = reopened.as_ref().unwrap_or(gpu);
        let error = match go(device, &resolved, observer) {
            Err(RunError::Gpu(error)) => error,
            other => return other,
        };
        let now = resolved.config.train.micro_batch();
        if error.is_lost() && reopened.is_none() {
            observer.note(&format!("warning: {error}; opening {} again", gpu.info().name));
            match gpu.reopen() {
                Ok(gpu) => reopened = Some(gpu),
                Err(refused) => {
                    observer.note(&format!("warning: {refused}"));
                    return Err(error.into());
                }
            }
        } else if error.is_memory() && auto && now > 1 {
            let half = now / 2;
            observer.note(&format!("{error}: {half} sentences at once, where {now} had no room"));
            resolved.config.train.fitted = Some(half);
            // Its memory may be gone with the failure.
            if device.fault().is_err() {
                reopened = Some(gpu.reopen()?);
            }
        } else {
            return Err(match error {
                GpuError::Interrupted => RunError::Unbegun,
                GpuError::OutOfMemory { .. } => {
                    let fits = fitting(device, &resolved);
                    RunError::Memory { error, micro_batch: now, fits }
                }
                other => other.into(),
            });
        }
    }
}

/// The size that `auto` had in the run of a folder, where it is this one's.
fn kept(resolved: &Resolved) -> Option<u32> {
    let folder = resolved.output();
    let text = crate::files::text(&folder.join("run.json"), crate::files::SMALL).ok()?;
    let about: serde_json::Value = serde_json::from_str(&text).ok()?;
    let size = about["micro_batch"].as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)?;
    is_of(&folder, resolved).then_some(size)
}

/// The largest half, quarter, ... of the sentences at once for which there is room.
fn fitting(gpu: &Gpu, resolved: &Resolved) -> Option<u32> {
    let mut resolved = resolved.clone();
    let mut size = resolved.config.train.micro_batch() / 2;
    while size > 0 {
        resolved.config.train.micro_batch = Some(size.into());
        match allocate(gpu, &resolved) {
            Ok(()) => return Some(size),
            Err(RunError::Gpu(error)) if error.is_memory() => size /= 2,
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_is_wrong_is_told_with_its_tensor() {
        let variants = Variants::choose(&crate::gpu::Capabilities {
            software: false,
            subgroup_size: 0,
            subgroup_min: 0,
            subgroup_max: 0,
            workgroup_bytes: 16384,
            workgroup_invocations: 256,
            f16: false,
            cooperative: vec![],
            images: false,
            uniform_stores: false,
            timestamps: false,
            largest_binding: 1 << 27,
            largest_buffer: 1 << 28,
        });
        let outcome = |passed| selftest::Outcome {
            case: "feed-forward block 8".into(),
            variants,
            error: 0.25,
            tensor: "y".into(),
            bound: 4e-6,
            passed,
        };
        assert!(judge(&outcome(true), "a GPU").is_ok());
        let said = judge(&outcome(false), "a GPU").unwrap_err().to_string();
        assert!(said.contains("on a GPU: in `feed-forward block 8`") && said.contains("y differs by 2.5e-1"), "{said}");
    }
}
