//! Twin of `shaders/optimizer.wgsl` and `shaders/adamw.wgsl`: AdamW and SGD as their papers write them, on one long
//! vector.

use crate::ops::{Treatment, UpdateRule};

/// Parameters, their moments, and whether weight decay applies to each.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub theta: Vec<f64>,
    /// AdamW's first moment, or SGD's momentum.
    pub first: Vec<f64>,
    /// AdamW's second moment.
    pub second: Vec<f64>,
    pub decayed: Vec<bool>,
    /// Steps taken.
    pub taken: u64,
}

/// ‖g‖ of the gradient as it is before `scale` multiplied it.
pub fn norm(g: &[f64], scale: f32) -> f64 {
    g.iter().map(|g| (g / f64::from(scale)).powi(2)).sum::<f64>().sqrt()
}

/// θ + rho g / ‖g‖ (Foret et al. 2021, eq. 2); θ for a gradient of zeros.
pub fn ascended(theta: &[f64], g: &[f64], rho: f64) -> Vec<f64> {
    let norm = norm(g, 1.0);
    theta.iter().zip(g).map(|(x, g)| if norm > 0.0 { x + rho * g / norm } else { *x }).collect()
}

/// θ + ε with ε_b = rho |θ_b|² g_b / √(Σ_b |θ_b|² |g_b|²) (Kwon et al. 2021, eq. 7 with T = diag |θ_b|), `blocks` being
/// the number of each number's block; θ for a gradient of zeros.
pub fn ascended_by_blocks(theta: &[f64], g: &[f64], blocks: &[usize], rho: f64) -> Vec<f64> {
    let mut squares = vec![[0.0; 2]; blocks.iter().max().map_or(0, |most| most + 1)];
    for ((x, g), b) in theta.iter().zip(g).zip(blocks) {
        squares[*b][0] += x * x;
        squares[*b][1] += g * g;
    }
    let whole = squares.iter().map(|[x, g]| x * g).sum::<f64>().sqrt();
    let one = |((x, g), b): ((&f64, &f64), &usize)| x + rho * squares[*b][0] * g / whole;
    theta.iter().zip(g).zip(blocks).map(|of| if whole > 0.0 { one(of) } else { *of.0.0 }).collect()
}

/// Σ β^(t−i) θᵢ / Σ β^(t−i) over the parameters of steps i = 1..t.
pub fn averaged(thetas: &[Vec<f64>], beta: f64) -> Vec<f64> {
    let weight = |i: usize| beta.powf((thetas.len() - 1 - i) as f64);
    let whole: f64 = (0..thetas.len()).map(weight).sum();
    let sum = |j: usize| thetas.iter().enumerate().map(|(i, theta)| weight(i) * theta[j]).sum::<f64>();
    (0..thetas.first().map_or(0, Vec::len)).map(|j| sum(j) / whole).collect()
}

/// Takes one step. Momentum, ε and decay are in single precision, as the kernels have them; β₁ and β₂ are not.
pub fn step(rule: UpdateRule, treatment: Treatment, lr: f64, state: &mut State, g: &[f64]) {
    state.taken += 1;
    let single = |x: f64| f64::from(x as f32);
    let norm = norm(g, treatment.scale);
    let clip = f64::from(treatment.clip);
    let share = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 } / f64::from(treatment.scale);
    for (i, g) in g.iter().enumerate() {
        let (x, g) = (state.theta[i], g * share);
        match rule {
            UpdateRule::AdamW { betas, eps, decay } => {
                let [b1, b2] = betas;
                state.first[i] = b1 * state.first[i] + (1.0 - b1) * g;
                state.second[i] = b2 * state.second[i] + (1.0 - b2) * g * g;
                let [c1, c2] = betas.map(|b| 1.0 - b.powf(state.taken as f64));
                let decay = if state.decayed[i] { single(decay) } else { 0.0 };
                let step = (state.first[i] / c1) / ((state.second[i] / c2).sqrt() + single(eps));
                state.theta[i] = x - lr * decay * x - lr * step;
            }
            UpdateRule::Sgd { momentum, decay } => {
                let mut update = g + if state.decayed[i] { single(decay) * x } else { 0.0 };
                if momentum > 0.0 {
                    // torch begins with the gradient itself.
                    update += if state.taken > 1 { single(momentum) * state.first[i] } else { 0.0 };
                    state.first[i] = update;
                }
                state.theta[i] = x - lr * update;
            }
        }
    }
}
