//! A model where it runs: an encoder with its parameters on a device.

use std::path::Path;

use super::encoder::Encoder;
use super::examples::{ExampleError, read_examples};
use super::files::{Loaded, ModelError, load};
use super::parameters::Weights;
use super::store::Arena;
use crate::gpu::{Gpu, GpuError};
use crate::ops::batch::Sentence;
use crate::ops::{Device, Variants};

/// Why a folder's model is not on a device.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder holds no model that can be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The adapter has no room for it, or failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// An encoder with its parameters on a device; what passes are planned for. A clone shares the parameters' memory.
///
/// ```no_run
/// use lowland::{model::Model, ops::Device};
/// let model = Model::load(&Device::named("software")?, "runs/quickstart/model")?;
/// println!("{} parameters on {}", model.encoder.parameter_count(), model.gpu().info().name);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Model {
    /// Where the parameters lie.
    pub device: Device,
    /// Its graph without a loss.
    pub encoder: Encoder,
    /// Their memory, in the encoder's order of matrices.
    pub parameters: Arena,
}

impl Model {
    /// Reads a model's folder and puts it on a device. [`load`] keeps what was left aside, in words.
    ///
    /// # Errors
    /// As [`load`] and [`Model::new`].
    pub fn load(device: &Device, folder: impl AsRef<Path>) -> Result<Model, LoadError> {
        Ok(load(folder.as_ref())?.moved_to(device)?)
    }

    /// Reads examples, one JSON object per line, in this model's vocabulary ([`read_examples`]).
    ///
    /// # Errors
    /// Names the line that is no example for this model.
    pub fn read_examples(&self, file: impl AsRef<Path>) -> Result<Vec<Sentence>, ExampleError> {
        read_examples(file.as_ref(), &self.encoder.config)
    }

    /// Puts weights on a device.
    ///
    /// # Errors
    /// [`GpuError::Limit`] for a matrix that the adapter cannot bind; what else it says.
    pub fn new(device: &Device, encoder: &Encoder, weights: &Weights) -> Result<Model, GpuError> {
        Ok(Model::of(device, encoder, Arena::of(&device.gpu, encoder, weights)?))
    }

    /// Over parameters that are on the device already.
    pub fn of(device: &Device, encoder: &Encoder, parameters: Arena) -> Model {
        Model { device: device.clone(), encoder: encoder.clone(), parameters }
    }

    /// Without memory for parameters: for what is planned and not run.
    pub fn planned(device: &Device, encoder: &Encoder) -> Model {
        Model::of(device, encoder, Arena::nowhere())
    }

    /// The adapter.
    pub fn gpu(&self) -> &Gpu {
        &self.device.gpu
    }

    /// How its kernels run.
    pub fn variants(&self) -> &Variants {
        &self.device.variants
    }

    /// The same parameters with nothing dropped out and nothing computed again, as a model is evaluated and measured.
    pub fn without_dropout(&self) -> Model {
        Model { encoder: self.encoder.without_dropout(), ..self.clone() }
    }

    /// The same parameters by the kernels for little work ([`Variants::for_short`]).
    pub fn for_short(&self) -> Model {
        let device = Device { variants: self.device.variants.for_short(), ..self.device.clone() };
        Model { device, ..self.clone() }
    }

    /// The same parameters with hidden states and attention weights dropped with probability `p`, as in training.
    pub fn with_dropout(&self, p: f64) -> Model {
        Model { encoder: self.encoder.with_dropout(p), ..self.clone() }
    }

    /// Waits and reads the parameters.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn weights(&self) -> Result<Weights, GpuError> {
        self.parameters.read(self.gpu(), &self.encoder)
    }

    /// Writes the parameters, for every clone of this model.
    pub fn write(&self, weights: &Weights) {
        self.parameters.write(self.gpu(), &self.encoder, weights);
    }
}

impl Loaded {
    /// Puts the model on a device.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn on(&self, device: &Device) -> Result<Model, GpuError> {
        Model::new(device, &self.encoder, &self.weights)
    }

    /// Moves the model to a device, so that its weights are not kept beside it.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn moved_to(self, device: &Device) -> Result<Model, GpuError> {
        let parameters = Arena::of_moved(&device.gpu, &self.encoder, self.weights)?;
        Ok(Model::of(device, &self.encoder, parameters))
    }
}
