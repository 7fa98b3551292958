//! The adapter under test.

use lowland::gpu::{AdapterChoice, Gpu, Options};

/// Opens the adapter of `LOWLAND_ADAPTER`, else the best.
pub fn gpu() -> Gpu {
    bound(None)
}

/// The same, binding no more than so many bytes.
pub fn bound(binding: Option<u64>) -> Gpu {
    let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("LOWLAND_ADAPTER"));
    let options = Options { binding, ..Options::default() };
    Gpu::open(&choice, options).expect("an adapter; `make test` installs a software one")
}
