//! The solved case on which the label dial's experiment rests (Xu, Beneventano, Chuang, Ziyin, arXiv 2602.05065): SGD
//! goes where its gradient fluctuates least, which is where the Hessian's trace is least only for labels whose noise is
//! the same in every output.
//!
//! y = x + e in two dimensions, x ~ N(0, 1), e ~ N(0, diag(1, k)), f = U W x, L = ½ E|f - y|². At the minimum, with
//! S = 1 + k, the fluctuation is 2 Σ s_i u_i² + S Σ w_i², least at u_i² = √(S / 2 s_i); there
//! Tr H = 2 Σ (√(S / 2 s_i) + √(2 s_i / S)), where 8 is the least at all.

use lowland::random::{Purpose, Stream};

type Square = [[f64; 2]; 2];

fn squared(a: &Square) -> f64 {
    a.iter().flatten().map(|x| x * x).sum()
}

/// Tr H = 2 (|U|² + |W|²) and the fluctuation, means over the last part of a run.
fn settled(k: f64, seed: u64) -> [f64; 2] {
    let mut random = Stream::new(seed, Purpose::Test, 0);
    let (mut u, mut w): (Square, Square) = ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]);
    let (mut sums, mut count) = ([0.0; 2], 0.0);
    const STEPS: usize = 500_000;
    for step in 0..STEPS {
        let rate = if step < 60_000 { 0.02 } else { 0.006 };
        let x = [random.normal(), random.normal()];
        let e = [random.normal(), k.sqrt() * random.normal()];
        let h = [0, 1].map(|i| w[i][0] * x[0] + w[i][1] * x[1]);
        let r = [0, 1].map(|i| u[i][0] * h[0] + u[i][1] * h[1] - x[i] - e[i]);
        let back = [0, 1].map(|j| u[0][j] * r[0] + u[1][j] * r[1]);
        for i in 0..2 {
            for j in 0..2 {
                u[i][j] -= rate * r[i] * h[j];
                w[i][j] -= rate * back[i] * x[j];
            }
        }
        if step >= STEPS / 2 {
            let rows: f64 = [1.0, k].iter().zip(&u).map(|(s, u)| s * (u[0] * u[0] + u[1] * u[1])).sum();
            sums[0] += 2.0 * (squared(&u) + squared(&w));
            sums[1] += 2.0 * rows + (1.0 + k) * squared(&w);
            count += 1.0;
        }
    }
    sums.map(|sum| sum / count)
}

#[test]
fn sgd_goes_where_its_gradient_fluctuates_least() {
    for (k, trace) in [(1.0f64, 8.0), (4.0, 8.54), (16.0, 10.72)] {
        let s = 1.0 + k;
        let of = |s_i: f64| (s / (2.0 * s_i)).sqrt() + (2.0 * s_i / s).sqrt();
        assert!((2.0 * (of(1.0) + of(k)) - trace).abs() < 0.005, "{k}: the formula");
        let least = 2.0 * ((2.0 * s).sqrt() + (2.0 * s * k).sqrt());
        let [got, fluctuation] = settled(k, 1);
        println!("k = {k}: Tr H {got:.3} for {trace}, fluctuation {fluctuation:.3} for {least:.3}");
        // A step of finite size takes some hundredths off, the more the noisier the labels are; 8 is the flattest.
        assert!((got / trace - 1.0).abs() < 0.07, "k = {k}: Tr H {got}, not {trace}");
        assert!(k < 16.0 || got > 9.6, "k = {k}: Tr H {got}");
        assert!((fluctuation / least - 1.0).abs() < 0.04, "k = {k}: the fluctuation {fluctuation}, not {least}");
    }
}
