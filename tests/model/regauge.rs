//! Models in other gauges, of every type: the same function, a trace by its law, measures without scale as they were.

use crate::common::adapter::gpu;
use crate::enlarge::exact_logits;
use crate::flatness::{Case, near};
use lowland::model::{Encoder, GaugeKind, ModelConfig, ModelKind, Norm, Part, Rescaling, Weights};
use lowland::ops::batch::Sentence;
use lowland::random::{Purpose, Stream};

/// A type of model, small, with a head that is tied or not; heads that are no multiples of 4, and groups of them.
fn config(kind: ModelKind, tied: bool) -> ModelConfig {
    ModelConfig {
        kind,
        vocab_size: 9,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: kind.has_key("num_key_value_heads").then_some(1),
        intermediate_size: 10,
        use_parallel_residual: tied,
        attention_bias: true,
        mlp_bias: true,
        max_position_embeddings: 12,
        tie_word_embeddings: tied,
        ..ModelConfig::default()
    }
}

/// Random weights far from their initial values. What is added to a residual stream that norms read is large: the ε of
/// OPT and OLMo cannot be set.
fn random(config: &ModelConfig) -> Case {
    let encoder = Encoder::new(config).unwrap();
    let mut random = Stream::new(7, Purpose::Test, 0);
    let large = 300.0;
    let pieces = encoder.pieces();
    let moves = |kind| encoder.gauges(kind, &pieces).is_ok();
    let of = |p: &lowland::model::Parameter, random: &mut Stream| -> Vec<f32> {
        let (centre, spread) = match (p.role.part, p.role.bias, p.shape.len()) {
            (Part::Norm(_), false, _) => (1.0, 0.2),
            (_, _, 1) => (0.0, 0.2),
            _ => (0.0, 0.4),
        };
        let written = matches!(p.role.part, Part::AttentionOutput | Part::FeedForwardOutput);
        let causal = config.kind.is_causal();
        let scale = match p.role.part {
            Part::Table(_) | Part::AttentionOutput | Part::FeedForwardOutput
                if causal && (moves(GaugeKind::Tables) || moves(GaugeKind::Residual)) =>
            {
                large
            }
            Part::Norm(Norm::Embedding) if moves(GaugeKind::Residual) => large,
            _ if written && moves(GaugeKind::Residual) => large,
            Part::Norm(Norm::Final) if causal && moves(GaugeKind::Tables) => 1.0 / large,
            _ => 1.0,
        };
        (0..p.len()).map(|_| ((centre + spread * random.normal()) * scale) as f32).collect()
    };
    let weights = Weights(encoder.parameters.iter().map(|p| of(p, &mut random)).collect());
    let sentence = |ids: &[u32], masked: &[(u32, u32)]| Sentence {
        ids: ids.to_vec(),
        masked: masked.to_vec(),
        ..Sentence::default()
    };
    let sentences = vec![sentence(&[0, 5, 3, 6, 2], &[(2, 4)]), sentence(&[0, 8, 7, 2], &[(1, 5), (2, 3)])];
    Case { encoder, weights, sentences }
}

/// Every type with a tied head and with one of its own.
fn cases() -> Vec<(String, Case)> {
    let both = ModelKind::ALL.into_iter().flat_map(|kind| [(kind, true), (kind, false)]);
    let mut cases: Vec<(String, Case)> =
        both.map(|(kind, tied)| (format!("{} {tied}", kind.name()), random(&config(kind, tied)))).collect();
    let postnorm = ModelConfig { do_layer_norm_before: false, ..config(ModelKind::Opt, false) };
    cases.push(("opt behind the sums".into(), random(&postnorm)));
    let plain = ModelConfig { bidirectional: false, ..config(ModelKind::Lstm, true) };
    cases.push(("lstm in one direction".into(), random(&plain)));
    cases
}

/// Largest difference of a logit, over their spread.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let mean = a.iter().sum::<f64>() / n;
    let spread = (a.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / spread
}

