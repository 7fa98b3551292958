//! Twin of `shaders/linear.wgsl` and `shaders/column_sum.wgsl`.

use super::{Inputs, Twin, activation, plus, sums_of_four};
use crate::ops::{ColumnSum, Epilogue, Layout, Linear, Rule};

/// op(A) op(B) with A [a.0, a.1] and B [b.0, b.1].
pub fn product(layout: Layout, a: &[f64], a_shape: (usize, usize), b: &[f64], b_shape: (usize, usize)) -> Vec<f64> {
    let (m, k) = if layout == Layout::TN { (a_shape.1, a_shape.0) } else { a_shape };
    let n = if layout == Layout::NT { b_shape.0 } else { b_shape.1 };
    let mut c = vec![0.0; m * n];
    if layout == Layout::NT {
        // The same sums in the same order, with rows of B read one number after the other.
        for (i, row) in a.chunks_exact(k.max(1)).enumerate().take(m) {
            for (j, other) in b.chunks_exact(k.max(1)).enumerate().take(n) {
                c[i * n + j] = row.iter().zip(other).fold(0.0, |sum, (x, y)| sum + x * y);
            }
        }
        return c;
    }
    for i in 0..m {
        for l in 0..k {
            let left = if layout == Layout::TN { a[l * m + i] } else { a[i * k + l] };
            for j in 0..n {
                c[i * n + j] += left * b[l * n + j];
            }
        }
    }
    c
}

/// Σ_rows x.
pub fn column_sum(x: &[f64], cols: usize) -> Vec<f64> {
    let mut sum = vec![0.0; cols];
    for (i, v) in x.iter().enumerate() {
        sum[i % cols] += v;
    }
    sum
}

impl Twin for Linear {
    /// Inputs (a, b, [bias], [what the epilogue reads]).
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let shape = |i: usize| (inputs.rows(i), inputs.cols(i));
        let mut c = product(self.layout, inputs.of(0), shape(0), inputs.of(1), shape(1));
        if self.bias {
            let bias = inputs.of(2);
            c.iter_mut().enumerate().for_each(|(i, c)| *c += bias[i % bias.len()]);
        }
        if let Some(addend) = inputs.addend() {
            c = plus(c, addend);
        }
        if self.sums {
            return vec![c, column_sum(inputs.of(0), inputs.cols(0))];
        }
        let last = inputs.node.inputs.len() - 1;
        let with = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            c.iter().zip(inputs.of(last)).map(|(c, z)| f(*c, *z)).collect()
        };
        match self.epilogue {
            Epilogue::None => vec![c],
            Epilogue::Activation(f) => {
                let activated = c.iter().map(|x| activation::forward(f, *x)).collect();
                vec![c, activated]
            }
            Epilogue::Dot => vec![sums_of_four(&with(&|c, z| c * z), inputs.cols(last))],
            Epilogue::Times => vec![with(&|c, z| c * z)],
            Epilogue::Slope(f) => vec![with(&|c, z| c * activation::slope(f, z))],
            Epilogue::Gate(f) => {
                let through = with(&|c, z| c * activation::forward(f, z));
                vec![c, through]
            }
            Epilogue::GateVjp(f) => {
                let rows = c.iter().zip(inputs.of(last - 1)).zip(inputs.of(last));
                let of_gate = rows.map(|((c, u), z)| c * u * activation::slope(f, *z)).collect();
                vec![with(&|c, z| c * activation::forward(f, z)), of_gate]
            }
        }
    }

    fn adds(&self) -> bool {
        true
    }
}

impl Twin for ColumnSum {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        vec![column_sum(inputs.of(0), inputs.cols(0))]
    }
}
