//! Which matrices have room between their rows.
//!
//! A product reads the same columns of 32 or 64 rows at once. Where rows lie a multiple of 1 KiB apart, all of these
//! fall into a few sets of the processor's first cache (64 sets of 8 lines of 64 bytes), push each other out, and are
//! fetched again for the next columns, which lie on the same lines. With an odd number of lines from row to row they
//! spread over all sets: products of a depth of 1024 are 1.2 to 1.5 times as fast (`docs/performance.md`).

use std::collections::{HashMap, HashSet};

use super::{Graph, TensorId};
use crate::ops::{Dims, Emit, Family, Role, Tensor, Variants};

/// vec4 in a line of the cache.
const LINE4: u32 = 4;
/// Rows that are a multiple of so many lines apart meet in an eighth of the sets or fewer.
const MEETING: u32 = 16;
/// Bytes beyond which a matrix stays as it is, so that none outgrows what an adapter binds (128 MiB at the least).
const MOST: u64 = 64 << 20;

/// vec4 from one row to the next of the matrices that have room between their rows. `fixed` tells which are read by
/// others than the graph's nodes, and so lie as everybody expects.
pub(super) fn strides(
    graph: &Graph,
    dims: &Dims,
    variants: &Variants,
    fixed: &dyn Fn(TensorId) -> bool,
) -> HashMap<TensorId, u32> {
    let by_subgroups = |family| variants.linear(family).lanes().is_some();
    if ![Family::LinearNt, Family::LinearNn, Family::LinearTn].into_iter().all(by_subgroups) {
        return HashMap::new();
    }
    let wanted = |id: &TensorId| {
        let tensor = graph.tensor(*id);
        tensor.role == Role::Value && !fixed(*id) && meets(tensor) && dims.bytes(tensor) <= MOST
    };
    let made = graph.nodes().iter().flat_map(|node| node.outputs.iter().copied());
    let mut apart: HashSet<TensorId> = made.filter(wanted).collect();
    for node in graph.nodes() {
        for id in node.reads().chain(&node.outputs) {
            if !node.operation().strided(node, *id) {
                apart.remove(id);
            }
        }
    }
    // What a kernel addresses by the same number lies alike; one that cannot holds the others back.
    loop {
        let before = apart.len();
        for node in graph.nodes() {
            let alike = node.operation().alike(node);
            if alike.iter().any(|id| !apart.contains(id)) {
                apart.retain(|id| !alike.contains(id));
            }
        }
        if apart.len() == before {
            break;
        }
    }
    apart.into_iter().map(|id| (id, graph.tensor(id).cols4() + LINE4)).collect()
}

fn meets(tensor: &Tensor) -> bool {
    let cols4 = tensor.cols4();
    cols4 > 0 && cols4.is_multiple_of(MEETING * LINE4)
}
