//! The plan of a run: what it would take of the adapter, without taking it.

use serde::Serialize;

use super::adversary::adversary_bytes;
use super::evaluate::Evaluator;
use super::kernels::{Kernels, Source};
use super::measure::{Instruments, measure_error};
use super::run::RunError;
use super::setup::Setup;
use super::trainer::{RING, rule_of, trainer_bytes};
use crate::config::{AlgorithmKind, EvaluateSection, ObjectiveKind, Positions, Resolved, Sam, SamNorm};
use crate::curvature::CurvatureError;
use crate::gpu::{Excess, Gpu, GpuError, Limit};
use crate::graph::fit;
use crate::model::{Arena, Encoder, Model, Recipe, block_counts};
use crate::ops::{BatchBuffers, Dims, Labels, Variants, block_ascent};

/// What a run would take of its adapter.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// Numbers that are trained.
    pub parameters: usize,
    /// Layers behind the embedding.
    pub layers: u32,
    /// Rows of the word table, special tokens included.
    pub vocabulary: u32,
    /// Its name.
    pub adapter: String,
    /// How kernels would run.
    pub variants: Variants,
    /// Where they come from.
    pub variants_source: Source,
    /// Sentences at once.
    pub micro_batch: u32,
    /// Dispatches of one gradient.
    pub dispatches_per_micro_batch: usize,
    /// Multiplications and additions of a whole step, forward and backward; with recomputation forward twice.
    pub flops_per_step: f64,
    /// Memory on the adapter.
    pub bytes: PlanBytes,
    /// Why it does not fit, if it does not.
    pub refused: Option<Refusal>,
}

/// What of a run does not fit its adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The part of the run, where one is known: "a step" or "the evaluation".
    pub part: Option<&'static str>,
    /// What is too large.
    pub limit: Limit,
    /// The largest micro-batch, in sentences, with which a step and an evaluation fit, and that of the config.
    pub micro_batch: Option<[u32; 2]>,
}

impl From<Limit> for Refusal {
    fn from(limit: Limit) -> Refusal {
        Refusal { part: None, limit, micro_batch: None }
    }
}

/// As one text, without what would help.
impl Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = self.part.map_or(String::new(), |part| format!("{part}: "));
        serializer.collect_str(&format_args!("{part}{}", self.limit))
    }
}

/// A plan that does not fit, or another failure of the adapter while it is looked at.
enum Misfit {
    Refused(Refusal),
    Other(GpuError),
}

impl From<GpuError> for Misfit {
    fn from(error: GpuError) -> Misfit {
        match error {
            GpuError::Limit(limit) => Misfit::Refused(limit.into()),
            other => Misfit::Other(other),
        }
    }
}

/// Memory on the adapter, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct PlanBytes {
    /// The model.
    pub parameters: u64,
    /// One for each parameter.
    pub gradients: u64,
    /// Moments.
    pub optimizer: u64,
    /// What `train.algorithm` needs beside them.
    pub algorithm: u64,
    /// The average of the weights, and the evaluation of that.
    pub ema: u64,
    /// Results of nodes.
    pub activations: u64,
    /// The same without reuse of memory, scratch memory included.
    pub activations_unshared: u64,
    /// The same as `activations`, with `train.recompute` and without.
    pub activations_recomputed: u64,
    /// Without `train.recompute`.
    pub activations_stored: u64,
    /// Scratch memory of nodes, beyond what activations lend.
    pub workspace: u64,
    /// Ids, spans, labels and weights of a micro-batch.
    pub batch: u64,
    /// Activations and batch of the evaluation.
    pub evaluation: u64,
    /// What the largest measurement of `[measure]` takes while it lasts.
    pub measure: u64,
    /// Parameters of dispatches, the log, sums for the norm.
    pub other: u64,
    /// All that is there at once.
    pub total: u64,
}

