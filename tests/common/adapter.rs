//! The adapter under test.

use std::ops::Deref;
use std::sync::Mutex;

use lowland::gpu::{AdapterChoice, Gpu, Options};

/// An adapter that tests use one after another: most of a short test's time would else go into compiling the kernels
/// that the test before has compiled. What it counts (peak, dispatches) is over all of them; a test that fails leaves
/// none behind. After [`LENDS`] tests another is opened, so that not all kernels of all tests are kept.
pub struct Lent {
    gpu: Option<Gpu>,
    lends: u32,
}

const LENDS: u32 = 40;

static IDLE: Mutex<Vec<(Gpu, u32)>> = Mutex::new(Vec::new());

/// Lends the adapter of `LOWLAND_ADAPTER`, else the best.
pub fn gpu() -> Lent {
    let idle = IDLE.lock().unwrap().pop();
    let (gpu, lends) = idle.unwrap_or_else(|| (fresh(), 0));
    Lent { gpu: Some(gpu), lends: lends + 1 }
}

impl Deref for Lent {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        self.gpu.as_ref().expect("an adapter until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(gpu) = self.gpu.take()
            && self.lends < LENDS
            && !std::thread::panicking()
        {
            IDLE.lock().unwrap().push((gpu, self.lends));
        }
    }
}

/// The same, opened for one test alone.
pub fn fresh() -> Gpu {
    bound(None)
}

/// The same, binding no more than so many bytes.
pub fn bound(binding: Option<u64>) -> Gpu {
    let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("LOWLAND_ADAPTER"));
    let options = Options { binding, ..Options::default() };
    Gpu::open(&choice, options).expect("an adapter; `make test` installs a software one")
}
