// The forms of layer norm: whether the mean is taken away (not with RMS), what multiplies x̂ (with SCALE γ, with
// ONE_PLUS 1 + γ, else 1), and whether β is added (SHIFT). Whoever imports this has `p.width` and, with SCALE,
// `gamma`.
//@import common/columns.wgsl

const RMS: u32 = 0u;
const SCALE: u32 = 0u;
// With SCALE.
const ONE_PLUS: u32 = 0u;
// With SCALE.
const SHIFT: u32 = 0u;

// What v adds to the sum of a mean that is taken away.
fn mean_part(v: vec4<f32>) -> f32 {
//@if RMS
    return 0.0;
//@else
    return sum4(v);
//@end
}

// What multiplies x̂ in vec4 number c, 0 behind the row's end.
fn scale_at(c: u32) -> vec4<f32> {
//@if ONE_PLUS
    return inside(c, p.width) + gamma[c];
//@else
//@if SCALE
    return gamma[c];
//@else
    return inside(c, p.width);
//@end
//@end
}
