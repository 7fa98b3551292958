//! Twin of `shaders/embedding.wgsl`.

use super::{Inputs, Twin};
use crate::ops::{Embedding, Rule};

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

impl Twin for Embedding {
    /// Forward: the tables that take part. Vjp of a table: ȳ.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let ids = &inputs.frame.batch.ids;
        vec![match rule {
            Rule::Vjp(table) => {
                let table = usize::from(table);
                scatter(ids, table, self.rows[table] as usize, inputs.of(0), inputs.cols(0))
            }
            _ => {
                let used = (0..3).filter(|table| self.rows[*table] > 0);
                let tables: Vec<(usize, &[f64])> = used.enumerate().map(|(i, table)| (table, inputs.of(i))).collect();
                forward(ids, &tables, inputs.cols(0))
            }
        }]
    }
}
