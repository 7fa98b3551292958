//! What an adapter cannot bind, in numbers.

/// Iterations of all loops of one invocation together that a kernel may take on a software driver: Mesa's ends them
/// after 65,535, without a word. A margin is left for what is around the loops.
pub const MOST_ITERATIONS: u64 = 65_000;

/// A buffer, an image or a tensor that is larger than an adapter allows; sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// A tensor of a plan.
    #[error(transparent)]
    Tensor(#[from] Excess),
    /// One binding of a dispatch.
    #[error("{label} needs a binding of {bytes} bytes, and this adapter binds at most {limit}.")]
    Binding {
        /// Of the buffer.
        label: String,
        /// What it needs.
        bytes: u64,
        /// What the adapter binds at most.
        limit: u64,
    },
    /// A buffer as a whole.
    #[error("{label} needs a buffer of {bytes} bytes, this adapter has at most {limit}")]
    Buffer {
        /// Of the buffer.
        label: String,
        /// What it needs.
        bytes: u64,
        /// What the adapter gives at most.
        limit: u64,
    },
    /// Memory of the host, which a software adapter's is.
    #[error(
        "{label} takes {}, and the host, whose memory this software adapter has, has {} left.",
        mebibytes(*bytes),
        mebibytes(*available)
    )]
    Host {
        /// Of the buffers.
        label: String,
        /// What they need.
        bytes: u64,
        /// What the system can still give.
        available: u64,
    },
    /// Rows of 64 KiB over the memory of a buffer.
    #[error("a tensor of {bytes} bytes is larger than an image of {rows} rows of 64 KiB")]
    Image {
        /// What the tensor takes.
        bytes: u64,
        /// Rows that an image has at most.
        rows: u32,
    },
}

/// A tensor, or scratch memory, that is larger than an adapter binds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} takes {}, and this adapter {} at most {}.",
    mebibytes(*bytes),
    if *bound { "binds" } else { "allocates" },
    mebibytes(*limit)
)]
pub struct Excess {
    /// Its name and shape.
    pub what: String,
    /// What it takes with the sentences that were asked for.
    pub bytes: u64,
    /// Bytes that the adapter binds at most, or allocates at once.
    pub limit: u64,
    /// Whether it is too large for a binding; else for an allocation, which it is bound of in windows.
    pub bound: bool,
    /// Sentences at once that were asked for.
    pub sentences: u32,
    /// Sentences at once with which everything fits; `None` where a single one is too many.
    pub most: Option<u32>,
    /// Rows and columns where no batch changes the size.
    pub fixed: Option<[u32; 2]>,
}

/// A size in MiB.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Excess {
    /// A parameter that is too large to be allocated, whatever the batch.
    pub fn of_matrix(name: &str, rows: u32, cols: u32, bytes: u64, limit: u64) -> Excess {
        let what = format!("the matrix `{name}` ({rows} x {cols})");
        Excess { what, bytes, limit, bound: false, sentences: 1, most: None, fixed: Some([rows, cols]) }
    }

    /// Rows that would fit beside the columns of a matrix whose size is fixed, and columns that would beside its rows.
    pub fn fitting(&self) -> Option<[u64; 2]> {
        let [rows, cols] = self.fixed?;
        let vectors = self.limit / 16;
        let most_rows = vectors / u64::from(cols.div_ceil(4)) / 4 * 4;
        let most_cols = vectors / u64::from(rows.next_multiple_of(4)) * 4;
        Some([most_rows, most_cols])
    }
}

impl From<Excess> for super::GpuError {
    fn from(excess: Excess) -> super::GpuError {
        Limit::from(excess).into()
    }
}
