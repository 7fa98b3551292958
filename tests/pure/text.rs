//! Text under a tokenizer: tokens as Python's `tokenizers` has them, examples by number, documents held out.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use lowland::config::RunConfig;
use lowland::language::{Cutting, Language, Text};
use lowland::text::{Pieces, Specials, TextError, TextFiles, TextFormat};
use lowland::train::Corpus;
use serde_json::Value;

use crate::common::fixtures::fixture;

fn tokenizer() -> PathBuf {
    fixture("../../configs/mini/text/tokenizer.json")
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn tokens_are_those_of_pythons_tokenizers() {
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(fixture("text/tokens.json")).unwrap()).unwrap();
    for (name, path) in
        [("bpe", tokenizer()), ("wordpiece", fixture("text/wordpiece.json")), ("unigram", fixture("text/unigram.json"))]
    {
        let pieces = Pieces::read(&path).unwrap();
        let mut tokens = 0;
        for case in recorded[name].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(pieces.ids(text).unwrap(), numbers(&case["ids"]), "{name}: {text}");
            assert_eq!(pieces.framed_ids(text).unwrap(), numbers(&case["framed"]), "{name}: {text}");
            tokens += numbers(&case["ids"]).len();
        }
        assert!(tokens > 100, "{name}: {tokens}");
    }
}

#[test]
fn special_tokens_are_found_by_processor_config_and_spelling() {
    let of = |path: PathBuf| Specials::of(&Pieces::read(&path).unwrap()).unwrap();
    let own = of(tokenizer());
    assert_eq!((own.before.as_slice(), own.behind.as_slice(), own.end()), (&[0][..], &[2][..], Some(2)));
    assert_eq!((own.bos, own.eos, own.mask, own.pad), (Some(0), Some(2), Some(3), Some(1)));
    // Nothing lies beside these: the usual spellings count.
    let bert = of(fixture("text/wordpiece.json"));
    assert_eq!((bert.before, bert.behind, bert.mask, bert.pad), (vec![2], vec![3], Some(4), Some(0)));
    let unigram = of(fixture("text/unigram.json"));
    assert_eq!((unigram.before.len(), unigram.end(), unigram.mask), (0, Some(1), None));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::copy(tokenizer(), &path).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), "{\"eos_token\": \"<end>\"}").unwrap();
    let error = Specials::of(&Pieces::read(&path).unwrap()).unwrap_err().to_string();
    assert!(error.contains("no token `<end>`, the `eos_token` of tokenizer_config.json"), "{error}");
}

/// A corpus of 100 documents of 5 to 54 numbered words.
struct Ground {
    folder: tempfile::TempDir,
    documents: Vec<Vec<u32>>,
    pieces: Arc<Pieces>,
}

impl Ground {
    fn new() -> Ground {
        let folder = tempfile::tempdir().unwrap();
        let pieces = Arc::new(Pieces::read(&tokenizer()).unwrap());
        let line = |d: usize| (0..5 + d % 50).map(|i| format!("d{d}w{i}")).collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = (0..100).map(line).collect();
        std::fs::write(folder.path().join("text.txt"), lines.join("\n")).unwrap();
        let documents = lines.iter().map(|line| pieces.ids(line).unwrap()).collect();
        Ground { folder, documents, pieces }
    }

    fn open(&self, pack: bool, masked: bool) -> Text {
        self.try_open(pack, masked).unwrap()
    }

    fn try_open(&self, pack: bool, masked: bool) -> Result<Text, TextError> {
        let files = TextFiles {
            files: vec![self.folder.path().join("text.txt")],
            format: TextFormat::Lines,
            cache: self.folder.path().join("cache"),
        };
        let cutting = Cutting { length: 16, pack, held_out: 0.1, masked };
        Text::open(&files, self.pieces.clone(), &cutting, &|_, _| {})
    }
}

/// The examples of the first pass, training's and held out.
fn parts(text: &Text) -> [Vec<Vec<u32>>; 2] {
    let n = [text.examples().train.examples(), text.examples().held_out.examples()];
    [(0..n[0]).map(|i| text.sample(7, i)).collect(), (0..n[1]).map(|i| text.held_out(7, i)).collect()]
}

