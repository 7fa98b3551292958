// What every kernel knows of the running step.

struct Step {
    rows: u32,
    masked: u32,
    sentences: u32,
    probes: u32,
    seed: vec2<u32>,
    counter: vec2<u32>,
    user: array<vec4<f32>, 2>,
}
@group(0) @binding(9) var<uniform> step: Step;

// A count of the step by its code, or the fixed one.
fn count_of(code: u32, fixed: u32) -> u32 {
    if code == 1u { return step.rows; }
    if code == 2u { return step.masked; }
    if code == 3u { return step.sentences; }
    return fixed;
}
