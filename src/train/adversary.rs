//! The adversarial algorithm: minimise the pre-training loss minus λ times the loss of a linear head that learns a
//! downstream task from the encoder's representations (Liu, Xie, Li, Ma 2023).
//!
//! The head is what a linear probe is, a classifier on the concatenated token representations of the last layer. It
//! learns from one set of labelled sentences, by AdamW, a few steps before each step of the encoder; the encoder feels
//! its loss on another set. Both sets have seeds that neither training, evaluation nor probes use.
//!
//! The head's loss has no upper bound, and an encoder could raise it for ever by making the head wrong rather than
//! ignorant. So a batch counts only while the head's mean loss on it is below `ceiling` times the entropy of the
//! labels: at 1, the loss of the best head that knows nothing of the sentence, there is nothing left to take away.
//!
//! Batches are a function of (seed, step); the head and its moments are part of a checkpoint.

use super::checkpoint::{MissingTensor, NamedTensor};
use crate::config::{Adversarial, ConfigError};
use crate::gpu::{Buffer, Gpu, GpuError, Program, Stamp, Step};
use crate::language::{Labelled, Language, Task, part, part_seed, task_names};
use crate::model::{Arena, Model, SentenceHead, SentenceHeadPass, Side, SideMemory, TokenIds};
use crate::ops::batch::Sentence;
use crate::ops::optimizer::ChunkBuffers;
use crate::ops::{Batch, Optimizer, Treatment, UpdateRule, adversary, statistics};
use crate::random::{Purpose, Stream};

/// The labelled sentences of both sets.
#[derive(Clone, Debug)]
pub struct AdversaryData {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What the head learns from, and what its loss is taken on; each unmasked, its class marked at `<s>`.
    pub sets: [Vec<Sentence>; 2],
    /// Entropy of the first set's classes, in nats.
    pub entropy: f64,
    /// Tokens of the longest sentence that there may be.
    pub tokens: u32,
}

fn refused<E: std::fmt::Display>(key: &str) -> impl Fn(E) -> ConfigError {
    let place = format!("train.algorithm.{key}");
    move |error| ConfigError::at(place.clone(), error)
}

/// Sizes of the head for a language.
///
/// # Errors
/// When the language has no such task.
pub(super) fn head_of(algorithm: &Adversarial, language: &dyn Language) -> Result<SentenceHead, ConfigError> {
    let task: Task = algorithm.task.parse().map_err(refused("task"))?;
    let names = task_names(language, task).map_err(refused("task"))?;
    Ok(SentenceHead { classes: names.len() as u32, tokens: language.max_length() as u32 + 2 })
}

impl AdversaryData {
    /// Draws and labels sentences.
    ///
    /// # Errors
    /// When the language has no such task, hardly a sentence has a label, or all have the same.
    pub fn draw(
        algorithm: &Adversarial,
        language: &dyn Language,
        tokens: &TokenIds,
        seed: u64,
    ) -> Result<AdversaryData, ConfigError> {
        let task: Task = algorithm.task.parse().map_err(refused("task"))?;
        let mut classes = language.label_names(task).map_err(refused("task"))?;
        classes.sort_unstable();
        let draw = |part| {
            let seed = part_seed(seed, part);
            let found = Labelled::draw(language, task, algorithm.with_prior, seed, algorithm.sentences as usize)
                .map_err(refused("task"))?;
            let one = |(words, label): (Vec<u32>, crate::language::Label)| {
                let class = classes.binary_search(&label.symbol).expect("a label is one of the task's names");
                tokens.classified(&words, class as u32)
            };
            Ok::<Vec<Sentence>, ConfigError>(found.sentences.into_iter().map(one).collect())
        };
        let sets = [draw(part::ADVERSARY_HEAD)?, draw(part::ADVERSARY_LOSS)?];
        let mut counts = vec![0usize; classes.len()];
        sets[0].iter().for_each(|s| counts[s.masked[0].1 as usize] += 1);
        let share = |n: &usize| *n as f64 / sets[0].len() as f64;
        let entropy: f64 = counts.iter().filter(|n| **n > 0).map(|n| -share(n) * share(n).ln()).sum();
        if counts.iter().filter(|n| **n > 0).count() < 2 {
            return Err(refused("task")("all labels are the same; there is nothing to unlearn"));
        }
        Ok(AdversaryData { classes, sets, entropy, tokens: language.max_length() as u32 + 2 })
    }
}

/// The head with its programs, and what they add to a trainer's gradient.
pub struct Adversary {
    gpu: Gpu,
    algorithm: Adversarial,
    run: AdversaryRun,
    data: AdversaryData,
    shape: SentenceHead,
    /// vec4 of W and b.
    sizes4: [u32; 2],
    /// W and b, and their two moments.
    theta: [Buffer; 2],
    moments: [[Buffer; 2]; 2],
    learn: SentenceHeadPass,
    /// Tally and update of the head.
    learned: Program,
    against: SentenceHeadPass,
    /// Gradient of the head's mean loss by the encoder's parameters, times `train.loss_scale`.
    gradient: Arena,
    /// Tally and bound of that loss.
    judged: Program,
    blend: Program,
    log: Buffer,
}

