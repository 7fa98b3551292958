//! Measures of flatness under what leaves a model's function as it is: scales by hand, general linear changes of a
//! head, copies, layers and units of zeros; and rows that nobody reads.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::curvature::{Chunks, Flatness, FlatnessOptions, Subject};
use lowland::gpu::Gpu;
use lowland::model::{
    Encoder, Enlargement, Gauge, GaugeKind, Law, Model, ModelConfig, Norm, Part, Size, Weights, enlarge, load,
    read_examples,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw, Table};
use lowland::statistics::Target;

pub struct Case {
    pub encoder: Encoder,
    pub weights: Weights,
    pub sentences: Vec<Sentence>,
}

impl Case {
    /// A fixture whose norms have next to no ε, which a change of scale would meet.
    pub fn of(name: &str) -> Case {
        let model = load(&fixture(name)).unwrap();
        let config = ModelConfig { layer_norm_eps: 1e-12, ..model.encoder.config.clone() };
        let sentences = read_examples(&fixture(name).join("examples.jsonl"), &config).unwrap();
        Case { encoder: Encoder::new(&config).unwrap(), weights: model.weights, sentences }
    }

    pub fn measure(&self, gpu: &Gpu, into: Option<Law>) -> Flatness {
        let model = Model::new(&Device::of(gpu), &self.encoder, &self.weights).unwrap();
        let subject = Subject::new(&model, &self.sentences, &[], &Chunks { batch: 4, probes: 32 }).unwrap();
        let (kind, target) = (LossDraw::Exact, Target::TheseExamples);
        let what = FlatnessOptions { kind, seed: 0, draws: 1, target, into };
        Flatness::measure(&subject, &what, &mut |_| Ok(())).unwrap()
    }

    /// Every number times a power of a factor, by what its piece is and whether it is a bias.
    pub fn scaled(&self, factor: f32, power: &dyn Fn(Part, bool) -> i32) -> Case {
        let pieces = self.encoder.pieces();
        let mut weights = self.weights.clone();
        for (p, values) in weights.0.iter_mut().enumerate() {
            let first = pieces.iter().position(|piece| piece.parameter == p).unwrap();
            for (i, w) in values.iter_mut().enumerate() {
                let part = pieces[first + self.encoder.piece_of(p, i)].part;
                *w *= factor.powi(power(part, self.encoder.parameters[p].role.bias));
            }
        }
        Case { encoder: self.encoder.clone(), weights, sentences: self.sentences.clone() }
    }

    /// Every number times the power of a factor that a gauge has for its piece.
    fn gauged(&self, gauge: &Gauge, factor: f32) -> Case {
        let pieces = self.encoder.pieces();
        let mut weights = self.weights.clone();
        for (p, values) in weights.0.iter_mut().enumerate() {
            let first = pieces.iter().position(|piece| piece.parameter == p).unwrap();
            let power = |i: usize| gauge.powers[first + self.encoder.piece_of(p, i)];
            values.iter_mut().enumerate().for_each(|(i, w)| *w *= factor.powi(power(i)));
        }
        self.with(weights)
    }

    pub fn with(&self, weights: Weights) -> Case {
        Case { encoder: self.encoder.clone(), weights, sentences: self.sentences.clone() }
    }

    fn enlarged(&self, size: Size, method: Enlargement) -> Case {
        let (encoder, weights) = enlarge(&self.encoder, &self.weights, size, method).unwrap();
        Case { encoder, weights, sentences: self.sentences.clone() }
    }

    /// The parameter of a part, of the first layer where it belongs to one.
    fn find(&self, part: Part, bias: bool) -> usize {
        self.encoder.parameters.iter().position(|p| p.role.part == part && p.role.bias == bias).unwrap()
    }
}

pub fn near(a: f64, b: f64, what: &str) {
    assert!((a / b - 1.0).abs() < 1e-5, "{what}: {a} and {b}");
}

/// What no change of scale moves.
fn same(a: &Flatness, b: &Flatness, what: &str) {
    near(a.scale_free_trace.value, b.scale_free_trace.value, &format!("{what}, scale-free trace"));
    let relative = [a, b].map(|f| f.relative_flatness.unwrap().value);
    near(relative[0], relative[1], &format!("{what}, relative flatness"));
}

