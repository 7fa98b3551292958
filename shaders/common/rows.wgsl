// Row kernels: LANES invocations share a row of D numbers (cols4 vec4 with zeros behind D), 64 / LANES rows a
// workgroup. LANES = 1 on software adapters (no barrier at all), a power of two up to 64 on GPUs.
//@import common/columns.wgsl
//@import common/entry.wgsl

const LANES: u32 = 1u;
const COOPERATE: u32 = LANES - 1u;

//@if COOPERATE
var<workgroup> scratch: array<vec2<f32>, 64>;
//@end

// The row that an invocation works on; it may lie behind the last one.
fn row_at(here: Place) -> u32 {
    return group_number(here.group) * (64u / LANES) + here.local / LANES;
}

// Sum of v over the lanes of a row, the same for all of them, in a fixed tree. All 64 invocations must call it.
fn row_sum(v: vec2<f32>, local: u32) -> vec2<f32> {
//@if COOPERATE
    scratch[local] = v;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride >>= 1u) {
        if local % LANES < stride {
            scratch[local] += scratch[local + stride];
        }
        workgroupBarrier();
    }
    let total = scratch[local - local % LANES];
    workgroupBarrier();
    return total;
//@else
    return v;
//@end
}

// Largest v.x over the lanes of a row.
fn row_max(v: f32, local: u32) -> f32 {
//@if COOPERATE
    scratch[local] = vec2<f32>(v, 0.0);
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride >>= 1u) {
        if local % LANES < stride {
            scratch[local].x = max(scratch[local].x, scratch[local + stride].x);
        }
        workgroupBarrier();
    }
    let total = scratch[local - local % LANES].x;
    workgroupBarrier();
    return total;
//@else
    return v;
//@end
}
