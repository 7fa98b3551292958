//! Which kernel variants a run uses, and why: the same bits need the same variants.
//!
//! What is asked for (`--variant`, then `adapter.variant` of the config) goes before all; else a run that goes on keeps
//! those of its `run.json` as long as the adapter is the same and can run them; else those that were measured for these
//! shapes on this adapter (`lowland selftest --tune`) are taken; else they are chosen for the adapter, and for runs of
//! many steps those that take longer to compile and compute the same bits sooner.

use serde::{Deserialize, Serialize};

use super::past::is_of;
use super::tune::{Subject, Tuning};
use crate::config::{ConfigError, Precision, Resolved};
use crate::gpu::Gpu;
use crate::ops::Variants;

/// Steps from which on a run takes variants that take longer to be ready: of the model of `configs/quickstart.toml`
/// 1.6 s more from the driver's cache and 4 s without it, against 2 ms less a step (`docs/performance.md`).
const LONG: u64 = 1000;

/// Where a run's variants come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Chosen from what the adapter can do.
    Default,
    /// Measured on these shapes by `lowland selftest --tune`.
    Tuned,
    /// Kept from the beginning of this run.
    Kept,
    /// Asked for, at least one of them.
    Overridden,
}

/// The variants of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernels {
    /// What runs.
    pub variants: Variants,
    /// Why these.
    pub source: Source,
    /// The measured choice that they come from.
    pub tuning: Option<Tuning>,
}

impl Kernels {
    /// Chooses a run's variants.
    ///
    /// # Errors
    /// When the adapter cannot run one that was asked for.
    pub fn choose(gpu: &Gpu, resolved: &Resolved, subject: &Subject) -> Result<Kernels, ConfigError> {
        let caps = gpu.capabilities();
        let kept = kept(gpu, resolved);
        let tuning = if kept.is_none() { Tuning::find(gpu, subject) } else { None };
        let (mut variants, mut source) = match (kept, &tuning) {
            (Some(variants), _) => (variants, Source::Kept),
            (None, Some(tuning)) => (tuning.variants, Source::Tuned),
            (None, None) if resolved.config.train.steps >= LONG => (Variants::for_long(caps), Source::Default),
            (None, None) => (Variants::choose(caps), Source::Default),
        };
        let mixed = resolved.config.train.precision == Precision::Mixed;
        if mixed {
            variants = variants.mixed(caps).map_err(|lack| {
                let message = format!("\"mixed\" cannot run on {}: {lack}; use \"f32\"", gpu.info().name);
                ConfigError::at("train.precision", message)
            })?;
        }
        let of_config =
            resolved.config.adapter.kernel_choice().map_err(|error| ConfigError::at("adapter.variant", error))?;
        for asked in [&of_config, &resolved.kernel_choice] {
            if !asked.is_empty() {
                variants = asked.apply(variants, caps).map_err(|error| ConfigError::at(asked.place(), error))?;
                source = Source::Overridden;
            }
        }
        // Rounding to f16 is what the config says, never more and never less.
        if mixed != variants.is_mixed() {
            let message = match mixed {
                true => {
                    "these variants leave no product of mixed precision; drop them or `train.precision = \"mixed\"`"
                }
                false => "this variant rounds operands to f16; say so with `train.precision = \"mixed\"`",
            };
            return Err(ConfigError { place: variants.to_string(), message: message.into() });
        }
        Ok(Kernels { variants, source, tuning })
    }
}

/// The variants with which the run in a folder began, if this is the same adapter and it still can run them.
fn kept(gpu: &Gpu, resolved: &Resolved) -> Option<Variants> {
    let folder = resolved.output();
    let text = std::fs::read_to_string(folder.join("run.json")).ok()?;
    let about: serde_json::Value = serde_json::from_str(&text).ok()?;
    if about["adapter"].as_str() != Some(&gpu.info().name) || !is_of(&folder, resolved) {
        return None;
    }
    let variants: Variants = serde_json::from_value(about["variants"].clone()).ok()?;
    variants.runnable(gpu.capabilities())
}