pub type Power = Box<dyn Fn(Part, bool) -> i32>;

/// Changes of scale by hand: (name, power of the factor).
pub fn changes(config: &ModelConfig) -> Vec<(&'static str, Power)> {
    let (causal, pre) = (config.kind.is_causal(), config.kind.name() != "bert" && config.kind.name() != "roberta");
    let head = if causal { Norm::Final } else { Norm::Head };
    let tables = move |part: Part, _: bool| match part {
        Part::Table(_) => 1,
        Part::AttentionOutput | Part::FeedForwardOutput if causal => 1,
        Part::Norm(norm) if norm == head => -1,
        _ => 0,
    };
    let query_key = |part: Part, _: bool| match part {
        Part::Query => 1,
        Part::Key => -1,
        _ => 0,
    };
    let value_output = |part: Part, bias: bool| match (part, bias) {
        (Part::Value, _) => 1,
        (Part::AttentionOutput, false) => -1,
        _ => 0,
    };
    let norms = |part: Part, bias: bool| match (part, bias) {
        (Part::Norm(Norm::Attention | Norm::FeedForward), _) => 1,
        (Part::Query | Part::Key | Part::Value | Part::FeedForwardInput | Part::Gate, false) => -1,
        _ => 0,
    };
    let mut all: Vec<(&'static str, Power)> = vec![
        ("tables", Box::new(tables)),
        ("queries against keys", Box::new(query_key)),
        ("values against output", Box::new(value_output)),
    ];
    if pre {
        all.push(("norms", Box::new(norms)));
    }
    all
}

#[test]
fn scales_of_no_meaning_move_the_trace_by_the_law_and_nothing_else() {
    let gpu = gpu();
    for name in ["bert-18", "roberta-20", "postnorm-tiny", "gpt2-20", "llama-tiny", "qwen2-16"] {
        let case = Case::of(name);
        let before = case.measure(&gpu, None);
        let [tables, all] = [&before.balanced_trace, &before.balanced_trace_all].map(|b| b.unwrap().trace.value);
        assert!(all < tables && tables < before.trace.value, "{name}: {all}, {tables}, {}", before.trace.value);
        for (change, power) in changes(&case.encoder.config) {
            for factor in [0.25, 0.5, 4.0] {
                let what = format!("{name}, {change} by {factor}");
                let after = case.scaled(factor, &power).measure(&gpu, None);
                same(&before, &after, &what);
                near(all, after.balanced_trace_all.unwrap().trace.value, &what);
                if change == "tables" {
                    near(tables, after.balanced_trace.unwrap().trace.value, &what);
                    let law: f64 = case.law(&before, f64::from(factor), &power);
                    near(law, after.trace.value, &what);
                    assert!((after.trace.value / before.trace.value - 1.0).abs() > 0.05, "{what}: nothing moved");
                }
            }
        }
    }
}

impl Case {
    /// A / a² + B a² + C of the traces by block.
    fn law(&self, of: &Flatness, factor: f64, power: &Power) -> f64 {
        let role_of = |name: &str| {
            let tensor = name.split('[').next().unwrap();
            self.encoder.parameters[self.encoder.find(tensor).unwrap()].role
        };
        let one = |block: &lowland::curvature::BlockFlatness| {
            let role = role_of(&block.name);
            block.trace.value * factor.powi(-2 * power(role.part, role.bias))
        };
        of.per_block.iter().map(one).sum()
    }
}

#[test]
fn the_balanced_traces_are_there_where_their_scales_lead() {
    let gpu = gpu();
    let case = Case::of("roberta-20");
    let before = case.measure(&gpu, None);
    // By a hundred steps along the tables alone nothing flatter than the least is met, and the least is.
    let (_, power) = changes(&case.encoder.config).remove(0);
    let least = before.balanced_trace.unwrap().trace.value;
    let traces: Vec<f64> = (-50..50).map(|i| case.law(&before, (f64::from(i) / 25.0).exp(), &power)).collect();
    let met = traces.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(met >= least * (1.0 - 1e-6) && met < least * 1.01, "{met} against {least}");
}

