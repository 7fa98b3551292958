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
