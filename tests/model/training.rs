//! The training loop against PyTorch's optimisers in double precision, recorded by `fixtures/make_training.py`; and
//! what a loop must keep to whatever the optimiser: micro-batches, dropout, repetition.

use std::collections::BTreeMap;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::config::{AdamW, OptimizerKind, ScheduleKind, Sgd, TrainSection, Warmup};
use lowland::gpu::Gpu;
use lowland::model::{
    Encoder, ForwardPass, Gauge, GaugeKind, Model, ModelConfig, RowLoss, Weights, WeightsFile, dims_for, load,
    parse_examples,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Batch, Device, Labels};
use lowland::train::{LogLine, Micro, Trainer};

/// The folder whose weights all training here begins with.
const MODEL: &str = "roberta-20";
const SEED: u64 = 5;

#[derive(serde::Deserialize)]
struct Recorded {
    /// One a step.
    batches: Vec<Vec<serde_json::Value>>,
    cases: BTreeMap<String, Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    train: TrainSection,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
}

/// A model and the recorded batches.
struct Setting {
    encoder: Encoder,
    weights: Weights,
    batches: Vec<Vec<Sentence>>,
    cases: BTreeMap<String, Case>,
}

impl Setting {
    fn read() -> Setting {
        let loaded = load(&fixture(MODEL)).unwrap();
        let text = std::fs::read_to_string(fixture("training/cases.json")).unwrap();
        let recorded: Recorded = serde_json::from_str(&text).unwrap();
        let sentences = |batch: &Vec<serde_json::Value>| {
            let lines: Vec<String> = batch.iter().map(|v| v.to_string()).collect();
            parse_examples(&lines.join("\n"), "cases.json", &loaded.encoder.config).unwrap()
        };
        let batches = recorded.batches.iter().map(sentences).collect();
        Setting { encoder: loaded.encoder, weights: loaded.weights, batches, cases: recorded.cases }
    }

