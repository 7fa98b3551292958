//! The training step on an adapter: gradient of each micro-batch, norm, update; encoded and submitted without waiting
//! and without reading anything back but a log of losses now and then.

use std::collections::VecDeque;
use std::time::Instant;

use super::adversary::{Adversary, AdversaryData, AdversaryLine, AdversaryRun};
use super::data::Micro;
use crate::config::{Adversarial, AlgorithmKind, OptimizerKind, SamNorm, TrainSection};
use crate::gpu::{Buffer, Gpu, GpuError, Lap, Program, Staging, Stamp, Step, Stopwatch};
use crate::graph::Dims;
use crate::model::{Arena, Encoder, GradientPass, Model, Weights, segments};
use crate::ops::optimizer::{self, ChunkBuffers};
use crate::ops::{Labels, Optimizer, Treatment, UpdateRule};

/// One step's line in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogLine {
    /// Step, counted from 0.
    pub step: u64,
    /// Mean loss of the step's masked positions.
    pub loss: f32,
    /// Norm of the gradient before clipping, of the one that the update takes.
    pub gradient_norm: f32,
    /// Whether something was finite no longer; then nothing is updated any more.
    pub bad: bool,
}

/// Steps that the log holds before it starts again.
pub(super) const RING: u32 = 512;
/// Steps on their way before the host waits for the oldest.
const IN_FLIGHT: usize = 3;
/// Seconds for a step above which only one is on its way.
const LONG: f64 = 0.2;

/// Parameters, moments and programs of a training run.
pub struct Trainer {
    /// The encoder with the parameters as they are now.
    pub model: Model,
    moments: Vec<Arena>,
    sum: Option<Arena>,
    pass: GradientPass,
    tally: Program,
    accumulate: Option<Program>,
    sam: Option<Sam>,
    average: Option<Average>,
    adversary: Option<Adversary>,
    update: Program,
    optimizer: Optimizer,
    /// Peak learning rate.
    lr: f64,
    schedule: (crate::config::ScheduleKind, u64),
    seed: u64,
    /// What the losses are multiplied by before the backward pass.
    scale: f32,
    /// Steps taken.
    pub step: u64,
    /// First step that is not in the log that was read.
    logged: u64,
    submissions: VecDeque<wgpu::SubmissionIndex>,
    asked: Option<Asked>,
    stopwatch: Option<Stopwatch>,
    /// What the timestamps said until now.
    laps: Lap,
}

/// The log on its way to the host.
struct Asked {
    log: Staging,
    /// Timestamps of the steps.
    ticks: Option<Staging>,
    submission: wgpu::SubmissionIndex,
    /// Steps taken when it was asked for.
    steps: u64,
}

/// What sharpness-aware minimisation has beside the gradient pass.
struct Sam {
    /// θ while the parameters are at the top of the ascent.
    _saved: Arena,
    /// Norm of the gradient at θ, and the way up along it.
    ascend: Program,
}

/// The exponential average of the parameters.
struct Average {
    arena: Arena,
    /// β.
    decay: f64,
    /// Steps taken before the first that is in it.
    begun: u64,
}

/// The update rule of a config's optimiser.
pub(super) fn rule_of(optimizer: &OptimizerKind) -> UpdateRule {
    match optimizer {
        OptimizerKind::AdamW(o) => UpdateRule::AdamW { betas: o.betas, eps: o.eps, decay: o.weight_decay },
        OptimizerKind::Sgd(o) => UpdateRule::Sgd { momentum: o.momentum, decay: o.weight_decay },
    }
}

/// Bytes that a trainer has beside arenas, activations and batch: sums of squares, the log and small things.
pub(super) fn trainer_bytes(gpu: &Gpu, encoder: &Encoder, arena: u64) -> u64 {
    let chunks = Arena::chunk_count(gpu, encoder);
    let dispatches = 4 * chunks + 4;
    // A sum of 16 bytes for each 64 KiB of gradient.
    u64::from(RING) * 16 + 256 * dispatches + 16 * (arena / 65536 + chunks)
}

