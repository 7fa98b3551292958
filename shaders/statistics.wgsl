// The sum of the rows' losses, kept on the adapter: tally = (Σ weight · loss, Σ weight, Σ weight · divergence, 0) over
// the masked rows, added to what is there after the first micro-batch of a step. One workgroup, fixed tree.
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/workgroup_sum.wgsl

alias Summed = vec4<f32>;

struct Params { unused: u32 }
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> tally: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let l = here.local;
    let rows = step.masked;
    var total = vec4<f32>(0.0);
    for (var i = l; i < rows; i += 64u) {
        let s = stat[i];
        let u = weight[i].x;
        total += vec4<f32>(u * s.x, u, u * s.y, 0.0);
    }
    let all = add_up(total, l);
    if l == 0u {
        var before = vec4<f32>(0.0);
        if step.counter.y != 0u { before = tally[0]; }
        tally[0] = before + all;
    }
}
