//! The traces of the registered size sweep beside those that were known before it was run: two models of each width, of
//! other seeds and measured on other sentences (docs/results-earlier.md, the sign over sizes).

use std::path::PathBuf;

use lowland::sweep::{Table, TraceConventions};

/// Width; the two traces as trained, by `duplicate`, by `paper` and balanced; the error of one measurement, of itself.
const KNOWN: [(u32, [[f64; 2]; 4], f64); 3] = [
    (16, [[57.0, 62.4], [24.4, 28.0], [182.2, 194.2], [19.2, 22.2]], 0.02),
    (32, [[56.0, 55.2], [31.9, 30.9], [103.7, 103.4], [13.7, 12.5]], 0.016),
    (64, [[62.0, 61.8], [62.0, 61.8], [62.0, 61.8], [10.2, 10.1]], 0.0115),
];

/// Mean and standard error.
fn mean_and_error(values: &[f64]) -> [f64; 2] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    [mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt()]
}

#[test]
fn means_over_sizes_are_those_that_were_known() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/tables/reread-size-hmm/table.json");
    let table: Table = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for (width, known, error) in KNOWN {
        let rows = table.rows.iter().filter(|row| row.label.starts_with(&format!("{width} wide")));
        let rows: Vec<&TraceConventions> = rows.map(|row| row.conventions.as_ref().unwrap()).collect();
        assert_eq!(rows.len(), 3, "{width}");
        let of: [&dyn Fn(&TraceConventions) -> Option<f64>; 4] =
            [&|c| Some(c.own), &|c| c.duplicate, &|c| c.paper, &|c| c.balanced];
        for (name, (of, known)) in ["own", "duplicate", "paper", "balanced"].iter().zip(of.iter().zip(known)) {
            let made: Vec<f64> = rows.iter().map(|row| of(row).unwrap()).collect();
            let ([before, before_error], [after, after_error]) = (mean_and_error(&known), mean_and_error(&made));
            // Over seeds, and of either's sentences, which its models share.
            let sentences = std::f64::consts::SQRT_2 * error * before;
            let all = (before_error.powi(2) + after_error.powi(2) + sentences.powi(2)).sqrt();
            println!("{width} {name}: {after:.1} ± {after_error:.1}, known {before:.1} ± {before_error:.1}");
            assert!((after - before).abs() < 2.0 * all, "{width} {name}: {after} against {before} ± {all}");
        }
    }
}
