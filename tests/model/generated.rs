//! Generated languages: the model against torch, its language against enumeration, the cache against reading anew.

use std::path::Path;

use crate::common::adapter::{bound, gpu};
use crate::common::fixtures::fixture;
use crate::common::truth::Truth as Recorded;
use lowland::generated::{Generated, Reuse, Source, Tokens};
use lowland::language::{Language, Truth, Words, entropy, entropy_floor};
use lowland::model::{ForwardPass, Loaded, Model, dims_for, load};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};

fn device() -> Device {
    Device::of(&gpu())
}

fn listed(folder: &Path, ids: impl IntoIterator<Item = u32>) -> Tokens {
    let path = folder.join("tokens.txt");
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    std::fs::write(&path, ids.join("\n")).unwrap();
    Tokens::File(path)
}

fn opened(model: &str, tokens: Tokens, max_length: usize, reuse: Reuse) -> Generated {
    let source = Source { model: fixture(model), tokens, sentences: None, max_length };
    let language = Generated::open(&source).unwrap().reusing(reuse);
    language.on(&device()).unwrap();
    language
}

/// The R most frequent tokens of the tiny OPT.
fn opt(words: u32, max_length: usize, reuse: Reuse) -> Generated {
    opened("opt-120", Tokens::MostFrequent(words), max_length, reuse)
}

#[test]
fn tiny_opts_have_the_logits_of_transformers() {
    for name in ["opt-120", "opt-120-projected", "opt-120-postnorm"] {
        let model = Model::load(&device(), fixture(name)).unwrap();
        let truth = Recorded::read(name, "truth");
        let (ids, expected) = (truth.values("ids"), truth.values("logits"));
        let sentences: Vec<Sentence> = ids
            .chunks_exact(12)
            .map(|ids| Sentence {
                ids: ids.iter().map(|id| *id as u32).collect(),
                masked: (0..12).map(|row| (row, 0)).collect(),
                ..Sentence::default()
            })
            .collect();
        let pass = ForwardPass::new(&model, dims_for(&sentences, 3), Labels::Hard, true).unwrap();
        pass.run(&sentences).unwrap();
        let got = pass.logits(36).unwrap();
        let spread = (expected.iter().map(|l| l * l).sum::<f64>() / expected.len() as f64).sqrt();
        assert!((2.0..3.5).contains(&spread), "{name}: {spread}");
        let worst = expected.iter().zip(&got).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
        println!("{name}: logits of spread {spread:.2} to {worst:.1e}");
        assert_eq!(expected.len(), got.len());
        assert!(worst < 1e-5, "{name}: {worst:.1e}");
    }
}

/// Positions count from row 2 on: with a table that is zero but for row 2, the first token alone has a position.
#[test]
fn the_first_token_has_row_2_of_the_positions() {
    let Loaded { encoder, mut weights, .. } = load(&fixture("opt-120")).unwrap();
    let positions = encoder.find("model.decoder.embed_positions.weight").unwrap();
    let width = encoder.parameters[positions].shape[1];
    let own: Vec<f32> = weights.0[positions][2 * width..3 * width].to_vec();
    weights.0[positions].fill(0.0);
    weights.0[positions][2 * width..3 * width].copy_from_slice(&own);
    let model = Model::new(&device(), &encoder, &weights).unwrap();
    let sentence = Sentence { ids: vec![7; 4], masked: vec![(3, 0)], ..Sentence::default() };
    let pass = ForwardPass::new(&model, dims_for(std::slice::from_ref(&sentence), 1), Labels::Hard, true).unwrap();
    pass.run(&[sentence]).unwrap();
    let embedded = &pass.hidden(4).unwrap()[0];
    let rows: Vec<&[f32]> = embedded.chunks_exact(width).collect();
    let word = rows[1];
    assert_eq!(rows[2], word);
    assert_eq!(rows[3], word);
    let sum: Vec<f32> = word.iter().zip(&own).map(|(w, p)| w + p).collect();
    assert_eq!(rows[0], sum);
    assert!(own.iter().any(|p| *p != 0.0));
}

