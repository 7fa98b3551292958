//! Algorithms beside the optimiser's plain step: sharpness-aware minimisation against a step computed on the host, the
//! adversarial algorithm against finite differences, and for each that a resumed run gives the same bits.

use crate::common::adapter::gpu;
use lowland::config::{
    AdamW, Adversarial, AlgorithmKind, HeadKind, HeadReads, OptimizerKind, Resolved, RunConfig, Sam, SamNorm,
    ScheduleKind, Sgd, TrainSection, Warmup,
};
use lowland::gpu::Gpu;
use lowland::language::{Grammar, Pcfg, RandomGrammar};
use lowland::model::{
    Encoder, GradientPass, Model, ModelConfig, ModelKind, RepresentationPass, TokenIds, Weights, dims_for,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Batch, Device, Dims, Labels};
use lowland::random::{Purpose, Stream};
use lowland::train::{self, AdversaryData, LogLine, Micro, Trainer, held_out_sentence};

const SEED: u64 = 5;

/// A language of sentences of 3 to 8 words, and a small model of it.
struct Setting {
    language: Pcfg,
    encoder: Encoder,
    weights: Weights,
    sentences: Vec<Sentence>,
}

impl Setting {
    fn new(kind: ModelKind) -> Setting {
        let shape = RandomGrammar { levels: 3, symbols: 3, rules: 2, vocabulary: 12, word_probability: 0.2, seed: 1 };
        let language = Pcfg::new(Grammar::random(&shape).unwrap(), 8).unwrap();
        let config = ModelConfig {
            kind,
            vocab_size: 16,
            // No multiple of 4, so that rows are padded.
            hidden_size: 18,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 36,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            max_position_embeddings: 12,
            ..ModelConfig::default()
        };
        let encoder = Encoder::new(&config).unwrap();
        let weights = Weights::initial(&encoder.parameters, 0.2, 7);
        let ids = TokenIds::new(12);
        let sentences = (0..24).map(|i| held_out_sentence(&language, &ids, 3, i)).collect();
        Setting { language, encoder, weights, sentences }
    }

    fn trainer(&self, gpu: &Gpu, train: &TrainSection) -> Trainer {
        let sentences = train.micro_batch();
        let dims = Dims { rows: sentences * 10, masked: sentences, sentences, probes: 1, longest: 0 };
        let mut trainer = Trainer::new(
            Model::new(&Device::of(gpu), &self.encoder, &self.weights).unwrap(),
            train,
            Labels::Hard,
            dims,
            SEED,
        )
        .unwrap();
        if let AlgorithmKind::Adversarial(algorithm) = &train.algorithm {
            let data = AdversaryData::draw(algorithm, &self.language, &TokenIds::new(12), SEED).unwrap();
            trainer.add_adversary(algorithm, data).unwrap();
        }
        trainer
    }

    /// Takes steps `from..to`, each over 6 of the sentences.
    fn advance(&self, trainer: &mut Trainer, train: &TrainSection, steps: std::ops::Range<usize>) {
        for step in steps {
            let batch: Vec<Sentence> = (0..6).map(|j| self.sentences[(step * 6 + j) % 24].clone()).collect();
            let micros: Vec<Micro> = batch
                .chunks(train.micro_batch() as usize)
                .map(|part| Micro { batch: Batch::new(trainer.layout(), part), weight: 1.0 / 6.0 })
                .collect();
            trainer.advance(&micros).unwrap();
        }
    }

    fn train(&self, gpu: &Gpu, train: &TrainSection, steps: usize) -> (Weights, Vec<LogLine>) {
        let mut trainer = self.trainer(gpu, train);
        self.advance(&mut trainer, train, 0..steps);
        let log = trainer.read_log().unwrap();
        (trainer.state().unwrap().0, log)
    }
}

fn section(optimizer: OptimizerKind, algorithm: AlgorithmKind) -> TrainSection {
    let schedule = ScheduleKind::Constant(Warmup { warmup: 0.0 });
    TrainSection { steps: 10, batch_size: 6, optimizer, algorithm, schedule, ..TrainSection::default() }
}

fn sgd(lr: f64) -> OptimizerKind {
    OptimizerKind::Sgd(Sgd { lr, ..Sgd::default() })
}

fn sam(rho: f64) -> AlgorithmKind {
    AlgorithmKind::Sam(Sam { rho, ..Sam::default() })
}

fn bits(weights: &Weights) -> Vec<u32> {
    weights.0.concat().into_iter().map(f32::to_bits).collect()
}

