//! Twin of `shaders/layer_norm.wgsl` and `shaders/layer_norm_scale.wgsl`.

/// (y, stat): y = γ x̂ + β over rows as wide as γ, stat = (mean, 1/√(var + ε), 0, 0) a row.
pub fn forward(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> [Vec<f64>; 2] {
    let d = gamma.len();
    let mut y = Vec::with_capacity(x.len());
    let mut stat = Vec::new();
    for row in x.chunks_exact(d) {
        let mean = row.iter().sum::<f64>() / d as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
        let r = 1.0 / (variance + eps).sqrt();
        y.extend(row.iter().zip(gamma).zip(beta).map(|((v, g), b)| g * (v - mean) * r + b));
        stat.extend([mean, r, 0.0, 0.0]);
    }
    [y, stat]
}

/// x̄ = r (h - mean(h) - x̂ mean(h x̂)), h = γ ȳ.
pub fn vjp(x: &[f64], gamma: &[f64], stat: &[f64], y_bar: &[f64]) -> Vec<f64> {
    let d = gamma.len();
    let mut x_bar = Vec::with_capacity(x.len());
    for ((row, g), s) in x.chunks_exact(d).zip(y_bar.chunks_exact(d)).zip(stat.chunks_exact(4)) {
        let x_hat: Vec<f64> = row.iter().map(|v| (v - s[0]) * s[1]).collect();
        let h: Vec<f64> = g.iter().zip(gamma).map(|(g, gamma)| g * gamma).collect();
        let mean = h.iter().sum::<f64>() / d as f64;
        let along = h.iter().zip(&x_hat).map(|(h, x)| h * x).sum::<f64>() / d as f64;
        x_bar.extend(h.iter().zip(&x_hat).map(|(h, x)| s[1] * (h - mean - x * along)));
    }
    x_bar
}

/// (γ̄, β̄) = (Σ_rows ȳ x̂, Σ_rows ȳ).
pub fn scale_vjp(x: &[f64], d: usize, stat: &[f64], y_bar: &[f64]) -> [Vec<f64>; 2] {
    let mut gamma_bar = vec![0.0; d];
    let mut beta_bar = vec![0.0; d];
    for ((row, g), s) in x.chunks_exact(d).zip(y_bar.chunks_exact(d)).zip(stat.chunks_exact(4)) {
        for c in 0..d {
            gamma_bar[c] += g[c] * (row[c] - s[0]) * s[1];
            beta_bar[c] += g[c];
        }
    }
    [gamma_bar, beta_bar]
}
