//! Every reader on changed seeds: the short, deterministic form of what `fuzz/` does with libFuzzer, which finds by
//! coverage what chance does not. Neither panics, hangs or takes memory that the file does not hold.

use std::fs;
use std::time::Instant;

use lowland::random::{Purpose, Stream};

use crate::common::fixtures::fixture;
use crate::common::readers::{READERS, Reader};

/// Changed files of each reader.
const EACH: u64 = 3000;

/// Seconds that a changed seed may take, however slow the machine.
const LONGEST: f64 = 20.0;

/// The seeds of a reader, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(fixture(&format!("seeds/{name}"))).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What breaks readers: limits of numbers, signs of the formats, nesting.
const WORDS: [&[u8]; 28] = [
    b"0",
    b"-1",
    b"1e999",
    b"nan",
    b"inf",
    b"18446744073709551615",
    b"4294967295",
    b"9007199254740993",
    b"1e-400",
    b"..",
    b"/",
    b"\"",
    b"'",
    b"\\",
    b"[",
    b"[[[[[[[[",
    b"{",
    b"}",
    b"]",
    b",",
    b":",
    b"=",
    b"\n",
    b"\t",
    b"\xff\xfe",
    b"\0",
    b"\xef\xbb\xbf",
    b"null",
];

/// A few changes of bytes, words and parts, of this seed or another.
fn changed(seeds: &[Vec<u8>], stream: &mut Stream) -> Vec<u8> {
    let mut below = |n: usize| stream.below(n.max(1) as u32) as usize;
    let mut bytes = seeds[below(seeds.len())].clone();
    for _ in 0..1 + below(6) {
        let at = below(bytes.len());
        let to = (at + 1 + below(24)).min(bytes.len());
        let from = at.min(to);
        match below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
            2 => drop(bytes.drain(from..to)),
            3 => drop(bytes.splice(from..from, WORDS[below(WORDS.len())].iter().copied())),
            4 => drop(bytes.splice(from..to, WORDS[below(WORDS.len())].iter().copied())),
            5 => {
                let part = bytes[from..to].repeat(1 + below(40));
                drop(bytes.splice(from..from, part));
            }
            _ => {
                let other = &seeds[below(seeds.len())];
                let begin = below(other.len());
                let end = (begin + below(60)).min(other.len());
                drop(bytes.splice(from..from, other[begin..end].to_vec()));
            }
        }
    }
    bytes
}

/// Runs a reader on its seeds and on changes of them.
fn reads_what_is_changed((name, read): Reader) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "no seed for {name}");
    seeds.iter().for_each(|seed| read(seed));
    for number in 0..EACH {
        let mut stream = Stream::new(20, Purpose::Sentence, number);
        let bytes = changed(&seeds, &mut stream);
        let begun = Instant::now();
        read(&bytes);
        let seconds = begun.elapsed().as_secs_f64();
        assert!(seconds < LONGEST, "{name}, change {number}: {seconds:.1} s for {} bytes", bytes.len());
    }
}

/// A test for each reader, so that a failure has its name.
macro_rules! every_reader {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            reads_what_is_changed(*READERS.iter().find(|(name, _)| *name == $name).unwrap());
        })+

        #[test]
        fn every_reader_is_tried_and_has_a_fuzz_target() {
            let mut tried = [$($name),+];
            tried.sort_unstable();
            let mut readers = READERS.map(|(name, _)| name);
            readers.sort_unstable();
            assert_eq!(tried, readers);
            let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).unwrap();
            for name in readers {
                assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "no target {name}");
                let target = format!("{}/fuzz/targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
                assert!(fs::read_to_string(target).unwrap().contains(&format!("readers::{name}(bytes)")));
            }
        }
    };
}

every_reader! {
    configs = "config",
    sweep_files = "sweep",
    grammars = "grammar",
    hidden_markov_models = "hmm",
    files_of_examples = "example_lines",
    csv_files = "csv",
    glue_files = "glue",
    json_lines = "jsonl",
    covariates = "covariates",
    safetensors_files = "weights",
    indexes_of_weights = "weights_index",
    model_configs = "model_config",
    tokenizers = "tokenizer",
    words_of_models = "words",
    claims = "claim",
    manifests = "manifest",
    metrics = "metrics",
    submitted_plans = "plan",
    registered_plans = "registration",
}