/// What the encoder felt of the head in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdversaryLine {
    /// The head's mean loss on the batch.
    pub loss: f32,
    /// -λ, or 0 above the ceiling.
    pub factor: f32,
}

/// Bytes that an adversary takes of the adapter: the gradient, the head with its moments, activations and batches, and
/// small things.
pub(super) fn adversary_bytes(model: &Model, head: SentenceHead, sentences: u32, ring: u32) -> Result<u64, GpuError> {
    let (encoder, alignment) = (&model.encoder, model.gpu().alignment());
    let arena = Arena::bytes(encoder, alignment);
    let [w, b] = head.sizes4(encoder).map(|n| (u64::from(n) * 16).next_multiple_of(alignment));
    let mut bytes = arena + 4 * (w + b) + u64::from(ring) * 16 + 16 * (w / 65536 + 8);
    for side in [Side::Head, Side::Encoder] {
        bytes += SentenceHeadPass::bytes(model, head, side, sentences)?;
    }
    Ok(bytes)
}

/// The run that an adversary works in.
#[derive(Clone, Copy, Debug)]
pub struct AdversaryRun {
    /// The run's steps.
    pub steps: u64,
    /// Of the batches.
    pub seed: u64,
    /// What the losses are multiplied by before the backward pass.
    pub scale: f32,
    /// Steps that the log holds before it starts again.
    pub ring: u32,
}

