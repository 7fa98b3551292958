//! Cases of the update rules: some steps over chunks of several sizes, against the f64 twin.

use super::{Case, Outcome};
use crate::gpu::{Buffer, Dispatch, Gpu, GpuError, Program, Step};
use crate::ops::block_ascent::Segment;
use crate::ops::optimizer::{ChunkBuffers, average_weight};
use crate::ops::{Device, Optimizer, Treatment, UpdateRule, Variants};
use crate::random::{Purpose, Stream};
use crate::reference::optimizer::{self as twin, State};

/// vec4 of the chunks, and to how many of them weight decay applies: more than a block of sums, a part of a workgroup,
/// one alone.
const CHUNKS: [(u32, u32); 3] = [(4500, 4123), (70, 0), (1, 1)];

/// Steps of each case, and the learning rate of each.
const RATES: [f64; 3] = [1e-2, 2e-2, 5e-3];

/// Segments of the chunks in an ascent by blocks, (chunk, vec4, whether each number is a block of its own): one block
/// in two segments, one that goes on in another chunk, single numbers, one of a single vec4.
const BLOCKS: [&[(usize, u32, bool)]; 5] = [
    &[(0, 1000, false), (0, 2100, false)],
    &[(0, 1400, false), (1, 13, false)],
    &[(1, 31, true)],
    &[(1, 26, false)],
    &[(2, 1, false)],
];

/// The same as kernels have them.
fn segments() -> Vec<Segment> {
    let mut next = [0; CHUNKS.len()];
    let mut all = Vec::new();
    for (block, parts) in BLOCKS.iter().enumerate() {
        for (chunk, size4, single) in parts.iter().copied() {
            all.push(Segment { chunk, first4: next[chunk], size4, block: block as u32, single });
            next[chunk] += size4;
        }
    }
    assert!(next.into_iter().eq(CHUNKS.iter().map(|(size4, _)| *size4)), "segments fill the chunks");
    all
}

/// The number of each number's block, as the twin has them.
fn block_numbers() -> Vec<usize> {
    let first = |chunk: usize| CHUNKS[..chunk].iter().map(|(size4, _)| 4 * *size4 as usize).sum::<usize>();
    let size = first(CHUNKS.len());
    let mut numbers = vec![0; size];
    for segment in segments() {
        let begin = first(segment.chunk) + 4 * segment.first4 as usize;
        for (place, number) in numbers.iter_mut().enumerate().skip(begin).take(4 * segment.size4 as usize) {
            // Behind the others, so that none of them is met twice.
            *number = if segment.single { BLOCKS.len() + place } else { segment.block as usize };
        }
    }
    numbers
}

/// An update rule to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Update {
    rule: UpdateRule,
    treatment: Treatment,
    /// Length of an ascent before each step, undone after its gradient (sharpness-aware minimisation).
    rho: Option<f32>,
    /// Whether the ascent is scaled by [`BLOCKS`].
    by_blocks: bool,
    /// Decay of an average of the parameters behind each step.
    average: Option<f64>,
    /// The step whose gradient is not finite: from it on nothing moves.
    broken: Option<usize>,
}

/// The cases, with their names.
pub(super) fn updates() -> Vec<(String, Update)> {
    let plain =
        |rule| Update { rule, treatment: Treatment::PLAIN, rho: None, by_blocks: false, average: None, broken: None };
    let clipped = Treatment { clip: 2.0, scale: 1024.0 };
    let sgd = |momentum| UpdateRule::Sgd { momentum, decay: 0.01 };
    [
        ("AdamW", plain(UpdateRule::ADAMW)),
        // The default ε is too small to be seen.
        ("AdamW, ε of the gradients' size", plain(UpdateRule::AdamW { betas: [0.8, 0.95], eps: 0.3, decay: 0.1 })),
        ("AdamW, clipped, losses scaled", Update { treatment: clipped, ..plain(UpdateRule::ADAMW) }),
        ("AdamW, a gradient that is not finite", Update { broken: Some(1), ..plain(UpdateRule::ADAMW) }),
        ("SGD", plain(sgd(0.0))),
        ("SGD with momentum, clipped", Update { treatment: clipped, ..plain(sgd(0.9)) }),
        ("SGD and an average", Update { average: Some(0.6), ..plain(sgd(0.9)) }),
        (
            "an average, a gradient that is not finite",
            Update { average: Some(0.6), broken: Some(1), ..plain(sgd(0.9)) },
        ),
        ("SGD after an ascent", Update { rho: Some(0.05), ..plain(sgd(0.0)) }),
        ("SGD after an ascent by blocks", Update { rho: Some(0.05), by_blocks: true, ..plain(sgd(0.0)) }),
        (
            "AdamW after an ascent by blocks, losses scaled",
            Update { rho: Some(0.05), by_blocks: true, treatment: clipped, ..plain(UpdateRule::ADAMW) },
        ),
    ]
    .map(|(name, update)| (format!("update: {name}"), update))
    .into()
}

