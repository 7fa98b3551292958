// Adds up the sums of blocks in order: out[i] = Σ_b part[b, i] (+ addend[i]), b over the blocks that the step's rows fill.
//@import common/step.wgsl

struct Params {
    code: u32,
    fixed: u32,
    block: u32,
    size4: u32,
    in_layer: u32,
    out_layer: u32,
    add: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> part: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) w: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = (w.x + w.y * n.x) * 64u + l;
    if i >= p.size4 { return; }
    let blocks = (count_of(p.code, p.fixed) + p.block - 1u) / p.block;
    var total = vec4<f32>(0.0);
    for (var b = 0u; b < blocks; b++) {
        total += part[w.z * p.in_layer + b * p.size4 + i];
    }
    if p.add != 0u {
        total += addend[w.z * p.out_layer + i];
    }
    out[w.z * p.out_layer + i] = total;
}