impl Adversary {
    /// Plans and allocates. `whole` is the gradient that the update reads.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(
        model: &Model,
        whole: &Arena,
        algorithm: &Adversarial,
        data: AdversaryData,
        run: AdversaryRun,
    ) -> Result<Adversary, GpuError> {
        let (gpu, encoder, ring) = (model.gpu(), &model.encoder, run.ring);
        let shape = SentenceHead { classes: data.classes.len() as u32, tokens: data.tokens };
        let sizes4 = shape.sizes4(encoder);
        // Parameters, gradients and the two moments.
        let each = sizes4.map(|n| u64::from(n) * 16);
        let mut made = gpu.buffers("the adversary's head", &each.repeat(4))?.into_iter();
        let mut pair = || -> [Buffer; 2] { std::array::from_fn(|_| made.next().expect("as many as sizes")) };
        let (theta, own, moments) = (pair(), pair(), [pair(), pair()]);
        let gradient = Arena::new(gpu, encoder, "the adversarial gradient")?;
        let pass = |side, gradients: &[Buffer]| {
            SentenceHeadPass::new(model, shape, side, &SideMemory { theta: &theta, gradients }, algorithm.batch)
        };
        let learn = pass(Side::Head, &own)?;
        let against = pass(Side::Encoder, &gradient.matrices)?;
        let chunks: Vec<ChunkBuffers> = (0..2)
            .map(|i| ChunkBuffers {
                theta: theta[i].clone(),
                gradient: own[i].clone(),
                first: Some(moments[0][i].clone()),
                second: Some(moments[1][i].clone()),
                size4: sizes4[i],
                decay: i == 0,
            })
            .collect();
        let optimizer = Optimizer::new(gpu, UpdateRule::ADAMW, Treatment::PLAIN, chunks, 1)?;
        let mut after = vec![optimizer.tally(learn.loss_buffer(), learn.weight_buffer())];
        after.extend(optimizer.update());
        let learned = Program::new(gpu, after)?;
        let tally = gpu.buffer("the adversarial tally", 16)?;
        let factor = gpu.buffer("the adversarial factor", 16)?;
        let log = gpu.buffer("the adversary's log", u64::from(ring) * 16)?;
        let ceiling = (algorithm.ceiling * data.entropy) as f32;
        let judged = Program::new(
            gpu,
            vec![
                statistics::tally(against.loss_buffer(), against.weight_buffer(), &tally),
                adversary::bound(&tally, optimizer.state(), &factor, &log, ring, ceiling),
            ],
        )?;
        let pairs = gradient.chunks.iter().zip(&whole.chunks);
        let blend = pairs.map(|(a, g)| adversary::blend(&a.buffer, &factor, &g.buffer, g.size4)).collect();
        let blend = Program::new(gpu, blend)?;
        let algorithm = algorithm.clone();
        Ok(Adversary {
            gpu: gpu.clone(),
            algorithm,
            run,
            data,
            shape,
            sizes4,
            theta,
            moments,
            learn,
            learned,
            against,
            gradient,
            judged,
            blend,
            log,
        })
    }

    /// Dispatches of one step of the encoder.
    pub(super) fn dispatches(&self) -> usize {
        let head = self.learn.dispatches() + self.learned.len();
        head * self.algorithm.head_steps as usize + self.against.dispatches() + self.judged.len() + self.blend.len()
    }

    /// The sentences of batch `number` of a step, from one of the sets.
    fn chosen(&self, set: usize, step: u64, number: u64) -> Vec<Sentence> {
        let sentences = &self.data.sets[set];
        let index = step * (u64::from(self.algorithm.head_steps) + 1) + number;
        let mut stream = Stream::new(self.run.seed, Purpose::Adversary, index);
        let mut one = || sentences[stream.below(sentences.len() as u32) as usize].clone();
        (0..self.algorithm.batch).map(|_| one()).collect()
    }

    fn batch(&self, set: usize, step: u64, number: u64) -> Batch {
        Batch::new(self.learn.layout(), &self.chosen(set, step, number))
    }

    /// Submits the head's steps and the adversarial gradient of a step of the encoder, counted from 0.
    pub(super) fn advance(
        &self,
        step: u64,
        mut stamp: Option<Stamp<'_>>,
    ) -> Result<Vec<wgpu::SubmissionIndex>, GpuError> {
        let gpu = &self.gpu;
        let head_steps = u64::from(self.algorithm.head_steps);
        let mut submitted = Vec::new();
        for k in 0..head_steps {
            let batch = self.batch(0, step, k);
            let taken = step * head_steps + k;
            let numbers = Step {
                counter: [taken as u32, 0],
                user: UpdateRule::ADAMW.numbers(taken, self.algorithm.head_lr),
                ..batch.step(1)
            };
            let mut encoder = gpu.encoder();
            self.learn.encode(&mut encoder, &batch, 1.0 / batch.masked() as f32, &numbers, stamp.take())?;
            self.learned.encode(gpu, &mut encoder, &numbers)?;
            submitted.push(gpu.submit(encoder));
        }
        let batch = self.batch(1, step, head_steps);
        let weight = self.algorithm.weight_at(step, self.run.steps);
        let numbers = Step { counter: [step as u32, 0], user: adversary::numbers(weight), ..batch.step(1) };
        let mut encoder = gpu.encoder();
        self.against.encode(&mut encoder, &batch, self.run.scale / batch.masked() as f32, &numbers, stamp.take())?;
        self.judged.encode(gpu, &mut encoder, &numbers)?;
        submitted.push(gpu.submit(encoder));
        Ok(submitted)
    }

    /// Adds the adversarial gradient, times its factor, to the whole one.
    pub(super) fn blend(&self, encoder: &mut wgpu::CommandEncoder, numbers: &Step) -> Result<(), GpuError> {
        self.blend.encode(&self.gpu, encoder, numbers)
    }

    /// The lines of steps, as long as the log still holds them.
    pub(super) fn lines(&self, steps: std::ops::Range<u64>) -> Result<Vec<AdversaryLine>, GpuError> {
        let lines: Vec<[f32; 4]> = self.gpu.read(&self.log, self.run.ring as usize)?;
        let line = |step: u64| lines[(step % u64::from(self.run.ring)) as usize];
        Ok(steps.map(line).map(|l| AdversaryLine { loss: l[0], factor: l[1] }).collect())
    }

    /// The gradient of the head's mean loss by the encoder's parameters, times the loss scale, as the last step left
    /// it, and the sentences of a step that it is taken on.
    pub fn last(&self, step: u64) -> (&Arena, Vec<Sentence>) {
        (&self.gradient, self.chosen(1, step, u64::from(self.algorithm.head_steps)))
    }

    /// Names, shapes and memory of what a checkpoint holds.
    fn parts(&self) -> Vec<(String, Vec<usize>, &Buffer)> {
        let (classes, width) = (self.shape.classes as usize, self.sizes4[0] as usize * 4);
        let width = width / classes.next_multiple_of(4);
        let shapes = [vec![classes, width], vec![classes]];
        [("", &self.theta), ("first.", &self.moments[0]), ("second.", &self.moments[1])]
            .into_iter()
            .flat_map(|(prefix, buffers)| {
                let names = ["head.weight", "head.bias"];
                names
                    .into_iter()
                    .zip(shapes.clone())
                    .zip(buffers)
                    .map(move |((n, s), b)| (format!("{prefix}{n}"), s, b))
            })
            .collect()
    }

    /// Waits and reads the head and its moments.
    pub fn state(&self) -> Result<Vec<NamedTensor>, GpuError> {
        let parts = self.parts();
        let sizes: Vec<(&Buffer, usize)> =
            parts.iter().map(|(_, s, b)| (*b, s.iter().product::<usize>() * 4)).collect();
        let values = self.gpu.read_many(&sizes)?;
        Ok(parts
            .into_iter()
            .zip(values)
            .map(|((name, shape, _), bytes)| NamedTensor { name, shape, values: bytemuck::pod_collect_to_vec(&bytes) })
            .collect())
    }

    /// Goes on with what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn restore(&self, state: &[NamedTensor]) -> Result<(), MissingTensor> {
        for (name, shape, buffer) in self.parts() {
            match state.iter().find(|t| t.name == name && t.shape == shape) {
                Some(tensor) => self.gpu.write(buffer, &tensor.values),
                None => return Err(MissingTensor(name)),
            }
        }
        Ok(())
    }
}