    /// The same weights under other dropout probabilities.
    fn with_dropout(p: f64) -> Setting {
        let mut setting = Setting::read();
        let mut config = setting.encoder.config.clone();
        (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (p, p);
        setting.encoder = Encoder::new(&config).unwrap();
        setting
    }

    fn trainer(&self, gpu: &Gpu, train: &TrainSection, seed: u64) -> Trainer {
        let all: Vec<Sentence> = self.batches.concat();
        let dims = dims_for(&all, train.micro_batch() as usize);
        // Room for any choice of sentences, which chunks of the list in order would not give.
        let dims = lowland::ops::Dims { rows: dims.sentences * self.encoder.config.longest(), ..dims };
        Trainer::new(
            Model::new(&Device::of(gpu), &self.encoder, &self.weights).unwrap(),
            train,
            Labels::Hard,
            dims,
            seed,
        )
        .unwrap()
    }

    /// Trains on every recorded batch, each cut into micro-batches of these sizes.
    fn train(&self, gpu: &Gpu, train: &TrainSection, seed: u64, sizes: &[usize]) -> Trained {
        let mut trainer = self.trainer(gpu, train, seed);
        for sentences in &self.batches {
            trainer.advance(&micros(&trainer, sentences, sizes)).unwrap();
        }
        self.finish(gpu, trainer)
    }

    fn finish(&self, gpu: &Gpu, mut trainer: Trainer) -> Trained {
        let log = trainer.read_log().unwrap();
        let (weights, moments) = trainer.state().unwrap();
        let gradient = trainer.gradient().read(gpu, &self.encoder).unwrap();
        Trained { weights, moments, gradient, log }
    }

    /// What each parameter has moved by.
    fn updates(&self, after: &Weights) -> Vec<Vec<f64>> {
        let difference =
            |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
        after.0.iter().zip(&self.weights.0).map(difference).collect()
    }
}

/// Everything that training leaves.
#[derive(Debug, PartialEq)]
struct Trained {
    weights: Weights,
    moments: Vec<Weights>,
    /// That of the last step.
    gradient: Weights,
    log: Vec<LogLine>,
}

impl Trained {
    /// All of it as bits: `==` on numbers would take 0 for -0.
    fn bits(&self) -> Vec<u32> {
        let weights = [&self.weights, &self.gradient].into_iter().chain(&self.moments);
        let log = self.log.iter().flat_map(|l| [l.loss, l.gradient_norm]);
        weights.flat_map(|w| w.0.concat()).chain(log).map(f32::to_bits).collect()
    }
}

/// A batch in micro-batches of these sizes, weighted as one.
fn micros(trainer: &Trainer, sentences: &[Sentence], sizes: &[usize]) -> Vec<Micro> {
    assert_eq!(sizes.iter().sum::<usize>(), sentences.len());
    let weight = 1.0 / sentences.iter().map(|s| s.masked.len()).sum::<usize>() as f32;
    let mut rest = sentences;
    let mut take = |n: &usize| {
        let (now, later) = rest.split_at(*n);
        rest = later;
        Micro { batch: Batch::new(trainer.layout(), now), weight }
    };
    sizes.iter().map(&mut take).collect()
}

fn largest(v: impl IntoIterator<Item = f64>) -> f64 {
    v.into_iter().map(f64::abs).fold(0.0, f64::max)
}

fn train_section(optimizer: OptimizerKind) -> TrainSection {
    let schedule = ScheduleKind::Linear(Warmup { warmup: 0.34 });
    TrainSection { steps: 6, batch_size: 6, optimizer, schedule, ..TrainSection::default() }
}

fn adamw() -> TrainSection {
    train_section(OptimizerKind::AdamW(AdamW::default()))
}

/// Linear in the gradients, so that rounding in them stays rounding in the update.
fn sgd() -> TrainSection {
    train_section(OptimizerKind::Sgd(Sgd { lr: 0.02, momentum: 0.9, weight_decay: 0.1 }))
}

/// Largest difference of the updates over the largest update, by parameter.
fn compare(case: &str, bound: f64) {
    let gpu = gpu();
    let setting = Setting::read();
    let truth = WeightsFile::read(&fixture("training/updates.safetensors")).unwrap();
    let Case { train, losses, gradient_norms } = &setting.cases[case];
    let trained = setting.train(&gpu, train, SEED, &[train.batch_size as usize]);

    assert_eq!(trained.log.len(), losses.len());
    for ((line, loss), norm) in trained.log.iter().zip(losses).zip(gradient_norms) {
        assert!(!line.bad, "{case}: {line:?}");
        assert!((f64::from(line.loss) - loss).abs() <= 1e-5, "{case}: {line:?}, loss {loss}");
        assert!((f64::from(line.gradient_norm) / norm - 1.0).abs() <= 1e-4, "{case}: {line:?}, norm {norm}");
    }
    let updates = setting.updates(&trained.weights);
    let all = largest(updates.iter().flatten().copied());
    let mut worst = (0.0, "");
    for (parameter, got) in setting.encoder.parameters.iter().zip(&updates) {
        let name = &parameter.name;
        let want: Vec<f64> = truth.tensors[&format!("{case}/{name}")].1.iter().map(|v| f64::from(*v)).collect();
        assert_eq!(got.len(), want.len(), "{name}");
        if name.ends_with("self.key.bias") {
            // Softmax does not see what is added to all keys alike: the true gradient is 0, and ours is what rounding
            // left of it. SGD moves by as little, but Adam divides by its size, so that only the order is known.
            assert!(largest(want) <= 1e-9, "{case} {name}");
            let noise = if matches!(train.optimizer, OptimizerKind::AdamW(_)) { 1.0 } else { 1e-5 };
            assert!(largest(got.iter().copied()) <= noise * all, "{case} {name}");
            continue;
        }
        let off = largest(got.iter().zip(&want).map(|(g, w)| g - w)) / largest(want.iter().copied());
        if off.is_nan() || off > worst.0 {
            worst = (off, name);
        }
        assert!(off <= bound, "{case} {name}: off by {off:.1e} of its update");
    }
    let loss = largest(trained.log.iter().zip(losses).map(|(line, loss)| f64::from(line.loss) - loss));
    println!("{case}: updates within {:.1e} ({}), losses within {loss:.1e}", worst.0, worst.1);
}

#[test]
fn lines_that_were_asked_for_are_those_of_the_steps_before() {
    let (gpu, setting) = (gpu(), Setting::read());
    let train = &setting.cases.values().next().unwrap().train;
    let sizes = vec![train.micro_batch() as usize; (train.batch_size / train.micro_batch()) as usize];
    let want = setting.train(&gpu, train, SEED, &sizes).log;
    let mut trainer = setting.trainer(&gpu, train, SEED);
    let mut log = vec![];
    for (i, sentences) in setting.batches.iter().enumerate() {
        trainer.advance(&micros(&trainer, sentences, &sizes)).unwrap();
        // Read a step later than asked for, every other step.
        if trainer.log_is_asked_for() {
            assert_eq!(trainer.logged(), log.len() as u64);
            log.extend(trainer.read_log().unwrap());
            assert_eq!((log.len(), trainer.logged()), (i, i as u64), "the steps before this one");
        } else {
            trainer.ask_for_log().unwrap();
            // Once more is the same.
            trainer.ask_for_log().unwrap();
        }
    }
    log.extend(trainer.read_log().unwrap());
    log.extend(trainer.read_log().unwrap());
    assert!(trainer.read_log().unwrap().is_empty());
    assert!(want.len() > 3, "steps to tell apart");
    assert_eq!(log, want);
}

#[test]
fn losses_of_batches_on_their_way_at_once_are_those_of_each() {
    let (gpu, setting) = (gpu(), Setting::read());
    let all: Vec<Sentence> = setting.batches.concat();
    let model = Model::new(&Device::of(&gpu), &setting.encoder, &setting.weights).unwrap();
    // The last batch is smaller.
    let each = all.len() / 5 - 1;
    let pass = ForwardPass::new(&model, dims_for(&all, each), Labels::Hard, false).unwrap();
    let want: Vec<RowLoss> = all.chunks(each).flat_map(|batch| pass.run(batch).unwrap()).collect();
    assert_eq!(pass.losses(&all).unwrap(), want);
    assert_eq!(want.len(), all.iter().map(|s| s.masked.len()).sum::<usize>());
}

#[test]
fn adamw_is_that_of_torch() {
    compare("adamw", 1e-3);
}

#[test]
fn sgd_with_momentum_is_that_of_torch() {
    compare("sgd-momentum", 1e-4);
}

#[test]
fn sgd_without_momentum_is_that_of_torch() {
    compare("sgd", 1e-4);
}

/// Σ over the two sides of a gauge, what is multiplied less what is divided, of products of numbers.
fn apart(encoder: &Encoder, gauge: &Gauge, a: &Weights, b: &Weights) -> [f64; 2] {
    let pieces = encoder.pieces();
    let mut sides = [0.0; 2];
    for (p, (a, b)) in a.0.iter().zip(&b.0).enumerate() {
        let first = pieces.iter().position(|piece| piece.parameter == p).unwrap();
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            match gauge.powers[first + encoder.piece_of(p, i)] {
                1 => sides[0] += f64::from(*a) * f64::from(*b),
                -1 => sides[1] += f64::from(*a) * f64::from(*b),
                _ => {}
            }
        }
    }
    sides
}

