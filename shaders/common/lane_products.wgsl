// Inner products of rows, a row a lane: the rows of the other lanes go round by subgroupBroadcast, so that a load
// serves LANES pairs.
//@import common/subgroup.wgsl

const LANES: u32 = 8u;
// Columns of an iteration: llvmpipe ends the loops of an invocation after 65,535 iterations of all of them together
// (LP_MAX_TGSI_LOOP_ITERATIONS), whatever is left to do. So a fourth of the iterations, and the sums in the same order.
const COLUMNS: u32 = 4u;

// 1 for a column before `end`, 0 behind.
fn before(c: u32, end: u32) -> f32 {
    return select(0.0, 1.0, c < end);
}

// Adds the product of this lane's `own` and of lane j's `theirs` to inner[j].
fn meet(inner: ptr<function, array<f32, LANES>>, own: vec4<f32>, theirs: vec4<f32>) {
    //@unroll
    for (var j = 0u; j < LANES; j++) {
        let other = subgroupBroadcast(theirs, j);
        (*inner)[j] += own.x * other.x;
        (*inner)[j] += own.y * other.y;
        (*inner)[j] += own.z * other.z;
        (*inner)[j] += own.w * other.w;
    }
}

// Row t of a with the rows s of all lanes.
fn inner_a(t: u32, s: u32) -> array<f32, LANES> {
    var inner: array<f32, LANES>;
    for (var c0 = 0u; c0 < p.a4; c0 += COLUMNS) {
        //@unroll
        for (var u = 0u; u < COLUMNS; u++) {
            let c = min(c0 + u, p.a4 - 1u);
            meet(&inner, a[t * p.a4 + c] * before(c0 + u, p.a4), a[s * p.a4 + c]);
        }
    }
    return inner;
}