fn flat(weights: &Weights) -> Vec<f64> {
    weights.0.concat().into_iter().map(f64::from).collect()
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Weights of the same shapes with other numbers.
fn shaped(like: &Weights, numbers: &[f64]) -> Weights {
    let mut next = numbers.iter().map(|x| *x as f32);
    Weights(like.0.iter().map(|v| next.by_ref().take(v.len()).collect()).collect())
}

#[test]
fn sam_takes_the_gradient_at_the_top_of_the_ascent() {
    let gpu = gpu();
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Bert, ModelKind::Lstm] {
        let s = Setting::new(kind);
        let batch = &s.sentences[..6];
        let model = Model::new(&Device::of(&gpu), &s.encoder, &s.weights).unwrap();
        let pass = GradientPass::new(&model, dims_for(batch, 6), Labels::Hard).unwrap();
        let (rho, lr) = (0.5, 0.1);
        let losses = pass.run(batch).unwrap();
        let below = flat(&pass.gradient().read(&gpu, &s.encoder).unwrap());
        let theta = flat(&s.weights);
        let top: Vec<f64> = theta.iter().zip(&below).map(|(t, g)| t + rho * g / norm(&below)).collect();
        model.write(&shaped(&s.weights, &top));
        pass.run(batch).unwrap();
        let above = flat(&pass.gradient().read(&gpu, &s.encoder).unwrap());
        let apart = norm(&above.iter().zip(&below).map(|(a, b)| a - b).collect::<Vec<_>>()) / norm(&below);
        assert!(apart > 0.05, "the two gradients differ by {apart:.1e} only; the test would see nothing");
        for (micro_batch, loss_scale) in [(None, None), (Some(2), None), (None, Some(64.0))] {
            let train =
                TrainSection { micro_batch: micro_batch.map(Into::into), loss_scale, ..section(sgd(lr), sam(rho)) };
            let (after, log) = s.train(&gpu, &train, 1);
            let off = flat(&after)
                .iter()
                .zip(theta.iter().zip(&above))
                .map(|(after, (t, g))| (after - (t - lr * g)).abs())
                .fold(0.0, f64::max);
            println!("{kind:?}, micro batch {micro_batch:?}: off by {off:.1e}");
            assert!(off <= 1e-6, "{kind:?}, micro batch {micro_batch:?}: off by {off:.1e}");
            let loss = losses.iter().map(|l| l.loss).sum::<f64>() / 6.0;
            assert!((f64::from(log[0].loss) - loss).abs() < 1e-5, "the loss is that before the ascent");
            assert!((f64::from(log[0].gradient_norm) / norm(&above) - 1.0).abs() < 1e-4, "{log:?}");
        }
    }
}

/// The scales of the blocks that each number belongs to, |w_b|, by the parameters' names and shapes: rows of tables,
/// entries of the output bias, else tensors.
fn block_norms(s: &Setting) -> Vec<f64> {
    let mut all = Vec::new();
    for (parameter, values) in s.encoder.parameters.iter().zip(&s.weights.0) {
        let name = &parameter.name;
        let table = name.ends_with("_embeddings.weight");
        let wide = if table {
            parameter.shape[1]
        } else if name == "lm_head.bias" || name == "cls.predictions.bias" {
            1
        } else {
            values.len()
        };
        for block in values.chunks(wide) {
            let size = norm(&block.iter().map(|w| f64::from(*w)).collect::<Vec<f64>>());
            all.extend(block.iter().map(|_| size));
        }
    }
    all
}

#[test]
fn sam_by_blocks_climbs_by_the_norm_of_each() {
    let gpu = gpu();
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Bert, ModelKind::Lstm] {
        let mut s = Setting::new(kind);
        // Biases begin at 0, where no relative step leads away from.
        let mut random = Stream::new(3, Purpose::Test, 0);
        s.weights.0.iter_mut().flatten().for_each(|w| *w += 0.05 * random.normal() as f32);
        let batch = &s.sentences[..6];
        let model = Model::new(&Device::of(&gpu), &s.encoder, &s.weights).unwrap();
        let pass = GradientPass::new(&model, dims_for(batch, 6), Labels::Hard).unwrap();
        let (rho, lr) = (0.2, 0.1);
        pass.run(batch).unwrap();
        let below = flat(&pass.gradient().read(&gpu, &s.encoder).unwrap());
        let (theta, sizes) = (flat(&s.weights), block_norms(&s));
        let scaled = norm(&below.iter().zip(&sizes).map(|(g, w)| g * w).collect::<Vec<f64>>());
        let climb: Vec<f64> = below.iter().zip(&sizes).map(|(g, w)| rho * w * w * g / scaled).collect();
        let top: Vec<f64> = theta.iter().zip(&climb).map(|(t, e)| t + e).collect();
        model.write(&shaped(&s.weights, &top));
        pass.run(batch).unwrap();
        let above = flat(&pass.gradient().read(&gpu, &s.encoder).unwrap());
        let apart = norm(&above.iter().zip(&below).map(|(a, b)| a - b).collect::<Vec<_>>()) / norm(&below);
        assert!(apart > 0.02, "the two gradients differ by {apart:.1e} only; the test would see nothing");
        for (micro_batch, loss_scale) in [(None, None), (Some(2), None), (None, Some(64.0))] {
            let algorithm = AlgorithmKind::Sam(Sam { rho, norm: SamNorm::Block });
            let train =
                TrainSection { micro_batch: micro_batch.map(Into::into), loss_scale, ..section(sgd(lr), algorithm) };
            let (after, log) = s.train(&gpu, &train, 1);
            let off = |gradient: &[f64]| {
                let want = theta.iter().zip(gradient).map(|(t, g)| t - lr * g);
                flat(&after).iter().zip(want).map(|(after, want)| (after - want).abs()).fold(0.0, f64::max)
            };
            println!("{kind:?}, micro batch {micro_batch:?}: off by {:.1e}, of {:.1e}", off(&above), off(&below));
            assert!(off(&above) <= 1e-6, "{kind:?}, micro batch {micro_batch:?}: off by {:.1e}", off(&above));
            assert!(off(&below) > 1e-4, "the plain step would pass");
            assert!((f64::from(log[0].gradient_norm) / norm(&above) - 1.0).abs() < 1e-4, "{log:?}");
        }
    }
}

