// Activations and their derivatives, elementwise: `activate4`, `slope4`, `bend4` of the one that ACTIVATION names.

// 0 GELU with the exact erf, 1 GELU by tanh, 2 ReLU, 3 SiLU, 4 tanh. A constant, since a software adapter runs both sides of
// every branch. The codes are those of `Activation::code`.
const ACTIVATION: u32 = 0u;
const TANH: u32 = 1u;
const RELU: u32 = 2u;
const SILU: u32 = 3u;
const HYPERBOLIC: u32 = 4u;

fn activate4(x: vec4<f32>) -> vec4<f32> {
    if ACTIVATION == TANH { return x * logistic4(tanh_argument4(x)).value; }
    // Comparisons so that what is not a number stays so.
    if ACTIVATION == RELU { return select(x, vec4<f32>(0.0), x <= vec4<f32>(0.0)); }
    if ACTIVATION == SILU { return x * logistic4(x).value; }
    if ACTIVATION == HYPERBOLIC { return hyperbolic4(x); }
    return gelu4(x);
}

fn slope4(x: vec4<f32>) -> vec4<f32> {
    if ACTIVATION == TANH { return tanh_slope4(x); }
    if ACTIVATION == RELU { return select(vec4<f32>(1.0), vec4<f32>(0.0), x <= vec4<f32>(0.0)); }
    if ACTIVATION == SILU {
        let s = logistic4(x);
        return s.value + x * s.slope;
    }
    // tanh x = 2 σ(2x) - 1
    if ACTIVATION == HYPERBOLIC { return 4.0 * logistic4(2.0 * x).slope; }
    return gelu_slope4(x);
}

fn bend4(x: vec4<f32>) -> vec4<f32> {
    if ACTIVATION == TANH { return tanh_bend4(x); }
    if ACTIVATION == RELU { return vec4<f32>(0.0); }
    if ACTIVATION == SILU {
        let s = logistic4(x);
        return 2.0 * s.slope + x * s.slope * s.odd;
    }
    if ACTIVATION == HYPERBOLIC { return -8.0 * hyperbolic4(x) * logistic4(2.0 * x).slope; }
    return gelu_bend4(x);
}

// GELU with the exact erf. gelu(x) = x Φ(x), Φ(x) = (1 + erf(x/√2)) / 2, φ = Φ'.

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

// The logistic function σ(t) = 1 / (1 + e^-t).
struct Logistic {
    value: vec4<f32>,
    // σ' = σ (1 - σ)
    slope: vec4<f32>,
    // 1 - 2 σ, so that σ'' = σ' (1 - 2 σ)
    odd: vec4<f32>,
}

// By e^-|t|, which cannot overflow, and without 1 - σ, whose rounding would be multiplied by large arguments.
fn logistic4(t: vec4<f32>) -> Logistic {
    let e = exp(-min(abs(t), vec4<f32>(87.0)));
    let r = 1.0 / (1.0 + e);
    let up = t >= vec4<f32>(0.0);
    return Logistic(select(e * r, r, up), e * r * r, select(1.0 - e, e - 1.0, up) * r);
}

// tanh, since drivers' is off by up to 1e-3: by e^-2|x|, and near 0, where that cancels, by its series, whose next term
// is 6e-8 of the value at 0.3.
fn hyperbolic4(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-2.0 * min(abs(x), vec4<f32>(43.0)));
    // x over its size and not sign(x), so that what is not a number stays so.
    let far = x * ((1.0 - e) / ((1.0 + e) * max(abs(x), vec4<f32>(0.3))));
    let t = x * x;
    let near = x * (1.0 + t * (-0.33333333 + t * (0.13333333 + t * (-0.053968254 + t * 0.021869489))));
    return select(far, near, abs(x) < vec4<f32>(0.3));
}

// GELU by tanh (Hendrycks and Gimpel 2016): x (1 + tanh u) / 2 = x σ(2u), u = √(2/π) (x + 0.044715 x³). By σ, since
// drivers' tanh is off by up to 1e-3. Beyond |x| = 10 σ is 0 or 1 in single precision.
fn tanh_clamp4(x: vec4<f32>) -> vec4<f32> {
    return clamp(x, vec4<f32>(-10.0), vec4<f32>(10.0));
}

// 2u
fn tanh_argument4(v: vec4<f32>) -> vec4<f32> {
    let x = tanh_clamp4(v);
    return 1.5957691 * x * (1.0 + 0.044715 * x * x);
}

// σ + x σ' (2u)'
fn tanh_slope4(v: vec4<f32>) -> vec4<f32> {
    let x = tanh_clamp4(v);
    let s = logistic4(tanh_argument4(x));
    return s.value + x * s.slope * (1.5957691 * (1.0 + 0.134145 * x * x));
}

// 2 σ' (2u)' + x (σ'' (2u)'² + σ' (2u)'')
fn tanh_bend4(v: vec4<f32>) -> vec4<f32> {
    let x = tanh_clamp4(v);
    let s = logistic4(tanh_argument4(x));
    let inner = 1.5957691 * (1.0 + 0.134145 * x * x);
    return s.slope * (2.0 * inner + x * (s.odd * inner * inner + 0.4281289 * x));
}
