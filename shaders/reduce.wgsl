// Adds up the sums of blocks in order: out[i] = Σ_b part[b, i] (+ addend[i]), b over the blocks that the step's rows
// fill. With ALSO a second, smaller sum over the same blocks follows: also[i] = Σ_b also_part[b, i].
//@variants ADDEND=1
//@variants ALSO=1
//@import common/entry.wgsl
//@import common/step.wgsl

const ADDEND: u32 = 0u;
const ALSO: u32 = 0u;

struct Params {
    code: u32,
    fixed: u32,
    block: u32,
    size4: u32,
    in_layer: u32,
    out_layer: u32,
    also_size4: u32,
    also_in_layer: u32,
    also_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> part: array<vec4<f32>>;
//@optional
@group(0) @binding(1) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
//@optional
@group(0) @binding(3) var<storage, read> also_part: array<vec4<f32>>;
//@optional
@group(0) @binding(4) var<storage, read_write> also: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    let blocks = (count_of(p.code, p.fixed) + p.block - 1u) / p.block;
    if i < p.size4 {
        var total = vec4<f32>(0.0);
        for (var b = 0u; b < blocks; b++) {
            total += part[here.group.z * p.in_layer + b * p.size4 + i];
        }
        if ADDEND != 0u {
            total += addend[here.group.z * p.out_layer + i];
        }
        out[here.group.z * p.out_layer + i] = total;
    }
    if ALSO != 0u {
        let j = i - p.size4;
        if i >= p.size4 && j < p.also_size4 {
            var total = vec4<f32>(0.0);
            for (var b = 0u; b < blocks; b++) {
                total += also_part[here.group.z * p.also_in_layer + b * p.also_size4 + j];
            }
            also[here.group.z * p.also_layer + j] = total;
        }
    }
}
