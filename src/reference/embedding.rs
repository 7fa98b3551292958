//! Twin of `shaders/embedding.wgsl`.

/// `y[r] = Σ over tables of table[ids[r][column]]`.
pub fn forward(ids: &[[u32; 4]], tables: &[(usize, &[f64])], cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; ids.len() * cols];
    for (r, id) in ids.iter().enumerate() {
        for (column, table) in tables {
            let from = id[*column] as usize * cols;
            for c in 0..cols {
                y[r * cols + c] += table[from + c];
            }
        }
    }
    y
}

/// The sum of rows of ȳ by the table row that they used.
pub fn scatter(ids: &[[u32; 4]], column: usize, targets: usize, y_bar: &[f64], cols: usize) -> Vec<f64> {
    let mut sum = vec![0.0; targets * cols];
    for (r, id) in ids.iter().enumerate() {
        for c in 0..cols {
            sum[id[column] as usize * cols + c] += y_bar[r * cols + c];
        }
    }
    sum
}
