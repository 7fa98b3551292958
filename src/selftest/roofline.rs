//! What an operation takes at least on an adapter of known peaks: the time of its arithmetic or that of its bytes,
//! whichever is longer (Williams, Waterman and Patterson 2009, "Roofline").

use serde::Serialize;

/// What an adapter does at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// 10⁹ multiplications and additions of f32 a second.
    pub gflops: f64,
    /// 10⁹ bytes a second to and from its memory.
    pub gbytes: f64,
}

/// What an operation does, however fast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Multiplications and additions, where they are what bounds it on some adapter.
    pub flops: f64,
    /// Bytes of what it reads and writes, each tensor once.
    pub bytes: f64,
}

/// What bounds an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Multiplications and additions.
    Arithmetic,
    /// Bytes to and from memory.
    Memory,
}

impl Cost {
    /// Multiplications and additions per byte.
    pub fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    /// The least seconds, and what takes them.
    pub fn least(&self, peaks: &Peaks) -> (f64, Limit) {
        let [arithmetic, memory] = [self.flops / peaks.gflops / 1e9, self.bytes / peaks.gbytes / 1e9];
        if arithmetic > memory { (arithmetic, Limit::Arithmetic) } else { (memory, Limit::Memory) }
    }
}

/// A GPU whose maker publishes its peaks.
#[derive(Debug, PartialEq)]
pub struct KnownGpu {
    /// As its drivers call it.
    pub name: &'static str,
    /// What its maker says.
    pub peaks: Peaks,
    /// Where.
    pub source: &'static str,
}

/// One of a data centre, one of a desk and one of a notebook.
pub static KNOWN_GPUS: [KnownGpu; 3] = [
    KnownGpu {
        name: "NVIDIA H200",
        peaks: Peaks { gflops: 67_000.0, gbytes: 4_800.0 },
        source: "NVIDIA, H200 Tensor Core GPU datasheet (SXM): FP32 67 TFLOPS, 4.8 TB/s",
    },
    KnownGpu {
        name: "AMD Radeon RX 6900 XT",
        peaks: Peaks { gflops: 23_040.0, gbytes: 512.0 },
        source: "AMD, product page of the Radeon RX 6900 XT: FP32 23.04 TFLOPS, 512 GB/s",
    },
    KnownGpu {
        name: "Apple M2",
        peaks: Peaks { gflops: 3_600.0, gbytes: 100.0 },
        source: "Apple, announcement of M2 (10 cores of GPU): 3.6 teraflops, 100 GB/s",
    },
];

/// The GPU of that list that an adapter is, by the name that its driver gives: the list's own, or that and something in
/// parentheses.
pub fn known_gpu(adapter: &str) -> Option<&'static KnownGpu> {
    let bare = adapter.split_once(" (").map_or(adapter, |(name, _)| name);
    KNOWN_GPUS.iter().find(|gpu| gpu.name == bare.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_known_by_its_whole_name() {
        let name = |adapter| known_gpu(adapter).map(|gpu| gpu.name);
        assert_eq!(name("AMD Radeon RX 6900 XT (RADV NAVI21)"), Some("AMD Radeon RX 6900 XT"));
        assert_eq!(name("Apple M2"), Some("Apple M2"));
        assert_eq!(name("Apple M2 Max"), None);
        assert_eq!(name("llvmpipe (LLVM 15.0.6, 256 bits)"), None);
    }

    #[test]
    fn the_longer_of_arithmetic_and_bytes_counts() {
        let peaks = Peaks { gflops: 100.0, gbytes: 10.0 };
        // The ridge is at 10 operations a byte.
        assert_eq!(Cost { flops: 2e9, bytes: 1e8 }.least(&peaks), (0.02, Limit::Arithmetic));
        assert_eq!(Cost { flops: 5e8, bytes: 1e8 }.least(&peaks), (0.01, Limit::Memory));
        assert_eq!(Cost { flops: 2e9, bytes: 1e8 }.intensity(), 20.0);
    }
}
