// The sum over a subgroup's LANES lanes, the same for all of them, in a fixed order. llvmpipe's subgroupAdd is a loop
// over the lanes and takes two to four times as long (docs/performance.md).
//@import common/columns.wgsl

fn lane_sum(v: f32) -> f32 {
    var parts: vec4<f32>;
    //@unroll
    for (var j = 0u; j < LANES; j++) {
        parts[j % 4u] += subgroupBroadcast(v, j);
    }
    return sum4(parts);
}