#[test]
fn every_token_is_in_one_example_of_one_part() {
    let ground = Ground::new();
    let sorted = |mut all: Vec<u32>| {
        all.sort_unstable();
        all
    };
    for (pack, masked) in [(true, false), (true, true), (false, false), (false, true)] {
        let text = ground.open(pack, masked);
        assert_eq!((text.examples().documents, text.longest()), (100, 16));
        let parts = parts(&text);
        let (train, held_out) = (&text.examples().train, &text.examples().held_out);
        assert_eq!((train.documents(), held_out.documents()), (90, 10));
        for example in parts.iter().flatten() {
            assert!((2..=16).contains(&example.len()), "{pack} {masked}: {example:?}");
            if masked {
                assert_eq!((example[0], example[example.len() - 1]), (0, 2), "as around a text");
            }
        }
        // What stands around documents and examples aside, all tokens are there once, but for rests of one.
        let seen = |part: &[Vec<u32>]| sorted(part.iter().flatten().copied().filter(|id| *id > 3).collect());
        let all = seen(&parts.concat());
        let want = sorted(ground.documents.iter().flatten().copied().collect());
        assert!(want.len() - all.len() <= if masked { 1 } else { 45 }, "{} of {}", all.len(), want.len());
        // A document is in one part alone, by the names in its words that are not cut.
        let named = |part: &[Vec<u32>]| {
            let mut names = HashSet::new();
            for example in part {
                let shown = text.shown(example);
                let words: Vec<&str> = shown.split(' ').collect();
                let whole = words.iter().skip(1).take(words.len().saturating_sub(2));
                names.extend(whole.filter_map(|word| word.strip_prefix('d')?.split_once('w')?.0.parse::<u32>().ok()));
            }
            names
        };
        let [trained, kept] = [named(&parts[0]), named(&parts[1])];
        assert!(trained.is_disjoint(&kept) && (kept.len(), trained.len()) == (10, 90), "{trained:?} {kept:?}");
        if pack && !masked {
            // In the order of the file the examples are the stream.
            let stream: Vec<u32> = (0..train.examples()).flat_map(|i| train.example(i).unwrap()).collect();
            let ends = stream.iter().filter(|id| **id == 2).count() as u64;
            assert!(ends.abs_diff(train.documents()) <= 1, "an end behind every document");
            assert_eq!(stream[0], 0);
        }
    }
}

#[test]
fn the_order_is_a_function_of_seed_and_number_and_new_in_each_pass() {
    let ground = Ground::new();
    let (text, again) = (ground.open(true, false), ground.open(true, false));
    let n = text.examples().train.examples();
    let pass = |text: &Text, seed, pass: u64| (0..n).map(|i| text.sample(seed, pass * n + i)).collect::<Vec<_>>();
    let first = pass(&text, 1, 0);
    assert_eq!(first, pass(&again, 1, 0), "from the cache as when it was made");
    let others = [pass(&text, 1, 1), pass(&text, 2, 0)];
    let set = |all: &[Vec<u32>]| {
        let mut all = all.to_vec();
        all.sort();
        all
    };
    for other in &others {
        assert_ne!(&first, other);
        assert_eq!(set(&first), set(other), "every example once");
    }
}

#[test]
fn tokens_are_made_anew_when_text_or_cutting_changes_and_then_alone() {
    let ground = Ground::new();
    let folders = || std::fs::read_dir(ground.folder.path().join("cache")).unwrap().count();
    let tokens = |text: &Text| text.examples().train.tokens() + text.examples().held_out.tokens();
    let before = tokens(&ground.open(true, false));
    ground.open(true, false);
    assert_eq!(folders(), 1);
    ground.open(true, true);
    assert_eq!(folders(), 2, "other tokens stand around documents");
    let path = ground.folder.path().join("text.txt");
    let more = std::fs::read_to_string(&path).unwrap() + "\none document more";
    std::fs::write(&path, more).unwrap();
    assert!(tokens(&ground.open(true, false)) > before);
    assert_eq!(folders(), 3);
}

