//! A linear probe on the adapter: multinomial logistic regression, logits = W x + b, trained by AdamW.
//!
//! The graph is that of a head over gathered rows: features of all sentences lie on the adapter once, a step's
//! mini-batch is the list of its rows, and the operations and the optimiser are those of pre-training. Weight decay
//! applies to W. Initial weights are uniform within ±1 / √width as torch.nn.Linear's; they and the order of examples
//! differ from seed to seed. The parameters kept are those of the epoch with the best validation accuracy ([`Fit`]).
//!
//! Features may be dropped in training, and may be other ones in each epoch ([`Fresh`]): those of an encoder that is
//! itself in training, of which each example is seen once an epoch.

use std::collections::{HashMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::Targets;
use super::epochs::{Epochs, Learner};
use super::features::Features;
use super::outcome::{DownstreamError, Fit, Room, each_seed, judge};
use crate::gpu::{Buffer, Gpu, GpuError, Program, Step};
use crate::graph::{Dims, Emit, ExecutionPlan, Graph, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::counts::{self, MASKED};
use crate::ops::optimizer::ChunkBuffers;
use crate::ops::{BatchBuffers, Device, Labels, Optimizer, Treatment, UpdateRule};
use crate::random::{Purpose, Stream};

/// The course of a probe's learning rate behind its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateSchedule {
    /// Stays.
    #[default]
    Constant,
    /// Falls linearly to 1e-7 at the last step: `polynomial` of `transformers`, whose power is 1 by default.
    Polynomial,
}

/// The settings of a probe's training.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    /// Learning rate of AdamW, the same in every step.
    pub lr: f64,
    /// Passes over the training part.
    pub epochs: u32,
    /// Sentences per step.
    pub batch: u32,
    /// Decay of AdamW's two moments in a step.
    pub betas: [f64; 2],
    /// Added to the root of AdamW's second moment.
    pub eps: f64,
    /// AdamW's, on the weights and not on the bias.
    pub weight_decay: f64,
    /// Probability with which a feature is dropped in training.
    pub dropout: f64,
    /// Behind the warm-up.
    pub schedule: RateSchedule,
    /// Steps over which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
}

/// Where [`RateSchedule::Polynomial`] ends.
const LAST_RATE: f64 = 1e-7;

impl LinearProbe {
    /// The learning rate of a step, counted from 0, of `steps`.
    ///
    /// ```
    /// use lowland::downstream::{LinearProbe, RateSchedule};
    /// let probe = LinearProbe { schedule: RateSchedule::Polynomial, warmup_steps: 2, ..LinearProbe::default() };
    /// assert_eq!([0, 1, 2].map(|step| probe.rate(step, 10)), [0.0, 5e-4, 1e-3]);
    /// ```
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * step as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            RateSchedule::Constant => self.lr,
            RateSchedule::Polynomial => {
                let falling = steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let left = 1.0 - (step - self.warmup_steps) as f64 / falling;
                (self.lr - LAST_RATE) * left + LAST_RATE
            }
        }
    }

    /// What cannot be.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(("feature_dropout", format!("{} must lie in [0, 1)", self.dropout)));
        }
        if self.schedule == RateSchedule::Polynomial && self.lr <= LAST_RATE {
            return Err(("lr", format!("{} is not above {LAST_RATE:e}, where a polynomial schedule ends", self.lr)));
        }
        Ok(())
    }

    /// In words, with what differs from the default.
    pub fn describe(&self) -> String {
        let mut text = format!("AdamW {}, {} epochs of batches of {}", self.lr, self.epochs, self.batch);
        if self.warmup_steps > 0 {
            text += &format!(", {} steps of warm-up", self.warmup_steps);
        }
        if self.schedule == RateSchedule::Polynomial {
            text += ", falling linearly";
        }
        if self.dropout > 0.0 {
            text += &format!(", features dropped with probability {}", self.dropout);
        }
        text
    }
}

/// The training part's features for an epoch of a seed's fit.
pub type Fresh<'f> = &'f dyn Fn(u64, u32) -> Result<Features, DownstreamError>;

impl Default for LinearProbe {
    /// The paper's AdamW at 1e-3 over 100 epochs; what it leaves open as in torch.optim.AdamW.
    fn default() -> Self {
        LinearProbe {
            lr: 1e-3,
            epochs: 100,
            batch: 128,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            dropout: 0.0,
            schedule: RateSchedule::Constant,
            warmup_steps: 0,
        }
    }
}

/// Rows of one evaluation pass.
const ROWS: u32 = 512;
/// Steps on their way before the host waits for the oldest.
const IN_FLIGHT: usize = 4;