/// What a block of zeros is measured in is 0: it does not move. No learning rate: all comes back bit for bit.
#[test]
fn sam_by_blocks_leaves_the_weights_where_nothing_moves_them() {
    let gpu = gpu();
    let mut s = Setting::new(ModelKind::RobertaPreLayerNorm);
    let still = |rho: f64| AlgorithmKind::Sam(Sam { rho, norm: SamNorm::Block });
    let (after, log) = s.train(&gpu, &section(sgd(0.0), still(0.3)), 3);
    assert_eq!(bits(&after), bits(&s.weights));
    assert!(log.iter().all(|l| l.gradient_norm > 0.0 && !l.bad));
    let plain = s.train(&gpu, &section(sgd(0.1), AlgorithmKind::default()), 2);
    let tiny = s.train(&gpu, &section(sgd(0.1), still(1e-30)), 2);
    assert_eq!(bits(&tiny.0), bits(&plain.0));
    assert_ne!(bits(&s.train(&gpu, &section(sgd(0.1), still(0.3)), 2).0), bits(&plain.0));
    let at = s.encoder.find("lm_head.dense.weight").unwrap();
    s.weights.0[at].iter_mut().for_each(|w| *w = 3e38);
    let (after, log) = s.train(&gpu, &section(sgd(0.1), still(0.1)), 2);
    assert!(log[0].bad, "{log:?}");
    assert_eq!(bits(&after), bits(&s.weights));
}

#[test]
fn sam_without_an_ascent_is_the_plain_optimiser_and_the_weights_come_back() {
    let gpu = gpu();
    let s = Setting::new(ModelKind::RobertaPreLayerNorm);
    for optimizer in [sgd(0.1), OptimizerKind::AdamW(AdamW::default())] {
        let plain = s.train(&gpu, &section(optimizer.clone(), AlgorithmKind::default()), 4);
        let tiny = s.train(&gpu, &section(optimizer.clone(), sam(1e-30)), 4);
        assert_eq!(bits(&tiny.0), bits(&plain.0), "{optimizer:?}");
        assert_ne!(bits(&s.train(&gpu, &section(optimizer, sam(0.1)), 4).0), bits(&plain.0));
    }
    let (still, log) = s.train(&gpu, &section(sgd(0.0), sam(3.0)), 3);
    assert_eq!(bits(&still), bits(&s.weights), "with no learning rate nothing moves");
    assert!(log.iter().all(|l| l.gradient_norm > 0.0 && !l.bad));
}

#[test]
fn after_a_gradient_that_is_not_finite_sam_leaves_the_weights() {
    let gpu = gpu();
    let mut s = Setting::new(ModelKind::RobertaPreLayerNorm);
    let at = s.encoder.find("lm_head.dense.weight").unwrap();
    s.weights.0[at].iter_mut().for_each(|w| *w = 3e38);
    let (after, log) = s.train(&gpu, &section(sgd(0.1), sam(0.1)), 2);
    assert!(log[0].bad, "{log:?}");
    assert_eq!(bits(&after), bits(&s.weights));
}

fn adversarial(weight: f64) -> Adversarial {
    Adversarial {
        weight,
        sentences: 200,
        batch: 20,
        head_lr: 0.05,
        head_steps: 3,
        begin: 0.0,
        ramp: 0.0,
        ceiling: 50.0,
        ..Adversarial::on("span:2")
    }
}

fn against(algorithm: Adversarial) -> AlgorithmKind {
    AlgorithmKind::Adversarial(algorithm)
}