/// Of every batch's gradient A·∇_A = C·∇_C, and so a step of plain SGD changes |A|² - |C|² by η² (|∇_A|² - |∇_C|²) and
/// nothing else: what the drift of balances is reckoned from (`src/report/sweep/laws.rs`).
#[test]
fn plain_sgd_moves_both_sides_of_a_gauge_by_their_gradients_alone() {
    let gpu = gpu();
    let mut setting = Setting::read();
    // Next to no ε, which a change of scale would meet.
    let config = ModelConfig { layer_norm_eps: 1e-12, ..setting.encoder.config.clone() };
    setting.encoder = Encoder::new(&config).unwrap();
    let rate = 0.3;
    let train = TrainSection {
        schedule: ScheduleKind::Constant(Warmup { warmup: 0.0 }),
        ..train_section(OptimizerKind::Sgd(Sgd { lr: rate, momentum: 0.0, weight_decay: 0.0 }))
    };
    let encoder = &setting.encoder;
    let pieces = encoder.pieces();
    let gauges: Vec<Gauge> =
        GaugeKind::ALL.iter().flat_map(|kind| encoder.gauges(*kind, &pieces).unwrap_or_default()).collect();
    assert!(gauges.len() > 6, "{}", gauges.len());
    let mut trainer = setting.trainer(&gpu, &train, SEED);
    let mut before = setting.weights.clone();
    for sentences in &setting.batches[..3] {
        trainer.advance(&micros(&trainer, sentences, &[6])).unwrap();
        let after = trainer.state().unwrap().0;
        let gradient = trainer.gradient().read(&gpu, encoder).unwrap();
        for gauge in &gauges {
            let [a, c] = apart(encoder, gauge, &before, &gradient);
            let [aa, cc] = apart(encoder, gauge, &gradient, &gradient);
            // Rounding is of the order of |w| |∇| ε.
            let scale = apart(encoder, gauge, &before, &before).iter().sum::<f64>().sqrt() * (aa + cc).sqrt();
            assert!((a - c).abs() < 1e-5 * scale, "{}: A·∇ {a}, C·∇ {c}", gauge.key());
            let moved = |w: &Weights| {
                let [a, c] = apart(encoder, gauge, w, w);
                a - c
            };
            let (found, law) = (moved(&after) - moved(&before), rate * rate * (aa - cc));
            // 2 η (C·∇ - A·∇) is in it, which is 0 within what the gradients' rounding leaves.
            assert!((found - law).abs() < 2e-5 * rate * scale + 1e-4 * law.abs(), "{}: {found}, {law}", gauge.key());
        }
        before = after;
    }
}