/// Planned programs over features that are on the adapter.
struct Bench {
    classes: u32,
    width: u32,
    rows: u32,
    train: ExecutionPlan,
    train_batch: BatchBuffers,
    forward: ExecutionPlan,
    forward_batch: BatchBuffers,
    logits: TensorId,
    /// The features of all rows.
    table: Buffer,
    /// W and b.
    theta: [Buffer; 2],
    /// The buffers that every seed begins with as zeros.
    zeroed: Vec<Buffer>,
    optimizer: Optimizer,
    after: Program,
}

/// Fits a probe for each seed. `features` holds the rows of the training, validation and test part one after another,
/// and `targets` their classes, or more ([`Targets`]).
///
/// # Errors
/// [`DownstreamError::Interrupted`] with the fits that are whole; what the adapter says; a loss that is not finite.
pub fn probe<'t>(
    device: &Device,
    options: &LinearProbe,
    features: &Features,
    targets: impl Into<Targets<'t>>,
    classes: u32,
    seeds: &[u64],
) -> Result<Vec<Fit>, DownstreamError> {
    fit_each(device, options, features, None, targets.into(), classes, seeds)
}

/// The same with the training part's features drawn anew for each epoch; those in `features` are not used.
///
/// # Errors
/// As [`probe`], and as `fresh`.
pub fn probe_fresh<'t>(
    device: &Device,
    options: &LinearProbe,
    features: &Features,
    fresh: Fresh<'_>,
    targets: impl Into<Targets<'t>>,
    classes: u32,
    seeds: &[u64],
) -> Result<Vec<Fit>, DownstreamError> {
    fit_each(device, options, features, Some(fresh), targets.into(), classes, seeds)
}

fn fit_each(
    device: &Device,
    options: &LinearProbe,
    features: &Features,
    fresh: Option<Fresh<'_>>,
    targets: Targets<'_>,
    classes: u32,
    seeds: &[u64],
) -> Result<Vec<Fit>, DownstreamError> {
    let labels = if targets.soft { Labels::Soft } else { Labels::Hard };
    let bench = Bench::new(device, options, features, classes, labels)?;
    each_seed(seeds, |seed| bench.fit(&device.gpu, options, fresh, targets, seed))
}

/// Bytes that `rows` sentences of `width` features take on an adapter.
///
/// # Errors
/// Where they take more than it binds at once.
pub fn check_room(gpu: &Gpu, rows: usize, width: usize) -> Result<u64, Room> {
    let caps = gpu.capabilities();
    let bytes = rows as u64 * width.next_multiple_of(4) as u64 * 4;
    let most = caps.largest_binding.min(caps.largest_buffer);
    match bytes > most {
        false => Ok(bytes),
        true => Err(Room { place: None, rows, width, bytes, most }),
    }
}

impl Bench {
    fn new(
        device: &Device,
        options: &LinearProbe,
        features: &Features,
        classes: u32,
        labels: Labels,
    ) -> Result<Bench, DownstreamError> {
        let Device { gpu, variants } = device;
        let bytes = check_room(gpu, features.rows(), features.width)?;
        let (rows, width) = (features.rows() as u32, features.width as u32);
        let mut graph = Graph::default();
        let all = graph.input("features", counts::ROWS, width);
        let w = graph.parameter("probe.weight", classes, width);
        let b = graph.parameter("probe.bias", 1, classes);
        let x = graph.gather(all);
        let mut forward = graph.clone();
        let logits = forward.linear(x, w, Some(b), None);
        let x = graph.dropout(x, options.dropout, 1);
        let trained = graph.linear(x, w, Some(b), None);
        let loss = graph.cross_entropy(trained, labels);
        let weight = graph.input("weight", MASKED, 4);
        let adjoints = graph.gradient(&[(loss, weight)]);
        let layout = BatchLayout { tables: [1; 3], first_position: 0, segment: variants.sums().segment };
        let dims = |masked: u32| Dims { rows, masked, sentences: 1, probes: 1, longest: 0 };
        let batch = |masked, soft| BatchBuffers::new(gpu, &dims(masked), &layout, variants, classes, soft);
        let (train_batch, forward_batch) = (batch(options.batch, labels == Labels::Soft)?, batch(ROWS, false)?);
        let size4 = |id| dims(1).size4(graph.tensor(id).rows, graph.tensor(id).cols);
        let each: [u64; 2] = [size4(w) * 16, size4(b) * 16];
        // Parameters, gradients and the two moments; a moment or a gradient of each parameter.
        let mut made = gpu.buffers("the probe", &each.repeat(4))?.into_iter();
        let mut pair = || -> [Buffer; 2] { std::array::from_fn(|_| made.next().expect("as many as sizes")) };
        let (theta, gradient, first, second) = (pair(), pair(), pair(), pair());
        let table = gpu.buffer("the features", bytes)?;
        upload(gpu, &table, features);
        let mut outside: HashMap<TensorId, Buffer> =
            HashMap::from([(all, table.clone()), (w, theta[0].clone()), (b, theta[1].clone())]);
        let forward = ExecutionPlan::new(device, &forward, dims(ROWS), &forward_batch, &outside, &[logits])?;
        outside.extend([(adjoints[&w], gradient[0].clone()), (adjoints[&b], gradient[1].clone())]);
        outside.insert(weight, train_batch.weight.clone());
        let train = ExecutionPlan::new(device, &graph, dims(options.batch), &train_batch, &outside, &[loss])?;
        let chunks: Vec<ChunkBuffers> = (0..2)
            .map(|i| ChunkBuffers {
                theta: theta[i].clone(),
                gradient: gradient[i].clone(),
                first: Some(first[i].clone()),
                second: Some(second[i].clone()),
                size4: (each[i] / 16) as u32,
                decayed4: if i == 0 { (each[i] / 16) as u32 } else { 0 },
            })
            .collect();
        let rule = UpdateRule::AdamW { betas: options.betas, eps: options.eps, decay: options.weight_decay };
        let optimizer = Optimizer::new(device, rule, Treatment::PLAIN, chunks, 1)?;
        let losses = train.buffer(loss).expect("the loss is kept");
        let mut after = vec![optimizer.tally(losses, &train_batch.weight)];
        after.extend(optimizer.update());
        Ok(Bench {
            classes,
            width,
            rows,
            train,
            train_batch,
            forward,
            forward_batch,
            logits,
            table,
            theta,
            zeroed: first.into_iter().chain(second).chain([optimizer.state().clone()]).collect(),
            optimizer,
            after: Program::new(gpu, after)?,
        })
    }