/// Plans a run without allocating its memory.
pub fn plan(gpu: &Gpu, resolved: &Resolved) -> Result<PlanReport, RunError> {
    let setup = Setup::new(gpu, resolved)?;
    let Setup { device, encoder, dims, kernels: Kernels { source, .. }, .. } = &setup;
    let train = &resolved.config.train;
    let model = Model::planned(device, encoder);
    let gradient = Recipe::gradient(encoder, setup.labels).0;
    let memory = gradient.memory(device, dims);
    let activations = memory.bytes() - memory.workspace;
    let otherwise = Encoder { recompute: !encoder.recompute, ..encoder.clone() };
    let other_way = Recipe::gradient(&otherwise, setup.labels).0.memory(device, dims);
    let other_way = other_way.bytes() - other_way.workspace;
    let (recomputed, stored) = if encoder.recompute { (activations, other_way) } else { (other_way, activations) };
    let mut refused = match refusal(&setup, &gradient, resolved) {
        Ok(()) => None,
        Err(Misfit::Refused(why)) => Some(why),
        Err(Misfit::Other(error)) => return Err(error.into()),
    };
    let mut unless_refused = |bytes: Result<u64, GpuError>| match bytes {
        Err(GpuError::Limit(limit)) => {
            refused.get_or_insert(limit.into());
            Ok(0)
        }
        other => other,
    };
    let (dispatches, uniforms) = gradient.dispatches(&model, dims)?;
    let arena = Arena::bytes(encoder, gpu.alignment());
    let moments = rule_of(&train.optimizer).moments() as u64;
    let several = u64::from(train.micro_batch() < train.batch_size);
    let batch = gradient.batch_bytes(&model, dims);
    let algorithm = match (&train.algorithm, setup.head) {
        (AlgorithmKind::Sam(Sam { norm: SamNorm::Plain, .. }), _) => arena,
        (AlgorithmKind::Sam(_), _) => {
            let (segments, blocks) = block_counts(encoder);
            arena + block_ascent::bytes(segments, blocks)
        }
        (AlgorithmKind::Adversarial(a), Some(head)) => unless_refused(adversary_bytes(&model, head, a, RING))?,
        _ => 0,
    };
    let (evaluation, evaluation_uniforms) = plan_evaluation(&setup, &resolved.config.evaluate)?;
    let measure = match &resolved.config.measure {
        Some(section) => {
            let instruments = Instruments::new(&setup.corpus, section, train.micro_batch() as usize)?;
            match instruments.bytes(&model) {
                Err(CurvatureError::Gpu(error)) => unless_refused(Err(error))?,
                other => other.map_err(measure_error)?,
            }
        }
        None => 0,
    };
    let averages = u64::from(train.ema.is_some());
    let ema = averages * (arena + evaluation + evaluation_uniforms);
    // Parameters of dispatches, the optimiser's with them, and a log of 512 lines.
    let other = uniforms + evaluation_uniforms + trainer_bytes(gpu, encoder, arena);
    let bytes = PlanBytes {
        parameters: arena,
        gradients: arena * (1 + several),
        optimizer: arena * moments,
        algorithm,
        ema,
        activations,
        activations_unshared: memory.unshared,
        activations_recomputed: recomputed,
        activations_stored: stored,
        workspace: memory.workspace,
        batch,
        evaluation,
        measure,
        other,
        total: arena * (2 + several + moments)
            + memory.bytes()
            + batch
            + algorithm
            + ema
            + evaluation
            + measure
            + other,
    };
    let micros = f64::from(train.batch_size.div_ceil(train.micro_batch()));
    let tokens = setup.corpus.language.longest() as u64;
    let pairs = u64::from(dims.sentences) * tokens * tokens;
    let flops = encoder.forward_flops(u64::from(dims.rows), u64::from(dims.masked), pairs) as f64;
    let step = if encoder.recompute { 4.0 } else { 3.0 } * flops * micros;
    let beside = match (&train.algorithm, setup.head) {
        (AlgorithmKind::Sam(_), _) => step,
        // The heads' products beside the encoder's are not counted.
        (AlgorithmKind::Adversarial(a), Some(_)) => {
            let rows = u64::from(a.batch) * tokens;
            let forward = encoder.forward_flops(rows, 0, rows * tokens) as f64;
            (f64::from(a.head_steps) + 3.0) * forward
        }
        _ => 0.0,
    };
    Ok(PlanReport {
        parameters: encoder.parameter_count(),
        layers: encoder.config.num_hidden_layers,
        vocabulary: encoder.config.vocab_size,
        adapter: gpu.info().name.clone(),
        variants: device.variants,
        variants_source: *source,
        micro_batch: train.micro_batch(),
        dispatches_per_micro_batch: dispatches,
        flops_per_step: step + beside,
        bytes,
        refused,
    })
}