/// Mean cross-entropy of a head on the concatenated representations of sentences, in double precision.
fn head_loss(gpu: &Gpu, s: &Setting, weights: &Weights, trainer: &Trainer, sentences: &[Sentence]) -> f64 {
    let state = trainer.adversary().unwrap().state().unwrap();
    let tensor = |name: &str| state.iter().find(|t| t.name == name).unwrap();
    let (w, b) = (tensor("head.weight"), tensor("head.bias"));
    let model = Model::new(&Device::of(gpu), &s.encoder, weights).unwrap();
    let dims = dims_for(sentences, sentences.len());
    let pass = RepresentationPass::new(&model, dims, 2).unwrap();
    let rows = pass.run(sentences).unwrap();
    let (d, wide) = (18, 20);
    let mut total = 0.0;
    let mut first = 0;
    for sentence in sentences {
        let logits: Vec<f64> = (0..w.shape[0])
            .map(|c| {
                let row = &w.values[c * w.shape[1]..(c + 1) * w.shape[1]];
                let mut logit = f64::from(b.values[c]);
                for t in 0..sentence.ids.len() {
                    for i in 0..d {
                        logit += f64::from(rows[(first + t) * d + i]) * f64::from(row[t * wide + i]);
                    }
                }
                logit
            })
            .collect();
        first += sentence.ids.len();
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        total += sum.ln() - logits[sentence.masked[0].1 as usize];
    }
    total / sentences.len() as f64
}

#[test]
fn the_adversarial_gradient_is_that_of_the_heads_loss_and_is_subtracted() {
    let gpu = gpu();
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Bert, ModelKind::Lstm] {
        let s = Setting::new(kind);
        let weight = 0.7;
        for (micro_batch, loss_scale) in [(None, 1.0), (Some(2), 16.0)] {
            let train = TrainSection {
                micro_batch: micro_batch.map(Into::into),
                loss_scale: Some(loss_scale),
                ..section(sgd(0.0), against(adversarial(weight)))
            };
            let mut trainer = s.trainer(&gpu, &train);
            s.advance(&mut trainer, &train, 0..1);
            let lines = trainer.adversary_lines(0..1).unwrap();
            assert_eq!(lines[0].factor, -weight as f32);
            let (gradient, sentences) = trainer.adversary().unwrap().last(0);
            assert!(sentences.iter().any(|x| x.ids.len() < 10) && sentences.iter().any(|x| x.ids.len() == 10));
            let own: Vec<f64> =
                flat(&gradient.read(&gpu, &s.encoder).unwrap()).iter().map(|g| g / loss_scale).collect();
            let loss = head_loss(&gpu, &s, &s.weights, &trainer, &sentences);
            assert!((f64::from(lines[0].loss) - loss).abs() < 1e-5, "{} against {loss}", lines[0].loss);
            // Along its own direction, and along random ones.
            let mut random = Stream::new(1, Purpose::Test, 0);
            for k in 0..3 {
                let along: Vec<f64> = match k {
                    0 => own.clone(),
                    _ => own.iter().map(|_| random.normal()).collect(),
                };
                let h = 3e-3 / norm(&along);
                let moved = |sign: f64| {
                    let theta: Vec<f64> = flat(&s.weights).iter().zip(&along).map(|(t, v)| t + sign * h * v).collect();
                    head_loss(&gpu, &s, &shaped(&s.weights, &theta), &trainer, &sentences)
                };
                let slope = (moved(1.0) - moved(-1.0)) / (2.0 * h * norm(&along));
                let want = own.iter().zip(&along).map(|(g, v)| g * v).sum::<f64>() / norm(&along);
                println!("{kind:?}, direction {k}: {slope:.6} against {want:.6}");
                assert!((slope - want).abs() < 2e-3 * norm(&own), "{kind:?}: {slope} against {want}");
            }
            let plain = TrainSection { algorithm: AlgorithmKind::default(), ..train.clone() };
            let mut alone = s.trainer(&gpu, &plain);
            s.advance(&mut alone, &plain, 0..1);
            let read = |t: &Trainer| flat(&t.gradient().read(&gpu, &s.encoder).unwrap());
            let (whole, part) = (read(&trainer), read(&alone));
            let mut moved = 0.0f64;
            for ((w, p), a) in whole.iter().zip(&part).zip(&own) {
                assert!(
                    (w - (p - weight * a * loss_scale)).abs() < 1e-5 * loss_scale,
                    "{w} against {p} - {weight} {a}"
                );
                moved = moved.max((w - p).abs() / loss_scale);
            }
            assert!(moved > 1e-3, "the adversarial gradient is no more than {moved:.1e}");
        }
    }
}