#[test]
fn sharpness_aware_steps_are_those_of_torch() {
    compare("sam", 2e-4);
    compare("sam-block", 2e-4);
}

#[test]
fn clipping_before_sgd_is_that_of_torch() {
    compare("sgd-clip", 1e-4);
}

#[test]
fn clipping_before_adamw_is_that_of_torch() {
    compare("adamw-clip", 1e-3);
}

#[test]
fn recorded_clipping_bites() {
    let cases = Setting::read().cases;
    let above = |name: &str| {
        let case = &cases[name];
        case.gradient_norms.iter().filter(|n| **n > case.train.clip).count()
    };
    assert_eq!(above("adamw-clip"), 6);
    assert!((1..6).contains(&above("sgd-clip")), "some steps are clipped and some are not");
}

#[test]
fn micro_batches_add_up_to_their_batch() {
    let gpu = gpu();
    let setting = Setting::read();
    let whole = setting.train(&gpu, &sgd(), SEED, &[6]);
    let want = setting.updates(&whole.weights);
    // Halves, unequal parts, and single sentences.
    for sizes in [&[3, 3][..], &[4, 2], &[1, 4, 1], &[1; 6]] {
        let most = *sizes.iter().max().unwrap() as u32;
        let train = TrainSection { micro_batch: Some(most.into()), ..sgd() };
        let parts = setting.train(&gpu, &train, SEED, sizes);
        let mut worst = 0.0f64;
        for ((parameter, got), want) in
            setting.encoder.parameters.iter().zip(setting.updates(&parts.weights)).zip(&want)
        {
            if parameter.name.ends_with("self.key.bias") {
                // Their true gradient is 0.
                continue;
            }
            let off = largest(got.iter().zip(want).map(|(g, w)| g - w)) / largest(want.iter().copied());
            assert!(off <= 1e-4, "{sizes:?} {}: off by {off:.1e} of its update", parameter.name);
            worst = worst.max(off);
        }
        for (got, want) in parts.log.iter().zip(&whole.log) {
            assert!((got.loss - want.loss).abs() <= 1e-5, "{sizes:?}: {got:?} against {want:?}");
            assert!(
                (got.gradient_norm / want.gradient_norm - 1.0).abs() <= 1e-5,
                "{sizes:?}: {got:?} against {want:?}"
            );
        }
        println!("{sizes:?}: updates within {worst:.1e}");
    }
}

#[test]
fn training_repeats_bit_for_bit() {
    let gpu = gpu();
    let setting = Setting::read();
    for (train, sizes) in [(adamw(), &[6][..]), (TrainSection { micro_batch: Some(4.into()), ..adamw() }, &[4, 2])] {
        let first = setting.train(&gpu, &train, SEED, sizes);
        assert_eq!(first.moments.len(), 2);
        for _ in 0..2 {
            assert_eq!(setting.train(&gpu, &train, SEED, sizes).bits(), first.bits(), "{sizes:?}");
        }
    }
}

