//! Next words as an objective: its keys, its sentences, its floor, and files of examples for models that read in one
//! direction.

use lowland::config::RunConfig;
use lowland::language::{causal_floor, causal_floor_of, entropy};
use lowland::model::{ModelConfig, ModelKind, parse_examples};
use lowland::statistics::Estimate;
use lowland::train::{Corpus, held_out_seed};

const LSTM: &str = "[model]\ntype = \"lstm\"\nbidirectional = false\n";
const GRAMMAR: &str = "[language]\nmax_length = 8\n[language.random]\nlevels = 2\nsymbols = 3\nrules = 2\n\
     vocabulary = 8\nword_probability = 0.3\nseed = 4\n";
const HMM: &str = "[language]\nkind = \"hmm\"\nhmm = { states = 3, vocabulary = 6, seed = 1 }\nmin_length = 2\n\
                   max_length = 7\n";
const BRACKETS: &str = "[language]\nkind = \"brackets\"\nlength = 6\nkappa = 0.5\n";

fn corpus(language: &str, objective: &str) -> Corpus {
    let text = format!("{language}{LSTM}[objective]\nkind = \"causal\"\n{objective}");
    let config = RunConfig::parse(&text, "run.toml").unwrap();
    Corpus::open(&config.language, &config.objective, 5).unwrap()
}

#[test]
fn what_cannot_be_is_refused_with_its_key() {
    for (text, key, says) in [
        ("[objective]\nkind = \"causal\"\n".to_string(), "objective.kind", "bidirectional = false"),
        ("[model]\ntype = \"lstm\"\n[objective]\nkind = \"causal\"\n".into(), "objective.kind", "has seen the word"),
        (
            format!("{LSTM}[objective]\nkind = \"causal\"\nmask = {{ bernoulli = 0.2 }}\n"),
            "objective.mask",
            "masks nothing",
        ),
        (format!("{LSTM}[objective]\npositions = {{ from = 1 }}\n"), "objective.positions", "objective.kind"),
        (
            format!("{LSTM}[objective]\nkind = \"causal\"\npositions = {{ from = 3, to = 3 }}\n"),
            "objective.positions.to",
            "3 must be above `from`, 3",
        ),
        (format!("{LSTM}[objective]\nkind = \"casual\"\n"), "", "one of: mlm, causal"),
    ] {
        let error = RunConfig::parse(&text, "run.toml").unwrap_err();
        assert!(error.to_string().contains(key) && error.message.contains(says), "{text}: {error}");
        assert!(error.place.starts_with("run.toml:"), "{error}");
    }
    assert!(RunConfig::parse(&format!("{LSTM}[objective]\nkind = \"mlm\"\n"), "x").is_ok(), "an MLM may read one way");
}

/// Configs from before there was a choice keep their text, and with it their hash.
#[test]
fn the_default_is_not_written() {
    let mlm = RunConfig::parse("[objective]\nkind = \"mlm\"\n", "x").unwrap();
    assert!(!mlm.to_toml().contains("kind = \"mlm\"") && mlm == RunConfig::parse("", "x").unwrap());
    let text = format!("{LSTM}[objective]\nkind = \"causal\"\npositions = {{ from = 1 }}\n");
    let causal = RunConfig::parse(&text, "x").unwrap();
    assert_eq!(RunConfig::parse(&causal.to_toml(), "x").unwrap(), causal);
}

