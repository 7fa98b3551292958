//! Twin of `shaders/cross_entropy.wgsl`.

/// stat [rows, 4] = (−Σ q log p, Σ q (log q − log p), log Σ exp(z − max), max z).
pub fn forward(z: &[f64], width: usize, label: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut stat = Vec::new();
    for (row, z) in z.chunks_exact(width).enumerate() {
        let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = z.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
        let (mut loss, mut divergence) = (0.0, 0.0);
        for (v, z) in z.iter().enumerate() {
            let q = label(row, v);
            let surprise = log_sum - (z - top);
            loss += q * surprise;
            if q > 0.0 {
                divergence += q * (q.ln() + surprise);
            }
        }
        stat.extend([loss, divergence, log_sum, top]);
    }
    stat
}

/// z̄ = weight (softmax(z) − q), the weight in the first of four columns.
pub fn vjp(z: &[f64], width: usize, label: &dyn Fn(usize, usize) -> f64, stat: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut z_bar = Vec::with_capacity(z.len());
    for (row, z) in z.chunks_exact(width).enumerate() {
        let s = &stat[4 * row..4 * row + 4];
        z_bar.extend(z.iter().enumerate().map(|(v, z)| weight[4 * row] * ((z - s[3] - s[2]).exp() - label(row, v))));
    }
    z_bar
}

fn probabilities(z: &[f64], stat: &[f64]) -> Vec<f64> {
    z.iter().map(|z| (z - stat[3] - stat[2]).exp()).collect()
}

/// ⟨p − q, ż⟩ of each row, in the first of four columns.
pub fn jvp(z: &[f64], width: usize, label: &dyn Fn(usize, usize) -> f64, stat: &[f64], z_dot: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for (row, (z, d)) in z.chunks_exact(width).zip(z_dot.chunks_exact(width)).enumerate() {
        let p = probabilities(z, &stat[4 * row..4 * row + 4]);
        out.extend([(0..width).map(|v| (p[v] - label(row, v)) * d[v]).sum(), 0.0, 0.0, 0.0]);
    }
    out
}

/// ⟨ż, (diag p − ppᵀ) ż⟩ of each row, in the first of four columns.
pub fn second(z: &[f64], width: usize, stat: &[f64], z_dot: &[f64]) -> Vec<f64> {
    let one = [1.0, 0.0, 0.0, 0.0].repeat(stat.len() / 4);
    let bent = vjp_jvp(z, width, stat, &one, z_dot);
    let rows = bent.chunks_exact(width).zip(z_dot.chunks_exact(width));
    rows.flat_map(|(b, d)| [b.iter().zip(d).map(|(b, d)| b * d).sum(), 0.0, 0.0, 0.0]).collect()
}

/// weight (diag p − ppᵀ) ż.
pub fn vjp_jvp(z: &[f64], width: usize, stat: &[f64], weight: &[f64], z_dot: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for (row, (z, d)) in z.chunks_exact(width).zip(z_dot.chunks_exact(width)).enumerate() {
        let p = probabilities(z, &stat[4 * row..4 * row + 4]);
        let mean: f64 = p.iter().zip(d).map(|(p, d)| p * d).sum();
        out.extend(p.iter().zip(d).map(|(p, d)| weight[4 * row] * p * (d - mean)));
    }
    out
}
