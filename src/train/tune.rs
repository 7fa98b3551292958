//! Measured choice of kernel variants: the table's rows timed on a config's own gradient, and the fastest kept in a
//! file that later runs of the same shapes on the same adapter use.
//!
//! One gradient is timed with every row of the table: by a timestamp around each dispatch where the adapter has them,
//! so that all operations are measured in one go, else by the host's clock with one operation changed at a time.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::{Corpus, step_data};
use crate::cache::cache_folder;
use crate::config::{Resolved, TrainSection};
use crate::gpu::{Gpu, GpuError};
use crate::model::{Encoder, GradientPass, Model, Weights};
use crate::ops::{Batch, Device, Dims, Family, Labels, Variants};

/// Repeats; the median counts.
const REPEATS: usize = 5;
/// Seconds of one gradient above which a single one must do.
const SLOW: f64 = 2.0;
/// What one row must save of another's time to be taken instead of the one that is chosen anyway: less is noise.
const WORTH: f64 = 0.03;

/// What is tuned for: an adapter with its driver, and the shapes of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub adapter: String,
    /// Its name and version.
    pub driver: String,
    /// Sizes of the model and of the batch.
    pub shapes: String,
}

impl Subject {
    /// The subject of a run.
    pub fn new(gpu: &Gpu, encoder: &Encoder, dims: &Dims, labels: Labels) -> Subject {
        let info = gpu.info();
        let c = &encoder.config;
        Subject {
            adapter: format!("{} ({:?})", info.name, info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            shapes: format!(
                "{}, vocabulary {}, tied {}, dropout {} {}, rows {}, masked {}, sentences {}, {labels:?} labels",
                c.shape(),
                c.vocab_size,
                c.tie_word_embeddings,
                c.hidden_dropout_prob,
                c.attention_probs_dropout_prob,
                dims.rows,
                dims.masked,
                dims.sentences,
            ),
        }
    }

    /// Where its choice is kept; `None` where there is no home folder.
    pub fn path(&self) -> Option<PathBuf> {
        let text = serde_json::to_string(self).expect("plain values");
        let name = format!("{}.json", &blake3::hash(text.as_bytes()).to_hex()[..16]);
        Some(cache_folder()?.join("tuned").join(name))
    }
}

/// One measured row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// An operation of the variant table.
    pub operation: String,
    /// One of its variants.
    pub variant: String,
    /// Of all dispatches of the operation in a gradient; with the host's clock, of the whole gradient.
    pub seconds: f64,
}

/// A measured choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// What it was measured for.
    #[serde(flatten)]
    pub subject: Subject,
    /// The fastest of each operation.
    pub variants: Variants,
    /// Whether single operations were timed, by timestamps.
    pub timestamps: bool,
    /// Every row that was timed.
    pub measured: Vec<Measured>,
}

impl Tuning {
    /// The kept choice for a subject, if there is one that the adapter can run. A file that cannot be read counts as
    /// none.
    pub fn find(gpu: &Gpu, subject: &Subject) -> Option<Tuning> {
        let text = std::fs::read_to_string(subject.path()?).ok()?;
        let mut tuning: Tuning = serde_json::from_str(&text).ok()?;
        tuning.variants = tuning.variants.runnable(gpu.capabilities())?;
        (tuning.subject == *subject).then_some(tuning)
    }

    /// Keeps it for later runs, and says where.
    pub fn keep(&self) -> std::io::Result<PathBuf> {
        let path =
            self.subject.path().ok_or_else(|| std::io::Error::other("there is no folder for caches (set HOME)"))?;
        std::fs::create_dir_all(path.parent().expect("a file in a folder"))?;
        // By rename, so that another process reads the old file or the new one.
        let text = serde_json::to_string_pretty(self).expect("plain values") + "\n";
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &path)?;
        Ok(path)
    }
}

/// What is timed: a model's gradient on a batch of the config's.
pub(super) struct Trial<'t> {
    pub encoder: &'t Encoder,
    pub corpus: &'t Corpus,
    pub labels: Labels,
    pub dims: Dims,
}

