//! Rule files in both forms, against nltk and against enumeration; comments, notes, and what is refused with its line.

use crate::common::fixtures::fixture;
use std::collections::HashMap;
use std::path::Path;

use crate::common::rules::{SYMBOL, random_rules, yields};
use lowland::language::{Grammar, Hmm, Language, Pcfg, Task, Truth, task_names};

/// Sums of a few thousand products in double precision.
const TIGHT: f64 = 1e-12;

fn pcfg(text: &str, max_length: usize) -> Pcfg {
    Pcfg::new(Grammar::parse(text, "g.txt").unwrap_or_else(|e| panic!("{e}\n{text}")), max_length).unwrap()
}

fn encode(language: &Pcfg, words: &[String]) -> Vec<u32> {
    language.encode(&words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
}

#[test]
fn nltks_text_has_nltks_probabilities_and_conditionals() {
    let text = std::fs::read_to_string(fixture("nltk.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (mut sentences, mut rows) = (0, 0);
    for grammar in fixture["grammars"].as_array().unwrap() {
        let language = pcfg(grammar["text"].as_str().unwrap(), 12);
        let names = |v: &serde_json::Value| serde_json::from_value::<Vec<String>>(v.clone()).unwrap();
        assert_eq!(language.vocabulary(), names(&grammar["vocabulary"]));
        assert!(language.notes().iter().all(|note| note.contains("never reached")), "{:?}", language.notes());
        for case in grammar["sentences"].as_array().unwrap() {
            let known = language.conditional(&encode(&language, &names(&case["words"]))).unwrap();
            let wanted = case["log_probability"].as_f64().unwrap();
            assert!((known.log_probability - wanted).abs() < TIGHT * wanted.abs().max(1.0), "{case}: {known:?}");
            sentences += 1;
        }
        for case in grammar["conditionals"].as_array().unwrap() {
            let known = language.conditional_unchecked(&encode(&language, &names(&case["words"])));
            let wanted: Vec<f64> = serde_json::from_value(case["probabilities"].clone()).unwrap();
            let got = &known.conditional[case["position"].as_u64().unwrap() as usize];
            assert!(got.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < TIGHT), "{case}: {got:?}");
            rows += 1;
        }
    }
    assert!(sentences >= 60 && rows >= 80, "{sentences} sentences, {rows} rows");
}

#[test]
fn right_hand_sides_of_any_length_equal_enumeration() {
    for seed in 0..8 {
        let (rules, text) = random_rules(seed);
        let language = pcfg(&text, 5);
        let table = yields(&rules, &SYMBOL("S"), 5, &mut HashMap::new());
        for (sentence, p) in &table {
            let words = encode(&language, sentence);
            let known = language.conditional(&words).unwrap();
            assert!((known.log_probability.exp() / p - 1.0).abs() < TIGHT, "{seed} {sentence:?}: {p} {known:?}");
            for t in 0..words.len() {
                let with = |w: &String| {
                    let mut other = sentence.clone();
                    other[t] = w.clone();
                    table.get(&other).copied().unwrap_or(0.0)
                };
                let row: Vec<f64> = language.vocabulary().iter().map(with).collect();
                let total: f64 = row.iter().sum();
                for (got, want) in known.conditional[t].iter().zip(&row) {
                    assert!((got - want / total).abs() < TIGHT, "{seed} {sentence:?} at {t}: {got}");
                }
            }
        }
        let lengths = language.grammar().length_distribution(5);
        for (n, p) in lengths.iter().enumerate() {
            let summed: f64 = table.iter().filter(|(w, _)| w.len() == n).map(|(_, p)| p).sum();
            assert!((p - summed).abs() < TIGHT, "{seed}, length {n}: {p} against {summed}");
        }
        // What is drawn comes as often as it should: a chi-square with f degrees of freedom has mean f, variance 2 f.
        let kept: f64 = lengths.iter().sum();
        let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
        (0..10_000).for_each(|i| *counts.entry(language.sample(seed, i)).or_default() += 1.0);
        let cells: Vec<f64> = table
            .iter()
            .map(|(words, p)| (counts.get(&encode(&language, words)).copied().unwrap_or(0.0), 10_000.0 * p / kept))
            .filter(|(_, expected)| *expected >= 8.0)
            .map(|(count, expected)| (count - expected).powi(2) / expected)
            .collect();
        let (chi, f) = (cells.iter().sum::<f64>(), cells.len() as f64);
        assert!(chi < f + 5.0 * (2.0 * f).sqrt(), "{seed}: chi² = {chi:.1} over {f} sentences");
    }
}

#[test]
fn tasks_keep_the_authors_symbols_and_their_exact_probabilities() {
    let mut asked = 0;
    for seed in 20..27 {
        let (rules, text) = random_rules(seed);
        let language = pcfg(&text, 6);
        let symbols = language.grammar().symbols().to_vec();
        assert_eq!(symbols, ["S", "A", "B", "C", "D"], "none of binarisation or of words");
        let span = Task::Span(2);
        assert_eq!(language.label_names(span).unwrap(), symbols);
        let mut known = HashMap::new();
        for i in 0..250 {
            let words = language.sample(seed, i);
            let names: Vec<String> = language.decode(&words).into_iter().map(str::to_string).collect();
            if words.len() < 3 {
                assert!(language.label(&words, span, false).is_none());
                continue;
            }
            let inside =
                |a: &str, known: &mut _| yields(&rules, &SYMBOL(a), 2, known).get(&names[..2]).copied().unwrap_or(0.0);
            // Outside of a symbol over the first two words: derivations with a sign in their place that it alone
            // yields.
            let outside = |a: &str| {
                let mut rules = rules.clone();
                rules.push((a.into(), vec![(true, "@".into())], 1.0));
                let rest = [&["@".to_string()][..], &names[2..]].concat();
                yields(&rules, &SYMBOL("S"), rest.len(), &mut HashMap::new()).get(&rest).copied().unwrap_or(0.0)
            };
            for prior in [false, true] {
                let scores: Vec<f64> =
                    symbols.iter().map(|a| inside(a, &mut known) * if prior { outside(a) } else { 1.0 }).collect();
                let total: f64 = scores.iter().sum();
                let Some(label) = language.label(&words, span, prior) else {
                    assert_eq!(total, 0.0, "{names:?}");
                    continue;
                };
                let at = symbols.iter().position(|a| *a == label.symbol).expect("one of the author's");
                let best = scores.iter().copied().fold(0.0, f64::max);
                assert!((scores[at] - best).abs() < TIGHT * best, "{names:?}: {label:?} of {scores:?}");
                assert!((label.probability - best / total).abs() < TIGHT, "{names:?}: {label:?} of {scores:?}");
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "{asked} labels");
}

#[test]
fn what_is_wrong_in_nltks_text_is_told_with_its_line() {
    let cases: &[(&str, &str)] = &[
        ("S -> A [0.5] | 'a' [0.4]\nA -> 'b' [1]\n", "g.txt:1: the probabilities of `S` sum to 0.900000"),
        ("S -> 'a' [0.5]\nS -> 'b' [0.49]\n", "g.txt:1: the probabilities of `S` sum to 0.990000"),
        ("S -> A [1]\n\nA -> dogs [1]\n", "g.txt:3: `dogs` has no rule; a word stands in quotes, 'dogs'"),
        ("S -> NP VP [1]\nNP -> 'x' [1]\nVPP -> 'y' [1]\n", "g.txt:1: `VP` has no rule (is `VPP` meant?)"),
        ("S -> A [1]\nA dogs 1\n", "g.txt:2: no `->` behind `A`"),
        ("S -> A 1\nA -> 'a' [1]\n", "g.txt:1: `A 1` has no probability in brackets behind it, as [0.7]; write [1]"),
        ("S -> 'a' 0.7\n", "g.txt:1: `0.7`: a probability stands in brackets"),
        ("S -> 'a'\n", "g.txt:1: `a` has no probability"),
        ("S -> 'a' [1.0] |\n", "g.txt:1: an empty right-hand side"),
        ("S -> [0.5] | 'a' [0.5]\n", "g.txt:1: an empty right-hand side"),
        ("S -> '' [1]\n", "g.txt:1: an empty word"),
        (
            "S -> 'New York' [1]\n",
            "g.txt:1: 'New York' has a blank in it, and blanks set words apart; write 'New_York'",
        ),
        ("S -> 'a' [1.5]\n", "g.txt:1: [1.5] does not lie in 0 to 1"),
        ("S -> 'a' [x]\n", "g.txt:1: [x] is no probability"),
        ("S -> 'a' [0.5] 'b' [0.5]\n", "g.txt:1: behind a probability comes `|`"),
        ("S -> 'a' [0.5] [0.5]\n", "g.txt:1: two probabilities"),
        ("S -> 'a [1]\n", "g.txt:1: a quote ' that is not closed"),
        ("S -> \"it's [1]\n", "g.txt:1: a quote \" that is not closed"),
        ("S -> 'a' [1\n", "g.txt:1: a bracket [ that is not closed"),
        ("S -> A -> 'a' [1]\n", "g.txt:1: a second `->`"),
        ("'S' -> 'a' [1]\n", "g.txt:1: a left-hand side is a symbol"),
        ("-> 'a' [1]\n", "g.txt:1: begins with no symbol"),
        ("S->'a' [1]\n", "g.txt:1: `S->` is one symbol to nltk; put blanks around `->`"),
        ("S -> ? [1]\n", "g.txt:1: `?` is no symbol"),
        ("%start X\nS -> 'a' [1]\n", "g.txt:1: `X` has no rule"),
        ("%strat S\nS -> 'a' [1]\n", "g.txt:1: `%strat S` is no directive"),
        ("S -> 'a' \\\n [0.5] | \\\n ? [0.5]\n", "g.txt:3: `?` is no symbol"),
        ("S -> 'a' [1] \\\n", "g.txt:1: ends with `\\`"),
        ("S -> A [0.5] | 'a' [0.5]\nA -> S [1]\n", "g.txt:1: `S` to `A` belongs to a cycle"),
        ("S -> 'a' [1]\nS -> <mask> [0]\n", "g.txt:2: `<mask>` is no symbol"),
        ("S -> 'a' [1]\nA -> '<mask>' [1]\n", "g.txt:2: <s> <pad> </s> <mask> are reserved"),
        ("S -> S S S [0.4] | 'a' [0.6]\n", "g.txt:1: the expected length of what `S` yields is not finite"),
    ];
    for (text, message) in cases {
        let error = Grammar::parse(text, "g.txt").expect_err(text).to_string();
        assert!(error.starts_with(message), "{text:?} gave `{error}`, not `{message}`");
    }
    // Within nltk's margin the probabilities are made to sum to 1.
    let language = pcfg("S -> 'a' [0.5] | 'b' [0.495]\n", 1);
    let p = language.conditional(&[0]).unwrap().log_probability.exp();
    assert!((p - 0.5 / 0.995).abs() < TIGHT, "{p}");
}

#[test]
fn comments_are_no_rules_in_any_form() {
    let plain = "S NP VP 1\nNP dogs 0.7\nNP cats 0.3\nVP sleep 1\n";
    let commented =
        "# toy 2\n  # grammar version 2\nS NP VP 1 # the root\nNP dogs 0.7\n\n#NP mice 1\nNP cats 0.3 #\nVP sleep 1\n";
    let nltk =
        "# toy\nS -> NP VP [1] # the root\nNP -> 'dogs' [0.7] | \\\n# between\n 'cats' [0.3]\nVP -> 'sleep' [1]\n";
    let (a, b, c) = (pcfg(plain, 4), pcfg(commented, 4), pcfg(nltk, 4));
    for other in [&b, &c] {
        assert_eq!(other.vocabulary(), ["cats", "dogs", "sleep"]);
        for i in 0..50 {
            assert_eq!(a.sample(1, i), other.sample(1, i));
        }
    }
    assert_eq!(pcfg("S -> '#' [0.5] | 'a' [0.5]\n", 1).vocabulary(), ["#", "a"], "quotes make it a word");
    let entries = "initial a 1\ntransition a a 1\nemission a x 1\n";
    let with = "# model\ninitial a 1 # first\ntransition a a 1\n  # emission a y 1\nemission a x 1 #\n";
    let read = |text: &str| Hmm::parse(text, "h.txt", 1, 2).map(|hmm| hmm.vocabulary().to_vec());
    assert_eq!(read(entries), read(with));
    for (error, wanted) in [
        (Grammar::parse("S NP 1\nNP dogs # 1\n", "g.txt").unwrap_err(), "g.txt:2: 2 fields"),
        (Grammar::parse("S # 1\n", "g.txt").unwrap_err(), "g.txt:1: 1 fields"),
        (read("emission a # 1\n").unwrap_err(), "h.txt:1: not an entry"),
    ] {
        let error = error.to_string();
        assert!(
            error.starts_with(wanted) && error.ends_with("what begins with `#` is a comment, and no name"),
            "{error}"
        );
    }
}

#[test]
fn signs_of_another_form_are_refused_with_their_line() {
    let head = "S NP VP 1\nVP sleep 1\n";
    for (line, wanted) in [
        ("NP -> dogs 0.7", "g.txt:3: `->`"),
        ("NP --> dogs 0.7", "g.txt:3: `-->`"),
        ("NP → dogs 0.7", "g.txt:3: `→`"),
        ("NP ::= dogs", "g.txt:3: `::=`"),
        ("NP dogs | cats", "g.txt:3: `|`"),
        ("NP 'dogs' 1", "g.txt:3: `'dogs'` has quotes"),
        ("NP \"dogs\" 1", "g.txt:3: `\"dogs\"` has quotes"),
        ("NP '' 1", "g.txt:3: `''` has quotes"),
        ("NP dogs [0.7]", "g.txt:3: `[0.7]` is a weight in brackets"),
        ("%start NP", "g.txt:3: `%start` is a directive"),
    ] {
        let error = Grammar::parse(&format!("{head}{line}\n"), "g.txt").expect_err(line).to_string();
        assert!(error.starts_with(wanted) && error.contains("LEFT RIGHT [RIGHT] WEIGHT"), "{line}: {error}");
    }
    // Signs that words have.
    let words = "S NP VP 1\nVP sleep 1\nNP 's 1\nNP dogs' 1\nNP n't 1\nNP ' 1\nNP [ 1\nNP ] 1\nNP - 1\nNP > 1\nNP 5\" \
        1\nNP VP|x 1\n";
    let language = pcfg(words, 4);
    assert_eq!(language.vocabulary().len(), 11);
    assert!(language.notes().is_empty(), "{:?}", language.notes());
}

#[test]
fn notes_tell_what_is_probably_not_meant() {
    let notes = |text: &str| Grammar::parse(text, "g.txt").unwrap().notes().to_vec();
    let whole = "S NP VP 1\nNP Det N 1\nDet the 1\nDet a 1\nN dogs 1\nN cats 1\nVP sleep 1\nVP V NP 1\nV see 1\n";
    assert!(notes(whole).is_empty(), "{:?}", notes(whole));
    for (from, to, wanted) in [
        (
            "NP Det N 1",
            "NP Det NN 1",
            vec!["g.txt:2: `NN` is a word, no rule has it on the left; is the symbol `N` meant?"],
        ),
        (
            "NP Det N 1",
            "NP det N 1",
            vec!["g.txt:2: `det` is a word, no rule has it on the left; is the symbol `Det` meant?"],
        ),
        ("NP Det N 1", "NP Dte N 1", vec!["g.txt:2: `Dte` is a word"]),
        (
            "VP V NP 1",
            "VP V XYZ 1",
            vec!["g.txt:8: `XYZ` is a word, no rule has it on the left, though it stands like a symbol"],
        ),
        (
            "S NP VP 1",
            "S NP VPP 1",
            vec!["g.txt:1: `VPP` is a word, no rule has it on the left; is the symbol `VP` meant?"],
        ),
        ("VP V NP 1", "VP V Np 1", vec!["g.txt:8: `Np` is a word"]),
        (
            "N cats 1",
            "X cats 1",
            vec!["g.txt:6: `X` is never reached from `S`; in no sentence, though in the vocabulary: `cats`"],
        ),
        ("V see 1", "V see 1\nX Y 1\nY see 1\n", vec!["g.txt: never reached from `S`: `X` (line 10), `Y` (line 11)"]),
    ] {
        let found = notes(&whole.replace(from, to));
        for note in &wanted {
            assert!(found.iter().any(|f| f.starts_with(note)), "{to}: {found:?}");
        }
    }
    // Words that are near symbols, or in capitals, and meant.
    for (from, to) in [
        ("Det a 1", "Det an 1"),
        ("N cats 1", "N TV 1"),
        ("N cats 1", "N USA 1"),
        ("N cats 1", "NP John 1"),
        ("N cats 1", "NP I 1"),
        ("N cats 1", "S I VP 1"),
        ("Det a 1", "Det A 1"),
        ("V see 1", "V v 1\nV see 1"),
        ("Det the 1", "Det det 1"),
        ("VP V NP 1", "VP NOT VP 0.5\nNOT not 1\nVP V NP 1"),
        ("VP V NP 1", "VP to VP 0.5\nVP V NP 1\nVP TO 1\nTO to 1"),
    ] {
        assert!(notes(&whole.replace(from, to)).is_empty(), "{to}: {:?}", notes(&whole.replace(from, to)));
    }
    // Grammars whose words are all in capitals, formal ones with small letters for words, lower-case symbols.
    assert!(notes("S A B 1\nA AAB 1\nA BB A 1\nB BAB 1\n").is_empty());
    assert!(notes("S A B 1\nA a 0.5\nA b 0.5\nB A 0.3\nB c 0.7\n").is_empty());
    assert!(notes("S np vp 1\nnp the noun 1\nnoun nouns 1\nnoun none 1\nvp sings 1\n").is_empty());
    let many: String = (0..9).map(|i| format!("A{i} x 1\n")).collect();
    assert!(notes(&format!("S x 1\n{many}"))[0].ends_with("and 4 more"));
    let hmm =
        Hmm::parse("initial a 1\ntransition a a 1\ntransition b a 1\nemission a x 1\nemission b y 1\n", "h.txt", 2, 3);
    assert_eq!(hmm.unwrap().notes(), ["h.txt: no sentence is ever in `b`"]);
}

#[test]
fn grammars_of_the_project_have_no_notes_but_true_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = lowland::config::load(&root.join("configs/quickstart.toml"), &[]).unwrap().config;
    let corpus = lowland::train::Corpus::open(&config.language, &config.objective, 0).unwrap();
    assert!(corpus.language.notes().is_empty(), "{:?}", corpus.language.notes());
    let path = root.join("../shared/data/pcfg_liu2022.txt");
    if !path.exists() {
        println!("skipped: the published grammar is not at {}", path.display());
        return;
    }
    let language = Pcfg::new(Grammar::read(&path).unwrap(), 32).unwrap();
    // No rule but its own has A1_9.
    assert_eq!(language.notes(), [format!("{}:207: `A1_9` is never reached from `S`", path.display())]);
    // Its first thousand sentences as before there was a second form: FNV-1a of `language sample --count 1000`.
    let text: String = (0..1000).map(|i| language.decode(&language.sample(0, i)).join(" ") + "\n").collect();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(hash, 0x96bd_8195_39b0_064b);
}

#[test]
fn a_task_that_no_sentence_can_answer_says_why() {
    let toy = pcfg("S NP VP 1\nNP dogs 0.7\nNP cats 0.3\nVP sleep 1\n", 8);
    let error = task_names(&toy, Task::A).unwrap_err().to_string();
    assert!(error.contains("no rule leads from the start symbol to one symbol alone"), "{error}");
    let error = task_names(&toy, Task::Span(8)).unwrap_err().to_string();
    assert!(error.contains("at least 9 words, and `language.max_length` is 8"), "{error}");
    let check = |language: &Pcfg, task| lowland::language::check_task(language, task, false, 1);
    let error = check(&toy, Task::Span(6)).unwrap_err().to_string();
    assert_eq!(
        error,
        "only 0 of 2300 sentences have a label: 2300 have fewer than the 7 words it asks about (the longest has 2)"
    );
    let chain = pcfg("S A Q 1\nQ B R 1\nR B R 0.9\nR b 0.1\nA a 1\nB b 1\n", 32);
    let error = check(&chain, Task::C).unwrap_err().to_string();
    assert!(error.contains("in 1") && error.contains("no symbol yields the first 2 words alone"), "{error}");
    assert_eq!(check(&pcfg("S A 0.5\nS B 0.5\nA a 1\nB b 1\n", 2), Task::A), Ok(2));
}
