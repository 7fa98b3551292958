// The rows of masked positions: y[m] = x[index[m]], and back: x̄[r] = ȳ[inverse[r] - 1], 0 where inverse[r] = 0.
// A position is masked once at most, so no two rows meet and no sum is needed. Whole numbers travel as the bits of f32,
// so that they can be read as images too.
//@variants ADDEND=0|1 COLS4=16
//@variants UNIFORM=1 LANES=8 BLOCKS=8 COLS4=16
//@variants UNIFORM=1 LANES=16 ADDEND=1 COLS4=16
//@import common/entry.wgsl
//@import common/step.wgsl

// Whether `addend` is added to x̄.
const ADDEND: u32 = 0u;
// vec4 in a row: a constant, since a software adapter divides by what it does not know lane by lane.
const COLS4: u32 = 1u;
// Stores of the way back a lane after another (common/blocks_apart.wgsl).
const UNIFORM: u32 = 0u;
// Lanes of a subgroup, and blocks of a workgroup (UNIFORM).
const LANES: u32 = 8u;
const BLOCKS: u32 = 4u;

//@if UNIFORM
//@import common/blocks_apart.wgsl
//@end

struct Params { in_layer: u32, out_layer: u32, addend_layer: u32 }
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
//@optional
@group(0) @binding(1) var<storage, read> addend: array<vec4<f32>>;
// Four rows an element.
@group(0) @binding(2) var<storage, read> index: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

fn index_of(row: u32) -> u32 {
    return bitcast<vec4<u32>>(index[row / 4u])[row % 4u];
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= step.masked * COLS4 { return; }
    out[here.group.z * p.out_layer + i] = x[here.group.z * p.in_layer + index_of(i / COLS4) * COLS4 + i % COLS4];
}

// vec4 number i of x̄ in a layer.
fn back(i: u32, layer: u32) -> vec4<f32> {
    let source = index_of(i / COLS4);
    var y = vec4<f32>(0.0);
    if source != 0u {
        y = x[layer * p.in_layer + (source - 1u) * COLS4 + i % COLS4];
    }
    if ADDEND != 0u {
        y += addend[layer * p.addend_layer + i];
    }
    return y;
}

//@if UNIFORM
@compute @workgroup_size(LANES)
fn vjp(here: Lane) {
    //@unroll
    for (var block = 0u; block < BLOCKS; block++) {
        let own = own_of(here, block, step.rows * COLS4 - 1u);
        let y = back(own.i, here.group.z);
        let base = uniform_of(here.group.z * p.out_layer + own.first);
        let most = uniform_small(own.most);
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            out[base + min(j, most)] = subgroupBroadcast(y, j);
        }
    }
}
//@else
@compute @workgroup_size(64)
fn vjp(here: Place) {
    let i = element(here);
    if i >= step.rows * COLS4 { return; }
    out[here.group.z * p.out_layer + i] = back(i, here.group.z);
}
//@end