#[test]
fn a_head_that_nobody_feels_learns_and_changes_nothing() {
    let gpu = gpu();
    let s = Setting::new(ModelKind::RobertaPreLayerNorm);
    let plain = section(OptimizerKind::AdamW(AdamW::default()), AlgorithmKind::default());
    // Begins after the last step, has no weight, or lies above the ceiling.
    for algorithm in [
        Adversarial { begin: 1.0, ..adversarial(1.0) },
        adversarial(0.0),
        Adversarial { ceiling: 1e-3, ..adversarial(1.0) },
    ] {
        let train = TrainSection { algorithm: against(algorithm), ..plain.clone() };
        assert_eq!(bits(&s.train(&gpu, &train, 4).0), bits(&s.train(&gpu, &plain, 4).0));
    }
    let train = TrainSection { steps: 80, ..section(sgd(0.0), against(adversarial(0.0))) };
    let mut trainer = s.trainer(&gpu, &train);
    s.advance(&mut trainer, &train, 0..80);
    let losses: Vec<f32> = trainer.adversary_lines(0..80).unwrap().iter().map(|l| l.loss).collect();
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    let (first, last) = (mean(&losses[..5]), mean(&losses[60..]));
    println!("the head's loss: {first:.3}, then {last:.3}");
    assert!(last < 0.7 * first, "the head's loss went from {first} to {last}");
}

#[test]
fn the_encoder_makes_the_head_worse_and_keeps_its_own_loss() {
    let gpu = gpu();
    let s = Setting::new(ModelKind::RobertaPreLayerNorm);
    let steps = 300;
    let run = |weight: f64| {
        let algorithm =
            Adversarial { head_steps: 1, head_lr: 5e-3, begin: 0.1, ramp: 0.1, ceiling: 1.0, ..adversarial(weight) };
        let optimizer = OptimizerKind::AdamW(AdamW { lr: 2e-3, ..AdamW::default() });
        let train = TrainSection { steps: steps as u64, ..section(optimizer, against(algorithm)) };
        let mut trainer = s.trainer(&gpu, &train);
        s.advance(&mut trainer, &train, 0..steps);
        let head: Vec<f64> = trainer
            .adversary_lines(steps as u64 - 60..steps as u64)
            .unwrap()
            .iter()
            .map(|l| f64::from(l.loss))
            .collect();
        let own: Vec<f64> = trainer.read_log().unwrap()[steps - 60..].iter().map(|l| f64::from(l.loss)).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        (mean(&head), mean(&own))
    };
    let (plain, opposed) = (run(0.0), run(0.3));
    println!("head and own loss: {plain:?} without, {opposed:?} with");
    assert!(opposed.0 > 1.5 * plain.0, "the head's loss: {} with, {} without", opposed.0, plain.0);
    assert!((opposed.1 - plain.1).abs() < 0.1, "its own loss: {} with, {} without", opposed.1, plain.1);
}

#[test]
fn a_restored_adversary_goes_on_bit_for_bit() {
    let gpu = gpu();
    let s = Setting::new(ModelKind::Bert);
    let train = section(OptimizerKind::AdamW(AdamW::default()), against(adversarial(0.5)));
    let through = s.train(&gpu, &train, 6);
    let mut before = s.trainer(&gpu, &train);
    s.advance(&mut before, &train, 0..3);
    let (weights, moments) = before.state().unwrap();
    let head = before.adversary().unwrap().state().unwrap();
    assert_eq!(head.len(), 6);
    let mut after = s.trainer(&gpu, &train);
    after.restore(&weights, &moments, 3);
    after.adversary().unwrap().restore(&head).unwrap();
    s.advance(&mut after, &train, 3..6);
    assert_eq!(bits(&after.state().unwrap().0), bits(&through.0));
    let error = after.adversary().unwrap().restore(&head[..5]).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

fn ridge(weight: f64) -> Adversarial {
    Adversarial {
        head: HeadKind::Ridge,
        ridge: 0.3,
        weight,
        sentences: 200,
        batch: 24,
        begin: 0.0,
        ramp: 0.0,
        ..Adversarial::on("span:2")
    }
}

/// A x = b by elimination with pivots.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for j in 0..n {
        let pivot = (j..n).max_by(|p, q| a[*p][j].abs().total_cmp(&a[*q][j].abs())).unwrap();
        a.swap(j, pivot);
        b.swap(j, pivot);
        for i in 0..n {
            if i != j {
                let share = a[i][j] / a[j][j];
                let row = a[j].clone();
                a[i].iter_mut().zip(&row).for_each(|(x, y)| *x -= share * y);
                b[i] -= share * b[j];
            }
        }
    }
    (0..n).map(|i| b[i] / a[i][i]).collect()
}

