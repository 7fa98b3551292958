//! Tasks, features, probes and fine-tuning: against transformers, scikit-learn and what must be so.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::config::ObjectiveKind;
use lowland::downstream::{
    Alignment, Features, FineTuning, Limits, LinearProbe, Pooling, Sizes, TaskData, alignment, finetune, layer_number,
    part_seed, probe, ridge, ridge_path,
};
use lowland::language::{Brackets, Grammar, Hmm, Language, Pcfg, RandomGrammar, RandomHmm, Task, Truth};
use lowland::model::{
    Encoder, Loaded, Model, ModelConfig, ModelKind, TokenIds, Vocabulary, Weights, WeightsFile, load,
};
use lowland::ops::Device;
use lowland::ops::batch::Sentence;
use lowland::train::{held_out_seed, masked_sentence};

const SIZES: Sizes = Sizes { train: 300, validation: 60, test: 200 };

pub(crate) fn hmm() -> Hmm {
    let shape =
        RandomHmm { states: 4, vocabulary: 8, transition_concentration: 0.2, emission_concentration: 0.2, seed: 2 };
    Hmm::random(&shape, 3, 8).unwrap()
}

fn grammar() -> Pcfg {
    let shape = RandomGrammar { levels: 3, symbols: 3, rules: 2, vocabulary: 12, word_probability: 0.2, seed: 1 };
    Pcfg::new(Grammar::random(&shape).unwrap(), 8).unwrap()
}

#[test]
fn parts_have_seeds_of_their_own_and_labels_of_the_language() {
    let language = hmm();
    let data = TaskData::of_language(&language, Task::State(6), false, 5, SIZES).unwrap();
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [300, 60, 200]);
    assert!(data.skipped > 0, "sentences of fewer than 6 words have no 6th state");
    let mut certainty = 0.0;
    for part in data.parts() {
        for (words, label) in part.sentences.iter().zip(&part.labels) {
            let truth = language.label(words, Task::State(6), false).unwrap();
            assert_eq!(truth.symbol, data.classes[*label as usize]);
            certainty += truth.probability;
        }
    }
    assert!((data.bayes.unwrap() - certainty / 560.0).abs() < 1e-12);
    let seeds: Vec<u64> = (0..3).map(|part| part_seed(5, part)).chain([5, held_out_seed(5)]).collect();
    for (i, a) in seeds.iter().enumerate() {
        assert!(seeds[..i].iter().all(|b| a != b), "{seeds:?}");
    }
    let again = TaskData::of_language(&language, Task::State(6), false, 5, SIZES).unwrap();
    assert_eq!(data.train, again.train);
    assert_eq!(data.chance(), 1.0 / data.classes.len() as f64);
    let share = |y: u32| data.test.labels.iter().filter(|l| **l == y).count() as f64 / 200.0;
    let most =
        (0..data.classes.len() as u32).max_by_key(|y| data.train.labels.iter().filter(|l| *l == y).count()).unwrap();
    assert_eq!(data.majority(), share(most));
}

#[test]
fn bayes_accuracy_exists_where_labels_are_posterior_modes() {
    let of = |task, prior| TaskData::of_language(&grammar(), task, prior, 1, SIZES).unwrap().bayes;
    assert_eq!(of(Task::A, false), None);
    assert!(of(Task::A, true).is_some_and(|b| b > 1.0 / 3.0 && b <= 1.0));
    assert_eq!(of(Task::B, true), None);
    assert_eq!(of(Task::Span(2), false), None);
}

#[test]
fn a_task_that_hardly_any_sentence_answers_is_given_up() {
    let text = "initial a 1\ntransition a a 1\nemission a x 1\n";
    let language = Hmm::parse(text, "m", 1, 2).unwrap();
    let error = TaskData::of_language(&language, Task::State(2), false, 0, SIZES).unwrap_err().to_string();
    assert!(error.contains("nothing to tell apart"), "{error}");
    let error = TaskData::of_language(&language, Task::B, false, 0, SIZES).unwrap_err().to_string();
    assert!(error.contains("task-K"), "{error}");
    let short = Pcfg::new(Grammar::parse("S a 0.999\nS a S 0.001\n", "g").unwrap(), 8).unwrap();
    let error = TaskData::of_language(&short, Task::Span(6), false, 0, SIZES).unwrap_err().to_string();
    assert!(error.contains("sentences have a label"), "{error}");
}

