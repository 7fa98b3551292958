//! What may follow a prefix, against the sum over all sentences that begin with it.

use std::collections::HashMap;

use lowland::language::{Brackets, Grammar, Hmm, Pcfg, RandomGrammar, RandomHmm, Truth, causal_floor, entropy};

/// Sums of a few thousand numbers in double precision.
const TIGHT: f64 = 1e-12;

fn languages() -> Vec<Box<dyn Truth>> {
    let pcfg = |text: &str, most| Box::new(Pcfg::new(Grammar::parse(text, "test").unwrap(), most).unwrap());
    let random = RandomGrammar { levels: 2, symbols: 2, rules: 2, vocabulary: 4, word_probability: 0.3, seed: 31 };
    let mut all: Vec<Box<dyn Truth>> = vec![
        pcfg("S A B 1\nA a 0.5\nA b 0.25\nA b 0.25\nB A 0.3\nB c 0.7\n", 4),
        pcfg("S S1 2\nS S2 1\nS1 x A 1\nS2 A A 3\nA a 1\nA b 2\nA y z 0.5\n", 6),
        // Sentences of any length: the bound cuts off a third of them.
        pcfg("S S S 0.3\nS a 0.4\nS T 0.3\nT U 1\nU b 0.5\nU a 0.5\n", 5),
        pcfg("S S S 0.45\nS a 0.55\n", 9),
        Box::new(Pcfg::new(Grammar::random(&random).unwrap(), 4).unwrap()),
    ];
    all.push(Box::new(Brackets::new(5, 0.3).unwrap()));
    all.push(Box::new(Brackets::new(6, 0.05).unwrap()));
    for (seed, lengths) in [(5, (1, 4)), (6, (3, 5)), (7, (2, 2))] {
        let shape =
            RandomHmm { states: 3, vocabulary: 3, transition_concentration: 0.7, emission_concentration: 0.6, seed };
        all.push(Box::new(Hmm::random(&shape, lengths.0, lengths.1).unwrap()));
    }
    all
}

/// The probability of every sentence that is not too long, by the inside or forward pass.
fn sentences(language: &dyn Truth) -> HashMap<Vec<u32>, f64> {
    let mut found = HashMap::new();
    let mut longer = vec![vec![]];
    for _ in 0..language.max_length() {
        let words = 0..language.vocabulary().len() as u32;
        longer =
            longer.iter().flat_map(|s: &Vec<u32>| words.clone().map(move |w| [s.as_slice(), &[w]].concat())).collect();
        for s in &longer {
            if let Some(known) = language.conditional(s) {
                found.insert(s.clone(), known.log_probability.exp());
            }
        }
    }
    let total: f64 = found.values().sum();
    found.values_mut().for_each(|p| *p /= total);
    found
}

#[test]
fn the_next_word_of_every_prefix_equals_enumeration() {
    for language in languages() {
        let all = sentences(language.as_ref());
        let v = language.vocabulary().len();
        let mut starting: HashMap<&[u32], f64> = HashMap::new();
        for (s, p) in &all {
            for k in 0..=s.len() {
                *starting.entry(&s[..k]).or_default() += p;
            }
        }
        for (s, p) in &all {
            let prefixes = language.prefixes(s).unwrap();
            assert!((prefixes.log_probability - p.ln()).abs() < TIGHT, "{s:?}");
            assert_eq!(prefixes.next.len(), s.len() + 1);
            for (k, next) in prefixes.next.iter().enumerate() {
                assert_eq!(next.len(), v + 1);
                let before = starting[&s[..k]];
                for w in 0..v as u32 {
                    let with = [&s[..k], &[w]].concat();
                    let wanted = starting.get(with.as_slice()).copied().unwrap_or(0.0) / before;
                    assert!((next[w as usize] - wanted).abs() < TIGHT, "{s:?} {k} {w}: {} {wanted}", next[w as usize]);
                }
                let ends = all.get(&s[..k]).copied().unwrap_or(0.0) / before;
                assert!((next[v] - ends).abs() < TIGHT, "{s:?} {k} ends: {} {ends}", next[v]);
            }
        }
    }
}

#[test]
fn an_impossible_or_too_long_sentence_has_no_prefixes() {
    for language in languages() {
        assert!(language.prefixes(&vec![0; language.max_length() + 1]).is_none());
        assert!(language.prefixes(&[]).is_none());
    }
    let language = Pcfg::new(Grammar::parse("S A B 1\nA a 1\nB b 1\n", "test").unwrap(), 4).unwrap();
    assert!(language.prefixes(&[0, 0]).is_none());
    assert!(language.prefixes(&[0]).is_none());
    assert!(language.prefixes(&[0, 1]).is_some());
}

/// E log p of whole sentences is the sum of the entropies of the next word over prefixes, by the chain rule.
#[test]
fn the_entropy_of_sentences_is_that_of_their_next_words() {
    for language in languages() {
        let (mut whole, mut parts) = (0.0, 0.0);
        for (s, p) in sentences(language.as_ref()) {
            let prefixes = language.prefixes(&s).unwrap();
            whole -= p * prefixes.log_probability;
            parts += p * prefixes.next.iter().map(|next| entropy(next)).sum::<f64>();
        }
        assert!((whole - parts).abs() < 1e-10, "{whole} {parts}");
    }
}

#[test]
fn long_prefixes_do_not_underflow() {
    let mut text = String::from("S S S 0.49\n");
    for word in 0..300 {
        text += &format!("S w{word} {}\n", 0.51 / 300.0);
    }
    let language = Pcfg::new(Grammar::parse(&text, "test").unwrap(), 160).unwrap();
    let words: Vec<u32> = (0..160).map(|w| w % 300).collect();
    let known = language.prefixes(&words).unwrap();
    assert!(known.log_probability < -700.0, "a number that f64 cannot hold: {}", known.log_probability);
    assert!(known.next.iter().all(|p| (p.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    assert_eq!(known.next[160][300], 1.0, "behind the longest sentence comes its end");
}

#[test]
fn the_floor_of_next_words_is_their_entropy_within_its_error() {
    for (seed, language) in languages().into_iter().enumerate() {
        let (mut whole, mut tokens) = (0.0, 0.0);
        for (s, p) in sentences(language.as_ref()) {
            whole -= p * p.ln();
            tokens += p * (s.len() + 1) as f64;
        }
        let floor = causal_floor(language.as_ref(), 100 + seed as u64, 4000);
        let off = (floor.entropy_floor - whole / tokens).abs();
        assert!(off <= 4.0 * floor.standard_error + 1e-12, "{off} {floor:?}");
        assert_eq!(floor.per_position.len(), floor.sentence_length.max + 1);
        assert_eq!(floor.per_position.len(), floor.per_position_standard_error.len());
    }
}