#[test]
fn both_sides_of_every_gauge_are_what_it_moves() {
    let gpu = gpu();
    for name in ["bert-18", "roberta-20", "gpt2-20", "llama-tiny"] {
        let case = Case::of(name);
        let found = case.measure(&gpu, None);
        let pieces = case.encoder.pieces();
        let kinds = GaugeKind::ALL.iter();
        let gauges: Vec<_> = kinds.flat_map(|k| case.encoder.gauges(*k, &pieces).unwrap_or_default()).collect();
        assert_eq!(found.per_gauge.len(), gauges.len(), "{name}");
        for (gauge, sides) in gauges.iter().zip(&found.per_gauge) {
            assert_eq!(gauge.key(), sides.key);
            let what = format!("{name}, {}", sides.key);
            let mut norms = [0.0; 2];
            for (p, values) in case.weights.0.iter().enumerate() {
                let first = pieces.iter().position(|piece| piece.parameter == p).unwrap();
                for (i, w) in values.iter().enumerate() {
                    match gauge.powers[first + case.encoder.piece_of(p, i)] {
                        1 => norms[0] += f64::from(*w).powi(2),
                        -1 => norms[1] += f64::from(*w).powi(2),
                        _ => {}
                    }
                }
            }
            for (side, norm) in sides.squared_norms.iter().zip(norms) {
                assert!((side - norm).abs() < 1e-9 * (1.0 + norm), "{what}: {side} and {norm}");
            }
            let [a, c] = [0, 1].map(|side| sides.traces[side].value);
            assert!((sides.apart.value - (a - c)).abs() < 1e-9 * (a + c), "{what}");
            // Multiplied by α and divided by it: A / α² + C α², and the rest as it was.
            let moved = case.gauged(gauge, 0.5).measure(&gpu, None);
            let law = found.trace.value + 3.0 * a - 0.75 * c;
            near(law, moved.trace.value, &what);
        }
    }
}

#[test]
fn general_changes_of_a_head_leave_relative_flatness_and_not_the_scale_free_trace() {
    let gpu = gpu();
    let case = Case::of("bert-18");
    let before = case.measure(&gpu, None);
    let size = case.encoder.config.head_size() as usize;
    for [first, second] in [[Part::Query, Part::Key], [Part::Value, Part::AttentionOutput]] {
        let mut weights = case.weights.clone();
        // A = 1 + c e₀ e₁ᵀ on one side, its inverse on the other, in every head.
        let shear = 0.7;
        let wide = case.encoder.config.hidden_size as usize;
        for bias in [false, true] {
            let rows = if bias { 1 } else { wide };
            let values = &mut weights.0[case.find(first, bias)];
            for head in 0..values.len() / rows / size {
                for c in 0..rows {
                    values[head * size * rows + c] += shear * values[(head * size + 1) * rows + c];
                }
            }
        }
        if second == Part::Key {
            for bias in [false, true] {
                let rows = if bias { 1 } else { wide };
                let values = &mut weights.0[case.find(second, bias)];
                for head in 0..values.len() / rows / size {
                    for c in 0..rows {
                        values[(head * size + 1) * rows + c] -= shear * values[head * size * rows + c];
                    }
                }
            }
        } else {
            let values = &mut weights.0[case.find(second, false)];
            let inputs = values.len() / wide;
            for row in values.chunks_exact_mut(inputs) {
                for head in 0..inputs / size {
                    row[head * size + 1] -= shear * row[head * size];
                }
            }
        }
        let after = case.with(weights).measure(&gpu, None);
        let what = format!("{first:?}");
        near(before.relative_flatness.unwrap().value, after.relative_flatness.unwrap().value, &what);
        near(before.logit_scale.value, after.logit_scale.value, &what);
        let moved = after.scale_free_trace.value / before.scale_free_trace.value - 1.0;
        assert!(moved.abs() > 1e-3, "{what}: the scale-free trace of rows that were sheared moved by {moved}");
    }
}