/// Mean squared error on the last sentences of a ridge regression on the first 21, from their representations.
fn ridge_loss(
    gpu: &Gpu,
    s: &Setting,
    weights: &Weights,
    sentences: &[Sentence],
    reads: HeadReads,
    classes: u32,
) -> f64 {
    let fit = 21;
    let model = Model::new(&Device::of(gpu), &s.encoder, weights).unwrap();
    let pass = RepresentationPass::new(&model, dims_for(sentences, sentences.len()), 2).unwrap();
    let rows: Vec<f64> = pass.run(sentences).unwrap().into_iter().map(f64::from).collect();
    let mut first = 0;
    let features: Vec<Vec<f64>> = sentences
        .iter()
        .map(|x| {
            first += x.ids.len();
            let all = &rows[(first - x.ids.len()) * 18..first * 18];
            match reads {
                HeadReads::Tokens => all.to_vec(),
                HeadReads::First => all[..18].iter().map(|h| h.tanh()).collect(),
            }
        })
        .collect();
    // A shorter sentence has zeros behind it, which add nothing.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let kernel = |i: usize, j: usize| {
        let (a, b) = (&features[i], &features[j]);
        (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).clamp(-0.9999999, 0.9999999)
    };
    let target = |i: usize, y: u32| f64::from(sentences[i].masked[0].1 == y) - 1.0 / f64::from(classes);
    let mut total = 0.0;
    for y in 0..classes {
        let a = (0..fit).map(|i| (0..fit).map(|j| kernel(i, j) + 0.3 * f64::from(i == j)).collect()).collect();
        let alpha = solve(a, (0..fit).map(|i| target(i, y)).collect());
        for v in fit..sentences.len() {
            let predicted: f64 = (0..fit).map(|j| kernel(v, j) * alpha[j]).sum();
            total += (predicted - target(v, y)).powi(2);
        }
    }
    total / ((sentences.len() - fit) as f64 * f64::from(classes))
}

#[test]
fn the_gradient_against_a_ridge_goes_through_its_fit() {
    let gpu = gpu();
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Bert] {
        let s = Setting::new(kind);
        let weight = 0.7;
        for (recompute, loss_scale, reads) in
            [(false, 1.0, HeadReads::Tokens), (true, 16.0, HeadReads::Tokens), (true, 16.0, HeadReads::First)]
        {
            let ridge = Adversarial { reads, ..ridge(weight) };
            let algorithm = against(ridge.clone());
            let train = TrainSection { recompute, loss_scale: Some(loss_scale), ..section(sgd(0.0), algorithm) };
            let mut trainer = s.trainer(&gpu, &train);
            s.advance(&mut trainer, &train, 0..1);
            let lines = trainer.adversary_lines(0..1).unwrap();
            assert_eq!(lines[0].factor, -weight as f32);
            let adversary = trainer.adversary().unwrap();
            assert!(adversary.state().unwrap().is_empty(), "a ridge keeps nothing");
            let (gradient, sentences) = adversary.last(0);
            assert_eq!(sentences.len(), 24);
            let classes = AdversaryData::draw(&ridge, &s.language, &TokenIds::new(12), SEED).unwrap().classes;
            let of = |weights: &Weights| ridge_loss(&gpu, &s, weights, &sentences, reads, classes.len() as u32);
            let own: Vec<f64> =
                flat(&gradient.read(&gpu, &s.encoder).unwrap()).iter().map(|g| g / loss_scale).collect();
            let loss = of(&s.weights);
            assert!((f64::from(lines[0].loss) - loss).abs() < 1e-5, "{} against {loss}", lines[0].loss);
            assert!(norm(&own) > 1e-3, "the gradient is no more than {:.1e}", norm(&own));
            let mut random = Stream::new(1, Purpose::Test, 0);
            for k in 0..3 {
                let along: Vec<f64> = match k {
                    0 => own.clone(),
                    _ => own.iter().map(|_| random.normal()).collect(),
                };
                let h = 1e-2 / norm(&along);
                let moved = |by: f64| {
                    let theta: Vec<f64> = flat(&s.weights).iter().zip(&along).map(|(t, v)| t + by * h * v).collect();
                    of(&shaped(&s.weights, &theta))
                };
                let slope = (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * h * norm(&along));
                let want = own.iter().zip(&along).map(|(g, v)| g * v).sum::<f64>() / norm(&along);
                println!("{kind:?}, direction {k}: {slope:.6} against {want:.6}");
                assert!((slope - want).abs() < 5e-3 * norm(&own), "{kind:?}: {slope} against {want}");
            }
            let plain = TrainSection { algorithm: AlgorithmKind::default(), ..train.clone() };
            let mut alone = s.trainer(&gpu, &plain);
            s.advance(&mut alone, &plain, 0..1);
            let read = |t: &Trainer| flat(&t.gradient().read(&gpu, &s.encoder).unwrap());
            for ((w, p), a) in read(&trainer).iter().zip(&read(&alone)).zip(&own) {
                let want = p - weight * a * loss_scale;
                assert!((w - want).abs() < 1e-5 * loss_scale, "{w} against {want}");
            }
        }
    }
}

