// GELU with the exact erf, and its derivatives. gelu(x) = x Φ(x), Φ(x) = (1 + erf(x/√2)) / 2, φ = Φ'.

// erf to 3e-7 relative: x P(x²)/Q(x²) up to |x| = 3.925, where 1 - erf(x) < 3e-8. The coefficients are a minimax fit of
// erf(x)/x made for this file (weighted least squares in 40 digits); WGSL has no erf.
fn erf4(v: vec4<f32>) -> vec4<f32> {
    let x = clamp(v, vec4<f32>(-3.925), vec4<f32>(3.925));
    let t = x * x;
    var p = vec4<f32>(2.0459577e-6);
    p = p * t + 2.8480994e-4;
    p = p * t + 3.7717297e-3;
    p = p * t + 5.27667e-2;
    p = p * t + 0.19057678;
    p = p * t + 1.1283791;
    var q = vec4<f32>(3.8045298e-5);
    q = q * t + 1.163631e-3;
    q = q * t + 1.498156e-2;
    q = q * t + 0.11417539;
    q = q * t + 0.502227;
    q = q * t + 1.0;
    return x * p / q;
}

fn normal_cdf4(x: vec4<f32>) -> vec4<f32> {
    return 0.5 + 0.5 * erf4(x * 0.70710678);
}

fn normal_pdf4(x: vec4<f32>) -> vec4<f32> {
    return 0.39894228 * exp(-0.5 * x * x);
}

fn gelu4(x: vec4<f32>) -> vec4<f32> {
    return x * normal_cdf4(x);
}

fn gelu_slope4(x: vec4<f32>) -> vec4<f32> {
    return normal_cdf4(x) + x * normal_pdf4(x);
}

// gelu''(x) = φ(x) (2 - x²)
fn gelu_bend4(x: vec4<f32>) -> vec4<f32> {
    return normal_pdf4(x) * (2.0 - x * x);
}
