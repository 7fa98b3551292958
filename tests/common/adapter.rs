//! The adapter under test.

use lowland::gpu::{AdapterChoice, Gpu, Options};

/// Opens the adapter of `LOWLAND_ADAPTER`, else the best.
pub fn gpu() -> Gpu {
    let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("LOWLAND_ADAPTER"));
    Gpu::open(&choice, Options::default()).expect("an adapter; `make test` installs a software one")
}