/// Parameters, gradients, moments, average and what an ascent saves of every chunk, and the optimiser over them.
struct Setting {
    theta: Vec<Buffer>,
    gradients: Vec<Buffer>,
    moments: [Vec<Buffer>; 2],
    saved: Vec<Buffer>,
    averaged: Vec<Buffer>,
    optimizer: Optimizer,
}

impl Setting {
    fn new(device: &Device, update: &Update) -> Result<Setting, GpuError> {
        let gpu = &device.gpu;
        let sizes = CHUNKS.map(|(size4, _)| u64::from(size4) * 16);
        let made = || gpu.buffers("the chunks", &sizes);
        let (theta, gradients, moments) = (made()?, made()?, [made()?, made()?]);
        let (saved, averaged) = (made()?, made()?);
        let kept = update.rule.moments();
        let chunk = |(i, (size4, decayed4)): (usize, (u32, u32))| ChunkBuffers {
            theta: theta[i].clone(),
            gradient: gradients[i].clone(),
            first: (kept > 0).then(|| moments[0][i].clone()),
            second: (kept > 1).then(|| moments[1][i].clone()),
            size4,
            decayed4,
        };
        let chunks = CHUNKS.into_iter().enumerate().map(chunk).collect();
        let optimizer = Optimizer::new(device, update.rule, update.treatment, chunks, RATES.len() as u32)?;
        Ok(Setting { theta, gradients, moments, saved, averaged, optimizer })
    }

    /// What is done once the gradient is there: up along it, where the case has an ascent, and the update.
    fn dispatches(&self, gpu: &Gpu, update: &Update) -> Result<[Vec<Dispatch>; 2], GpuError> {
        let (o, mut up, mut down) = (&self.optimizer, vec![], self.optimizer.measure_gradient());
        if let Some(rho) = update.rho {
            up = o.measure_gradient();
            match update.by_blocks {
                true => up.extend(o.ascend_blocks(gpu, rho, &segments(), &self.saved)?),
                false => up.extend(o.ascend(rho, &self.saved)),
            }
            down.extend(o.descend(&self.saved));
        }
        down.extend(o.apply());
        if update.average.is_some() {
            down.extend(o.average(&self.averaged));
        }
        Ok([up, down])
    }
}

/// All dispatches of a case.
pub(super) fn dispatches(gpu: &Gpu, variants: &Variants, update: &Update) -> Result<Vec<Dispatch>, GpuError> {
    Ok(Setting::new(&Device::new(gpu, *variants), update)?.dispatches(gpu, update)?.into_iter().flatten().collect())
}

/// Normal numbers in single precision.
fn normal(number: u64, size: usize) -> Vec<f32> {
    let mut random = Stream::new(23, Purpose::Test, number);
    (0..size).map(|_| random.normal() as f32).collect()
}

/// Writes one long vector over the chunks.
fn write(gpu: &Gpu, chunks: &[Buffer], values: &[f32]) {
    let mut rest = values;
    for (chunk, (size4, _)) in chunks.iter().zip(CHUNKS) {
        let (here, behind) = rest.split_at(4 * size4 as usize);
        gpu.write(chunk, here);
        rest = behind;
    }
}

/// Reads the chunks as one long vector.
fn read(gpu: &Gpu, chunks: &[Buffer]) -> Result<Vec<f64>, GpuError> {
    let mut all = Vec::new();
    for (chunk, (size4, _)) in chunks.iter().zip(CHUNKS) {
        all.extend(gpu.read::<f32>(chunk, 4 * size4 as usize)?.into_iter().map(f64::from));
    }
    Ok(all)
}

