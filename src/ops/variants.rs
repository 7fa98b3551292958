//! The one function that chooses kernel variants, from what an adapter can do and never from who made it.

use crate::gpu::Capabilities;

/// How matrix products run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum LinearVariant {
    /// 4 x 4 an invocation, straight from memory.
    Direct,
    /// 64 x 64 a workgroup, through workgroup memory.
    Tiled,
    /// A subgroup of so many lanes four times as many rows, by broadcast.
    Subgroup(u32),
}

/// How attention runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum AttentionVariant {
    /// An invocation a row and head, straight from memory.
    Row,
    /// A subgroup of so many lanes a sentence and head, by broadcast.
    Subgroup(u32),
}

/// The variants of all kernels for one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Variants {
    pub linear: LinearVariant,
    pub attention: AttentionVariant,
    /// Invocations that share a row in layer norm and cross-entropy.
    pub row_lanes: u32,
    /// Rows that one invocation sums before partial sums are added up.
    pub block: u32,
    /// Rows that one split of a weight gradient sums.
    pub split: u32,
    /// Rows of one segment in the gradient of an embedding.
    pub segment: u32,
}

impl Variants {
    /// The variants for an adapter.
    pub fn choose(caps: &Capabilities) -> Variants {
        if caps.software {
            let (linear, attention) = match caps.subgroup_size {
                lanes @ (4 | 8 | 16) => (LinearVariant::Subgroup(lanes), AttentionVariant::Subgroup(lanes)),
                _ => (LinearVariant::Direct, AttentionVariant::Row),
            };
            // Few workgroups with long sums: two to sixteen cores, and every workgroup costs 0.2 µs.
            return Variants { linear, attention, row_lanes: 1, block: 1024, split: 4096, segment: 512 };
        }
        let tiled = caps.workgroup_invocations >= 256 && caps.workgroup_bytes >= 8192;
        let linear = if tiled { LinearVariant::Tiled } else { LinearVariant::Direct };
        Variants { linear, attention: AttentionVariant::Row, row_lanes: 32, block: 64, split: 512, segment: 32 }
    }

    /// Every combination that an adapter can run, for tests and `selftest`.
    pub fn all(caps: &Capabilities) -> Vec<Variants> {
        let chosen = Variants::choose(caps);
        let mut all = vec![chosen];
        let mut linear = vec![LinearVariant::Direct];
        if caps.workgroup_invocations >= 256 && caps.workgroup_bytes >= 8192 {
            linear.push(LinearVariant::Tiled);
        }
        if let lanes @ (4 | 8 | 16) = caps.subgroup_size {
            linear.push(LinearVariant::Subgroup(lanes));
        }
        for linear in linear {
            let attention = match linear {
                LinearVariant::Subgroup(lanes) => AttentionVariant::Subgroup(lanes),
                _ => AttentionVariant::Row,
            };
            for row_lanes in [1, 32] {
                let small = row_lanes == 32;
                let (block, split, segment) =
                    if small { (16, 32, 8) } else { (chosen.block, chosen.split, chosen.segment) };
                let candidate = Variants { linear, attention, row_lanes, block, split, segment };
                if !all.contains(&candidate) {
                    all.push(candidate);
                }
            }
        }
        all
    }
}