#[test]
fn a_sentence_is_fed_whole_and_its_words_and_end_are_predicted() {
    for language in [GRAMMAR, HMM, BRACKETS] {
        let corpus = corpus(language, "labels = \"expected\"\n");
        for i in 0..50 {
            let words = corpus.language.sample(5, i);
            let prefixes = corpus.truth().unwrap().prefixes(&words).unwrap();
            let sentence = corpus.sentence(i);
            let ids: Vec<u32> =
                std::iter::once(0).chain(words.iter().map(|w| w + 4)).chain(std::iter::once(2)).collect();
            assert_eq!(sentence.ids, ids);
            let want: Vec<(u32, u32)> = (0..=words.len()).map(|k| (k as u32, ids[k + 1])).collect();
            assert_eq!(sentence.masked, want);
            for (soft, next) in sentence.soft.iter().zip(&prefixes.next) {
                let end = next.len() - 1;
                assert_eq!(f64::from(soft[2]), f64::from(next[end] as f32), "the end");
                assert!((0..end).all(|w| soft[4 + w] == next[w] as f32) && [0, 1, 3].iter().all(|i| soft[*i] == 0.0));
            }
            let known = corpus.known(corpus.truth().unwrap(), held_out_seed(5), i, Default::default());
            let prefixes = corpus.truth().unwrap().prefixes(&corpus.language.sample(held_out_seed(5), i)).unwrap();
            assert!((known[0].log_probability - prefixes.log_probability).abs() < 1e-12, "the chain rule");
            let whole: f64 = prefixes.next.iter().map(|p| entropy(p)).sum();
            assert!((known[0].entropy - whole).abs() < 1e-12);
        }
    }
}

#[test]
fn a_range_of_positions_is_what_is_predicted_and_at_least_the_end() {
    let corpus = corpus(HMM, "positions = { from = 4, to = 6 }\n");
    let mut lengths = [false; 8];
    for i in 0..200 {
        let words = corpus.language.sample(5, i).len();
        lengths[words] = true;
        let rows: Vec<u32> = corpus.sentence(i).masked.iter().map(|m| m.0).collect();
        let want: Vec<u32> = if words < 4 { vec![words as u32] } else { (4..=words.min(5) as u32).collect() };
        assert_eq!(rows, want, "{words} words");
        assert!(rows.len() as u32 <= corpus.most_predicted());
    }
    assert!(lengths[2..].iter().all(|seen| *seen));
    assert_eq!((corpus.most_predicted(), corpus.most_masked(10)), (2, 20));
}

/// The floor is the mean of -log p over sentences for each of their tokens, and within their error that of what is
/// drawn.
#[test]
fn the_floor_is_what_sentences_of_the_language_cost() {
    for language in [GRAMMAR, HMM, BRACKETS] {
        let corpus = corpus(language, "");
        let language = corpus.truth().unwrap();
        let floor = causal_floor(language, 7, 3000);
        let (mut costs, mut tokens) = (Vec::new(), Vec::new());
        for i in 0..3000 {
            let words = language.sample(7, i);
            costs.push(-language.prefixes(&words).unwrap().log_probability);
            tokens.push(words.len() as f64 + 1.0);
        }
        let drawn = Estimate::of_ratio(&costs, &tokens);
        let off = (floor.entropy_floor - drawn.value).abs();
        assert!(off <= 4.0 * drawn.standard_error + 1e-12, "{off} {drawn}");
        assert_eq!(floor.predicted_tokens as f64, tokens.iter().sum::<f64>());
        assert!(floor.standard_error <= drawn.standard_error + 1e-12, "what is summed out does not scatter");
        // A range of one position is that position's own floor, over the sentences that have it.
        let first = causal_floor_of(language, 7, 3000, &|_| 0..1);
        assert!((first.entropy_floor - floor.per_position[0]).abs() < 1e-12);
        assert_eq!((first.predicted_tokens, &first.per_position), (3000, &floor.per_position));
    }
}

fn one_way() -> ModelConfig {
    ModelConfig {
        kind: ModelKind::Lstm,
        bidirectional: false,
        vocab_size: 12,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    }
}