#[test]
fn tokens_that_were_damaged_on_disk_are_refused() {
    let ground = Ground::new();
    ground.open(true, false);
    let cache = ground.folder.path().join("cache");
    let folder = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let refused = || ground.try_open(true, false).err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(refused(), "");
    for file in ["train.tokens", "held-out.tokens", "about.json"] {
        let path = folder.join(file);
        let whole = std::fs::read(&path).unwrap();
        let wrong = match file {
            "about.json" => {
                let mut about: Value = serde_json::from_slice(&whole).unwrap();
                about["train"]["examples"] = 0.into();
                about.to_string().into_bytes()
            }
            // As long as before: its length does not tell.
            _ => [&[255; 2], &whole[2..]].concat(),
        };
        std::fs::write(&path, wrong).unwrap();
        let error = refused();
        assert!(error.contains("is damaged"), "{file}: {error}");
        std::fs::write(&path, whole).unwrap();
        assert_eq!(refused(), "", "{file}");
    }
}

#[test]
fn special_tokens_are_neither_masked_nor_drawn_and_next_tokens_follow() {
    let ground = Ground::new();
    let path = |name: &str| ground.folder.path().join(name).display().to_string();
    let config = |objective: &str| {
        let text = format!(
            "[language]\nkind = \"text\"\nfiles = {:?}\ntokenizer = {:?}\nlength = 16\nheld_out = 0.1\ncache = {:?}\n\
             [objective]\n{objective}\n[model]\ntype = \"lstm\"\nbidirectional = false\n",
            path("text.txt"),
            tokenizer().display().to_string(),
            path("cache")
        );
        let config = RunConfig::parse(&text, "x").unwrap();
        Corpus::open(&config.language, &config.objective, config.seed).unwrap()
    };
    let causal = config("kind = \"causal\"");
    assert!(causal.truth().is_err_and(|none| none.to_string().contains("text has no known truth")));
    for sentence in (0..50).flat_map(|i| [causal.sentence(i), causal.held_out(3, i)]) {
        let want: Vec<(u32, u32)> = (1..sentence.ids.len()).map(|k| (k as u32 - 1, sentence.ids[k])).collect();
        assert_eq!(sentence.masked, want, "every token but the first, from those before it");
    }
    assert_eq!(causal.most_predicted(), 15);
}

#[test]
fn masks_hit_words_alone() {
    let ground = Ground::new();
    let path = |name: &str| ground.folder.path().join(name).display().to_string();
    for (mask, most) in [("{ bernoulli = 0.9 }", 16), ("{ several = { share = 0.9, random = 0.5, hidden = 0.5 } }", 16)]
    {
        let text = format!(
            "[language]\nkind = \"text\"\nfiles = {:?}\ntokenizer = {:?}\nlength = 16\nheld_out = 0.1\ncache = {:?}\n\
             [objective]\nmask = {mask}\n",
            path("text.txt"),
            tokenizer().display().to_string(),
            path("cache")
        );
        let config = RunConfig::parse(&text, "x").unwrap();
        let corpus = Corpus::open(&config.language, &config.objective, config.seed).unwrap();
        let (mut masked, mut drawn) = (0, HashSet::new());
        for i in 0..300 {
            let (sentence, words) = (corpus.sentence(i), corpus.language.sample(corpus.seed, i));
            assert!(sentence.masked.len() <= corpus.most_masked(1) as usize && sentence.masked.len() <= most);
            for (place, label) in &sentence.masked {
                assert_eq!(*label, words[*place as usize]);
                assert!(*label > 3, "special tokens stay: {words:?}");
                let now = sentence.ids[*place as usize];
                if now != 3 && now != *label {
                    drawn.insert(now);
                }
                masked += 1;
            }
        }
        assert!(masked > 1000 && drawn.iter().all(|id| *id > 3), "{drawn:?}");
        assert_eq!(drawn.is_empty(), !mask.contains("random"));
    }
}
