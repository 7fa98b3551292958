//! Twin of `shaders/embedding.wgsl`.

use super::{Inputs, plus};
use crate::ops::{Embedding, Table};

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

/// The tables in use.
pub(super) fn evaluate(op: &Embedding, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
    let used = (0..3).filter(|table| op.uses[*table]);
    let tables: Vec<(usize, &[f64])> = used.enumerate().map(|(i, table)| (table, inputs.of(i))).collect();
    vec![forward(&inputs.frame.batch.ids, &tables, inputs.cols(0))]
}

/// The gradient of one table of `rows` rows, with an addend where there is a second input.
pub(super) fn evaluate_scatter(table: Table, rows: u32, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
    let column = Table::ALL.iter().position(|t| *t == table).expect("one of the three");
    let sum = scatter(&inputs.frame.batch.ids, column, rows as usize, inputs.of(0), inputs.cols(0));
    vec![plus(sum, inputs.get(1))]
}
