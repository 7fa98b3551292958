// Draws of cotangents at the logits z [masked, V]: probabilities, random numbers and where a row is written. The kernel
// declares z, out and its parameters p with width and cols4.
//@import common/columns.wgsl
//@import common/philox.wgsl
//@import common/step.wgsl

// p at vec4 number c of a row, 0 behind its end.
fn probability(row: u32, c: u32, s: vec4<f32>) -> vec4<f32> {
    return within(exp((z[row * p.cols4 + min(c, p.cols4 - 1u)] - s.w) - s.z), c, p.width);
}

// vec4 number c of the row of `out` that begins at `to`; none behind its end.
fn put(to: u32, c: u32, u: vec4<f32>) {
    if c < p.cols4 { out[to + c] = u; }
}

fn draws(who: vec4<u32>, draw: u32, block: u32) -> vec4<u32> {
    return philox(vec4<u32>(who.y, who.z, draw, block), vec2<u32>(step.seed.x, step.seed.y ^ (who.w * 0x9E3779B9u)));
}

// The signs of vec4 number c from the 128 bits of its block.
fn signs(bits: vec4<u32>, c: u32) -> vec4<f32> {
    let word = bits[(c % 32u) / 8u] >> (4u * (c % 8u));
    return select(vec4<f32>(1.0), vec4<f32>(-1.0), (vec4<u32>(word) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u));
}