#[test]
fn files_of_rows_are_tasks() {
    let folder = tempfile::tempdir().unwrap();
    // Words in byte order, as a language has them.
    let vocabulary = Vocabulary::new(&["\"e\"", "a", "b,c", "d"].map(str::to_string));
    let limits = Limits { vocabulary: &vocabulary, longest: 5 };
    let sizes = Sizes { train: 2, validation: 1, test: 1 };
    let read = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        TaskData::of_file(&path, limits, 3, sizes)
    };
    let csv = "label,text,more\nyes,\"a b,c\",1\nno,\"\"\"e\"\" d\",2\nyes,\"a\na\",3\nno,d,4\n";
    let from_csv = read("rows.csv", csv).unwrap();
    let json = "{\"text\":\"a b,c\",\"label\":\"yes\"}\n{\"text\":\"\\\"e\\\" d\",\"label\":\"no\"}\n\n\
                {\"text\":\"a\\na\",\"label\":\"yes\"}\n{\"text\":\"d\",\"label\":\"no\",\"idx\":7}\n";
    let from_json = read("rows.jsonl", json).unwrap();
    assert_eq!(from_csv.classes, ["no", "yes"]);
    for (a, b) in from_csv.parts().into_iter().zip(from_json.parts()) {
        assert_eq!(a, b);
    }
    let mut all: Vec<&Vec<u32>> = from_csv.parts().into_iter().flat_map(|p| &p.sentences).collect();
    all.sort();
    assert_eq!(all, [&vec![0, 3], &vec![1, 1], &vec![1, 2], &vec![3]]);

    for name in ["train", "validation", "test"] {
        std::fs::write(folder.path().join(format!("{name}.csv")), csv).unwrap();
    }
    let whole = TaskData::of_file(folder.path(), limits, 3, Sizes { train: 100, validation: 2, test: 100 }).unwrap();
    assert_eq!([whole.train.len(), whole.validation.len(), whole.test.len()], [4, 2, 4]);

    for (name, text, wanted) in [
        ("a.csv", "text,label\na,x\nd z,y\n", "a.csv:3: `z` is not in the model's vocabulary"),
        ("b.csv", "phrase,label\na,x\n", "b.csv:1: no column `text`"),
        ("b2.csv", "phrase,label\na,x\n", "; the first line has: phrase, label"),
        ("c.csv", "text,label\na,x,y\n", "c.csv:2"),
        ("d.jsonl", "{\"text\":\"a\",\"label\":0}\n{\"text\":1}\n", "d.jsonl:2: no string `text`"),
        ("e.jsonl", "{\"text\":\"a a a a a a\",\"label\":0}\n", "e.jsonl:1: 6 words, the model has positions for 5"),
        ("f.jsonl", "{\"text\":\"a\",\"label\":null}\n", "f.jsonl:1: no `label`"),
        ("g.csv", "text,label\na,x\nd,y\n", "2 rows, 2 + 1 + 1 are asked for"),
        ("h.txt", "a x\n", "ends in .csv, .jsonl or .tsv"),
        ("i.csv", "text,label\n", "holds no row"),
    ] {
        let error = read(name, text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn labels_of_files_are_trimmed_and_never_empty() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = Vocabulary::new(&["a", "b"].map(str::to_string));
    let limits = Limits { vocabulary: &vocabulary, longest: 5 };
    let sizes = Sizes { train: 2, validation: 1, test: 1 };
    let read = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        TaskData::of_file(&path, limits, 3, sizes)
    };
    // With a byte-order mark and the ends of lines of Windows.
    let csv = "\u{feff}text , label\r\n a b ,p\r\nb, p\r\na,\"p\t\"\r\nb b,q \r\n";
    let json = "\u{feff}{\"text\":\" a b \",\"label\":\"p\"}\n{\"text\":\"b\",\"label\":\" p\"}\n\
                {\"text\":\"a\",\"label\":\"p\\t\"}\n{\"text\":\"b b\",\"label\":\"q \"}\n";
    for (name, text) in [("a.csv", csv), ("a.jsonl", json)] {
        assert_eq!(read(name, text).unwrap_or_else(|e| panic!("{e}")).classes, ["p", "q"], "{name}");
    }
    for (name, text) in [
        ("b.csv", "text,label\na,p\nb,\na b,q\nb b,p\n"),
        ("c.csv", "text,label\na,p\nb,  \na b,q\nb b,p\n"),
        ("d.csv", "text,label\na,p\nb,\"\"\na b,q\nb b,p\n"),
        ("e.jsonl", "{\"text\":\"a\",\"label\":\"p\"}\n\n{\"text\":\"b\",\"label\":\"\"}\n"),
        ("f.jsonl", "{\"text\":\"a\",\"label\":\"p\"}\n\n{\"text\":\"b\",\"label\":\" \\u00a0\"}\n"),
    ] {
        let error = read(name, text).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}:3: `label` is empty")), "{name}: {error}");
    }
}

