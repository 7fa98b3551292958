//! Languages against enumeration, independent programs and statistics.

use lowland::language::{Grammar, Language, Pcfg, RandomGrammar, Task, Truth, entropy, entropy_floor, random_grammar};

/// The authors' grammar, where it is at hand; the project carries no copy of it.
fn published() -> Option<Pcfg> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pcfg_liu2022.txt");
    if !path.exists() {
        println!("skipped: the published grammar is not at {}", path.display());
        return None;
    }
    Some(Pcfg::new(Grammar::read(&path).unwrap(), 32).unwrap())
}

fn pcfg(text: &str, max_length: usize) -> Pcfg {
    Pcfg::new(Grammar::parse(text, "test").unwrap(), max_length).unwrap()
}

/// Small grammars with everything in them: unary chains, words in rules with two symbols, rules given twice, early
/// words.
fn small_grammars() -> Vec<Pcfg> {
    vec![
        pcfg("S A B 1\nA a 0.5\nA b 0.25\nA b 0.25\nB A 0.3\nB c 0.7\n", 4),
        pcfg("S S1 2\nS S2 1\nS1 x A 1\nS2 A A 3\nA a 1\nA b 2\nA y z 0.5\n", 6),
        pcfg("S S S 0.3\nS a 0.4\nS T 0.3\nT U 1\nU b 0.5\nU a 0.5\n", 5),
        Pcfg::new(
            Grammar::random(&RandomGrammar {
                levels: 2,
                symbols: 2,
                rules: 2,
                vocabulary: 4,
                word_probability: 0.3,
                seed: 9,
            })
            .unwrap(),
            4,
        )
        .unwrap(),
    ]
}

/// Every sentence of up to `n` words with its probability, by deriving it in all ways.
fn enumerate(text_rules: &[(String, Vec<String>, f64)], n: usize) -> std::collections::HashMap<Vec<String>, f64> {
    fn yields(rules: &[(String, Vec<String>, f64)], symbol: &str, n: usize) -> Vec<(Vec<String>, f64)> {
        if !rules.iter().any(|r| r.0 == symbol) {
            return vec![(vec![symbol.to_string()], 1.0)];
        }
        let mut all = Vec::new();
        for (_, right, p) in rules.iter().filter(|r| r.0 == symbol) {
            match right.as_slice() {
                [one] => all.extend(yields(rules, one, n).into_iter().map(|(w, q)| (w, p * q))),
                [left, right] if n > 1 => {
                    for (a, q) in yields(rules, left, n - 1) {
                        for (b, r) in yields(rules, right, n - a.len()) {
                            all.push(([a.clone(), b].concat(), p * q * r));
                        }
                    }
                }
                _ => {}
            }
        }
        all.retain(|(w, _)| w.len() <= n);
        all
    }
    let mut table = std::collections::HashMap::new();
    for (words, p) in yields(text_rules, "S", n) {
        *table.entry(words).or_insert(0.0) += p;
    }
    table
}

fn normalised(text: &str) -> Vec<(String, Vec<String>, f64)> {
    let mut rules: Vec<(String, Vec<String>, f64)> = text
        .lines()
        .map(|l| {
            let f: Vec<&str> = l.split_whitespace().collect();
            let right = f[1..f.len() - 1].iter().map(|s| s.to_string()).collect();
            (f[0].to_string(), right, f[f.len() - 1].parse().unwrap())
        })
        .collect();
    let totals: Vec<f64> = rules.iter().map(|r| rules.iter().filter(|o| o.0 == r.0).map(|o| o.2).sum()).collect();
    for (rule, total) in rules.iter_mut().zip(totals) {
        rule.2 /= total;
    }
    rules
}

