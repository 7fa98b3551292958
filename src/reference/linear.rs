//! Twin of `shaders/linear.wgsl` and `shaders/column_sum.wgsl`.

use crate::ops::Layout;

/// op(A) op(B) with A [a.0, a.1] and B [b.0, b.1].
pub fn product(layout: Layout, a: &[f64], a_shape: (usize, usize), b: &[f64], b_shape: (usize, usize)) -> Vec<f64> {
    let (m, k) = if layout == Layout::TN { (a_shape.1, a_shape.0) } else { a_shape };
    let n = if layout == Layout::NT { b_shape.0 } else { b_shape.1 };
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            let left = if layout == Layout::TN { a[l * m + i] } else { a[i * k + l] };
            for j in 0..n {
                let right = if layout == Layout::NT { b[j * k + l] } else { b[l * n + j] };
                c[i * n + j] += left * right;
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