#[test]
fn every_gauge_of_every_type_leaves_the_logits() {
    for (name, case) in cases() {
        let before = exact_logits(&case.encoder, &case.weights, &case.sentences);
        let pieces = case.encoder.pieces();
        let mut moved = 0;
        for kind in GaugeKind::ALL {
            for gauge in case.encoder.gauges(kind, &pieces).unwrap_or_default() {
                for factor in [0.25, 0.5, 2.0, 4.0, 3.0] {
                    let weights = Rescaling::none(pieces.len()).and(&gauge, factor).apply(&case.encoder, &case.weights);
                    let after = exact_logits(&case.encoder, &weights, &case.sentences);
                    // 3 rounds weights to single precision.
                    let bound = if factor == 3.0 { 1e-5 } else { 1e-6 };
                    let apart = apart(&before, &after);
                    assert!(apart <= bound, "{name}, {} by {factor}: {apart:.1e}", gauge.key());
                    moved += 1;
                }
                // Half of a gauge is another function.
                let half = |side: i32| {
                    let mut half = gauge.clone();
                    half.powers.iter_mut().filter(|p| **p == side).for_each(|p| *p = 0);
                    half
                };
                let one_side = Rescaling::none(pieces.len()).and(&half(-1), 2.0).apply(&case.encoder, &case.weights);
                let other = apart(&before, &exact_logits(&case.encoder, &one_side, &case.sentences));
                if kind != GaugeKind::Residual {
                    assert!(other > 1e-4, "{name}: {} without its other side: {other:.1e}", gauge.key());
                }
            }
        }
        assert!(moved > 0 || name.starts_with("olmo"), "{name}: nothing moved");
    }
}

#[test]
fn in_another_gauge_the_trace_is_by_the_law_and_what_has_no_scale_as_it_was() {
    let gpu = gpu();
    for (name, case) in cases() {
        let before = case.measure(&gpu, None);
        let pieces = case.encoder.pieces();
        // All gauges at once, each by a factor of its own.
        let factors = [0.25, 4.0, 0.5, 2.0, 0.25];
        let mut rescaling = Rescaling::none(pieces.len());
        let all = GaugeKind::ALL.into_iter().flat_map(|kind| case.encoder.gauges(kind, &pieces).unwrap_or_default());
        for (i, gauge) in all.enumerate() {
            rescaling = rescaling.and(&gauge, factors[i % factors.len()]);
        }
        let after = case.with(rescaling.apply(&case.encoder, &case.weights)).measure(&gpu, None);
        near(before.pieces.under(&rescaling).value, after.trace.value, &format!("{name}: trace by the law"));
        let moved = after.trace.value / before.trace.value - 1.0;
        assert!(moved.abs() > 0.05 || !rescaling.factors().iter().any(|c| *c != 1.0), "{name}: moved by {moved}");
        near(before.scale_free_trace.value, after.scale_free_trace.value, &format!("{name}: scale-free trace"));
        if let (Some(a), Some(b)) = (before.relative_flatness, after.relative_flatness) {
            near(a.value, b.value, &format!("{name}: relative flatness"));
        }
        // The least over gauges is where its factors lead, from any model in these gauges.
        let free = case.encoder.balanced_gauges(&pieces);
        let own = Rescaling::none(pieces.len());
        let least = before.pieces.least(&own, &free);
        let elsewhere = free.iter().zip([3.0, 0.5, 0.7, 4.0].iter().cycle());
        let elsewhere = elsewhere.fold(own.clone(), |c, (gauge, factor)| c.and(gauge, *factor));
        let again = before.pieces.least(&elsewhere, &free).least;
        near(least.least.trace.value, again.trace.value, &format!("{name}: the least from elsewhere"));
        let there = free.iter().zip(&least.factors).fold(own.clone(), |c, (gauge, factor)| c.and(gauge, *factor));
        // Powers of two round no weight; the own factors of the least round all, which in a random model moves the
        // trace by a few hundred times as much.
        let powers = |factor: f64| factor.log2().round().exp2();
        let rounded = free.iter().zip(&least.factors).fold(own.clone(), |c, (gauge, f)| c.and(gauge, powers(*f)));
        let beside = case.with(rounded.apply(&case.encoder, &case.weights)).measure(&gpu, None);
        near(before.pieces.under(&rounded).value, beside.trace.value, &format!("{name}: beside the least"));
        let balanced = case.with(there.apply(&case.encoder, &case.weights)).measure(&gpu, None);
        let off = (balanced.trace.value / least.least.trace.value - 1.0).abs();
        assert!(off < 1e-4, "{name}: {} measured at the least, {}", balanced.trace.value, least.least.trace.value);
        assert!(least.least.trace.value <= before.trace.value * (1.0 + 1e-12), "{name}");
        if let Ok(all) = balanced.balanced_trace_all {
            near(all.trace.value, balanced.trace.value, &format!("{name}: nothing is flatter"));
        }
    }
}
