// Loshchilov and Hutter 2019, as torch.optim.AdamW: p ← p (1 − lr λ) − lr m̂ / (√v̂ + ε), behind `settle` of optimizer.wgsl:
// after a gradient or loss that is not finite nothing is updated any more. Parameters, moments and gradients are flat
// chunks of vec4, one an invocation. With UNIFORM a workgroup is one subgroup of LANES lanes with BLOCKS blocks of LANES
// vec4, whose results it stores a lane after another's (common/uniform_store.wgsl).
//@variants UNIFORM=1 LANES=8|16
//@import common/entry.wgsl
//@import common/step.wgsl

// Stores a lane after another.
const UNIFORM: u32 = 0u;
// Lanes of a subgroup (UNIFORM).
const LANES: u32 = 8u;
const BLOCKS: u32 = 4u;
// Numbers are stored one by one.
const PAIRS: u32 = 0u;

//@if UNIFORM
//@import common/subgroup.wgsl
//@import common/uniform_store.wgsl
//@end

struct Params {
    size4: u32,
    beta1: f32,
    beta2: f32,
    // 1 − β₁ and 1 − β₂, taken in double precision: 1 less the single 0.999 is off by 1e-5.
    rest1: f32,
    rest2: f32,
    eps: f32,
    // Weight decay, and to how many vec4 from the first it applies.
    decay: f32,
    decayed4: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

// step.user[0] = (lr, 1 − β1^t, 1 − β2^t, ..)

@group(0) @binding(0) var<storage, read> g: array<vec4<f32>>;
// As optimizer.wgsl leaves it: (clipping factor, 1 when something was not finite, ..)
@group(0) @binding(1) var<storage, read> settled: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> theta: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> first_moment: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> second_moment: array<vec4<f32>>;

struct Moved {
    m: vec4<f32>,
    v: vec4<f32>,
    theta: vec4<f32>,
}

// What becomes of vec4 number i.
fn moved_of(i: u32, clip: f32) -> Moved {
    let o = step.user[0];
    let grad = g[i] * clip;
    let decay = select(0.0, p.decay, i < p.decayed4);
    let m = p.beta1 * first_moment[i] + p.rest1 * grad;
    let v = p.beta2 * second_moment[i] + p.rest2 * grad * grad;
    return Moved(m, v, theta[i] * (1.0 - o.x * decay) - (o.x / o.y) * m / (sqrt(v) / sqrt(o.z) + p.eps));
}

//@if UNIFORM
// Lanes behind the last vec4 make that one again, and it is stored again where it lies. No branch may be around the
// stores, so that where nothing is to be updated what is there is stored.
@compute @workgroup_size(LANES)
fn adamw(here: Lane) {
    let s = settled[0];
    let last = p.size4 - 1u;
    let group = group_number(here.group) * BLOCKS * LANES;
    //@unroll
    for (var block = 0u; block < BLOCKS; block++) {
        let start = group + block * LANES;
        // A block behind the last vec4 has that one alone, and leaves it as the block before made it.
        let stays = s.y > 0.0 || start > last;
        let first = min(start, last);
        let i = min(first + here.lane, last);
        let moved = moved_of(i, s.x);
        let m = select(moved.m, first_moment[i], stays);
        let v = select(moved.v, second_moment[i], stays);
        let t = select(moved.theta, theta[i], stays);
        let base = uniform_of(first);
        let behind = uniform_small(min(LANES - 1u, last - first));
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            let there = base + min(j, behind);
            first_moment[there] = subgroupBroadcast(m, j);
            second_moment[there] = subgroupBroadcast(v, j);
            theta[there] = subgroupBroadcast(t, j);
        }
    }
}
//@else
@compute @workgroup_size(64)
fn adamw(here: Place) {
    let i = element(here);
    let s = settled[0];
    if i >= p.size4 || s.y > 0.0 { return; }
    let moved = moved_of(i, s.x);
    first_moment[i] = moved.m;
    second_moment[i] = moved.v;
    theta[i] = moved.theta;
}
//@end
