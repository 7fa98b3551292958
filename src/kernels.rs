//! The kernels of `shaders/` as types, made by `build.rs`: for each file a module with its `Params`, its `Constants`
//! and, for each entry point, a struct of the buffers, parameters and constants that it takes. A name that the WGSL
//! does not have, a buffer that is missing or an f32 in the place of a u32 does not compile.
//!
//! ```no_run
//! use lowland::gpu::{Buffer, Count, Dispatch, Grid, Kernel};
//! use lowland::kernels::add;
//!
//! /// out = a + b over `size4` vec4.
//! fn sum(a: Buffer, b: Buffer, out: Buffer, size4: u32) -> Dispatch {
//!     let params = add::Params { fixed: 1, cols4: size4, ..Default::default() };
//!     let grid = Grid { count: Count::Fixed(size4), unit: 64, columns: 1, layers: 1 };
//!     add::Forward { a, b, out, params }.dispatch("sum".into(), grid)
//! }
//! ```
//!
//! A buffer is an `Option` where the WGSL marks it `//@optional` or only some variants use it; a constant whose values
//! are 0 and 1 is a `bool`. `docs/shaders.md` describes the annotations.

use crate::gpu::{Buffer, Dispatch, Grid, Kernel};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
