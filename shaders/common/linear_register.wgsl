// The larger GPU variant of linear.wgsl: BLOCK x BLOCK of C a workgroup, 8 x 8 an invocation in registers, over slices
// of DEPTH of A and B in workgroup memory, stored by depth. An invocation's 8 rows are 4 and 4, half a block apart, and
// so are its columns: neighbours then read neighbouring vec4 of a slice. One vec4 of padding behind each depth of a
// slice spreads the transposed stores over the banks.
//   64    64 invocations: more workgroups, for models whose products are small
//   128   256 invocations: half as many loads of A and B for each of C
//@import common/linear_slices.wgsl

const BLOCK: u32 = 64u;
const DEPTH: u32 = 16u;
// vec4 along a side of the block, and of the slice along the depth.
const QUADS: u32 = BLOCK / 4u;
const DEPTH4: u32 = DEPTH / 4u;
const SIDE: u32 = BLOCK / 8u;
const INVOCATIONS: u32 = SIDE * SIDE;
const STRIDE: u32 = QUADS + 1u;
// Pieces of 4 x 4 that an invocation fetches: of A first, then of B.
const PIECES: u32 = QUADS * DEPTH4;
const FETCHES: u32 = 2u * PIECES / INVOCATIONS;

const SLICE: u32 = DEPTH * STRIDE;
var<workgroup> slice_a: array<vec4<f32>, SLICE>;
var<workgroup> slice_b: array<vec4<f32>, SLICE>;

// Piece i of A's slice from depth k: neighbours take neighbouring memory.
fn fetch_a(base: u32, i: u32, k: u32, t: Task) {
    if LAYOUT == TN {
        let quad = i % QUADS;
        let d = 4u * (i / QUADS);
        //@unroll
        for (var j = 0u; j < 4u; j++) {
            slice_a[(d + j) * STRIDE + quad] = column_of_a(base, t.m / 4u + quad, k + d + j, t);
        }
    } else {
        let quad = i / DEPTH4;
        let d = 4u * (i % DEPTH4);
        let m = t.m + 4u * quad;
        let k4 = (k + d) / 4u;
        let r0 = row_of_a(base, m, k4, t);
        let r1 = row_of_a(base, m + 1u, k4, t);
        let r2 = row_of_a(base, m + 2u, k4, t);
        let r3 = row_of_a(base, m + 3u, k4, t);
        //@unroll
        for (var j = 0u; j < 4u; j++) {
            slice_a[(d + j) * STRIDE + quad] = vec4<f32>(r0[j], r1[j], r2[j], r3[j]);
        }
    }
}

fn fetch_b(base: u32, i: u32, k: u32, t: Task) {
    if LAYOUT == 0u {
        let quad = i / DEPTH4;
        let d = 4u * (i % DEPTH4);
        let n = t.tile_n * BLOCK + 4u * quad;
        let k4 = (k + d) / 4u;
        let r0 = row_of_b(base, n, k4, t);
        let r1 = row_of_b(base, n + 1u, k4, t);
        let r2 = row_of_b(base, n + 2u, k4, t);
        let r3 = row_of_b(base, n + 3u, k4, t);
        //@unroll
        for (var j = 0u; j < 4u; j++) {
            slice_b[(d + j) * STRIDE + quad] = vec4<f32>(r0[j], r1[j], r2[j], r3[j]);
        }
    } else {
        let quad = i % QUADS;
        let d = 4u * (i / QUADS);
        //@unroll
        for (var j = 0u; j < 4u; j++) {
            slice_b[(d + j) * STRIDE + quad] = column_of_b(base, t.tile_n * QUADS + quad, k + d + j, t);
        }
    }
}

@compute @workgroup_size(INVOCATIONS)
fn forward(here: Place) {
    let l = here.local;
    let t = task(group_number(here.group), BLOCK);
    let a0 = here.group.z * p.a_layer + p.a_first;
    let b0 = here.group.z * p.b_layer;
    let x = l % SIDE;
    let y = l / SIDE;
    // Row r of the 8 and half h of the columns: number 2 r + h.
    var acc: array<vec4<f32>, 16>;
    for (var k = t.k; k < t.k_end; k += DEPTH) {
        //@unroll
        for (var f = 0u; f < FETCHES; f++) {
            let i = f * INVOCATIONS + l;
            if i < PIECES { fetch_a(a0, i, k, t); } else { fetch_b(b0, i - PIECES, k, t); }
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let left0 = slice_a[d * STRIDE + y];
            let left1 = slice_a[d * STRIDE + y + SIDE];
            let right0 = slice_b[d * STRIDE + x];
            let right1 = slice_b[d * STRIDE + x + SIDE];
            //@unroll
            for (var r = 0u; r < 4u; r++) {
                acc[2u * r] = fma(vec4<f32>(left0[r]), right0, acc[2u * r]);
                acc[2u * r + 1u] = fma(vec4<f32>(left0[r]), right1, acc[2u * r + 1u]);
                acc[2u * r + 8u] = fma(vec4<f32>(left1[r]), right0, acc[2u * r + 8u]);
                acc[2u * r + 9u] = fma(vec4<f32>(left1[r]), right1, acc[2u * r + 9u]);
            }
        }
        workgroupBarrier();
    }
    let column = t.tile_n * QUADS + x;
    //@unroll
    for (var r = 0u; r < 8u; r++) {
        let row = t.m + (r / 4u) * (BLOCK / 2u) + 4u * y + r % 4u;
        let to = t.split * p.m_fixed + row;
        if row < t.rows && column < p.n4 { finish(to, column, here.group.z, acc[2u * r]); }
        if row < t.rows && column + SIDE < p.n4 { finish(to, column + SIDE, here.group.z, acc[2u * r + 1u]); }
    }
}
