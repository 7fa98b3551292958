//! Twin of `shaders/group_draw.wgsl`, with the generator of `src/random.rs`.

use super::{Inputs, Twin};
use crate::ops::{GroupDraw, GroupPart, Rule};
use crate::random::philox;

/// √(own · behind / (own + behind)) and -1 / behind of it: the two numbers of a column of the triangular factor.
fn column(own: f64, behind: f64) -> [f64; 2] {
    match own > 0.0 && behind > 0.0 {
        true => [(own * behind / (own + behind)).sqrt(), -(own / (own + behind) / behind).sqrt()],
        false => [0.0, 0.0],
    }
}

/// The cotangents of one draw: `keys` has the example's key and the position's number of each masked row.
pub fn forward(
    what: GroupDraw,
    (z, stat, group_of): (&[f64], &[f64], &[f64]),
    keys: &[[u32; 3]],
    seed: [u32; 2],
    draw: u32,
) -> Vec<f64> {
    let width = group_of.len();
    let group = |v: usize| group_of[v] as usize;
    let (groups, columns) = (what.groups as usize, what.columns(width as u32));
    let mut out = Vec::new();
    for ((z, s), key) in z.chunks_exact(width).zip(stat.chunks_exact(4)).zip(keys) {
        let p: Vec<f64> = z.iter().map(|z| (z - s[3] - s[2]).exp()).collect();
        let whole = |g: usize| (0..width).filter(|v| group(*v) == g).map(|v| p[v]).sum::<f64>();
        let masses: Vec<f64> = (0..groups).map(whole).collect();
        let sign = |i: usize| {
            let bits =
                philox([key[0], key[1], draw, i as u32 / 128], [seed[0], seed[1] ^ key[2].wrapping_mul(0x9E37_79B9)]);
            if bits[i % 128 / 32] >> (i % 32) & 1 == 0 { 1.0 } else { -1.0 }
        };
        let (y, here) = ((draw % columns) as usize, draw / columns == key[2]);
        let one: Box<dyn Fn(usize) -> f64> = match (what.part, what.exact) {
            (GroupPart::Between, false) => {
                let along: f64 = (0..groups).map(|g| masses[g].sqrt() * sign(g)).sum();
                let p = &p;
                let masses = masses.clone();
                Box::new(move |v| p[v] * (sign(group(v)) / masses[group(v)].sqrt() - along))
            }
            (GroupPart::Within, false) => {
                let (p, masses) = (&p, masses.clone());
                let of = |g: usize| (0..width).filter(|v| group(*v) == g).map(|v| p[v].sqrt() * sign(v)).sum::<f64>();
                let sums: Vec<f64> = (0..groups).map(of).collect();
                Box::new(move |v| p[v].sqrt() * sign(v) - p[v] / masses[group(v)] * sums[group(v)])
            }
            (GroupPart::Between, true) => {
                let (p, masses) = (&p, masses.clone());
                let [top, rest] = column(masses.get(y).copied().unwrap_or(0.0), masses.iter().skip(y + 1).sum());
                Box::new(move |v| match group(v).cmp(&y) {
                    std::cmp::Ordering::Less => 0.0,
                    std::cmp::Ordering::Equal => top * p[v] / masses[y],
                    std::cmp::Ordering::Greater => rest * p[v],
                })
            }
            (GroupPart::Within, true) => {
                let p = &p;
                let behind = (y + 1..width).filter(|v| group(*v) == group(y)).map(|v| p[v]).sum();
                let [top, rest] = column(p[y], behind);
                Box::new(move |v| match v.cmp(&y) {
                    std::cmp::Ordering::Equal => top,
                    std::cmp::Ordering::Greater if group(v) == group(y) => rest * p[v],
                    _ => 0.0,
                })
            }
        };
        out.extend((0..width).map(|v| if !what.exact || here { one(v) } else { 0.0 }));
    }
    out
}

impl Twin for GroupDraw {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (step, keys) = (&inputs.frame.step, &inputs.frame.batch.keys);
        let draw = step.counter[0] + inputs.probe as u32;
        vec![forward(*self, (inputs.of(0), inputs.of(1), inputs.of(2)), keys, step.seed, draw)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f64; 7] = [0.25, 0.05, 0.1, 0.2, 0.15, 0.05, 0.2];
    const GROUPS: [f64; 7] = [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0];

    /// Σ or mean over draws of u uᵀ for the logits ln P, at the first of two positions.
    fn second_moment(what: GroupDraw, draws: u32) -> Vec<[f64; 7]> {
        let z: Vec<f64> = P.iter().map(|p| p.ln()).collect();
        let mut sums = vec![[0.0; 7]; 7];
        for draw in 0..draws {
            let u = forward(what, (&z, &[0.0; 4], &GROUPS), &[[3, 4, 0]], [5, 6], draw);
            for (i, row) in sums.iter_mut().enumerate() {
                row.iter_mut().zip(&u).for_each(|(sum, v)| *sum += u[i] * v);
            }
        }
        let count = if what.exact { 1.0 } else { f64::from(draws) };
        sums.iter_mut().flatten().for_each(|x| *x /= count);
        sums
    }

    /// By hand: p_u p_v (1 / P_g in a group - 1), and the rest of diag(p) - p pᵀ.
    fn wanted(part: GroupPart) -> Vec<[f64; 7]> {
        let mass = |g: f64| (0..7).filter(|v| GROUPS[*v] == g).map(|v| P[v]).sum::<f64>();
        let entry = |u: usize, v: usize| {
            let shared = if GROUPS[u] == GROUPS[v] { P[u] * P[v] / mass(GROUPS[u]) } else { 0.0 };
            match part {
                GroupPart::Between => shared - P[u] * P[v],
                GroupPart::Within => f64::from(u8::from(u == v)) * P[u] - shared,
            }
        };
        (0..7).map(|u| std::array::from_fn(|v| entry(u, v))).collect()
    }

    #[test]
    fn draws_have_the_second_moments_of_the_two_noises() {
        for part in [GroupPart::Between, GroupPart::Within] {
            let want = wanted(part);
            for exact in [true, false] {
                let what = GroupDraw { part, exact, groups: 3 };
                let (draws, bound) = if exact { (2 * what.columns(7), 1e-12) } else { (40_000, 4e-3) };
                let got = second_moment(what, draws);
                let off = (0..49).map(|i| (got[i / 7][i % 7] - want[i / 7][i % 7]).abs()).fold(0.0, f64::max);
                assert!(off < bound, "{what:?}: off by {off}");
            }
        }
    }
}
