//! Outcomes with less noise than an accuracy, by enumeration of a small hidden Markov language: exact posteriors, the
//! excess in nats over them, averages over label sets.

use lowland::downstream::{Features, LabelSets, Sizes, TaskData, Teaching, ridge_path};
use lowland::language::{Grammar, Hmm, Pcfg, RandomGrammar, RandomHmm, Task, Truth, Words};

const LENGTH: usize = 3;
const WORDS: usize = 3;
const SIZES: Sizes = Sizes { train: 600, validation: 200, test: 300 };

fn hmm() -> Hmm {
    of_seed(8)
}

fn of_seed(seed: u64) -> Hmm {
    let shape =
        RandomHmm { states: 2, vocabulary: 3, transition_concentration: 0.7, emission_concentration: 0.7, seed };
    Hmm::random(&shape, LENGTH, LENGTH).unwrap()
}

/// p(state at a word | sentence) by the sum over all paths of states.
fn enumerated(language: &Hmm, words: &[u32], at: usize) -> Vec<f64> {
    let [initial, transition, emission] = language.probabilities();
    let mut joint = [0.0; 2];
    for path in 0..1usize << LENGTH {
        let state = |t: usize| path >> t & 1;
        let step = |t: usize| {
            let moved = if t == 0 { initial[state(0)] } else { transition[state(t - 1) * 2 + state(t)] };
            moved * emission[state(t) * WORDS + words[t] as usize]
        };
        joint[state(at)] += (0..LENGTH).map(step).product::<f64>();
    }
    let total: f64 = joint.iter().sum();
    joint.iter().map(|p| p / total).collect()
}

fn taught(teaching: Teaching) -> TaskData {
    TaskData::of_language_taught(&hmm(), Task::State(2), false, 3, SIZES, teaching).unwrap()
}

/// One number for each of the 27 sentences, so that a linear fit can be any function of the sentence.
fn table(data: &TaskData) -> Features {
    let number = |words: &Words| words.iter().fold(0, |n, w| n * WORDS + *w as usize);
    let row = |words: &Words| (0..27).map(|i| f32::from(u8::from(i == number(words)))).collect::<Vec<f32>>();
    let values = data.parts().into_iter().flat_map(|part| part.sentences.iter().flat_map(row)).collect();
    Features { width: 27, values }
}

/// KL(p || q).
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

#[test]
fn posteriors_are_those_of_all_paths_and_labels_are_drawn_from_them() {
    let (language, data) = (hmm(), taught(Teaching::Drawn));
    assert_eq!(data.classes, language.states());
    let (mut drawn, mut expected, mut variance) = (0.0, 0.0, 0.0);
    for (i, part) in data.parts().into_iter().enumerate() {
        for ((words, label), posterior) in part.sentences.iter().zip(&part.labels).zip(&part.posteriors) {
            let truth = enumerated(&language, words, 1);
            assert!(posterior.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-12), "{posterior:?}, {truth:?}");
            match i {
                0 => {
                    drawn += f64::from(*label);
                    expected += truth[1];
                    variance += truth[1] * truth[0];
                }
                _ => assert!(truth[*label as usize] >= 0.5, "accuracies count the most likely state"),
            }
        }
    }
    assert!((drawn - expected).abs() < 4.0 * f64::sqrt(variance), "{drawn} of {expected} in state 1");
    assert_eq!(taught(Teaching::Drawn).train, data.train, "a function of the seed");
    let mode = TaskData::of_language(&language, Task::State(2), false, 3, SIZES).unwrap();
    assert_eq!(mode.train.sentences, data.train.sentences, "of the same sentences");
    assert_ne!(mode.train.labels, data.train.labels);
    assert!(mode.parts().iter().all(|part| part.posteriors.is_empty()));
    // A language in which one state is always the more likely one, by more or less.
    let of = |teaching| TaskData::of_language_taught(&of_seed(4), Task::State(2), false, 3, SIZES, teaching);
    assert!(of(Teaching::Mode).unwrap_err().to_string().contains("nothing to tell apart"));
    assert_eq!(of(Teaching::Drawn).unwrap().classes.len(), 2);
}

