// Elementwise kernels whose workgroup is one subgroup of LANES lanes with BLOCKS blocks of LANES vec4, the results of
// which it stores a lane after another's (uniform_store.wgsl). Lanes behind the last vec4, and blocks, have that one
// again: no branch may be around the stores, and what is made of it is the same.

// Numbers are stored one by one.
const PAIRS: u32 = 0u;

//@import common/subgroup.wgsl
//@import common/uniform_store.wgsl

// What a lane has of a block, of vec4 up to `last`.
struct Own {
    // Whether the block lies behind the last vec4.
    behind: bool,
    // The block's first vec4, and this lane's.
    first: u32,
    i: u32,
    // From the block's first vec4 to its last.
    most: u32,
}

fn own_of(here: Lane, block: u32, last: u32) -> Own {
    let start = (group_number(here.group) * BLOCKS + block) * LANES;
    let first = min(start, last);
    return Own(start > last, first, min(first + here.lane, last), min(LANES - 1u, last - first));
}