/// Why a run's matrices, steps and evaluations do not fit, with the largest micro-batch that would where one does.
fn refusal(setup: &Setup, gradient: &Recipe, resolved: &Resolved) -> Result<(), Misfit> {
    let Setup { device, encoder, labels, dims, .. } = setup;
    let gpu = &device.gpu;
    Arena::check(gpu, encoder)?;
    let vocabulary = encoder.config.vocab_size;
    let evaluated = Evaluator::labels(&setup.corpus);
    let (forward, _) = Recipe::forward(&encoder.without_dropout(), evaluated, &[]);
    let tokens = dims.rows / dims.sentences;
    let check = |micro: u32| -> Result<(), Misfit> {
        let step = Dims { rows: micro * tokens, masked: setup.corpus.most_masked(micro), sentences: micro, ..*dims };
        let dims_evaluated = evaluation_dims(setup, micro, &resolved.config.evaluate);
        let of = |part: &'static str, excess: Option<Excess>| match excess {
            Some(excess) => Err(Misfit::Refused(Refusal { part: Some(part), ..Refusal::from(Limit::from(excess)) })),
            None => Ok(()),
        };
        of("a step", gradient.excess(device, &step))?;
        of("the evaluation", forward.excess(device, &dims_evaluated))?;
        BatchBuffers::check(gpu, &step, vocabulary, *labels == Labels::Soft)?;
        Ok(BatchBuffers::check(gpu, &dims_evaluated, vocabulary, evaluated == Labels::Soft)?)
    };
    let micro = resolved.config.train.micro_batch();
    match check(micro) {
        Err(Misfit::Refused(why)) => {
            let most = fit::most_sentences(micro, |n| check(n).is_ok());
            Err(Misfit::Refused(Refusal { micro_batch: most.map(|most| [most, micro]), ..why }))
        }
        done => done,
    }
}

/// Of the evaluation's batches.
fn evaluation_dims(setup: &Setup, micro_batch: u32, asked: &EvaluateSection) -> Dims {
    let tokens = setup.dims.rows / setup.dims.sentences;
    let most = match (asked.positions, setup.corpus.objective.kind) {
        (Positions::All, ObjectiveKind::Mlm) => asked.sentences as usize * tokens as usize,
        _ => asked.sentences as usize,
    };
    let batch = Evaluator::batch(micro_batch as usize).min(most) as u32;
    Dims { rows: batch * tokens, masked: batch * setup.corpus.most_predicted(), sentences: batch, ..setup.dims }
}

/// Bytes of the evaluation, and of its dispatches' parameters.
fn plan_evaluation(setup: &Setup, asked: &EvaluateSection) -> Result<(u64, u64), GpuError> {
    let Setup { device, encoder, dims, .. } = setup;
    let dims = evaluation_dims(setup, dims.sentences, asked);
    let model = Model::planned(device, encoder).without_dropout();
    let (recipe, _) = Recipe::forward(&model.encoder, Evaluator::labels(&setup.corpus), &[]);
    let bytes = recipe.memory(device, &dims).bytes() + recipe.batch_bytes(&model, &dims);
    Ok((bytes, recipe.dispatches(&model, &dims)?.1))
}