#[test]
fn an_excess_is_that_of_enumeration() {
    let data = taught(Teaching::Posterior);
    // Features that tell nothing: the fit is the mean posterior of the training part, by its bias.
    let blind = Features { width: 1, values: vec![0.0; 1100] };
    let (_, fit, converged) = ridge_path(&blind, data.targets(), 2, &[1e-3]).unwrap();
    assert!(converged);
    let mean = |c: usize| data.train.posteriors.iter().map(|p| p[c]).sum::<f64>() / 600.0;
    let marginal = [mean(0), mean(1)];
    for (found, posterior) in fit.divergences.iter().zip(&data.test.posteriors) {
        assert!((found - divergence(posterior, &marginal)).abs() < 1e-5);
    }
    // Over all sentences with their probabilities that is the information of a sentence on the state.
    let language = hmm();
    let (mut information, mut square, mut all) = (0.0, 0.0, 0.0);
    for i in 0..27u32 {
        let words = [i / 9, i / 3 % 3, i % 3];
        let p = language.conditional(&words).map_or(0.0, |known| known.log_probability.exp());
        let apart = divergence(&enumerated(&language, &words, 1), &marginal);
        (information, square, all) = (information + p * apart, square + p * apart * apart, all + p);
    }
    assert!((all - 1.0).abs() < 1e-12);
    let error = ((square - information * information) / 300.0).sqrt();
    assert!((fit.excess().unwrap() - information).abs() < 4.0 * error, "{:?} of {information}", fit.excess());
    // Features that tell the sentence: nothing is left over but what the ridge keeps back.
    let (_, fit, _) = ridge_path(&table(&data), data.targets(), 2, &[1e-2, 1e-7]).unwrap();
    assert!(fit.excess().unwrap() < 1e-4 * information, "{:?}", fit.excess());
    assert!(fit.divergences.iter().all(|d| *d > -1e-12));
    // Labels of the mode teach certainty, and labels that are drawn the posterior within their noise.
    let drawn = taught(Teaching::Drawn);
    let (_, fit, _) = ridge_path(&table(&drawn), drawn.targets(), 2, &[1e-2, 1e-3, 1e-4]).unwrap();
    let excess = fit.excess().unwrap();
    // Without a ridge 26 free parameters cost 26 / 2n nats, and features that tell nothing the information.
    let likeliest = 26.0 / (2.0 * 600.0);
    assert!(excess > 0.0 && excess < information.min(likeliest), "{excess} of {information}");
    let certain = drawn.train.posteriors.iter().map(|p| u32::from(p[1] > p[0])).collect::<Vec<u32>>();
    let mut targets = drawn.targets();
    targets.labels[0] = &certain;
    let (_, sure, _) = ridge_path(&table(&drawn), targets, 2, &[1e-7]).unwrap();
    assert!(sure.excess().unwrap() > 2.0 * excess, "{:?} against {excess}", sure.excess());
    assert!(sure.accuracy >= fit.accuracy);
}

#[test]
fn label_sets_are_parts_of_what_is_drawn() {
    let sets = LabelSets { sets: 3, sizes: vec![50, 200] };
    assert_eq!((sets.drawn(), sets.is_one()), (600, false));
    let (data, ridges) = (taught(Teaching::Drawn), [1e-3]);
    let features = table(&data);
    let mut seen = Vec::new();
    let fits = sets
        .fit(&data, |part, rows| {
            let own = features.pick(rows);
            assert_eq!((own.rows(), part.train.len() + 500), (rows.len(), rows.len()));
            assert_eq!(table(part), own, "rows and sentences go together");
            seen.push(part.train.sentences.clone());
            Ok(vec![ridge_path(&own, part.targets(), 2, &ridges)?.1])
        })
        .unwrap();
    assert_eq!(seen[4], data.train.sentences[200..400], "the second set of the larger size");
    assert_eq!(seen[1], data.train.sentences[200..250], "whose head is the smaller one");
    let averages = fits.averages().unwrap();
    let excess = |size: usize, set: usize| fits.fits[size][set][0].excess().unwrap();
    let of_size = averages.sizes[1].averaged.excess_nats.as_ref().unwrap();
    let mean = (excess(1, 0) + excess(1, 1) + excess(1, 2)) / 3.0;
    assert!((of_size.mean - mean).abs() < 1e-15 && of_size.within.is_none());
    let whole = averages.all.excess_nats.as_ref().unwrap();
    assert!((whole.per_group[2] - (excess(0, 2) + excess(1, 2)) / 2.0).abs() < 1e-15);
    assert!(averages.sizes[0].averaged.excess_nats.as_ref().unwrap().mean > of_size.mean, "more labels, less excess");
    let one = LabelSets::one(600).fit(&data, |part, _| {
        assert_eq!(part.train, data.train);
        Ok(vec![ridge_path(&features, part.targets(), 2, &ridges)?.1])
    });
    assert!(one.unwrap().averages().is_none());
}

#[test]
fn a_grammar_has_a_posterior_below_the_root_alone() {
    let shape = RandomGrammar { levels: 3, symbols: 3, rules: 2, vocabulary: 12, word_probability: 0.2, seed: 1 };
    let grammar = Pcfg::new(Grammar::random(&shape).unwrap(), 8).unwrap();
    let data = TaskData::of_language_taught(&grammar, Task::A, true, 1, SIZES, Teaching::Drawn).unwrap();
    for (words, posterior) in data.test.sentences.iter().zip(&data.test.posteriors) {
        let label = grammar.label(words, Task::A, true).unwrap();
        assert!((posterior.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((posterior.iter().copied().fold(0.0, f64::max) - label.probability).abs() < 1e-12);
    }
    for (task, prior) in [(Task::A, false), (Task::B, true)] {
        let none = TaskData::of_language_taught(&grammar, task, prior, 1, SIZES, Teaching::Posterior).unwrap_err();
        assert!(none.to_string().contains("no posterior over its names is known"), "{none}");
    }
}

#[test]
fn standardised_features_forget_their_scale() {
    let features = Features { width: 3, values: (0..30).map(|i| [i as f32, 5.0, (i * i % 7) as f32][i % 3]).collect() };
    let scaled = Features { width: 3, values: features.values.iter().map(|x| 8.0 * x).collect() };
    let (one, other) = (features.standardised(6), scaled.standardised(6));
    assert_eq!(one, other, "a power of two rounds nothing");
    assert!(one.values.iter().skip(1).step_by(3).all(|x| *x == 0.0), "what does not vary says nothing");
    let head: Vec<f64> = one.values.iter().step_by(3).take(6).map(|x| f64::from(*x)).collect();
    assert!(head.iter().sum::<f64>().abs() < 1e-6 && (head.iter().map(|x| x * x).sum::<f64>() - 6.0).abs() < 1e-5);
}