/// Takes the steps of a case on an adapter and by the twin.
pub(super) fn run(gpu: &Gpu, variants: &Variants, case: &Case, update: &Update) -> Result<Outcome, GpuError> {
    let setting = Setting::new(&Device::new(gpu, *variants), update)?;
    let [up, down] = setting.dispatches(gpu, update)?.map(|list| Program::new(gpu, list));
    let (up, down) = (up?, down?);
    let size: usize = CHUNKS.iter().map(|(size4, _)| 4 * *size4 as usize).sum();
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
    let zeros = vec![0.0f32; size];
    let start = normal(0, size);
    write(gpu, &setting.theta, &start);
    setting.moments.iter().chain([&setting.averaged]).for_each(|chunks| write(gpu, chunks, &zeros));
    let of_chunk = |(size4, decayed4): (u32, u32)| (0..4 * size4).map(move |place| place < 4 * decayed4);
    let decayed = CHUNKS.into_iter().flat_map(of_chunk).collect();
    let mut state = State { theta: wide(&start), first: wide(&zeros), second: wide(&zeros), decayed, taken: 0 };
    let mut worst = (0.0, String::new());
    let mut compare = |what: &str, got: &[f64], want: &[f64]| {
        let largest = want.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
        let error = got
            .iter()
            .zip(want)
            .map(|(g, w)| (g - w).abs() / largest)
            .fold(0.0f64, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) });
        if error > worst.0 {
            worst = (error, what.to_string());
        }
    };
    let (mut norms, mut thetas) = (Vec::new(), Vec::new());
    let mut still = false;
    for (taken, lr) in RATES.into_iter().enumerate() {
        let mut numbers = setting.optimizer.numbers(taken as u64, lr);
        numbers[5] = update.average.map_or(0.0, |beta| average_weight(beta, taken as u64) as f32);
        let step = Step { counter: [taken as u32, 0], user: numbers, ..Step::default() };
        if let Some(rho) = update.rho {
            let along = normal(100 + taken as u64, size);
            write(gpu, &setting.gradients, &along);
            up.run(gpu, &step)?;
            let want = match update.by_blocks {
                true => twin::ascended_by_blocks(&state.theta, &wide(&along), &block_numbers(), f64::from(rho)),
                false => twin::ascended(&state.theta, &wide(&along), f64::from(rho)),
            };
            compare("theta, ascended", &read(gpu, &setting.theta)?, &want);
        }
        let mut gradient: Vec<f32> =
            normal(1 + taken as u64, size).into_iter().map(|g| g * update.treatment.scale).collect();
        if update.broken == Some(taken) {
            gradient[size / 2] = f32::INFINITY;
            still = true;
        }
        write(gpu, &setting.gradients, &gradient);
        down.run(gpu, &step)?;
        norms.push(twin::norm(&wide(&gradient), update.treatment.scale));
        if !still {
            twin::step(update.rule, update.treatment, lr, &mut state, &wide(&gradient));
            thetas.push(state.theta.clone());
        }
        if let Some(beta) = update.average {
            compare("the average", &read(gpu, &setting.averaged)?, &twin::averaged(&thetas, beta));
        }
        compare("theta", &read(gpu, &setting.theta)?, &state.theta);
        for ((name, moment), want) in
            [("first moment", 0), ("second moment", 1)].into_iter().zip([&state.first, &state.second])
        {
            compare(name, &read(gpu, &setting.moments[moment])?, want);
        }
    }
    // The norms of the log; after the broken step only that it is marked.
    let log: Vec<[f32; 4]> = gpu.read(setting.optimizer.log(), RATES.len())?;
    for (i, (line, norm)) in log.iter().zip(&norms).enumerate() {
        match update.broken == Some(i) {
            true => compare("the mark of a bad step", &[f64::from(line[2])], &[1.0]),
            false => compare("gradient norm", &[f64::from(line[1])], &[*norm]),
        }
    }
    let passed = worst.0 <= case.bound;
    Ok(Outcome {
        case: case.name.clone(),
        variants: *variants,
        error: worst.0,
        tensor: worst.1,
        bound: case.bound,
        passed,
    })
}
