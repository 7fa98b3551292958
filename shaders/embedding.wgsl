// Sum of a row each of the word, position and segment table, and back without atomics.
//   forward   y[r] = W[word[r]] + P[position[r]] + S[segment[r]]
//   vjp       rows of ȳ are listed by table row and cut into segments of bounded length (src/ops/batch.rs sorts):
//             `partial` sums each segment, `combine` adds a table row's segments in order; `whole` does both at once,
//             for software adapters.
// Whole numbers travel as the bits of f32, so that they can be read as images too.
//@variants ADDEND=1
//@variants USES=1|3|7|9 COLS4=16
//@variants UNIFORM=1 LANES=8 BLOCKS=8 COLS4=16
//@variants UNIFORM=1 LANES=16 USES=1|7 COLS4=16
//@import common/entry.wgsl
//@import common/step.wgsl

// Whether `combine` adds `addend`.
const ADDEND: u32 = 0u;
// A bit a table, and 8 for a sum onto what is there (forward). Constants, since a software adapter runs both sides of
// every branch, and divides by what it does not know lane by lane.
const USES: u32 = 7u;
// vec4 in a row.
const COLS4: u32 = 1u;
// Stores of `forward` a lane after another (common/blocks_apart.wgsl).
const UNIFORM: u32 = 0u;
// Lanes of a subgroup, and blocks of a workgroup (UNIFORM).
const LANES: u32 = 8u;
const BLOCKS: u32 = 4u;

//@if UNIFORM
//@import common/blocks_apart.wgsl
//@end

struct Params {
    word_layer: u32,
    position_layer: u32,
    segment_layer: u32,
    in_layer: u32,
    out_layer: u32,
    // Rows of a table: those of the window, from `first` on, in forward and combine, else all of them.
    targets: u32,
    first: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

//@optional
@group(0) @binding(0) var<storage, read> words: array<vec4<f32>>;
//@optional
@group(0) @binding(1) var<storage, read> positions: array<vec4<f32>>;
//@optional
@group(0) @binding(2) var<storage, read> segments: array<vec4<f32>>;
// A token's rows in the three tables, and 0.
@group(0) @binding(3) var<storage, read> ids: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// What the tables give vec4 number i in a layer.
fn rows_sum(i: u32, layer: u32) -> vec4<f32> {
    let id = bitcast<vec4<u32>>(ids[i / COLS4]);
    let c = i % COLS4;
    var y = vec4<f32>(0.0);
    // Rows before the window wrap to large numbers.
    let word = id.x - p.first;
    if ((USES & 1u) != 0u) & (word < p.targets) { y += words[layer * p.word_layer + word * COLS4 + c]; }
    if (USES & 2u) != 0u { y += positions[layer * p.position_layer + id.y * COLS4 + c]; }
    if (USES & 4u) != 0u { y += segments[layer * p.segment_layer + id.z * COLS4 + c]; }
    return y;
}

//@if UNIFORM
@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    //@unroll
    for (var block = 0u; block < BLOCKS; block++) {
        let own = own_of(here, block, step.rows * COLS4 - 1u);
        let y = rows_sum(own.i, here.group.z);
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
fn forward(here: Place) {
    let i = element(here);
    if i >= step.rows * COLS4 { return; }
    var y = rows_sum(i, here.group.z);
    if (USES & 8u) != 0u { y += out[here.group.z * p.out_layer + i]; }
    out[here.group.z * p.out_layer + i] = y;
}
//@end

@group(0) @binding(0) var<storage, read> y_bar: array<vec4<f32>>;
// Four rows of ȳ an element; rows of 0xffffffff fill up a segment.
@group(0) @binding(1) var<storage, read> list: array<vec4<f32>>;
// (first, end) of a segment in `list`.
@group(0) @binding(2) var<storage, read> bounds: array<vec4<f32>>;
// First segment of each table row; one more entry at the end.
@group(0) @binding(3) var<storage, read> starts: array<u32>;

fn row_of(y_layer: u32, row: u32, c: u32) -> vec4<f32> {
    if row == 0xffffffffu { return vec4<f32>(0.0); }
    return y_bar[y_layer + row * COLS4 + c];
}

// The sum of a segment.
fn segment_sum(layer: u32, segment: u32, c: u32) -> vec4<f32> {
    let range = bitcast<vec4<u32>>(bounds[segment]);
    var total = vec4<f32>(0.0);
    for (var at = range.x; at < range.y; at++) {
        let rows = bitcast<vec4<u32>>(list[at]);
        let first = row_of(layer, rows.x, c) + row_of(layer, rows.y, c);
        total += first + (row_of(layer, rows.z, c) + row_of(layer, rows.w, c));
    }
    return total;
}

@compute @workgroup_size(64)
fn partial(here: Place) {
    let i = element(here);
    let segment = i / COLS4;
    if segment >= starts[p.targets] { return; }
    out[here.group.z * p.out_layer + i] = segment_sum(here.group.z * p.in_layer, segment, i % COLS4);
}

//@optional
@group(0) @binding(5) var<storage, read> onto: array<vec4<f32>>;

@compute @workgroup_size(64)
fn whole(here: Place) {
    let i = element(here);
    if i >= p.targets * COLS4 { return; }
    let target_row = p.first + i / COLS4;
    let c = i % COLS4;
    let layer = here.group.z * p.in_layer;
    let to = here.group.z * p.out_layer + i;
    let end = starts[target_row + 1u];
    var total = vec4<f32>(0.0);
    for (var s = starts[target_row]; s < end; s++) {
        total += segment_sum(layer, s, c);
    }
    if ADDEND != 0u { total += onto[to]; }
    out[to] = total;
}

@group(0) @binding(0) var<storage, read> part: array<vec4<f32>>;
//@optional
@group(0) @binding(1) var<storage, read> addend: array<vec4<f32>>;

@compute @workgroup_size(64)
fn combine(here: Place) {
    let i = element(here);
    if i >= p.targets * COLS4 { return; }
    let target_row = p.first + i / COLS4;
    let c = i % COLS4;
    var total = vec4<f32>(0.0);
    for (var s = starts[target_row]; s < starts[target_row + 1u]; s++) {
        total += part[here.group.z * p.in_layer + s * COLS4 + c];
    }
    if ADDEND != 0u {
        total += addend[here.group.z * p.out_layer + i];
    }
    out[here.group.z * p.out_layer + i] = total;
}
