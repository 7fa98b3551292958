//! Soft brackets against enumeration of all sentences.

use lowland::config::RunConfig;
use lowland::language::{Brackets, Language, Task, Truth, entropy, entropy_floor};

/// All sentences of a length with their sums.
fn all(length: usize) -> Vec<(Vec<u32>, f64)> {
    let sentence = |n: u32| (0..length).map(|s| n >> s & 1).collect::<Vec<u32>>();
    let sum = |words: &[u32]| words.iter().map(|w| 1.0 - 2.0 * f64::from(*w)).sum::<f64>();
    (0..1 << length).map(sentence).map(|words| (words.clone(), sum(&words))).collect()
}

#[test]
fn conditionals_and_floor_equal_enumeration() {
    for (length, kappa) in [(1, 0.3), (4, 0.1), (5, 0.25), (6, 0.0), (6, 2.0)] {
        let language = Brackets::new(length, kappa).unwrap();
        let weight = |sum: f64| (-kappa * sum * sum).exp();
        let sentences = all(length);
        let total: f64 = sentences.iter().map(|(_, sum)| weight(*sum)).sum();
        let mut floor = 0.0;
        for (words, sum) in &sentences {
            let known = language.conditional(words).unwrap();
            assert!((known.log_probability.exp() - weight(*sum) / total).abs() < 1e-12);
            for (t, row) in known.conditional.iter().enumerate() {
                let with = |word: u32| {
                    let mut other = words.clone();
                    other[t] = word;
                    weight(sentences.iter().find(|(w, _)| *w == other).unwrap().1)
                };
                let (opens, closes) = (with(0), with(1));
                assert!((row[0] - opens / (opens + closes)).abs() < 1e-12, "{words:?} {t}: {row:?}");
                assert!((row[0] + row[1] - 1.0).abs() < 1e-15);
                floor += weight(*sum) / total / length as f64 * entropy(row);
            }
        }
        assert!((language.exact_entropy_floor().unwrap() - floor).abs() < 1e-12);
        let estimate = entropy_floor(&language, 7, 4000);
        let off = (estimate.entropy_floor - floor).abs();
        assert!(off <= 4.0 * estimate.standard_error + 1e-12, "{off} with an error of {}", estimate.standard_error);
    }
}

#[test]
fn sentences_are_drawn_with_their_probabilities() {
    let language = Brackets::new(4, 0.15).unwrap();
    let draws = 40_000;
    let mut counts = vec![0.0; 16];
    for i in 0..draws {
        let words = language.sample(5, i);
        counts[words.iter().enumerate().map(|(s, w)| (*w as usize) << s).sum::<usize>()] += 1.0;
    }
    let chi: f64 = all(4)
        .iter()
        .zip(&counts)
        .map(|((words, _), count)| {
            let expected = draws as f64 * language.conditional(words).unwrap().log_probability.exp();
            (count - expected) * (count - expected) / expected
        })
        .sum();
    // 15 degrees of freedom: above 37.7 once in a thousand seeds.
    assert!(chi < 37.7, "{chi}");
}

/// What is all but impossible keeps its digits.
#[test]
fn next_brackets_that_are_nearly_impossible_are_not_rounded_to_it() {
    for kappa in [10.0, 100.0] {
        let language = Brackets::new(7, kappa).unwrap();
        let [up, down] = [0u32, 1].map(|word| language.prefixes(&[word; 7]).unwrap());
        assert!(up.log_probability.is_finite() && up.log_probability == down.log_probability, "{kappa}");
        let whole = language.conditional(&[0; 7]).unwrap().log_probability;
        assert!((up.log_probability - whole).abs() < 1e-9 * whole.abs());
        for (a, b) in up.next.iter().zip(&down.next) {
            assert!((a[0] - b[1]).abs() <= 1e-12 * a[0] && (a[0] > 0.0 || kappa > 10.0 || a[2] == 1.0), "{a:?} {b:?}");
        }
    }
}

#[test]
fn labels_are_functions_of_the_sum() {
    let language = Brackets::new(4, 0.1).unwrap();
    let label = |text: &str, task| {
        let words: Vec<&str> = text.split(' ').collect();
        language.label(&language.encode(&words).unwrap(), task, false).unwrap().symbol
    };
    assert_eq!(label("( ( ( )", Task::Sum), "2");
    assert_eq!(label(") ) ) )", Task::Sum), "-4");
    assert_eq!(label("( ( ( )", Task::Positive), "positive");
    assert_eq!(label("( ( ) )", Task::Positive), "not positive");
    assert_eq!(label("( ( ) )", Task::Sign), "zero");
    assert_eq!(label("( ) ) )", Task::Sign), "negative");
    assert_eq!(language.label_names(Task::Sum).unwrap(), ["-4", "-2", "0", "2", "4"]);
    assert_eq!(Brackets::new(5, 0.1).unwrap().label_names(Task::Sign).unwrap(), ["negative", "positive"]);
    assert!(language.label_names(Task::A).unwrap_err().to_string().contains("`sum`"));
    for text in ["positive", "sign", "sum"] {
        assert_eq!(text.parse::<Task>().unwrap().to_string(), text);
    }
}

#[test]
fn a_config_of_brackets_is_read_and_checked() {
    let read = |keys: &str| RunConfig::parse(&format!("[language]\nkind = \"brackets\"\n{keys}"), "x");
    let config = read("length = 6\nkappa = 0.1\n").unwrap();
    let language = config.language.open().unwrap();
    assert_eq!((language.max_length(), config.language.longest()), (6, 8));
    assert_eq!(language.vocabulary(), ["(", ")"]);
    for (keys, said) in [
        ("length = 6\n", "give `length` and `kappa`"),
        ("length = 0\nkappa = 1\n", "language.length"),
        ("length = 6\nkappa = -1\n", "language.kappa"),
        ("length = 6\nkappa = 1\nmax_length = 9\n", "brackets have `language.length`"),
        ("length = 6\nkappa = 1\nrules = \"g\"\n", "belongs to `kind = \"pcfg\"`"),
    ] {
        let error = match read(keys) {
            Ok(config) => config.language.open().err().map(|e| e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        assert!(error.as_ref().is_some_and(|e| e.contains(said)), "{keys}: {error:?}");
    }
    let other = RunConfig::parse("[language]\nlength = 6\n", "x").unwrap_err().to_string();
    assert!(other.contains("belongs to `kind = \"brackets\"`"), "{other}");
}
