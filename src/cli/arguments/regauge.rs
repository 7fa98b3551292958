//! Flags of `lowland regauge`.

use std::path::PathBuf;

use clap::Args;

use super::measure::choice;
use super::{Common, Json, ModelAndExamples};
use crate::ops::LossDraw;

#[derive(Args, Debug)]
#[command(
    after_help = "Which type of model has which gauge, and what each moves, is in docs/regauge.md; a gauge that a \
                        type lacks is refused with the reason."
)]
pub struct Regauge {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Folder to write the model in the other gauge to
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// A run config (its language) or a file of JSON lines, as for `measure`: the trace is measured on them, and what
    /// it is in the other gauge follows
    #[arg(value_name = "EXAMPLES")]
    pub examples: Option<PathBuf>,
    /// Overrides of the run config
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// All tables times A, and the norm before the tied head divided by A; of decoders also all that is written to the
    /// residual stream times A. As 4, 0.25 or 1/4
    #[arg(long, value_name = "A", value_parser = factor)]
    pub tables: Option<f64>,
    /// All that is written to the residual stream times A, where only norms read it
    #[arg(long, value_name = "A", value_parser = factor)]
    pub residual: Option<f64>,
    /// The norm behind the last layer times A, and the matrix that reads it divided by A: the head's dense layer, or a
    /// decoder's own head. The model's last representation is A times as large
    #[arg(long, value_name = "A", value_parser = factor)]
    pub final_norm: Option<f64>,
    /// Queries times A and keys divided by A, weight and bias, in every layer
    #[arg(long, value_name = "A", value_parser = factor)]
    pub query_key: Option<f64>,
    /// Values times A, weight and bias, and the weight of attention's output divided by A, in every layer
    #[arg(long, value_name = "A", value_parser = factor)]
    pub value_output: Option<f64>,
    /// To the least Fisher trace on EXAMPLES over the scales of tables, queries and keys, values and attention's
    /// output, and of norms before layers, each layer its own: as many of them as the model has
    #[arg(long, requires = "examples", conflicts_with_all = ["tables", "query_key", "value_output"])]
    pub balance: bool,
    #[arg(long, value_parser = choice::<LossDraw>(), default_value = "random-signs")]
    pub estimator: LossDraw,
    /// Draws of labels or signs an example; default: as of `measure flatness`
    #[arg(long, requires = "examples", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub draws: Option<u64>,
    /// Seed of draws and of a language's sentences; default: 0, and the held-out seed of the config
    #[arg(long, requires = "examples")]
    pub seed: Option<u64>,
    /// Sentences of a language, or the first so many examples of a file; default: `evaluate.sentences`, or all
    #[arg(long, requires = "examples", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Examples in one batch on the adapter; default: as of `measure`
    #[arg(long, requires = "examples", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// A file of examples is a sample of something larger: its numbers get a standard error for that
    #[arg(long, requires = "examples")]
    pub as_sample: bool,
    #[command(flatten)]
    pub json: Json,
}

impl Regauge {
    /// What `measure` is asked, where there are examples.
    pub fn measurement(&self) -> Option<Common> {
        let on = ModelAndExamples {
            model: self.model.clone(),
            examples: self.examples.clone()?,
            overrides: self.overrides.clone(),
            seed: self.seed,
            count: self.count,
            batch: self.batch,
            as_sample: self.as_sample,
        };
        Some(Common { on, only: vec![], probes: 8, probe_seed: None, json: self.json.clone() })
    }
}

/// Factors that are taken: squares of what they multiply are numbers of single precision.
const FACTORS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// A factor, as a number or a fraction.
fn factor(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| "write a number, as 4, 0.25 or 1/4".to_string());
    let value = match text.split_once('/') {
        Some((above, below)) => number(above)? / number(below)?,
        None => number(text)?,
    };
    match FACTORS.contains(&value) {
        true => Ok(value),
        false => Err(format!("a factor lies between {:e} and {:e}", FACTORS.start(), FACTORS.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn factors_are_numbers_and_fractions_in_range() {
        assert_eq!((factor("4"), factor("0.25"), factor("1/4")), (Ok(4.0), Ok(0.25), Ok(0.25)));
        for wrong in ["0", "-1", "nan", "inf", "1e7", "1/0", "0/0", "a", "", "1/", "1e-7"] {
            assert!(factor(wrong).is_err(), "{wrong}");
        }
    }
}