    /// Writes a seed's initial weights and clears the optimiser.
    fn begin(&self, gpu: &Gpu, seed: u64) {
        let bound = 1.0 / f64::from(self.width).sqrt();
        let mut stream = Stream::new(seed, Purpose::Initialise, 0);
        let mut draw = || ((2.0 * stream.uniform() - 1.0) * bound) as f32;
        let wide = self.width.next_multiple_of(4) as usize;
        let mut weights = vec![0.0f32; self.classes as usize * wide];
        for row in weights.chunks_exact_mut(wide) {
            row[..self.width as usize].iter_mut().for_each(|w| *w = draw());
        }
        gpu.write(&self.theta[0], &weights);
        gpu.write(&self.theta[1], &(0..self.classes).map(|_| draw()).collect::<Vec<f32>>());
        let mut encoder = gpu.encoder();
        self.zeroed.iter().for_each(|buffer| gpu.clear(&mut encoder, buffer));
        gpu.submit(encoder);
    }

    fn step(&self, masked: usize) -> Step {
        Step { counts: [self.rows, masked as u32, 1], probes: 1, ..Step::default() }
    }

    /// Logits of rows `first..first + count`.
    fn logits(&self, gpu: &Gpu, first: usize, count: usize) -> Result<Vec<f32>, GpuError> {
        let (classes, wide) = (self.classes as usize, self.classes.next_multiple_of(4) as usize);
        let mut all = Vec::with_capacity(count * classes);
        for from in (first..first + count).step_by(ROWS as usize) {
            let rows: Vec<u32> = (from as u32..((from + ROWS as usize).min(first + count)) as u32).collect();
            gpu.write(&self.forward_batch.index, &rows);
            self.forward.run(gpu, &self.step(rows.len()))?;
            let padded: Vec<f32> =
                gpu.read(self.forward.buffer(self.logits).expect("the logits are kept"), rows.len() * wide)?;
            all.extend(padded.chunks_exact(wide).flat_map(|row| row[..classes].iter().copied()));
        }
        Ok(all)
    }

    fn fit(
        &self,
        gpu: &Gpu,
        options: &LinearProbe,
        fresh: Option<Fresh<'_>>,
        targets: Targets<'_>,
        seed: u64,
    ) -> Result<Fit, DownstreamError> {
        self.begin(gpu, seed);
        let [train, validation, test] = targets.labels.map(<[u32]>::len);
        let steps = u64::from(options.epochs) * (train as u64).div_ceil(options.batch.into());
        let (in_flight, taken) = (VecDeque::new(), 0);
        let mut fitting = Fitting { bench: self, gpu, options, fresh, targets, seed, steps, in_flight, taken };
        let (examples, batch, by_loss) = (train as u32, options.batch, targets.known());
        let epochs = Epochs { seed, examples, batch, epochs: options.epochs, by_loss };
        let best = epochs.fit(&mut fitting)?;
        let state: Vec<[f32; 4]> = gpu.read(self.optimizer.state(), 1)?;
        if state[0][1] > 0.0 {
            return Err(DownstreamError::Diverged { seed, step: u64::from(state[0][2].to_bits()) + 1 });
        }
        self.theta.iter().zip(&best.weights).for_each(|(buffer, values)| gpu.write(buffer, values));
        let logits = self.logits(gpu, train + validation, test)?;
        let found = judge(&logits, self.classes as usize, targets.labels[2], targets.posteriors[2]);
        Ok(best.judged(found, None))
    }

