//! An adapter with the kernel variants that are used on it: what everything that plans a graph needs of the machine.

use super::variants::{KernelChoice, VariantError, Variants};
use crate::gpu::{ADAPTER_VARIABLE, AdapterChoice, ChoiceError, Gpu, GpuError, Options};

/// An opened adapter and the variants of its kernels. A clone is another handle to the same adapter.
#[derive(Clone)]
pub struct Device {
    /// The adapter.
    pub gpu: Gpu,
    /// How its kernels run.
    pub variants: Variants,
}

/// Why a device cannot be used as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no such adapter, or it would not open.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A text that chooses no adapter.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// A kernel variant that the adapter cannot run.
    #[error(transparent)]
    Variant(#[from] VariantError),
}

impl Device {
    /// Opens an adapter, with the variants that fit it but for those that are asked for.
    ///
    /// # Errors
    /// No such adapter, or one that cannot run a variant.
    pub fn open(choice: &AdapterChoice, kernel_choice: &KernelChoice) -> Result<Device, DeviceError> {
        Device::choosing(&Gpu::open(choice, Options::default())?, kernel_choice)
    }

    /// Opens an adapter by name: `best`, `software`, `name:rtx`, `index:1`, `pci:0000:01:00.0`.
    ///
    /// # Errors
    /// A text that is none of these, and as [`Device::open`].
    pub fn named(adapter: &str) -> Result<Device, DeviceError> {
        Device::open(&adapter.parse()?, &KernelChoice::default())
    }

    /// Opens the adapter that the variable `LOWLAND_ADAPTER` names, the best where it is not set.
    ///
    /// # Errors
    /// As [`Device::named`].
    pub fn from_env() -> Result<Device, DeviceError> {
        Device::named(&std::env::var(ADAPTER_VARIABLE).unwrap_or("best".into()))
    }

    /// As [`Device::open`], on an adapter that is open.
    ///
    /// # Errors
    /// [`DeviceError::Variant`].
    pub fn choosing(gpu: &Gpu, kernel_choice: &KernelChoice) -> Result<Device, DeviceError> {
        let device = Device::of(gpu);
        let variants = kernel_choice.apply(device.variants, gpu.capabilities())?;
        Ok(device.with(variants))
    }

    /// An adapter with the variants that fit it.
    pub fn of(gpu: &Gpu) -> Device {
        Device::new(gpu, Variants::choose(gpu.capabilities()))
    }

    /// An adapter with these variants.
    pub fn new(gpu: &Gpu, variants: Variants) -> Device {
        Device { gpu: gpu.clone(), variants }
    }

    /// The same adapter with other variants.
    pub fn with(&self, variants: Variants) -> Device {
        Device { variants, ..self.clone() }
    }
}
