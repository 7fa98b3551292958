//! Hidden Markov models against enumeration, a NumPy program and statistics.

use crate::common::fixtures::fixture;
use std::collections::HashMap;

use lowland::language::{Hmm, Language, RandomHmm, Task, Truth, entropy, entropy_floor};

/// Double precision over a few thousand terms.
const TIGHT: f64 = 1e-12;

fn small(seed: u64) -> Hmm {
    let shape =
        RandomHmm { states: 3, vocabulary: 4, transition_concentration: 0.7, emission_concentration: 0.6, seed };
    Hmm::random(&shape, 1, 4).unwrap()
}

/// p(words, states | length) by the definition.
fn joint(hmm: &Hmm, words: &[u32], states: &[usize]) -> f64 {
    let [initial, transition, emission] = hmm.probabilities();
    let (s, v) = (hmm.states().len(), hmm.vocabulary().len());
    let mut p = initial[states[0]];
    for t in 0..words.len() {
        if t > 0 {
            p *= transition[states[t - 1] * s + states[t]];
        }
        p *= emission[states[t] * v + words[t] as usize];
    }
    p
}

/// All tuples of n numbers below `base`.
fn tuples(n: usize, base: usize) -> Vec<Vec<usize>> {
    (0..n).fold(vec![vec![]], |all, _| {
        all.iter().flat_map(|t| (0..base).map(move |x| [t.as_slice(), &[x]].concat())).collect()
    })
}

#[test]
fn everything_equals_enumeration() {
    for seed in 0..3 {
        let hmm = small(seed);
        let mut total = 0.0;
        for n in 1..=4 {
            let sentences: Vec<Vec<u32>> =
                tuples(n, 4).into_iter().map(|t| t.into_iter().map(|w| w as u32).collect()).collect();
            let paths = tuples(n, 3);
            let p: HashMap<&[u32], f64> = sentences
                .iter()
                .map(|x| (x.as_slice(), paths.iter().map(|z| joint(&hmm, x, z)).sum::<f64>() / 4.0))
                .collect();
            total += p.values().sum::<f64>();
            for x in &sentences {
                let known = hmm.conditional(x).unwrap();
                assert!((known.log_probability - p[x.as_slice()].ln()).abs() < TIGHT, "{x:?}");
                for t in 0..n {
                    let with = |w: u32| {
                        let mut other = x.clone();
                        other[t] = w;
                        p[other.as_slice()]
                    };
                    let all: f64 = (0..4).map(with).sum();
                    for w in 0..4 {
                        assert!((known.conditional[t][w as usize] - with(w) / all).abs() < TIGHT, "{x:?} at {t}");
                    }
                    let posterior = hmm.posterior(x, t).unwrap();
                    for (z, p_z) in posterior.iter().enumerate() {
                        let here: f64 = paths.iter().filter(|path| path[t] == z).map(|path| joint(&hmm, x, path)).sum();
                        assert!((p_z - here / 4.0 / p[x.as_slice()]).abs() < TIGHT, "{x:?} at {t}");
                    }
                    let label = hmm.label(x, Task::State(t + 1), false).unwrap();
                    let best = posterior.iter().copied().fold(0.0, f64::max);
                    assert_eq!(label.probability, best);
                    assert_eq!(posterior[hmm.states().iter().position(|s| *s == label.symbol).unwrap()], best);
                }
                assert!(hmm.label(x, Task::State(n + 1), false).is_none(), "too short for it");
            }
        }
        assert!((total - 1.0).abs() < TIGHT, "all sentences together: {total}");
    }
}