#[test]
fn a_ridge_without_weight_changes_nothing_and_one_with_it_makes_the_task_harder() {
    let gpu = gpu();
    let s = Setting::new(ModelKind::RobertaPreLayerNorm);
    let plain = section(OptimizerKind::AdamW(AdamW::default()), AlgorithmKind::default());
    for algorithm in [ridge(0.0), Adversarial { begin: 1.0, ..ridge(1.0) }] {
        let train = TrainSection { algorithm: against(algorithm), ..plain.clone() };
        assert_eq!(bits(&s.train(&gpu, &train, 4).0), bits(&s.train(&gpu, &plain, 4).0));
    }
    let steps = 200;
    let run = |weight: f64| {
        let optimizer = OptimizerKind::AdamW(AdamW { lr: 2e-3, ..AdamW::default() });
        let algorithm = Adversarial { begin: 0.1, ramp: 0.1, batch: 64, ..ridge(weight) };
        let train = TrainSection { steps: steps as u64, ..section(optimizer, against(algorithm)) };
        let mut trainer = s.trainer(&gpu, &train);
        s.advance(&mut trainer, &train, 0..steps);
        let lines = trainer.adversary_lines(steps as u64 - 60..steps as u64).unwrap();
        let own = trainer.read_log().unwrap();
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let head: Vec<f32> = lines.iter().map(|l| l.loss).collect();
        (mean(&head), mean(&own[steps - 60..].iter().map(|l| l.loss).collect::<Vec<f32>>()))
    };
    let (without, with) = (run(0.0), run(3.0));
    println!("head and own loss: {without:?} without, {with:?} with");
    assert!(with.0 > 1.3 * without.0, "the head's error: {} with, {} without", with.0, without.0);
    // A head that says nothing of the sentence has about the variance of the targets, at most 1/4.
    assert!(with.0 < 0.5, "the loss is bounded");
    assert!((with.1 - without.1).abs() < 0.2, "its own loss: {} with, {} without", with.1, without.1);
}

const CONFIG: &str = r#"
seed = 3
[language]
random = { levels = 3, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 8
[model]
type = "roberta-prelayernorm"
hidden_size = 16
num_hidden_layers = 1
hidden_dropout_prob = 0.1
[train]
steps = 40
batch_size = 32
micro_batch = 16
checkpoint_every = 10
keep_checkpoints = 0
evaluate_every = 0
[evaluate]
sentences = 50
"#;

#[test]
fn a_run_goes_on_from_its_checkpoint_with_the_same_bits() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let adversarial = "{ kind = \"adversarial\", task = \"b\", sentences = 64, batch = 16, weight = 0.5, begin = 0.1 }";
    for (name, kind, algorithm) in [
        ("noise", "bert", "{ kind = \"label-noise\", probability = 0.3 }"),
        ("sam", "roberta-prelayernorm", "{ kind = \"sam\", rho = 0.1 }"),
        ("sam by blocks", "roberta-prelayernorm", "{ kind = \"sam\", rho = 0.1, norm = \"block\" }"),
        ("adversarial", "roberta-prelayernorm", adversarial),
        ("lstm", "lstm", "{ kind = \"plain\" }"),
        ("lstm-adversarial", "lstm", adversarial),
        (
            "ridge",
            "roberta-prelayernorm",
            "{ kind = \"adversarial\", task = \"b\", head = \"ridge\", sentences = 64, batch = 16, weight = 0.5 }",
        ),
    ] {
        let output = folder.path().join(name);
        let overrides = [
            format!("train.algorithm={algorithm}"),
            format!("model.type={kind}"),
            format!("output={:?}", output.display().to_string()),
        ];
        let resolved = Resolved::from_text(CONFIG, "run", &overrides).unwrap();
        train::run(&gpu, &resolved, &train::Quiet).unwrap();
        let read = |file: &str| std::fs::read(output.join(file)).unwrap();
        let (model, metrics) = (read("model/model.safetensors"), read("metrics.jsonl"));
        let line = |text: &[u8]| {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            let kept = |v: &serde_json::Value| [v["step"].clone(), v["loss"].clone(), v["adversarial_loss"].clone()];
            lines.iter().filter(|v| v["loss"].is_number()).map(kept).collect::<Vec<_>>()
        };
        assert_eq!(line(&metrics).iter().all(|l| l[2].is_number()), algorithm.contains("adversarial"));
        // As if killed after step 20.
        std::fs::remove_file(output.join("result.json")).unwrap();
        std::fs::remove_dir_all(output.join("model")).unwrap();
        for step in ["step-30", "step-40"] {
            std::fs::remove_dir_all(output.join("checkpoints").join(step)).unwrap();
        }
        train::run(&gpu, &resolved, &train::Quiet).unwrap();
        assert_eq!(read("model/model.safetensors"), model, "{name}");
        assert_eq!(line(&read("metrics.jsonl")), line(&metrics), "{name}");
    }
    // A checkpoint without its head is no checkpoint of this run.
    let output = folder.path().join("adversarial");
    std::fs::remove_file(output.join("result.json")).unwrap();
    for step in ["step-10", "step-20", "step-30"] {
        std::fs::remove_dir_all(output.join("checkpoints").join(step)).unwrap();
    }
    std::fs::remove_file(output.join("checkpoints/step-40/algorithm.safetensors")).unwrap();
    let overrides = [format!("train.algorithm={adversarial}"), format!("output={:?}", output.display().to_string())];
    let resolved = Resolved::from_text(CONFIG, "run", &overrides).unwrap();
    train::run(&gpu, &resolved, &train::Quiet).unwrap();
    assert_eq!(train::newest(&output.join("checkpoints")).0.unwrap().step, 40, "it began anew");
}

