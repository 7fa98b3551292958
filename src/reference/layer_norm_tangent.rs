//! Twin of `shaders/layer_norm_tangent.wgsl`, by differentiating u = x − mean(x), r = (mean(u²) + ε)^(−1/2), x̂ = r u step by
//! step.

/// x̂, its first and second derivative along ẋ, r and its derivative, of one row.
struct Row {
    x_hat: Vec<f64>,
    x_hat_dot: Vec<f64>,
    x_hat_ddot: Vec<f64>,
    r: f64,
    r_dot: f64,
}

fn mean(v: impl Iterator<Item = f64>, d: usize) -> f64 {
    v.sum::<f64>() / d as f64
}

fn row(x: &[f64], x_dot: &[f64], centre: f64, r: f64) -> Row {
    let d = x.len();
    let u: Vec<f64> = x.iter().map(|v| v - centre).collect();
    let m = mean(x_dot.iter().copied(), d);
    let u_dot: Vec<f64> = x_dot.iter().map(|v| v - m).collect();
    // s = mean(u²) + ε = r⁻², and its derivatives
    let s_dot = 2.0 * mean(u.iter().zip(&u_dot).map(|(a, b)| a * b), d);
    let s_ddot = 2.0 * mean(u_dot.iter().map(|a| a * a), d);
    let r_dot = -0.5 * r.powi(3) * s_dot;
    let r_ddot = 0.75 * r.powi(5) * s_dot * s_dot - 0.5 * r.powi(3) * s_ddot;
    let each = |f: &dyn Fn(f64, f64) -> f64| u.iter().zip(&u_dot).map(|(u, u_dot)| f(*u, *u_dot)).collect::<Vec<_>>();
    Row {
        x_hat: each(&|u, _| r * u),
        x_hat_dot: each(&|u, u_dot| r_dot * u + r * u_dot),
        x_hat_ddot: each(&|u, u_dot| r_ddot * u + 2.0 * r_dot * u_dot),
        r,
        r_dot,
    }
}

fn rows<'a>(x: &'a [f64], x_dot: &'a [f64], stat: &'a [f64], d: usize) -> impl Iterator<Item = Row> + 'a {
    x.chunks_exact(d)
        .zip(x_dot.chunks_exact(d))
        .zip(stat.chunks_exact(4))
        .map(|((x, x_dot), s)| row(x, x_dot, s[0], s[1]))
}

/// (ẏ, stat_dot): stat_dot = (mean, r, mean(ẋ), mean(x̂ ẋ)) a row.
pub fn jvp(
    x: &[f64],
    gamma: &[f64],
    stat: &[f64],
    x_dot: &[f64],
    gamma_dot: &[f64],
    beta_dot: &[f64],
) -> [Vec<f64>; 2] {
    let d = gamma.len();
    let (mut y_dot, mut out) = (Vec::new(), Vec::new());
    for ((r, s), dots) in rows(x, x_dot, stat, d).zip(stat.chunks_exact(4)).zip(x_dot.chunks_exact(d)) {
        y_dot.extend((0..d).map(|c| gamma[c] * r.x_hat_dot[c] + gamma_dot[c] * r.x_hat[c] + beta_dot[c]));
        let along = mean(r.x_hat.iter().zip(dots).map(|(a, b)| a * b), d);
        out.extend([s[0], s[1], mean(dots.iter().copied(), d), along]);
    }
    [y_dot, out]
}

/// The tangent of x̄ = r (h − mean(h) − x̂ mean(h x̂)), h = γ ȳ.
pub fn vjp_jvp(
    x: &[f64],
    gamma: &[f64],
    stat: &[f64],
    y_bar: &[f64],
    x_dot: &[f64],
    gamma_dot: &[f64],
    bar_dot: &[f64],
) -> Vec<f64> {
    let d = gamma.len();
    let mut out = Vec::new();
    for ((r, bar), bar_dot) in rows(x, x_dot, stat, d).zip(y_bar.chunks_exact(d)).zip(bar_dot.chunks_exact(d)) {
        let h: Vec<f64> = bar.iter().zip(gamma).map(|(b, g)| b * g).collect();
        let h_dot: Vec<f64> = (0..d).map(|c| gamma_dot[c] * bar[c] + gamma[c] * bar_dot[c]).collect();
        let a = mean(h.iter().copied(), d);
        let b = mean(h.iter().zip(&r.x_hat).map(|(h, x)| h * x), d);
        let a_dot = mean(h_dot.iter().copied(), d);
        let b_dot = mean((0..d).map(|c| h_dot[c] * r.x_hat[c] + h[c] * r.x_hat_dot[c]), d);
        out.extend((0..d).map(|c| {
            r.r_dot * (h[c] - a - r.x_hat[c] * b) + r.r * (h_dot[c] - a_dot - r.x_hat_dot[c] * b - r.x_hat[c] * b_dot)
        }));
    }
    out
}

/// The tangents of γ̄ = Σ ȳ x̂ and β̄ = Σ ȳ.
pub fn scale(x: &[f64], d: usize, stat: &[f64], y_bar: &[f64], x_dot: &[f64], bar_dot: &[f64]) -> [Vec<f64>; 2] {
    let (mut gamma, mut beta) = (vec![0.0; d], vec![0.0; d]);
    for ((r, bar), bar_dot) in rows(x, x_dot, stat, d).zip(y_bar.chunks_exact(d)).zip(bar_dot.chunks_exact(d)) {
        for c in 0..d {
            gamma[c] += bar_dot[c] * r.x_hat[c] + bar[c] * r.x_hat_dot[c];
            beta[c] += bar_dot[c];
        }
    }
    [gamma, beta]
}

/// ⟨ȳ, D²y[(ẋ, γ̇)²]⟩ of each row, in the first of four columns.
pub fn second(x: &[f64], gamma: &[f64], stat: &[f64], y_bar: &[f64], x_dot: &[f64], gamma_dot: &[f64]) -> Vec<f64> {
    let d = gamma.len();
    let mut out = Vec::new();
    for (r, bar) in rows(x, x_dot, stat, d).zip(y_bar.chunks_exact(d)) {
        let term = (0..d).map(|c| bar[c] * (gamma[c] * r.x_hat_ddot[c] + 2.0 * gamma_dot[c] * r.x_hat_dot[c])).sum();
        out.extend([term, 0.0, 0.0, 0.0]);
    }
    out
}