#[test]
fn everything_equals_the_numpy_program() {
    let text = std::fs::read_to_string(fixture("hmm.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    let n = truth["length"].as_u64().unwrap() as usize;
    let hmm = Hmm::parse(truth["file"].as_str().unwrap(), "hmm.json", n, n).unwrap();
    let close = |ours: &[f64], theirs: &serde_json::Value| {
        let theirs: Vec<f64> = serde_json::from_value(theirs.clone()).unwrap();
        assert_eq!(ours.len(), theirs.len());
        // The recorded probabilities come from differences of logarithms of about -30.
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-11), "{ours:?} {theirs:?}");
    };
    for case in truth["sentences"].as_array().unwrap() {
        let words: Vec<String> = serde_json::from_value(case["words"].clone()).unwrap();
        let words = hmm.encode(&words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let known = hmm.conditional(&words).unwrap();
        close(&[known.log_probability], &serde_json::json!([case["log_probability"]]));
        for (ours, theirs) in known.conditional.iter().zip(case["conditional"].as_array().unwrap()) {
            close(ours, theirs);
        }
        close(&hmm.posterior(&words, 5).unwrap(), &case["posterior_at_word_6"]);
    }
}

#[test]
fn sentences_come_as_often_as_they_should() {
    let hmm = small(7);
    let n = 20_000u64;
    let mut seen: HashMap<Vec<u32>, f64> = HashMap::new();
    for i in 0..n {
        *seen.entry(hmm.sample(11, i)).or_default() += 1.0;
    }
    let mut checked = 0;
    for (words, count) in seen {
        let p = hmm.conditional(&words).unwrap().log_probability.exp();
        let expected = p * n as f64;
        if expected > 20.0 {
            checked += 1;
            // Five standard deviations over some hundred sentences.
            assert!((count - expected).abs() < 5.0 * (expected * (1.0 - p)).sqrt(), "{words:?}: {count}, {expected}");
        }
    }
    assert!(checked > 50, "{checked}");
    assert_eq!(hmm.sample(3, 1_000_000), hmm.sample(3, 1_000_000));
}

#[test]
fn the_floor_is_the_mean_entropy_of_the_conditionals() {
    let hmm = small(2);
    let floor = entropy_floor(&hmm, 1, 4000);
    let mut exact = 0.0;
    for n in 1..=4 {
        for t in tuples(n, 4) {
            let x: Vec<u32> = t.into_iter().map(|w| w as u32).collect();
            let known = hmm.conditional(&x).unwrap();
            let mean = known.conditional.iter().map(|p| entropy(p)).sum::<f64>() / n as f64;
            exact += known.log_probability.exp() * mean;
        }
    }
    assert!((floor.entropy_floor - exact).abs() < 4.0 * floor.standard_error, "{floor:?}, {exact}");
}

#[test]
fn long_sentences_do_not_underflow() {
    let shape =
        RandomHmm { states: 20, vocabulary: 50, transition_concentration: 0.1, emission_concentration: 0.05, seed: 4 };
    let hmm = Hmm::random(&shape, 2000, 2000).unwrap();
    let known = hmm.conditional(&hmm.sample(0, 0)).unwrap();
    assert!(known.log_probability < -1000.0, "{}", known.log_probability);
    assert!(known.conditional.iter().all(|p| (p.iter().sum::<f64>() - 1.0).abs() < 1e-9));
}

#[test]
fn rows_are_draws_of_a_dirichlet_distribution() {
    for c in [0.05, 1.0, 8.0] {
        let shape =
            RandomHmm { states: 800, vocabulary: 5, transition_concentration: 1.0, emission_concentration: c, seed: 5 };
        let hmm = Hmm::random(&shape, 1, 2).unwrap();
        let firsts: Vec<f64> = hmm.probabilities()[2].chunks(5).map(|row| row[0]).collect();
        let n = firsts.len() as f64;
        let mean = firsts.iter().sum::<f64>() / n;
        let variance = firsts.iter().map(|p| (p - 0.2).powi(2)).sum::<f64>() / n;
        let expected = 0.2 * 0.8 / (5.0 * c + 1.0);
        assert!((mean - 0.2).abs() < 4.0 * (expected / n).sqrt(), "concentration {c}: mean {mean}");
        assert!((variance / expected - 1.0).abs() < 0.25, "concentration {c}: variance {variance}, {expected}");
    }
}

#[test]
fn an_impossible_sentence_is_told_and_its_conditionals_are_still_right() {
    let text = "initial a 1\ntransition a a 1\nemission a x 1\nemission a y 1\ninitial b 0\ntransition b b 1\nemission \
        b z 1\n";
    let hmm = Hmm::parse(text, "m", 3, 3).unwrap();
    assert_eq!(hmm.vocabulary(), ["x", "y", "z"]);
    assert!(hmm.conditional(&[0, 2, 0]).is_none());
    let known = hmm.conditional_unchecked(&[0, 2, 0]);
    assert_eq!(known.log_probability, f64::NEG_INFINITY);
    assert_eq!(known.conditional[1], [0.5, 0.5, 0.0]);
    assert_eq!(known.conditional[0], [0.0; 3], "nothing fits beside an impossible word");
    assert!(hmm.posterior(&[0, 2, 0], 1).is_none());
    assert!(hmm.conditional(&[0, 0]).is_none(), "too short");
}

#[test]
fn files_with_mistakes_are_refused_with_their_line() {
    let good = "initial a 1\ntransition a a 1\nemission a x 1\n";
    let parse = |text: &str| Hmm::parse(text, "m.txt", 2, 2).map(|_| ()).unwrap_err().to_string();
    for (text, wanted) in [
        ("", "m.txt: names no state"),
        ("start a 1\n", "m.txt:1: not an entry"),
        ("# a comment\ntransition a b x\n", "m.txt:2: `x` is no number"),
        ("emission a x -1\n", "m.txt:1: the weight -1 must be finite"),
        ("emission a <mask> 1\n", "m.txt:1: <s> <pad>"),
        (&format!("{good}transition a b 1\n"), "m.txt:4: state `b` has no transition"),
        (&format!("{good}transition a b 1\ntransition b b 1\n"), "m.txt:4: state `b` has no emission"),
        (&good.replace("initial a 1", "initial a 0"), "m.txt: the `initial` weights"),
    ] {
        assert!(parse(text).starts_with(wanted), "{text:?}: {}", parse(text));
    }
    assert!(Hmm::parse(good, "m.txt", 3, 2).unwrap_err().to_string().contains("min_length"));
}
