// Sums over a workgroup of 64. What is added up is the importing kernel's `alias Summed`: f32 or a vector of it.

var<workgroup> scratch: array<Summed, 64>;

// Sum of v over the workgroup in a fixed tree, the same for all. All invocations must call it, and once.
fn add_up(v: Summed, local: u32) -> Summed {
    scratch[local] = v;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        if local < stride { scratch[local] += scratch[local + stride]; }
        workgroupBarrier();
    }
    return scratch[0];
}