/// All sentences of up to `longest` of `words` words.
fn all_sentences(words: u32, longest: usize) -> Vec<Words> {
    let mut all: Vec<Words> = vec![];
    let mut last: Vec<Words> = vec![vec![]];
    for _ in 0..longest {
        last = last.iter().flat_map(|s| (0..words).map(move |w| [s.as_slice(), &[w]].concat())).collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[test]
fn the_language_is_what_enumerating_its_sentences_says() {
    const R: u32 = 4;
    const LONGEST: usize = 4;
    // Words of which each leaves the next one open.
    let folder = tempfile::tempdir().unwrap();
    let tokens = listed(folder.path(), [28, 40, 42, 79]);
    let language = opened("opt-120", tokens, LONGEST, Reuse::Cached);
    let all = all_sentences(R, LONGEST);
    assert_eq!(all.len(), 340);
    let log_p: Vec<f64> = all.iter().map(|s| language.prefixes(s).unwrap().log_probability).collect();
    let p = |sentence: &[u32]| log_p[all.iter().position(|s| s == sentence).unwrap()].exp();
    let total: f64 = log_p.iter().map(|l| l.exp()).sum();
    println!("sum of all probabilities: 1 {:+.1e}", total - 1.0);
    assert!((total - 1.0).abs() < 1e-12, "{:e}", total - 1.0);

    // Conditionals by rescoring against those of the joint, at every position of every seventh sentence, of both kinds:
    // with an end to be scored and of full length.
    let mut worst = 0.0f64;
    for sentence in all.iter().step_by(7) {
        let known = language.conditional(sentence).unwrap();
        assert!((known.log_probability - p(sentence).ln()).abs() < 1e-9);
        for (t, row) in known.conditional.iter().enumerate() {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let joint = |v: u32| {
                let mut other = sentence.clone();
                other[t] = v;
                p(&other)
            };
            let mass: f64 = (0..R).map(joint).sum();
            for v in 0..R {
                worst = worst.max((row[v as usize] - joint(v) / mass).abs());
            }
            assert_eq!(language.conditional_at(sentence, t), *row);
        }
    }
    println!("conditionals by rescoring and by the joint differ by {worst:.1e} at most");
    assert!(worst < 1e-6, "{worst:e}");
    assert!(all.iter().step_by(7).any(|s| s.len() == LONGEST) && all.iter().step_by(7).any(|s| s.len() < LONGEST));

    // The floor: a mean over sentences and positions, against a sum over all of them.
    let exact: f64 = all
        .iter()
        .map(|s| {
            let rows = language.conditional(s).unwrap().conditional;
            p(s) * rows.iter().map(|row| entropy(row)).sum::<f64>() / s.len() as f64
        })
        .sum();
    let floor = entropy_floor(&language, 3, 1000);
    let z = (floor.entropy_floor - exact) / floor.standard_error;
    println!("floor {:.4} ± {:.4}, exactly {exact:.4}: z {z:.2}", floor.entropy_floor, floor.standard_error);
    assert!(z.abs() < 3.5 && floor.standard_error < 0.1 * exact, "{floor:?}, exactly {exact}");

    // Sentences that are drawn have these probabilities.
    const DRAWS: u64 = 100_000;
    let mut counts = vec![0u64; all.len()];
    for i in 0..DRAWS {
        let drawn = language.sample(11, i);
        counts[all.iter().position(|s| *s == drawn).unwrap()] += 1;
    }
    let (mut chi, mut cells, mut rare) = (0.0f64, 0, (0.0f64, 0.0f64));
    for (count, log) in counts.iter().zip(&log_p) {
        let expected = log.exp() * DRAWS as f64;
        match expected >= 10.0 {
            true => {
                chi += (*count as f64 - expected).powi(2) / expected;
                cells += 1;
            }
            false => rare = (rare.0 + *count as f64, rare.1 + expected),
        }
    }
    if rare.1 > 0.0 {
        chi += (rare.0 - rare.1).powi(2) / rare.1;
        cells += 1;
    }
    let freedom = f64::from(cells - 1);
    println!("chi-square of {DRAWS} sentences: {chi:.1} with {freedom} degrees of freedom");
    assert!((chi - freedom).abs() < 4.0 * (2.0 * freedom).sqrt() && freedom > 50.0, "{chi} of {freedom}");
}

/// With and without a cache: sentences, conditionals and next words, of sentences that end before the longest and of
/// the longest, in every family of decoders.
#[test]
fn a_cache_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let families = [
        ("opt-120", 4..36, 8),
        ("opt-120-projected", 4..120, 8),
        ("opt-120-postnorm", 4..36, 8),
        ("opt-18", 4..12, 6),
        ("gpt2-20", 4..10, 5),
        ("gpt_neox-20", 4..10, 5),
        ("llama-24", 4..10, 5),
        ("olmo2-18", 4..10, 5),
    ];
    for (name, ids, longest) in families {
        let [cached, anew] = [Reuse::Cached, Reuse::Recomputed]
            .map(|reuse| opened(name, listed(folder.path(), ids.clone()), longest, reuse));
        let both = (0..600).map(|i| (cached.sample(5, i), anew.sample(5, i)));
        let (same, lengths): (Vec<bool>, Vec<usize>) = both.map(|(a, b)| (a == b, a.len())).unzip();
        let equal = same.iter().filter(|same| **same).count();
        // A draw next to a boundary may fall on either side.
        assert!(equal >= 598, "{name}: {equal} of 600 sentences are the same");
        assert!(lengths.iter().all(|n| (1..=longest).contains(n)));
        let mut worst = 0.0f64;
        let whole = (0..600).filter(|i| lengths[*i] == longest).take(3);
        let ended = (0..600).filter(|i| lengths[*i] < longest && lengths[*i] > 1).take(3);
        let chosen: Vec<usize> = whole.chain(ended).collect();
        // The end of the projected model lies along no shift and hardly ever comes.
        let least = if name == "opt-120-projected" { 3 } else { 6 };
        assert!(chosen.len() >= least, "{name}: {} sentences of the kinds", chosen.len());
        for i in chosen {
            let words = cached.sample(5, i as u64);
            let [a, b] = [&cached, &anew].map(|language| language.conditional(&words).unwrap());
            for (a, b) in a.conditional.iter().zip(&b.conditional) {
                assert!((a.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                worst = a.iter().zip(b).fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
            }
            let [a, b] = [&cached, &anew].map(|language| language.prefixes(&words).unwrap());
            assert_eq!(a.next.len(), words.len() + 1);
            for (a, b) in a.next.iter().zip(&b.next) {
                assert!((a.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                worst = a.iter().zip(b).fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
            }
        }
        println!("{name}: {equal} of 600 sentences the same, probabilities differ by {worst:.1e} at most");
        assert!(worst < 1e-6, "{name}: {worst:e}");
    }
}

/// A sentence is a function of its seed and number, in whichever order and on whichever plan it is asked for.
#[test]
fn sentences_are_a_function_of_seed_and_number() {
    let [one, other] = [(); 2].map(|()| opt(32, 8, Reuse::Cached));
    let forth: Vec<Words> = (0..700).map(|i| one.sample(9, i)).collect();
    let back: Vec<Words> = (0..700).rev().map(|i| other.sample(9, i)).collect();
    assert!(forth.iter().eq(back.iter().rev()));
    assert_ne!(forth[..50], (0..50).map(|i| one.sample(10, i)).collect::<Vec<_>>()[..]);
    // The prefix's conditional is that of which a next word was drawn: no word of a probability of 0.
    for words in forth.iter().take(20) {
        let next = one.prefixes(words).unwrap().next;
        assert!(words.iter().enumerate().all(|(k, w)| next[k][*w as usize] > 0.0));
        assert_eq!(next[0][32], 0.0);
    }
}

/// An adapter that binds little draws fewer sentences together, and the same ones.
#[test]
fn what_an_adapter_binds_changes_no_sentence() {
    for (words, longest) in [(32, 8), (114, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let draw = |binding: Option<u64>| {
            let tokens = listed(folder.path(), 4..4 + words);
            let source = Source { model: fixture("opt-120"), tokens, sentences: None, max_length: longest };
            let language = Generated::open(&source).unwrap();
            language.on(&Device::of(&bound(binding))).unwrap();
            let sentences: Vec<Words> = (0..300).map(|i| language.sample(5, i)).collect();
            let next = language.prefixes(&sentences[7]).unwrap().next;
            (sentences, next)
        };
        // Less than a cache of 256 sentences, or than their logits.
        assert_eq!(draw(None), draw(Some(100_000)), "{words} words");
    }
}

#[test]
fn sentences_of_a_file_take_the_place_of_drawn_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentences.txt");
    let drawing = opt(32, 8, Reuse::Cached);
    let drawn: Vec<Words> = (0..5).map(|i| drawing.sample(4, i)).collect();
    let lines: Vec<String> = drawn.iter().map(|s| drawing.decode(s).join(" ")).collect();
    let write = |head: &str| std::fs::write(&path, format!("{head}\n{}\n", lines.join("\n"))).unwrap();
    let open = |tokens, max_length| {
        let source = Source { model: fixture("opt-120"), tokens, sentences: Some(path.clone()), max_length };
        Generated::open(&source)
    };
    write(&drawing.heading(4).unwrap());
    let read = open(Tokens::MostFrequent(32), 8).unwrap();
    // Round and round, without an adapter; held-out ones are drawn.
    assert_eq!((0..12).map(|i| read.sample(7, i)).collect::<Vec<_>>(), [&drawn[..], &drawn, &drawn[..2]].concat());
    assert!(read.notes().is_empty());
    read.on(&device()).unwrap();
    assert_eq!(read.held_out(4, 3), drawn[3]);
    // What was drawn from something else is refused by name.
    let refused = |tokens, longest| open(tokens, longest).err().expect("a refusal").to_string();
    assert!(refused(Tokens::MostFrequent(33), 8).contains("tokens 4-35, `language.tokens` are 4-36"));
    assert!(refused(Tokens::MostFrequent(32), 9).contains("cut at 8 words"));
    write(&drawing.heading(4).unwrap().replace("\"model\":\"", "\"model\":\"0"));
    assert!(refused(Tokens::MostFrequent(32), 8).contains("a model with the hash 0"));
    write("# no head");
    assert!(refused(Tokens::MostFrequent(32), 8).contains("sentences.txt:1: `#` is no word of this language"));
    write("");
    assert!(open(Tokens::MostFrequent(32), 8).unwrap().notes()[0].contains("does not say what its 5 sentences"));
}

#[test]
fn models_and_tokens_that_make_no_language_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |model: &str, tokens: Tokens, max_length: usize| {
        let source = Source { model: fixture(model), tokens, sentences: None, max_length };
        Generated::open(&source).err().expect("a refusal").to_string()
    };
    let frequent = Tokens::MostFrequent;
    assert!(refused("bert-24", frequent(3), 4).contains("a model of type bert generates nothing"));
    let said = refused("opt-120", frequent(117), 4);
    assert!(said.contains("language.tokens: 117 is not possible: the words are tokens from 4"), "{said}");
    assert!(said.contains("on, and the model's vocabulary of 120 has 116"), "{said}");
    for count in [0, u32::MAX] {
        assert!(refused("opt-120", frequent(count), 4).contains(&format!("language.tokens: {count} is not possible")));
    }
    for key in ["bos_token_id", "eos_token_id"] {
        let beyond = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(fixture("opt-120/config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[key] = 50_256.into();
        std::fs::write(beyond.path().join("config.json"), config.to_string()).unwrap();
        let model = beyond.path().to_str().unwrap();
        let said = format!("config.json: `{key}` = 50256 is not in the model's vocabulary of 120");
        assert!(refused(model, frequent(8), 4).contains(&said), "{}", refused(model, frequent(8), 4));
    }
    assert!(refused("opt-120", frequent(8), 64).contains("65 tokens, the model has positions for 64"));
    assert!(refused("gpt2-20", frequent(3), 4).contains("do not fall in frequency"));
    assert!(refused("nowhere", frequent(3), 4).contains("nowhere"));
    let list = |text: &str| {
        let path = folder.path().join("list.txt");
        std::fs::write(&path, text).unwrap();
        Tokens::File(path)
    };
    assert!(refused("opt-120", list("4 5\n6 x # x\n"), 4).contains("list.txt:2: `x` is no token id"));
    assert!(refused("opt-120", list("4 5 # 9\n5\n"), 4).contains("list.txt:2: token 5 is listed twice"));
    assert!(refused("opt-120", list("2 5\n"), 4).contains("token 2 begins or ends a sentence"));
    let source = |tokens| Source { model: fixture("opt-120"), tokens, sentences: None, max_length: 4 };
    let language = Generated::open(&source(list("9 7 # words\n30\n"))).unwrap();
    assert_eq!(
        (language.vocabulary(), language.token_ids()),
        (&["7", "9", "30"].map(String::from)[..], &[7, 9, 30][..])
    );
    assert_eq!(language.encode(&["30", "7"]), Ok(vec![2, 0]));
    assert_eq!(language.encode(&["30", "8"]), Err("8"));
    assert!(language.heading(3).unwrap().contains("\"tokens\":\"7,9,30\",\"max_length\":4,\"seed\":3"));
    assert!(language.conditional(&[]).is_none() && language.prefixes(&[0; 5]).is_none());
}
