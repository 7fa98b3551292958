// Adds up the sums of blocks of several results in order, one dispatch for all of them. For each job
// out[o + i] = Σ_b part[f + b n + i], i < n, b over the blocks that the step's rows fill, as reduce.wgsl does for one.
// Each job has workgroups of its own, the jobs one after another.
//@import common/entry.wgsl
//@import common/step.wgsl

struct Params {
    // Of each job its first workgroup, f, o and n, all in vec4; behind the last job the largest number, and zeros.
    places: array<vec4<u32>, 64>,
    // Of each job the code and the fixed number of its rows, and the rows of a block.
    blocks: array<vec4<u32>, 64>,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> part: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let group = group_number(here.group);
    // The last job that begins here or before, by halves: as many turns for any number of jobs, and few, since a
    // software adapter reads one number of a uniform for each lane. (A loop to a parameter is unrolled by lavapipe,
    // which compiles the kernel anew each time it runs.)
    var job = select(0u, 32u, p.places[32].x <= group);
    for (var half = 16u; half > 0u; half >>= 1u) {
        job += select(0u, half, p.places[job + half].x <= group);
    }
    let place = p.places[job];
    let block = p.blocks[job];
    let i = (group - place.x) * 64u + here.local;
    if i >= place.w { return; }
    let blocks = (count_of(block.x, block.y) + block.z - 1u) / block.z;
    var total = vec4<f32>(0.0);
    for (var b = 0u; b < blocks; b++) {
        total += part[place.y + b * place.w + i];
    }
    out[place.z + i] = total;
}
