//! What an adapter cannot bind: how large it is, and what would help.

use crate::gpu::{Gpu, GpuError};

/// A tensor, or scratch memory, that is larger than an adapter binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Its name and shape.
    pub what: String,
    pub bytes: u64,
    /// Bytes that the adapter binds at most.
    pub limit: u64,
    /// Sentences at once that were asked for.
    pub sentences: u32,
    /// Sentences at once with which everything fits; `None` where a single one is too many.
    pub most: Option<u32>,
    /// Rows and columns where no batch changes the size.
    pub fixed: Option<[u32; 2]>,
}

/// Bytes that an adapter binds at most.
pub fn largest_binding(gpu: &Gpu) -> u64 {
    gpu.capabilities().largest_binding.min(gpu.capabilities().largest_buffer)
}

/// A size in MiB: `larger` than a limit is rounded up, a limit down.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Excess {
    /// A parameter that is too large, whatever the batch.
    pub fn of_matrix(name: &str, rows: u32, cols: u32, bytes: u64, limit: u64) -> Excess {
        let what = format!("the matrix `{name}` ({rows} x {cols})");
        Excess { what, bytes, limit, sentences: 1, most: None, fixed: Some([rows, cols]) }
    }

    /// What is too large and what would help; `knob` sets the sentences at once.
    pub fn text(&self, knob: &str) -> String {
        let said = format!(
            "{} takes {}, and this adapter binds at most {}.\n",
            self.what,
            mebibytes(self.bytes),
            mebibytes(self.limit)
        );
        let other = "another adapter (`lowland doctor` lists them and what the chosen one binds)";
        said + &match (self.most, self.fixed) {
            (Some(most), _) => format!("Set {knob} to {most} or less ({} now).", self.sentences),
            (None, Some([rows, cols])) => {
                let room = self.limit / 16;
                let (most_rows, most_cols) =
                    (room / u64::from(cols.div_ceil(4)) / 4 * 4, room / u64::from(rows.next_multiple_of(4)) * 4);
                format!(
                    "No batch changes its size. With {cols} columns at most {most_rows} rows fit, with {rows} rows at most {most_cols} \
                     columns: take a smaller vocabulary or `model.hidden_size`, or {other}."
                )
            }
            (None, None) => {
                format!(
                    "A single sentence is too much for it already: take shorter sentences, a smaller model, or {other}."
                )
            }
        }
    }
}

impl From<Excess> for GpuError {
    fn from(excess: Excess) -> GpuError {
        GpuError::Limit(excess.text("`train.micro_batch` (`--batch` of a command that has it)"))
    }
}

/// The largest number of sentences at once, below `asked`, that passes; `fits` holds for all below one that it holds for.
pub fn most_sentences(asked: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, asked);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0).then_some(low)
}