impl Trial<'_> {
    /// Times the table and takes the fastest row of each operation.
    pub fn tune(&self, gpu: &Gpu, resolved: &Resolved, note: &dyn Fn(&str)) -> Result<Tuning, GpuError> {
        let chosen = Variants::choose(gpu.capabilities());
        let weights = Weights::initial(&self.encoder.parameters, 0.02, 1);
        let model = Model::new(&Device::new(gpu, chosen), self.encoder, &weights)?;
        let seconds = |variants: &Variants| {
            note(&variants.to_string());
            let model = Model { device: model.device.with(*variants), ..model.clone() };
            self.seconds(&model, &resolved.config.train)
        };
        let by_stamps = gpu.capabilities().timestamps;
        let mut best = chosen;
        let mut measured = Vec::new();
        // Sums come last: how a weight gradient is split is a matter of its kernel.
        let (sums, others): (Vec<_>, Vec<_>) = Family::ALL.into_iter().partition(|o| *o == Family::Sums);
        for group in [others, sums] {
            let groups: Vec<Vec<Family>> = match by_stamps {
                true => vec![group],
                false => group.into_iter().map(|operation| vec![operation]).collect(),
            };
            for group in groups {
                let mut times: Vec<(Family, &str, f64)> = Vec::new();
                for variants in together(&best, &group, gpu) {
                    let all = seconds(&variants)?;
                    for operation in &group {
                        let name = variants.row(*operation).name;
                        if !times.iter().any(|(o, n, _)| o == operation && *n == name) {
                            times.push((*operation, name, all.of(*operation)));
                        }
                    }
                }
                for operation in group {
                    let of = |name: &str| {
                        times.iter().find(|(o, n, _)| *o == operation && *n == name).map_or(f64::INFINITY, |t| t.2)
                    };
                    let own = best.row(operation).name;
                    let rows = times.iter().filter(|(o, ..)| *o == operation);
                    let fastest = rows.clone().min_by(|a, b| a.2.total_cmp(&b.2)).map_or(own, |t| t.1);
                    if of(fastest) < (1.0 - WORTH) * of(own) {
                        best = best.with(operation, fastest).expect("a row of the table");
                    }
                    measured.extend(rows.map(|(o, name, seconds)| Measured {
                        operation: o.name().into(),
                        variant: name.to_string(),
                        seconds: *seconds,
                    }));
                }
            }
        }
        let subject = Subject::new(gpu, self.encoder, &self.dims, self.labels);
        Ok(Tuning { subject, variants: best, timestamps: by_stamps, measured })
    }

    fn seconds(&self, model: &Model, train: &TrainSection) -> Result<Seconds, GpuError> {
        let gpu = model.gpu();
        let pass = GradientPass::new(model, self.dims, self.labels)?;
        let micro = step_data(self.corpus, pass.layout(), 0, train).swap_remove(0);
        let run = |batch: &Batch| match gpu.capabilities().timestamps {
            true => {
                let stamps = pass.time_batch(batch, micro.weight)?;
                let mut sums = Seconds::default();
                for ((_, seconds), operation) in stamps.iter().zip(pass.families()) {
                    sums.whole += seconds;
                    if let Some(operation) = operation {
                        sums.parts[*operation as usize] += seconds;
                    }
                }
                Ok::<_, GpuError>(sums)
            }
            false => {
                let start = Instant::now();
                let mut encoder = gpu.encoder();
                pass.encode(&mut encoder, batch, micro.weight, &batch.step(1))?;
                gpu.wait(gpu.submit(encoder))?;
                let whole = start.elapsed().as_secs_f64();
                Ok(Seconds { whole, parts: [whole; Family::ALL.len()] })
            }
        };
        run(&micro.batch)?;
        let mut all: Vec<Seconds> = Vec::with_capacity(REPEATS);
        while all.len() < REPEATS && all.first().is_none_or(|first| first.whole < SLOW) {
            all.push(run(&micro.batch)?);
        }
        Ok(Seconds {
            whole: median(all.iter().map(|s| s.whole)),
            parts: std::array::from_fn(|i| median(all.iter().map(|s| s.parts[i]))),
        })
    }
}

/// Seconds of a gradient, whole and by operation.
#[derive(Clone, Copy, Default)]
struct Seconds {
    whole: f64,
    parts: [f64; Family::ALL.len()],
}

impl Seconds {
    /// What a choice of an operation's row decides: its own time; for sums the weight gradients' as well.
    fn of(&self, operation: Family) -> f64 {
        let own = self.parts[operation as usize];
        match operation {
            Family::Sums => own + self.parts[Family::LinearTn as usize],
            _ => own,
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Variants that between them hold every row that the adapter can run of some operations, the others as they are.
fn together(best: &Variants, operations: &[Family], gpu: &Gpu) -> Vec<Variants> {
    let usable = |operation: Family| -> Vec<&'static str> {
        let rows = operation.rows().iter().filter(|row| row.missing(gpu.capabilities()).is_none() && !row.mixed());
        rows.map(|row| row.name).collect()
    };
    let most = operations.iter().map(|o| usable(*o).len()).max().unwrap_or(0);
    (0..most)
        .map(|n| {
            operations.iter().fold(*best, |variants, operation| {
                let names = usable(*operation);
                variants.with(*operation, names[n.min(names.len() - 1)]).expect("a row of the table")
            })
        })
        .collect()
}
