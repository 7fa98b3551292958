// Dropout of attention's weights, with `stream`, `threshold` and `keep` of the importing kernel's Params.
//@import common/philox.wgsl

// Whether weights are dropped. A constant, since a software adapter draws for nothing otherwise.
const DROPOUT: u32 = 0u;

// 0 or 1/(1 - p) for the weight of query row i on key row j.
fn kept(i: u32, j: u32, head: u32) -> f32 {
    if DROPOUT == 0u { return 1.0; }
    let key = vec2<u32>(step.seed.x ^ p.stream, step.seed.y ^ head);
    let draws = philox(vec4<u32>(i, j, step.counter), key);
    return select(0.0, p.keep, draws.x >= p.threshold);
}