impl Trainer {
    /// Plans and allocates for a model, whose parameters it writes. `dims` is the largest micro-batch.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(model: Model, train: &TrainSection, labels: Labels, dims: Dims, seed: u64) -> Result<Trainer, GpuError> {
        let (gpu, encoder, parameters) = (model.gpu(), &model.encoder, &model.parameters);
        let pass = GradientPass::new(&model, dims, labels)?;
        let several = train.micro_batch() < train.batch_size;
        let sum = several.then(|| Arena::new(gpu, encoder, "the sum of gradients")).transpose()?;
        let rule = rule_of(&train.optimizer);
        let moments: Vec<Arena> = (0..rule.moments())
            .map(|i| Arena::new(gpu, encoder, &format!("moment {}", i + 1)))
            .collect::<Result<_, _>>()?;
        let whole = sum.as_ref().unwrap_or(pass.gradient());
        let chunks: Vec<ChunkBuffers> = (0..parameters.chunks.len())
            .map(|i| ChunkBuffers {
                theta: parameters.chunks[i].buffer.clone(),
                gradient: whole.chunks[i].buffer.clone(),
                first: moments.first().map(|m| m.chunks[i].buffer.clone()),
                second: moments.get(1).map(|m| m.chunks[i].buffer.clone()),
                size4: parameters.chunks[i].size4,
                decayed4: parameters.chunks[i].decayed4,
            })
            .collect();
        let scale = train.loss_scale();
        let optimizer =
            Optimizer::new(&model.device, rule, Treatment { clip: train.clip as f32, scale }, chunks, RING)?;
        let mut update = optimizer.measure_gradient();
        let sam = match &train.algorithm {
            AlgorithmKind::Sam(sam) => {
                let saved = Arena::new(gpu, encoder, "the parameters before the ascent")?;
                let buffers: Vec<Buffer> = saved.chunks.iter().map(|c| c.buffer.clone()).collect();
                let mut ascend = optimizer.measure_gradient();
                ascend.extend(match sam.norm {
                    SamNorm::Plain => optimizer.ascend(sam.rho as f32, &buffers),
                    SamNorm::Block => {
                        optimizer.ascend_blocks(gpu, sam.rho as f32, &segments(encoder, parameters), &buffers)?
                    }
                });
                update.extend(optimizer.descend(&buffers));
                Some(Sam { _saved: saved, ascend: Program::new(gpu, ascend)? })
            }
            _ => None,
        };
        update.extend(optimizer.apply());
        let average = match train.ema {
            Some(decay) => Some(Average { arena: Arena::new(gpu, encoder, "the average")?, decay, begun: 0 }),
            None => None,
        };
        if let Some(Average { arena, .. }) = &average {
            let buffers: Vec<Buffer> = arena.chunks.iter().map(|c| c.buffer.clone()).collect();
            update.extend(optimizer.average(&buffers));
        }
        let update = Program::new(gpu, update)?;
        let tally = Program::new(gpu, vec![optimizer.tally(pass.loss_buffer(), pass.weight_buffer())])?;
        let accumulate = sum
            .as_ref()
            .map(|sum| {
                let pairs = pass.gradient().chunks.iter().zip(&sum.chunks);
                let dispatch = |(g, s): (&crate::model::Chunk, &crate::model::Chunk)| {
                    optimizer::accumulate("gradient", &g.buffer, &s.buffer, g.size4)
                };
                Program::new(gpu, pairs.map(dispatch).collect())
            })
            .transpose()?;
        let stopwatch = Stopwatch::new(gpu, RING)?;
        let lr = train.peak_lr(encoder.config.hidden_size);
        Ok(Trainer {
            model,
            moments,
            sum,
            pass,
            tally,
            accumulate,
            sam,
            average,
            adversary: None,
            update,
            optimizer,
            lr,
            schedule: (train.schedule.clone(), train.steps),
            seed,
            scale,
            step: 0,
            logged: 0,
            submissions: VecDeque::new(),
            asked: None,
            stopwatch,
            laps: Lap::default(),
        })
    }

    /// Adds the adversarial algorithm over `data`.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn add_adversary(&mut self, algorithm: &Adversarial, data: AdversaryData) -> Result<(), GpuError> {
        let run = AdversaryRun { steps: self.schedule.1, seed: self.seed, scale: self.scale, ring: RING };
        self.adversary = Some(Adversary::new(&self.model, self.gradient(), algorithm, data, run)?);
        Ok(())
    }

    /// The adversary, where there is one.
    pub fn adversary(&self) -> Option<&Adversary> {
        self.adversary.as_ref()
    }

    /// How batches are laid out.
    pub fn layout(&self) -> &crate::ops::batch::BatchLayout {
        self.pass.layout()
    }

    /// Dispatches of one step with one micro-batch.
    pub fn dispatches(&self) -> usize {
        let accumulate = self.accumulate.as_ref().map_or(0, Program::len);
        let sam = self.sam.as_ref().map_or(0, |s| self.pass.dispatches() + accumulate + s.ascend.len());
        let adversary = self.adversary.as_ref().map_or(0, Adversary::dispatches);
        self.pass.dispatches() + self.tally.len() + accumulate + sam + adversary + self.update.len()
    }

    /// Learning rate of a step counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.lr * self.schedule.0.factor(step, self.schedule.1)
    }

    /// The random numbers and optimiser constants of a step at a learning rate.
    fn numbers(&self, lr: f64) -> Step {
        let mut user = self.optimizer.numbers(self.step, lr);
        if let Some(average) = &self.average {
            user[5] = optimizer::average_weight(average.decay, self.step - average.begun) as f32;
        }
        Step {
            seed: [self.seed as u32, (self.seed >> 32) as u32 ^ crate::random::Purpose::Dropout as u32],
            counter: [self.step as u32, 0],
            user,
            ..Step::default()
        }
    }

    /// Takes one step: returns when it is submitted, and not too many are on their way.
    ///
    /// # Errors
    /// [`GpuError::Interrupted`] before the step, or in the midst of its gradient: then it is not taken, and parameters
    /// and moments are as they were. An update that is begun is done, and so is a step of an algorithm with weights of
    /// its own or with parameters on the move (adversarial, SAM).
    pub fn advance(&mut self, micros: &[Micro]) -> Result<(), GpuError> {
        crate::interrupt::check()?;
        let begun = Instant::now();
        let device = self.model.device.clone();
        let gpu = &device.gpu;
        let _whole = (self.sam.is_some() || self.adversary.is_some()).then(|| gpu.hold());
        let numbers = self.numbers(self.learning_rate(self.step));
        let mut stopwatch = self.stopwatch.take();
        let (mut before, mut behind) = match stopwatch.as_mut().and_then(Stopwatch::step) {
            Some([before, behind]) => (Some(before), Some(behind)),
            None => (None, None),
        };
        let mut submitted = match &self.adversary {
            Some(adversary) => adversary.advance(self.step, before.take())?,
            None => Vec::new(),
        };
        if let Some(sam) = &self.sam {
            for (i, micro) in micros.iter().enumerate() {
                let (mut encoder, step) = self.gradient_of(micro, i, numbers, before.take())?;
                // The step's loss is that at θ: the second gradient's is not counted.
                self.tally.encode(gpu, &mut encoder, &step)?;
                if i + 1 == micros.len() {
                    sam.ascend.encode(gpu, &mut encoder, &step)?;
                }
                submitted.push(gpu.submit(encoder));
            }
        }
        for (i, micro) in micros.iter().enumerate() {
            let (mut encoder, step) = self.gradient_of(micro, i, numbers, before.take())?;
            if self.sam.is_none() {
                self.tally.encode(gpu, &mut encoder, &step)?;
            }
            if i + 1 == micros.len() {
                let _whole = gpu.hold();
                if let Some(adversary) = &self.adversary {
                    adversary.blend(&mut encoder, &step)?;
                }
                self.update.encode_stamped(gpu, &mut encoder, &step, behind.take())?;
            }
            submitted.push(gpu.submit(encoder));
        }
        self.stopwatch = stopwatch;
        self.step += 1;
        // A saved checkpoint waits for all that is on its way.
        let most = if begun.elapsed().as_secs_f64() > LONG { 1 } else { IN_FLIGHT.max(submitted.len()) };
        self.submissions.extend(submitted);
        while self.submissions.len() > most {
            if let Some(oldest) = self.submissions.pop_front() {
                gpu.wait(oldest)?;
            }
        }
        gpu.fault()
    }

    /// Encodes the gradient of micro-batch `i` of a step, added to those before it; gives the micro-batch's numbers
    /// too.
    fn gradient_of(
        &self,
        micro: &Micro,
        i: usize,
        numbers: Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(wgpu::CommandEncoder, Step), GpuError> {
        let Step { counts, probes, .. } = micro.batch.step(1);
        let step = Step { counts, probes, counter: [numbers.counter[0], i as u32], ..numbers };
        let gpu = self.model.gpu();
        let mut encoder = gpu.encoder();
        self.pass.encode_stamped(&mut encoder, &micro.batch, micro.weight * self.scale, &step, stamp)?;
        if let Some(accumulate) = &self.accumulate {
            accumulate.encode(gpu, &mut encoder, &step)?;
        }
        Ok((encoder, step))
    }

    /// Whether the log must be read now lest lines be lost.
    pub fn log_is_full(&self) -> bool {
        self.step - self.logged >= u64::from(RING)
    }

    /// Steps whose lines were read.
    pub fn logged(&self) -> u64 {
        self.logged
    }

    /// Whether lines were asked for that were not read yet.
    pub fn log_is_asked_for(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks for the lines of the steps taken until now, without waiting, so that steps may come between this and
    /// [`read_log`](Self::read_log).
    ///
    /// # Errors
    /// What the adapter says.
    pub fn ask_for_log(&mut self) -> Result<(), GpuError> {
        if self.asked.is_some() {
            return Ok(());
        }
        let gpu = self.model.gpu();
        let mut encoder = gpu.encoder();
        let log = gpu.stage(&mut encoder, self.optimizer.log(), RING as usize * size_of::<[f32; 4]>())?;
        let ticks = match &mut self.stopwatch {
            Some(stopwatch) => stopwatch.stage(gpu, &mut encoder)?,
            None => None,
        };
        let submission = gpu.submit(encoder);
        log.map();
        ticks.iter().for_each(Staging::map);
        self.asked = Some(Asked { log, ticks, submission, steps: self.step });
        Ok(())
    }

    /// The lines that were [asked for](Self::ask_for_log), or else those of all steps since the last call; waits for
    /// these steps.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn read_log(&mut self) -> Result<Vec<LogLine>, GpuError> {
        self.ask_for_log()?;
        let Some(Asked { log, ticks, submission, steps }) = self.asked.take() else { return Ok(vec![]) };
        let gpu = self.model.gpu();
        gpu.wait(submission)?;
        let lines: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&log.take(gpu)?);
        let read = (self.logged..steps)
            .map(|step| {
                let line = lines[(step % u64::from(RING)) as usize];
                LogLine { step, loss: line[0], gradient_norm: line[1], bad: line[2] > 0.0 }
            })
            .collect();
        self.logged = steps;
        if let (Some(stopwatch), Some(ticks)) = (&mut self.stopwatch, ticks) {
            let lap = stopwatch.lap(&ticks.take(gpu)?);
            self.laps.whole += lap.whole;
            self.laps.idle += lap.idle;
        }
        Ok(read)
    }

    /// Waits and gives the adversary's lines of some steps; none where there is no adversary.
    pub fn adversary_lines(&self, steps: std::ops::Range<u64>) -> Result<Vec<AdversaryLine>, GpuError> {
        self.adversary.as_ref().map_or(Ok(vec![]), |a| a.lines(steps))
    }

    /// Other work comes between the steps: an evaluation, a checkpoint.
    pub fn pause(&mut self) {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.pause();
        }
    }

    /// Share of the time of training steps in which the queue had none of them to work on, by timestamps at the begin
    /// and the end of each; `None` where the adapter has no timestamps.
    pub fn queue_idle(&self) -> Option<f64> {
        (self.laps.whole > 0.0).then(|| self.laps.idle / self.laps.whole)
    }

    /// Continues from a checkpoint: parameters, moments and the number of steps taken. An average begins anew.
    pub fn restore(&mut self, weights: &Weights, moments: &[Weights], step: u64) {
        self.model.write(weights);
        for (arena, values) in self.moments.iter().zip(moments) {
            arena.write(self.model.gpu(), &self.model.encoder, values);
        }
        self.step = step;
        self.logged = step;
        if let Some(average) = &mut self.average {
            average.begun = step;
        }
    }

    /// Continues with an average, where there is one, of so many steps before the one that the trainer stands at.
    pub fn restore_average(&mut self, weights: &Weights, steps: u64) {
        if let Some(average) = &mut self.average {
            average.arena.write(self.model.gpu(), &self.model.encoder, weights);
            average.begun = self.step - steps;
        }
    }

    /// Waits and reads the average, with the steps that are in it; `None` where there is none.
    pub fn average(&self) -> Result<Option<(Weights, u64)>, GpuError> {
        let Model { device, encoder, .. } = &self.model;
        let read = |a: &Average| Ok((a.arena.read(&device.gpu, encoder)?, self.step - a.begun));
        self.average.as_ref().map(read).transpose()
    }

    /// Steps in the average; 0 where there is none.
    pub fn average_steps(&self) -> u64 {
        self.average.as_ref().map_or(0, |average| self.step - average.begun)
    }

    /// The model whose parameters the average is, where there is one.
    pub fn averaged_model(&self) -> Option<Model> {
        let Model { device, encoder, .. } = &self.model;
        self.average.as_ref().map(|average| Model::of(device, encoder, average.arena.clone()))
    }

    /// Waits and reads parameters and moments.
    pub fn state(&self) -> Result<(Weights, Vec<Weights>), GpuError> {
        let Model { device, encoder, .. } = &self.model;
        let moments = self.moments.iter().map(|m| m.read(&device.gpu, encoder)).collect::<Result<_, _>>()?;
        Ok((self.model.weights()?, moments))
    }

    /// Number of moments that a checkpoint must hold.
    pub fn moment_count(&self) -> usize {
        self.moments.len()
    }

    /// Memory of the summed gradient of the last step, times `train.loss_scale`.
    pub fn gradient(&self) -> &Arena {
        self.sum.as_ref().unwrap_or(self.pass.gradient())
    }

    /// Runs the update with a timestamp around every dispatch, at a learning rate of 0, on the gradient that is there.
    pub fn time_update(&self) -> Result<Vec<(String, f64)>, GpuError> {
        self.update.time(self.model.gpu(), &self.numbers(0.0))
    }

    /// The gradient pass.
    pub fn pass(&self) -> &GradientPass {
        &self.pass
    }
}
