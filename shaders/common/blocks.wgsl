// The frame of sums over rows: `rows` counted by (code, fixed), times the `heads` that each falls into, in blocks of
// `block`; a workgroup of LANES owns as many vec4 of columns in one block. The sum of block b goes to row b of the
// output.
//@import common/entry.wgsl

const LANES: u32 = 8u;

struct Params {
    code: u32,
    fixed: u32,
    cols4: u32,
    groups: u32,
    block: u32,
    in_layer: u32,
    out_layer: u32,
    heads: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

struct Block {
    column: u32,
    block: u32,
    first: u32,
    end: u32,
}

fn block_of(here: Place) -> Block {
    let group = group_number(here.group);
    let block = group / p.groups;
    let rows = count_of(p.code, p.fixed) * p.heads;
    let column = (group % p.groups) * LANES + here.local;
    // A workgroup beyond the grid's end (the grid is folded) owns no column.
    let first = block * p.block;
    return Block(select(column, 0xffffffffu, first >= rows), block, first, min(first + p.block, rows));
}