#[test]
fn what_cannot_be_is_refused_with_its_key() {
    let gpu = gpu();
    let of = |algorithm: &str, more: &str| {
        RunConfig::parse(&format!("{CONFIG}{more}\n[adapter]\n"), "run.toml").unwrap();
        Resolved::from_text(&format!("{CONFIG}{more}"), "run.toml", &[format!("train.algorithm={algorithm}")])
    };
    for (algorithm, more, words) in [
        ("{ kind = \"label-noise\", probability = 1.5 }", "", &["probability", "0 to 1"][..]),
        ("{ kind = \"label-noise\" }", "[objective]\nlabels = \"expected\"\n", &["train.algorithm", "sampled"]),
        ("{ kind = \"plain\", rho = 0.1 }", "", &["rho"]),
        ("{ kind = \"sam\", rho = 0.0 }", "", &["rho", "positive"]),
        ("{ kind = \"sam\", rate = 0.1 }", "", &["rate", "rho"]),
        ("{ kind = \"sam\", norm = \"tensor\" }", "", &["tensor", "plain", "block"]),
        ("{ kind = \"adversarial\" }", "", &["task"]),
        ("{ kind = \"adversarial\", task = \"q\" }", "", &["`q` is no task", "span:K"]),
        ("{ kind = \"adversarial\", task = \"b\", begin = 2.0 }", "", &["begin", "share"]),
        ("{ kind = \"adversarial\", task = \"b\", batch = 0 }", "", &["batch", "1 to"]),
        ("{ kind = \"adversarial\", task = \"b\", head = \"ridge\", ceiling = 2.0 }", "", &["ceiling", "linear"]),
        ("{ kind = \"adversarial\", task = \"b\", head = \"ridge\", batch = 7 }", "", &["batch", "at least 8"]),
        ("{ kind = \"adversarial\", task = \"b\", ridge = 0.1 }", "", &["ridge", "belongs to"]),
        ("{ kind = \"adversarial\", task = \"b\", reads = \"first\" }", "", &["reads", "belongs to"]),
        ("{ kind = \"adversarial\", task = \"b\", head = \"rigid\" }", "", &["ridge"]),
        ("{ kind = \"adverserial\", task = \"b\" }", "", &["adversarial"]),
    ] {
        let error = of(algorithm, more).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{algorithm}: {error}");
    }
    // Known only with the language at hand.
    let resolved = of("{ kind = \"adversarial\", task = \"task-2\" }", "").unwrap();
    let error = train::plan(&gpu, &resolved).unwrap_err().to_string();
    assert!(error.contains("train.algorithm.task") && error.contains("hidden states"), "{error}");
}

#[test]
fn without_an_algorithm_a_config_is_what_it_was() {
    let config = RunConfig::parse(CONFIG, "run.toml").unwrap();
    assert!(!config.to_toml().contains("algorithm"));
    let hash = |overrides: &[String]| Resolved::from_text(CONFIG, "run", overrides).unwrap().hash();
    assert_eq!(hash(&["train.algorithm={ kind = \"plain\" }".into()]), hash(&[]));
    assert_ne!(hash(&["train.algorithm={ kind = \"sam\" }".into()]), hash(&[]));
    let with = config.with(&["train.algorithm={ kind = \"adversarial\", task = \"b\" }".into()]).unwrap();
    assert_eq!(with.train.algorithm, against(Adversarial::on("b")));
    assert_eq!(RunConfig::parse(&with.to_toml(), "x").unwrap(), with);
    let language = Setting::new(ModelKind::Bert).language;
    let sets = AdversaryData::draw(&adversarial(1.0), &language, &TokenIds::new(12), 1).unwrap().sets;
    let own: std::collections::HashSet<Vec<u32>> = sets[0].iter().map(|s| s.ids.clone()).collect();
    assert!(sets[1].iter().any(|s| !own.contains(&s.ids)), "the sets are drawn apart");
}