#[test]
fn representations_are_those_of_transformers() {
    let gpu = gpu();
    let text = std::fs::read_to_string(fixture("representations.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, cases) in truth["models"].as_object().unwrap() {
        let model = load(&fixture(name)).unwrap();
        let d = model.encoder.config.hidden_size as usize;
        let placed = Model::new(&Device::of(&gpu), &model.encoder, &model.weights).unwrap();
        let ids = TokenIds::new(model.encoder.config.vocab_size as usize - 4);
        let field =
            |case: &serde_json::Value, key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
        let sentences: Vec<Vec<u32>> =
            cases.as_array().unwrap().iter().map(|c| serde_json::from_value(c["words"].clone()).unwrap()).collect();
        let longest = sentences.iter().map(Vec::len).max().unwrap();
        let last = layer_number(-1, &model.encoder).unwrap();
        for (layer, key) in [(1, "layer_1"), (last, "last")] {
            let of = |pooling| Features::of_model(&placed, &ids, layer, pooling, &sentences, longest).unwrap();
            let (concat, mean, first) = (of(Pooling::Concat), of(Pooling::Mean), of(Pooling::First));
            assert_eq!((concat.width, mean.width, first.width), ((longest + 2) * d, d, d));
            for (i, case) in cases.as_array().unwrap().iter().enumerate() {
                let wanted = field(case, key);
                let close = |got: &[f32], want: &[f64]| {
                    assert_eq!(got.len(), want.len());
                    for (a, b) in got.iter().zip(want) {
                        assert!((f64::from(*a) - b).abs() < 2e-5, "{name} {key}: {a} against {b}");
                    }
                };
                let row = &concat.values[i * concat.width..][..concat.width];
                close(&row[..wanted.len()], &wanted);
                assert!(row[wanted.len()..].iter().all(|x| *x == 0.0), "padding");
                close(&first.values[i * d..][..d], &wanted[..d]);
                let n = wanted.len() / d;
                let means: Vec<f64> =
                    (0..d).map(|c| wanted.iter().skip(c).step_by(d).sum::<f64>() / n as f64).collect();
                close(&mean.values[i * d..][..d], &means);
            }
        }
        assert!(layer_number(last as i64 + 1, &model.encoder).is_err());
        assert_eq!(layer_number(-2, &model.encoder).unwrap(), last - 1);
    }
}

#[test]
fn the_lookup_table_is_the_exact_conditionals() {
    let language = hmm();
    let sentences: Vec<Vec<u32>> = (0..5).map(|i| language.sample(1, i)).collect();
    let features = Features::lookup(&language, &sentences, 8);
    assert_eq!((features.width, features.rows()), (64, 5));
    for (words, row) in sentences.iter().zip(features.values.chunks(64)) {
        let known = language.conditional(words).unwrap().conditional.concat();
        assert!(row.iter().zip(&known).all(|(a, b)| *a == *b as f32));
        assert!(row[known.len()..].iter().all(|x| *x == 0.0));
    }
}

/// Of an objective of next words.
#[test]
fn the_lookup_table_of_next_words_is_what_may_follow_each_prefix() {
    let language = hmm();
    let mut sentences: Vec<Vec<u32>> = (0..5).map(|i| language.sample(1, i)).collect();
    sentences.push(vec![0; 9]);
    let words = language.vocabulary().len() + 1;
    let features = Features::exact(ObjectiveKind::Causal, &language, &sentences, 8);
    assert_eq!((features.width, features.rows()), (9 * words, 6));
    let rows: Vec<&[f32]> = features.values.chunks(features.width).collect();
    for (words_of, row) in sentences.iter().zip(&rows).take(5) {
        let known = language.prefixes(words_of).unwrap().next;
        assert_eq!(known.len(), words_of.len() + 1);
        assert!(row.iter().zip(known.iter().flatten()).all(|(a, b)| *a == *b as f32));
        let behind = &row[known.len() * words..];
        assert!(behind.iter().all(|x| *x == 0.0) && (known[0].iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // What may begin a sentence is known of none of its words.
        assert_eq!(row[..words], rows[0][..words]);
    }
    assert!(rows[5].iter().all(|x| *x == 0.0), "longer than the language's sentences");
    assert_eq!(
        Features::exact(ObjectiveKind::Mlm, &language, &sentences, 9),
        Features::lookup(&language, &sentences, 9)
    );
}

#[test]
fn projections_keep_inner_products_in_the_mean() {
    let row: Vec<f32> = (0..40).map(|i| ((i * i) as f32).sin()).collect();
    let features = Features { width: 20, values: row.clone() };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let n = 200;
    let estimates: Vec<f64> = (0..n)
        .map(|seed| {
            let p = features.project(16, seed).values;
            dot(&p[..16], &p[16..])
        })
        .collect();
    let wanted = dot(&row[..20], &row[20..]);
    let estimate = lowland::statistics::Estimate::of_mean(&estimates);
    assert!((estimate.value - wanted).abs() < 4.0 * estimate.standard_error, "{estimate:?}, {wanted}");
    assert_eq!(features.project(16, 1), features.project(16, 1));
}

/// The recorded features with their labels: all rows, and the labels of the three parts.
fn recorded() -> (Features, [Vec<u32>; 3]) {
    let file = WeightsFile::read(&fixture("probe/features.safetensors")).unwrap();
    let parts = ["train", "validation", "test"];
    let width = file.tensors["train"].0[1];
    let values = parts.iter().flat_map(|p| file.tensors[*p].1.clone()).collect();
    let labels = parts.map(|p| file.tensors[&format!("{p}_labels")].1.iter().map(|y| *y as u32).collect());
    (Features { width, values }, labels)
}

fn scikit_learn() -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(fixture("probe/truth.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["fits"].as_array().unwrap().clone()
}

#[test]
fn ridge_fits_are_those_of_scikit_learn() {
    let (features, [train, validation, test]) = recorded();
    let classes = 6;
    for truth in scikit_learn() {
        let lambda = truth["ridge"].as_f64().unwrap();
        let fit = ridge(&features, &train, classes, lambda).unwrap();
        assert!(fit.converged, "{lambda}: {} iterations", fit.iterations);
        // The stopping gradient g leaves the objective within g² / (2 λ) and W within g / λ of the minimum.
        assert!((fit.loss - truth["loss"].as_f64().unwrap()).abs() < 1e-7, "{lambda}: {}", fit.loss);
        let coefficients: Vec<Vec<f64>> = serde_json::from_value(truth["coefficients"].clone()).unwrap();
        for (got, want) in fit.parameters.iter().zip(coefficients.concat()) {
            assert!((got - want).abs() < 1e-5 / lambda.sqrt() + 1e-6 / lambda, "{lambda}: {got} against {want}");
        }
        let (_, chosen, _) = ridge_path(&features, [&train[..], &validation, &test], classes, &[lambda]).unwrap();
        assert!((chosen.accuracy - truth["test_accuracy"].as_f64().unwrap()).abs() < 2.0 / 512.0);
    }
}

#[test]
fn the_probe_reaches_scikit_learns_accuracy_within_its_spread() {
    let gpu = gpu();
    let (features, labels) = recorded();
    let labels = [&labels[0][..], &labels[1], &labels[2]];
    let options = LinearProbe { lr: 1e-2, epochs: 150, ..LinearProbe::default() };
    let fits = probe(&Device::of(&gpu), &options, &features, labels, 6, &[1, 2, 3, 4, 5]).unwrap();
    let accuracies: Vec<f64> = fits.iter().map(|f| f.accuracy).collect();
    let ours = lowland::statistics::Estimate::of_mean(&accuracies);
    let spread = ours.standard_error * 5f64.sqrt();
    let theirs: Vec<f64> = scikit_learn().iter().map(|t| t["test_accuracy"].as_f64().unwrap()).collect();
    // Between the ridges that fit well; the strongest is worse by far more than the spread.
    let (low, high) =
        (theirs[1..].iter().copied().fold(1.0, f64::min), theirs[1..].iter().copied().fold(0.0, f64::max));
    assert!(spread < 0.02, "{accuracies:?}");
    assert!(ours.value > low - 2.0 * spread && ours.value < high + 2.0 * spread, "{accuracies:?} against {theirs:?}");
    assert!(ours.value > theirs[0] + spread);
    let again = probe(&Device::of(&gpu), &options, &features, labels, 6, &[2]).unwrap();
    assert_eq!(again[0], fits[1], "a fit is a function of its seed, bit for bit");
    assert_ne!(fits[0].predictions, fits[1].predictions);
}

pub(crate) fn random_model(kind: ModelKind, language: &dyn Language, seed: u64) -> Loaded {
    let config = ModelConfig {
        kind,
        vocab_size: language.vocabulary().len() as u32 + 4,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        hidden_dropout_prob: 0.1,
        max_position_embeddings: 2 + 10,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.1, seed);
    Loaded { encoder, weights, folder: Default::default(), notes: vec![] }
}

#[test]
fn fine_tuning_learns_what_the_first_token_cannot_know_at_first() {
    let gpu = gpu();
    let language = hmm();
    let ids = TokenIds::new(language.vocabulary().len());
    let data = TaskData::of_language(&language, Task::State(2), false, 1, SIZES).unwrap();
    let options = FineTuning { lr: 1e-2, epochs: 6, batch: 16, warmup_steps: 10, ..FineTuning::default() };
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Lstm] {
        let model = random_model(kind, &language, 1);
        let fits = finetune(&Device::of(&gpu), &model, &ids, &data, &options, &[1, 2]).unwrap();
        for fit in &fits {
            let majority = data.majority();
            assert!(fit.accuracy > majority + 0.15, "{kind:?}: {} beside majority {majority}", fit.accuracy);
            assert_eq!(fit.predictions.len(), 200);
        }
        let still = FineTuning { lr: 1e-12, epochs: 1, ..options.clone() };
        let idle = finetune(&Device::of(&gpu), &model, &ids, &data, &still, &[1]).unwrap();
        assert!(idle[0].accuracy < fits[0].accuracy - 0.1, "{kind:?}");
        let again = finetune(&Device::of(&gpu), &model, &ids, &data, &options, &[2]).unwrap();
        assert_eq!(again[0], fits[1], "{kind:?}: a function of the seed");
    }
}

/// Alignment of a model on soft brackets whose layers are as many.
fn aligned(layers: u32, scale: f64) -> Alignment {
    let language = Brackets::new(7, 0.15).unwrap();
    let config = ModelConfig {
        vocab_size: 6,
        hidden_size: 16,
        num_hidden_layers: layers,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 2 + 9,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, scale, 4);
    let model = Model::new(&Device::of(&gpu()), &encoder, &weights).unwrap();
    let tokens = TokenIds::new(2);
    let sentences: Vec<Sentence> = (0..3000).map(|i| masked_sentence(&language, &tokens, 8, i).sentence).collect();
    alignment(&model, &sentences, 64).unwrap().unwrap()
}

#[test]
fn representations_are_aligned_with_the_conditional_when_they_see_the_others() {
    let blind = aligned(0, 0.1);
    // Brackets that are not masked sum to -6, -4, ..., 6, the extremes once in 3,000 sentences; what stands at a masked
    // position without a layer is its position, which says nothing of them.
    assert!((5..=7).contains(&blind.conditionals) && blind.positions == 3000, "{blind:?}");
    assert!(blind.share_of_conditional.abs() < 4.0 * blind.share_of_conditional_standard_error, "{blind:?}");
    assert!(blind.share_of_conditional_standard_error < 0.01, "{blind:?}");
    let seeing = aligned(1, 0.5);
    assert!(seeing.share_of_conditional > 4.0 * seeing.share_of_conditional_standard_error, "{seeing:?}");
    assert!(seeing.share_of_conditional < 1.0, "{seeing:?}");
}