#[test]
fn collated_labels_are_shifted_as_transformers_shifts_them() {
    let ids = [0u32, 5, 6, 7, 2];
    let want = vec![(0, 5), (1, 6), (2, 7), (3, 2)];
    for line in [
        r#"{"input_ids":[0,5,6,7,2]}"#,
        r#"{"input_ids":[0,5,6,7,2],"labels":null}"#,
        r#"{"labels":[0,5,6,7,2],"input_ids":[0,5,6,7,2]}"#,
        r#"{"labels":[-100,5,6,7,2],"input_ids":[0,5,6,7,2],"attention_mask":[1,1,1,1,1]}"#,
        // Padding to the right and to the left, with and without a mask, as other people order their keys.
        r#"{"attention_mask":[1,1,1,1,1,0,0],"labels":[0,5,6,7,2,-100,-100],"input_ids":[0,5,6,7,2,1,1]}"#,
        r#"{"attention_mask":[0,0,1,1,1,1,1],"input_ids":[1,1,0,5,6,7,2],"labels":[-100,-100,0,5,6,7,2]}"#,
        r#"{"attention_mask":[0,1,1,1,1,1,0],"input_ids":[1,0,5,6,7,2,1]}"#,
        r#"{"input_ids":[1,1,0,5,6,7,2,1]}"#,
        r#"{"input_ids":[0,5,6,7,2,1,1],"labels":[0,5,6,7,2,-100,-100]}"#,
        // The rows themselves, unshifted.
        r#"{"input_ids":[0,5,6,7,2],"masked_positions":[0,1,2,3],"labels":[5,6,7,2]}"#,
    ] {
        let found = parse_examples(line, "f", &one_way()).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!((&found[0].ids[..], &found[0].masked), (&ids[..], &want), "{line}");
    }
    let some = r#"{"input_ids":[0,5,6,7,2],"labels":[-100,-100,9,-100,2]}"#;
    assert_eq!(parse_examples(some, "f", &one_way()).unwrap()[0].masked, [(1, 9), (3, 2)]);
    // A model that sees the whole sentence predicts them where they stand.
    let both = ModelConfig { bidirectional: true, ..one_way() };
    assert_eq!(parse_examples(some, "f", &both).unwrap()[0].masked, [(2, 9), (4, 2)]);
}

#[test]
fn wrong_causal_examples_are_refused_with_their_line() {
    for (line, wanted) in [
        (r#"{"input_ids":[0]}"#, "no token but the first is predicted"),
        (r#"{"input_ids":[0,5],"labels":[0,-100]}"#, "no token but the first is predicted"),
        (r#"{"input_ids":[0,5],"labels":[-100,-100]}"#, "all labels are -100"),
        (r#"{"input_ids":[0,5],"labels":[5]}"#, "1 labels and 2 input_ids"),
        (r#"{"input_ids":[0,5],"labels":[0,12]}"#, "token 12 is not in the vocabulary of 12"),
        (r#"{"input_ids":[0,12]}"#, "token 12 is not in the vocabulary of 12"),
        (r#"{"input_ids":[0,5],"masked_positions":[0]}"#, "masked_positions and no labels"),
        (
            r#"{"input_ids":[0,5,6],"attention_mask":[1,0,1],"labels":[0,-100,6]}"#,
            "position 2 is predicted from position 1, whose attention_mask is 0",
        ),
        (r#"{"input_ids":[0,5,6],"attention_mask":[1,0,1]}"#, "position 2 is predicted from position 1"),
        (
            r#"{"input_ids":[0,5,1],"attention_mask":[1,1,0],"labels":[0,5,1]}"#,
            "position 2 is predicted, and its attention_mask is 0",
        ),
        (r#"{"input_ids":[0,5,1],"labels":[0,5,1]}"#, "position 2 is predicted, and is padding"),
        (r#"{"input_ids":[1,1]}"#, "no token but padding"),
        (r#"{"ids":[0,5]}"#, "an example is"),
    ] {
        let text = format!("{{\"input_ids\":[0,5,2]}}\n{line}\n");
        let error = parse_examples(&text, "file.jsonl", &one_way()).unwrap_err().to_string();
        assert!(error.starts_with("file.jsonl:2: ") && error.contains(wanted), "{line}: {error}");
    }
    let both = ModelConfig { bidirectional: true, ..one_way() };
    let error = parse_examples(r#"{"input_ids":[0,5,2]}"#, "f", &both).unwrap_err().to_string();
    assert!(error.contains("no labels; only a model that reads in one direction"), "{error}");
}
