//! The head that is trained alongside: what a linear probe is, by AdamW, a few steps before each step of the encoder.
//!
//! Its cross-entropy has no upper bound, and an encoder could raise it for ever by making the head wrong rather than
//! ignorant. So a batch counts only while the head's mean loss on it is below `ceiling` times the entropy of the
//! labels: at 1, the loss of the best head that knows nothing of the sentence, there is nothing left to take away. The
//! head and its moments are part of a checkpoint.

use super::{AdversaryRun, Felt, MissingTensor, NamedTensor, Turn};
use crate::config::Adversarial;
use crate::gpu::{Buffer, Gpu, GpuError, Program, Stamp, Step};
use crate::model::{Model, SentenceHead, SentenceHeadPass, Side, SideMemory};
use crate::ops::batch::Sentence;
use crate::ops::optimizer::ChunkBuffers;
use crate::ops::{Batch, Optimizer, Treatment, UpdateRule, adversary, statistics};

/// A linear head with its programs.
pub(super) struct LinearHead {
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
    /// Tally and bound of that loss.
    judged: Program,
}

impl LinearHead {
    /// Bytes of the head with its moments, activations and batches, and small things.
    pub fn bytes(model: &Model, head: SentenceHead, sentences: u32) -> Result<u64, GpuError> {
        let alignment = model.gpu().alignment();
        let [w, b] = head.sizes4(&model.encoder).map(|n| (u64::from(n) * 16).next_multiple_of(alignment));
        let mut bytes = 4 * (w + b) + 16 * (w / 65536 + 8);
        for side in [Side::Head, Side::Encoder] {
            bytes += SentenceHeadPass::bytes(model, head, side, sentences)?;
        }
        Ok(bytes)
    }

    /// Plans and allocates; `entropy` is that of the labels.
    pub fn new(
        model: &Model,
        shape: SentenceHead,
        algorithm: &Adversarial,
        entropy: f64,
        run: AdversaryRun,
        felt: &Felt,
    ) -> Result<LinearHead, GpuError> {
        let (gpu, encoder) = (model.gpu(), &model.encoder);
        let sizes4 = shape.sizes4(encoder);
        // Parameters, gradients and the two moments.
        let each = sizes4.map(|n| u64::from(n) * 16);
        let mut made = gpu.buffers("the adversary's head", &each.repeat(4))?.into_iter();
        let mut pair = || -> [Buffer; 2] { std::array::from_fn(|_| made.next().expect("as many as sizes")) };
        let (theta, own, moments) = (pair(), pair(), [pair(), pair()]);
        let pass = |side, gradients: &[Buffer]| {
            SentenceHeadPass::new(model, shape, side, &SideMemory { theta: &theta, gradients }, algorithm.batch)
        };
        let learn = pass(Side::Head, &own)?;
        let against = pass(Side::Encoder, &felt.gradient.matrices)?;
        let chunks: Vec<ChunkBuffers> = (0..2)
            .map(|i| ChunkBuffers {
                theta: theta[i].clone(),
                gradient: own[i].clone(),
                first: Some(moments[0][i].clone()),
                second: Some(moments[1][i].clone()),
                size4: sizes4[i],
                decayed4: if i == 0 { sizes4[i] } else { 0 },
            })
            .collect();
        let optimizer = Optimizer::new(&model.device, UpdateRule::ADAMW, Treatment::PLAIN, chunks, 1)?;
        let mut after = vec![optimizer.tally(learn.loss_buffer(), learn.weight_buffer())];
        after.extend(optimizer.update());
        let learned = Program::new(gpu, after)?;
        let tally = gpu.buffer("the adversarial tally", 16)?;
        let ceiling = (algorithm.ceiling * entropy) as f32;
        let judged = Program::new(
            gpu,
            vec![
                statistics::tally(against.loss_buffer(), against.weight_buffer(), &tally),
                adversary::bound(&tally, optimizer.state(), &felt.factor, &felt.log, run.ring, ceiling),
            ],
        )?;
        Ok(LinearHead { shape, sizes4, theta, moments, learn, learned, against, judged })
    }

    /// Dispatches of one step of the encoder.
    pub fn dispatches(&self, head_steps: u32) -> usize {
        let head = self.learn.dispatches() + self.learned.len();
        head * head_steps as usize + self.against.dispatches() + self.judged.len()
    }

    /// The sentences that the encoder feels the loss of.
    pub fn judged_on(turn: &Turn<'_>) -> Vec<Sentence> {
        let algorithm = &turn.adversary.algorithm;
        turn.chosen(1, algorithm.head_steps.into(), algorithm.batch)
    }

    /// Submits the head's steps and the adversarial gradient.
    pub fn advance(
        &self,
        turn: &Turn<'_>,
        mut stamp: Option<Stamp<'_>>,
    ) -> Result<Vec<wgpu::SubmissionIndex>, GpuError> {
        let (gpu, algorithm, step) = (&turn.adversary.gpu, &turn.adversary.algorithm, turn.step);
        let head_steps = u64::from(algorithm.head_steps);
        let mut submitted = Vec::new();
        for k in 0..head_steps {
            let batch = Batch::new(self.learn.layout(), &turn.chosen(0, k, algorithm.batch));
            let taken = step * head_steps + k;
            let numbers = Step {
                counter: [taken as u32, 0],
                user: UpdateRule::ADAMW.numbers(taken, algorithm.head_lr),
                ..batch.step(1)
            };
            let mut encoder = gpu.encoder();
            self.learn.encode(&mut encoder, &batch, 1.0 / batch.masked() as f32, &numbers, stamp.take())?;
            self.learned.encode(gpu, &mut encoder, &numbers)?;
            submitted.push(gpu.submit(encoder));
        }
        let batch = Batch::new(self.learn.layout(), &LinearHead::judged_on(turn));
        let numbers = Step { counter: [step as u32, 0], user: adversary::numbers(turn.weight), ..batch.step(1) };
        let scale = turn.adversary.run.scale;
        let mut encoder = gpu.encoder();
        self.against.encode(&mut encoder, &batch, scale / batch.masked() as f32, &numbers, stamp.take())?;
        self.judged.encode(gpu, &mut encoder, &numbers)?;
        submitted.push(gpu.submit(encoder));
        Ok(submitted)
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
    pub fn state(&self, gpu: &Gpu) -> Result<Vec<NamedTensor>, GpuError> {
        let parts = self.parts();
        let sizes: Vec<(&Buffer, usize)> =
            parts.iter().map(|(_, s, b)| (*b, s.iter().product::<usize>() * 4)).collect();
        let values = gpu.read_many(&sizes)?;
        Ok(parts
            .into_iter()
            .zip(values)
            .map(|((name, shape, _), bytes)| NamedTensor { name, shape, values: bytemuck::pod_collect_to_vec(&bytes) })
            .collect())
    }

    /// Goes on with what [`state`](Self::state) gave.
    pub fn restore(&self, gpu: &Gpu, state: &[NamedTensor]) -> Result<(), MissingTensor> {
        for (name, shape, buffer) in self.parts() {
            match state.iter().find(|t| t.name == name && t.shape == shape) {
                Some(tensor) => gpu.write(buffer, &tensor.values),
                None => return Err(MissingTensor(name)),
            }
        }
        Ok(())
    }
}