    fn read(&self, gpu: &Gpu) -> Result<[Vec<f32>; 2], GpuError> {
        let parts: Vec<(&Buffer, usize)> = self.theta.iter().map(|b| (b, b.bytes() as usize)).collect();
        let mut read = gpu.read_many(&parts)?.into_iter().map(|bytes| bytemuck::pod_collect_to_vec(&bytes));
        Ok(std::array::from_fn(|_| read.next().expect("two were read")))
    }
}

/// One seed's fit.
struct Fitting<'a> {
    bench: &'a Bench,
    gpu: &'a Gpu,
    options: &'a LinearProbe,
    fresh: Option<Fresh<'a>>,
    targets: Targets<'a>,
    seed: u64,
    /// Steps to take.
    steps: u64,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// Steps taken.
    taken: u64,
}

impl Learner for Fitting<'_> {
    type Weights = [Vec<f32>; 2];

    fn begin_epoch(&mut self, epoch: u32) -> Result<(), DownstreamError> {
        if let Some(fresh) = self.fresh {
            upload(self.gpu, &self.bench.table, &fresh(self.seed, epoch)?);
        }
        Ok(())
    }

    fn step(&mut self, examples: &[u32]) -> Result<(), DownstreamError> {
        let (bench, gpu) = (self.bench, self.gpu);
        let Targets { labels, posteriors, soft } = self.targets;
        let hard: Vec<[u32; 4]> = examples.iter().map(|e| [labels[0][*e as usize], 0, 0, 0]).collect();
        if soft {
            gpu.write(&bench.train_batch.soft, &padded(examples.iter().map(|e| &posteriors[0][*e as usize])));
        }
        gpu.write(&bench.train_batch.index, examples);
        gpu.write(&bench.train_batch.hard, &hard);
        gpu.write(&bench.train_batch.weight, &vec![[1.0 / examples.len() as f32, 0.0, 0.0, 0.0]; examples.len()]);
        let step = Step {
            seed: [self.seed as u32, (self.seed >> 32) as u32 ^ Purpose::Dropout as u32],
            counter: [self.taken as u32, 0],
            user: bench.optimizer.numbers(self.taken, self.options.rate(self.taken, self.steps)),
            ..bench.step(examples.len())
        };
        let mut encoder = gpu.encoder();
        bench.train.program().encode(gpu, &mut encoder, &step)?;
        bench.after.encode(gpu, &mut encoder, &step)?;
        self.in_flight.push_back(gpu.submit(encoder));
        self.taken += 1;
        if self.in_flight.len() > IN_FLIGHT
            && let Some(oldest) = self.in_flight.pop_front()
        {
            gpu.wait(oldest)?;
        }
        Ok(())
    }

    fn validate(&mut self) -> Result<(f64, f64), DownstreamError> {
        self.gpu.fault()?;
        let [train, validation, _] = self.targets.labels.map(<[u32]>::len);
        let logits = self.bench.logits(self.gpu, train, validation)?;
        let Targets { labels, posteriors, .. } = self.targets;
        let found = judge(&logits, self.bench.classes as usize, labels[1], posteriors[1]);
        Ok((found.accuracy, found.loss))
    }

    fn weights(&mut self) -> Result<[Vec<f32>; 2], DownstreamError> {
        Ok(self.bench.read(self.gpu)?)
    }
}

/// Soft labels in rows padded with zeros to a multiple of 4 numbers.
fn padded<'p>(rows: impl Iterator<Item = &'p Vec<f64>>) -> Vec<f32> {
    let row = |p: &'p Vec<f64>| {
        let zeros = p.len().next_multiple_of(4) - p.len();
        p.iter().map(|p| *p as f32).chain(std::iter::repeat_n(0.0, zeros))
    };
    rows.flat_map(row).collect()
}

/// Writes rows padded to a multiple of 4 numbers.
fn upload(gpu: &Gpu, buffer: &Buffer, features: &Features) {
    let wide = features.width.next_multiple_of(4);
    // A few MiB at a time, so that the copy of the queue stays small.
    let rows = ((4 << 20) / (wide * 4)).max(1);
    for (i, block) in features.values.chunks(rows * features.width).enumerate() {
        let mut padded = vec![0.0f32; block.len() / features.width * wide];
        for (to, from) in padded.chunks_exact_mut(wide).zip(block.chunks_exact(features.width)) {
            to[..features.width].copy_from_slice(from);
        }
        gpu.write_at(buffer, (i * rows * wide * 4) as u64, &padded);
    }
}