#[test]
fn a_restored_trainer_goes_on_bit_for_bit() {
    let gpu = gpu();
    let setting = Setting::with_dropout(0.1);
    for train in [adamw(), sgd()] {
        let through = setting.train(&gpu, &train, SEED, &[6]);
        let mut before = setting.trainer(&gpu, &train, SEED);
        for sentences in &setting.batches[..3] {
            before.advance(&micros(&before, sentences, &[6])).unwrap();
        }
        let (weights, moments) = before.state().unwrap();
        let mut after = setting.trainer(&gpu, &train, SEED);
        after.restore(&weights, &moments, 3);
        for sentences in &setting.batches[3..] {
            after.advance(&micros(&after, sentences, &[6])).unwrap();
        }
        let after = setting.finish(&gpu, after);
        assert_eq!(after.log, through.log[3..]);
        assert_eq!((after.weights, after.moments), (through.weights, through.moments));
    }
}

#[test]
fn without_dropout_the_seed_changes_nothing() {
    let gpu = gpu();
    let setting = Setting::with_dropout(0.0);
    let one = setting.train(&gpu, &adamw(), 1, &[6]);
    assert_eq!(setting.train(&gpu, &adamw(), 2, &[6]).bits(), one.bits());
    assert_eq!(Setting::read().train(&gpu, &adamw(), 1, &[6]).bits(), one.bits());
}

#[test]
fn dropout_that_drops_nothing_changes_no_bit() {
    let gpu = gpu();
    // Below 2^-32 no random number falls under the threshold and 1 / (1 - p) is 1, but unlike with p = 0 the kernels
    // run.
    let rare = Setting::with_dropout(1e-10);
    let none = Setting::with_dropout(0.0);
    let [a, b] = [&rare, &none].map(|s| s.trainer(&gpu, &adamw(), SEED).dispatches());
    assert!(a > b, "{a} dispatches with dropout, {b} without");
    assert_eq!(rare.train(&gpu, &adamw(), SEED, &[6]).bits(), none.train(&gpu, &adamw(), SEED, &[6]).bits());
}

#[test]
fn dropout_is_a_function_of_the_seed() {
    let gpu = gpu();
    let setting = Setting::with_dropout(0.1);
    let first = setting.train(&gpu, &adamw(), SEED, &[6]);
    assert_eq!(setting.train(&gpu, &adamw(), SEED, &[6]).bits(), first.bits());
    // Both halves of the seed count.
    for other in [SEED + 1, SEED + (1 << 32)] {
        let other = setting.train(&gpu, &adamw(), other, &[6]);
        for (a, b) in first.log.iter().zip(&other.log) {
            assert_ne!(a.loss, b.loss, "step {}", a.step);
        }
        assert_ne!(first.weights, other.weights);
    }
    assert_ne!(first.log[0].loss, Setting::read().train(&gpu, &adamw(), SEED, &[6]).log[0].loss);
}

#[test]
fn dropout_is_drawn_anew_every_step_and_micro_batch() {
    let gpu = gpu();
    let setting = Setting::with_dropout(0.1);
    let optimizer = OptimizerKind::Sgd(Sgd { lr: 0.0, ..Sgd::default() });
    // With no learning rate the weights stay, so that only the masks differ.
    let train = TrainSection { micro_batch: Some(3.into()), ..train_section(optimizer) };
    let half = &setting.batches[0][..3];
    let run = |first: &[Sentence], second: &[Sentence]| {
        let mut trainer = setting.trainer(&gpu, &train, SEED);
        for _ in 0..3 {
            let both = [first, second].map(|s| Micro { batch: Batch::new(trainer.layout(), s), weight: 1.0 / 6.0 });
            trainer.advance(&both[..if second.is_empty() { 1 } else { 2 }]).unwrap();
        }
        setting.finish(&gpu, trainer).log.iter().map(|l| l.loss).collect::<Vec<f32>>()
    };
    let (alone, twice) = (run(half, &[]), run(half, half));
    for losses in [&alone, &twice] {
        assert!(losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2], "{losses:?}");
    }
    for (alone, twice) in alone.iter().zip(&twice) {
        assert!((twice - 2.0 * alone).abs() > 1e-4, "the second micro-batch has masks of its own: {twice}, {alone}");
    }
}
