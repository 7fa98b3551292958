//! Matrices that are larger than an adapter binds: a kernel that goes by a matrix's rows is dispatched once for each
//! window of rows that can be bound. The matrix stays one buffer, one tensor and one parameter; only the dispatches
//! know of windows.

use std::iter::once;
use std::ops::Range;

use super::{Dims, Tensor};
use crate::gpu::{Count, Gpu};

/// What an adapter binds and allocates at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of a storage binding.
    pub binding: u64,
    /// Of a buffer.
    pub buffer: u64,
    /// What a binding's offset is a multiple of.
    pub alignment: u64,
}

impl Room {
    /// That of an adapter.
    pub fn of(gpu: &Gpu) -> Room {
        let caps = gpu.capabilities();
        let buffer = caps.largest_buffer;
        Room { binding: caps.largest_binding.min(buffer), buffer, alignment: gpu.alignment() }
    }

    /// The rows of a tensor in windows that can be bound, in order; all of them in one where they can.
    ///
    /// `None` where windows do not help: the number of rows is known only when a step runs, there are several probes,
    /// or a few rows are too large already.
    pub fn windows(&self, dims: &Dims, tensor: &Tensor) -> Option<Vec<Range<u32>>> {
        let rows = dims.capacity(tensor.rows);
        if dims.bytes(tensor) <= self.binding {
            return Some(once(0..rows).collect());
        }
        if !matches!(tensor.rows, Count::Fixed(_)) || tensor.probes && dims.probes > 1 {
            return None;
        }
        let row = u64::from(tensor.cols4()) * 16;
        // A window begins where a binding may, and where four rows make a vec4 of columns.
        let unit = (self.alignment / 16).next_multiple_of(4);
        let most = self.binding / row / unit * unit;
        if most == 0 {
            return None;
        }
        // Windows of nearly the same size.
        let count = u64::from(rows).div_ceil(most);
        let step = u64::from(rows).div_ceil(count).next_multiple_of(unit).min(most) as u32;
        Some((0..rows).step_by(step as usize).map(|first| first..(first + step).min(rows)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Role, counts::ROWS};

    #[test]
    fn windows_cover_all_rows_and_can_be_bound() {
        let room = Room { binding: 1 << 27, buffer: 1 << 31, alignment: 256 };
        let dims = |probes| Dims { rows: 8, masked: 4, sentences: 2, probes, longest: 0 };
        let tensor = |rows, cols, probes| Tensor { name: "w".into(), rows, cols, probes, role: Role::Parameter };
        for (rows, cols) in [(50_257, 768), (50_304, 768), (100_001, 3), (43_691, 768), (3_000_000, 300)] {
            let tensor = tensor(Count::Fixed(rows), cols, false);
            let windows = room.windows(&dims(1), &tensor).unwrap();
            let row = u64::from(cols.div_ceil(4)) * 16;
            assert_eq!((windows[0].start, windows[windows.len() - 1].end), (0, rows.next_multiple_of(4)));
            assert!(windows.windows(2).all(|w| w[0].end == w[1].start));
            for window in &windows {
                let bytes = u64::from(window.end - window.start) * row;
                assert!(bytes > 0 && bytes <= room.binding && (u64::from(window.start) * row).is_multiple_of(256));
            }
            let needed = (u64::from(rows) * row).div_ceil(room.binding) as usize;
            assert!(windows.len() <= needed + 1, "{rows} x {cols}: {} windows", windows.len());
        }
        let table = tensor(Count::Fixed(50_257), 768, true);
        assert!(room.windows(&dims(1), &table).is_some() && room.windows(&dims(2), &table).is_none());
        let small = Room { binding: 64, ..room };
        assert!(small.windows(&dims(1), &tensor(ROWS, 4, false)).is_none());
        assert!(small.windows(&dims(1), &tensor(Count::Fixed(100), 8, false)).is_none());
    }
}
