// Loshchilov and Hutter 2019, as torch.optim.AdamW: p ← p (1 − lr λ) − lr m̂ / (√v̂ + ε), behind `settle` of optimizer.wgsl:
// after a gradient or loss that is not finite nothing is updated any more. Parameters, moments and gradients are flat
// chunks of vec4, one an invocation, or with UNIFORM as in common/blocks_apart.wgsl.
//@variants UNIFORM=1 LANES=8 BLOCKS=8
//@variants UNIFORM=1 LANES=16
//@import common/entry.wgsl
//@import common/step.wgsl

// Stores a lane after another.
const UNIFORM: u32 = 0u;
// Lanes of a subgroup, and blocks of a workgroup (UNIFORM).
const LANES: u32 = 8u;
const BLOCKS: u32 = 4u;

//@if UNIFORM
//@import common/blocks_apart.wgsl
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
@compute @workgroup_size(LANES)
fn adamw(here: Lane) {
    let s = settled[0];
    //@unroll
    for (var block = 0u; block < BLOCKS; block++) {
        let own = own_of(here, block, p.size4 - 1u);
        // Where nothing is to be updated what is there is stored; behind the last vec4 what the block before made.
        let stays = s.y > 0.0 || own.behind;
        let moved = moved_of(own.i, s.x);
        let m = select(moved.m, first_moment[own.i], stays);
        let v = select(moved.v, second_moment[own.i], stays);
        let t = select(moved.theta, theta[own.i], stays);
        let base = uniform_of(own.first);
        let most = uniform_small(own.most);
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            let there = base + min(j, most);
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