#[test]
fn probabilities_and_conditionals_equal_enumeration() {
    let texts = [
        "S A B 1\nA a 0.5\nA b 0.25\nA b 0.25\nB A 0.3\nB c 0.7\n".to_string(),
        "S S1 2\nS S2 1\nS1 x A 1\nS2 A A 3\nA a 1\nA b 2\nA y z 0.5\n".to_string(),
        "S S S 0.3\nS a 0.4\nS T 0.3\nT U 1\nU b 0.5\nU a 0.5\n".to_string(),
        random_grammar(&RandomGrammar {
            levels: 2,
            symbols: 2,
            rules: 2,
            vocabulary: 4,
            word_probability: 0.3,
            seed: 9,
        })
        .unwrap(),
    ];
    for (text, language) in texts.iter().zip(small_grammars()) {
        let table = enumerate(&normalised(text), language.max_length());
        for (sentence, p) in &table {
            let words = language.encode(&sentence.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let known = language.conditional(&words).unwrap();
            assert!(
                (known.log_probability.exp() / p - 1.0).abs() < 1e-12,
                "{sentence:?}: {} against {p}",
                known.log_probability.exp()
            );
            for t in 0..words.len() {
                let alternatives: Vec<f64> = language
                    .vocabulary()
                    .iter()
                    .map(|w| {
                        let mut other = sentence.clone();
                        other[t] = w.clone();
                        table.get(&other).copied().unwrap_or(0.0)
                    })
                    .collect();
                let total: f64 = alternatives.iter().sum();
                for (got, want) in known.conditional[t].iter().zip(&alternatives) {
                    assert!((got - want / total).abs() < 1e-12, "{sentence:?} at {t}: {got} against {}", want / total);
                }
            }
        }
        let by_length = language.grammar().length_distribution(language.max_length());
        for (n, p) in by_length.iter().enumerate() {
            let summed: f64 = table.iter().filter(|(w, _)| w.len() == n).map(|(_, p)| p).sum();
            assert!((p - summed).abs() < 1e-12, "length {n}: {p} against {summed}");
        }
    }
}

#[test]
fn published_grammar_matches_independent_programs() {
    let Some(language) = published() else { return };
    let fixture: serde_json::Value = serde_json::from_str(include_str!("../fixtures/pcfg.json")).unwrap();
    let words_of = |v: &serde_json::Value| {
        let words: Vec<&str> = v["words"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        language.encode(&words).unwrap()
    };
    let sentences = fixture["sentences"].as_array().unwrap();
    assert!(sentences.len() >= 18);
    for sentence in sentences {
        let got = language.conditional(&words_of(sentence)).unwrap().log_probability;
        let want = sentence["log_probability"].as_f64().unwrap();
        assert!((got - want).abs() <= 1e-9 * want.abs(), "{sentence}: {got}");
    }
    let conditional = &fixture["conditional"];
    let known = language.conditional(&words_of(conditional)).unwrap();
    let got = &known.conditional[conditional["position"].as_u64().unwrap() as usize];
    for (got, want) in got.iter().zip(conditional["probabilities"].as_array().unwrap()) {
        assert!((got - want.as_f64().unwrap()).abs() < 1e-12);
    }
}

#[test]
fn nothing_underflows_in_long_sentences() {
    // 600 words of probability 1e-3 each: p = 10^-1800 and smaller, far below what f64 holds.
    let mut text = String::from("S A S 0.999\nS A 0.001\n");
    for i in 0..1000 {
        text.push_str(&format!("A w{i:03} 1\n"));
    }
    let language = pcfg(&text, 2000);
    let words: Vec<u32> = (0..600).map(|i| i % 1000).collect();
    let known = language.conditional(&words).unwrap();
    let exact = 599.0 * 0.999f64.ln() + 0.001f64.ln() + 600.0 * 0.001f64.ln();
    assert!((known.log_probability - exact).abs() < 1e-9 * exact.abs());
    assert!(known.conditional.iter().flatten().all(|p| (p - 0.001).abs() < 1e-12));
}

#[test]
fn impossible_sentences_have_no_conditional() {
    let language = pcfg("S A B 1\nA a 1\nB b 1\n", 4);
    let words = language.encode(&["b", "a"]).unwrap();
    assert!(language.conditional(&words).is_none());
    // One wrong word: the other position still knows what belongs there.
    let words = language.encode(&["a", "a"]).unwrap();
    assert_eq!(language.conditional_unchecked(&words).conditional, [[0.0, 0.0], [0.0, 1.0]]);
}

#[test]
fn samples_follow_the_grammar() {
    for language in small_grammars() {
        let n = 20_000u64;
        let mut counts = std::collections::HashMap::new();
        for i in 0..n {
            *counts.entry(language.sample(5, i)).or_insert(0u64) += 1;
        }
        let kept: f64 = language.grammar().length_distribution(language.max_length()).iter().sum();
        let mut chi = 0.0;
        let mut cells = 0;
        for (words, count) in &counts {
            let p = language.conditional(words).unwrap().log_probability.exp() / kept;
            let expected = p * n as f64;
            if expected >= 8.0 {
                chi += (*count as f64 - expected).powi(2) / expected;
                cells += 1;
            }
        }
        // A chi-square with f degrees of freedom has mean f and variance 2 f.
        let f = f64::from(cells);
        assert!(cells > 3 && chi < f + 5.0 * (2.0 * f).sqrt(), "chi² = {chi:.1} over {cells} sentences");
    }
}

#[test]
fn a_sentence_is_a_function_of_seed_and_number() {
    let language = small_grammars().remove(2);
    let all: Vec<_> = (0..50).map(|i| language.sample(7, i)).collect();
    assert_eq!(language.sample(7, 33), all[33]);
    assert_ne!(all, (0..50).map(|i| language.sample(8, i)).collect::<Vec<_>>());
    assert!(all.iter().all(|w| w.len() <= 5));
}

#[test]
fn entropy_floor_equals_enumeration_within_its_error() {
    let text = "S S1 2\nS S2 1\nS1 x A 1\nS2 A A 3\nA a 1\nA b 2\nA y z 0.5\n";
    let language = pcfg(text, 6);
    let table = enumerate(&normalised(text), 6);
    let exact: f64 = table
        .iter()
        .map(|(sentence, p)| {
            let words = language.encode(&sentence.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let known = language.conditional(&words).unwrap();
            p * known.conditional.iter().map(|c| entropy(c)).sum::<f64>() / words.len() as f64
        })
        .sum();
    let floor = entropy_floor(&language, 1, 4000);
    let z = (floor.entropy_floor - exact) / floor.standard_error;
    assert!(z.abs() < 4.0, "z = {z:.2}: {floor:?} against {exact}");
    assert_eq!((floor.sentence_length.min, floor.sentence_length.max), (2, 4));
}

#[test]
fn labels_are_the_most_likely_symbols() {
    let text = "S S1 0.9\nS S2 0.1\nS1 A B 1\nS2 B B 1\nA a 0.4\nA b 0.6\nB a 0.9\nB b 0.1\n";
    let language = pcfg(text, 4);
    let words = language.encode(&["a", "a"]).unwrap();
    // p(S1 yields a a) = 0.4 0.9 = 0.36 and p(S2 yields a a) = 0.81; the prior turns 0.36 0.9 against 0.81 0.1 round.
    let plain = language.label(&words, Task::A, false).unwrap();
    assert_eq!(plain.symbol, "S2");
    assert!((plain.probability - 0.81 / 1.17).abs() < 1e-12);
    let prior = language.label(&words, Task::A, true).unwrap();
    assert_eq!(prior.symbol, "S1");
    assert!((prior.probability - 0.324 / 0.405).abs() < 1e-12);
    let first = language.label(&words, Task::Span(1), false).unwrap();
    assert_eq!(first.symbol, "B");
    // Given the sentence, the first word is an A with probability 0.324 / 0.405.
    assert_eq!(language.label(&words, Task::Span(1), true).unwrap().symbol, "A");
    assert!(language.label(&words, Task::B, false).is_none(), "two words are too short for task B");
    assert_eq!(language.label_names(Task::A).unwrap(), ["S1", "S2"]);
}

#[test]
fn wrong_grammars_are_refused_with_file_and_line() {
    let cases: &[(&str, &str)] = &[
        ("", "g.txt: holds no rule"),
        ("S a\n", "g.txt:1: 2 fields"),
        ("S a b c 1\n", "g.txt:1: 5 fields"),
        ("S a x\n", "g.txt:1: `x` is no number"),
        ("S a 1\n\nS b -1\n", "g.txt:3: the weight -1 is negative"),
        ("S a inf\n", "g.txt:1: the weight inf is not finite"),
        ("S a nan\n", "g.txt:1: the weight nan is not finite"),
        ("S A 1\nA a 0\nA b 0\n", "g.txt:2: the weights of `A` sum to 0"),
        ("S a 1e308\nS b 1e308\n", "g.txt:1: the weights of `S` sum to more than"),
        ("A a 1\n", "g.txt: has no rule for the start symbol `S`"),
        ("S A 1\nA S A 1\n", "g.txt:1: `S` can never end"),
        ("S a 1\nS B B 1\nB B B 1\n", "g.txt:3: `B` can never end"),
        ("S S S 0.6\nS a 0.4\n", "g.txt:1: the expected length of what `S` yields is not finite"),
        ("S S S 0.5\nS a 0.5\n", "g.txt:1: the expected length"),
        ("S A 1\nA B 0.5\nA a 0.5\nB A 0.5\nB b 0.5\n", "g.txt:2: `A` to `B` belongs to a cycle"),
        ("S S 0.5\nS a 0.5\n", "g.txt:1: `S` to `S` belongs to a cycle"),
        ("S <mask> 1\n", "g.txt:1: <s> <pad> </s> <mask> are reserved"),
    ];
    for (text, message) in cases {
        let error = Grammar::parse(text, "g.txt").expect_err(text).to_string();
        assert!(error.starts_with(message), "{text:?} gave `{error}`, not `{message}`");
    }
    let error = Pcfg::new(Grammar::parse("S A A 1\nA B B 1\nB b 1\n", "g.txt").unwrap(), 3).unwrap_err().to_string();
    assert!(error.starts_with("g.txt: yields no sentence of at most 3 words"), "{error}");
}

#[test]
fn a_file_that_is_not_utf8_is_refused_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"S a 1\nS \xff 1\n").unwrap();
    let error = Grammar::read(file.path()).unwrap_err();
    assert_eq!((error.line, error.message.starts_with("is not UTF-8")), (Some(2), true));
}

#[test]
fn published_grammar_has_sentences_of_2_to_16_words() {
    let Some(language) = published() else { return };
    assert_eq!((language.grammar().symbols().len(), language.vocabulary().len()), (50, 200));
    let by_length = language.grammar().length_distribution(32);
    assert!(by_length[2] > 0.0 && by_length[16] > 0.0 && by_length[17..].iter().sum::<f64>() < 1e-15);
    assert!((by_length.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

/// The speeds that users wait for; far below them something is wrong, whatever the machine.
#[test]
fn sampling_and_charts_are_fast() {
    let Some(language) = published() else { return };
    let start = std::time::Instant::now();
    let total: usize = (0..50_000).map(|i| language.sample(1, i).len()).sum();
    let sampled = 50_000.0 / start.elapsed().as_secs_f64();
    let sentences: Vec<_> = (0..2000).map(|i| language.sample(1, i)).collect();
    let start = std::time::Instant::now();
    let sum: f64 = sentences.iter().map(|s| language.conditional(s).unwrap().log_probability).sum();
    let charted = 2000.0 / start.elapsed().as_secs_f64();
    println!("{sampled:.0} sentences/s sampled, {charted:.0} sentences/s inside-outside, one core ({total}, {sum:.3})");
    assert!(sampled > 40_000.0 && charted > 200.0, "{sampled:.0} and {charted:.0} sentences/s");
}