#[test]
fn copies_and_zeros_leave_what_has_no_scale_and_the_law_says_the_trace() {
    let gpu = gpu();
    for name in ["roberta-20", "bert-tiny", "postnorm-tiny"] {
        let case = Case::of(name);
        let c = &case.encoder.config;
        for r in [2, 4] {
            let size = Size { hidden: Some(r * c.hidden_size), ..Size::default() };
            let before = case.measure(&gpu, Some(Law::new(&case.encoder, size, Enlargement::Duplicate).unwrap()));
            let embedded = before.embedded.clone().unwrap();
            let what = format!("{name} {r} times as wide");
            for (method, wanted) in [(Enlargement::Duplicate, embedded.duplicate), (Enlargement::Paper, embedded.paper)]
            {
                let large = case.enlarged(size, method).measure(&gpu, None);
                same(&before, &large, &format!("{what}, {method:?}"));
                near(wanted.value, large.trace.value, &what);
                near(embedded.balanced.clone().unwrap().trace.value, large.balanced_trace.unwrap().trace.value, &what);
            }
        }
        let units = Size { intermediate: Some(c.intermediate_size + 8), ..Size::default() };
        let before = case.measure(&gpu, None);
        let wider = case.enlarged(units, Enlargement::Zero).measure(&gpu, None);
        same(&before, &wider, &format!("{name}, units of zeros"));
        near(before.trace.value, wider.trace.value, "units of zeros have no gradient");
        if name == "roberta-20" {
            let deeper = Size { layers: Some(c.num_hidden_layers + 2), ..Size::default() };
            let deeper = case.enlarged(deeper, Enlargement::Duplicate).measure(&gpu, None);
            same(&before, &deeper, &format!("{name}, layers of zeros"));
            // The biases that the two new layers add to the residual stream have the trace of the last one's.
            let last = format!("layer.{}.output.dense.bias", c.num_hidden_layers - 1);
            let bias = before.per_block.iter().find(|b| b.name.ends_with(&last) && !b.name.contains("attention"));
            near(before.trace.value + 4.0 * bias.unwrap().trace.value, deeper.trace.value, "layers of zeros");
        }
    }
}

/// |E|² T with a table as one block: what the scale-free trace would take it for.
fn as_one_block(f: &Flatness, table: &str) -> f64 {
    let own = f.per_block.iter().filter(|b| b.name.contains(table));
    let (norm, trace) = own.fold((0.0, 0.0), |(n, t), b| (n + b.squared_norm, t + b.trace.value));
    norm * trace
}

#[test]
fn rows_that_nobody_reads_do_not_weigh() {
    let gpu = gpu();
    for name in ["bert-24", "gpt2-20", "lstm-16"] {
        let mut case = Case::of(name);
        let words = case.encoder.config.vocab_size as usize;
        let masked = !case.encoder.config.kind.is_causal();
        // A word that stands in no sentence; with a bias over words it is never predicted either.
        let unread = (0..words).rev().find(|w| !case.sentences.iter().any(|s| s.ids.contains(&(*w as u32))));
        let word = unread.filter(|_| masked);
        if let Some(word) = word {
            let bias = case.find(Part::Decoder, true);
            case.weights.0[bias][word] = -1e4;
        }
        let before = case.measure(&gpu, None);
        let wide = case.encoder.config.hidden_size as usize;
        let mut weights = case.weights.clone();
        let mut grow = |table: Table, row: usize| {
            let values = &mut weights.0[case.find(Part::Table(table), false)];
            values[row * wide..(row + 1) * wide].iter_mut().for_each(|w| *w *= 30.0);
        };
        let longest = case.sentences.iter().map(|s| s.ids.len()).max().unwrap();
        let last = case.encoder.config.max_position_embeddings as usize - 1;
        assert!(longest < last, "{name}: every position is read");
        grow(Table::Positions, last);
        if let Some(word) = word {
            grow(Table::Words, word);
        }
        let after = case.with(weights).measure(&gpu, None);
        near(before.scale_free_trace.value, after.scale_free_trace.value, name);
        near(before.trace.value, after.trace.value, name);
        let position = if masked { "position_embeddings" } else { "wpe" };
        for table in [Some(position), word.map(|_| "word_embeddings")].into_iter().flatten() {
            let [small, large] = [&before, &after].map(|f| as_one_block(f, table));
            assert!(large > 5.0 * small, "{name} {table}: as one block {small} and {large}");
        }
    }
}
