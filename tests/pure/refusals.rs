//! What a file can do to its reader: ask for memory that it does not fill, name files elsewhere, nest without end, hold
//! lines without end, or numbers that are none. Each is refused with the place.

use std::path::Path;
use std::time::Instant;

use lowland::config::RunConfig;
use lowland::downstream::{Columns, TaskRows};
use lowland::language::{Grammar, Hmm};
use lowland::model::{ModelConfig, Tokenizer, WeightsFile, check_weights, config_of, load, parse_examples};
use lowland::report::write_run;
use lowland::text::Pieces;
use lowland::train::newest;

use crate::common::fixtures::fixture;

/// A safetensors file of a header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_header_of_weights_takes_no_memory_that_the_file_does_not_hold() {
    let said = |bytes: &[u8]| WeightsFile::parse(bytes, Path::new("w")).unwrap_err().to_string();
    for length in [9, 99_999_999, 100_000_001, u64::MAX] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        let error = said(&bytes);
        assert!(
            error.starts_with("w: ") && (error.contains("truncated") || error.contains("not a readable")),
            "{error}"
        );
    }
    let tensor = |shape: &str, to: u64| {
        safetensors(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{to}]}}}}"#), &[0; 16])
    };
    assert!(WeightsFile::parse(&tensor("[4]", 16), Path::new("w")).is_ok());
    assert!(said(&tensor("[1099511627776]", 4_398_046_511_104)).contains("tensor `a` ends at byte 4398046511104"));
    for (shape, to) in [
        ("[4294967296,4294967296]", 16),
        ("[1099511627776]", 16),
        ("[0,18446744073709551615,2]", 0),
        ("[4]", 12),
        ("[-4]", 16),
        ("[3]", 12),
        ("[1e3]", 16),
    ] {
        assert!(said(&tensor(shape, to)).contains("not a readable safetensors file"), "{shape}");
    }
    let one = r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#;
    let twice = format!(r#"{{"a":{one},"b":{one}}}"#);
    assert!(said(&safetensors(&twice, &[0; 16])).contains("not a readable safetensors file"));
}

#[test]
fn ids_of_tokens_are_not_counted_without_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(fixture("texts/bert/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["model"]["vocab"]["film"] = 4_294_967_295u32.into();
    std::fs::write(&path, json.to_string()).unwrap();
    let error = Pieces::read(&path).err().unwrap().to_string();
    assert!(error.ends_with("gives `film` the id 4294967295; ids below 16777216 are read"), "{error}");
}

/// A folder with a `config.json` and an index that gives a tensor to a file.
fn indexed(file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let index = serde_json::json!({ "weight_map": { "bert.x": file } });
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    std::fs::copy(fixture("seeds/given/config.json"), folder.path().join("config.json")).unwrap();
    folder
}

#[test]
fn an_index_names_files_of_its_folder() {
    for file in ["../w", "/etc/hostname", "a/../../w", "."] {
        let folder = indexed(file);
        let error = check_weights(folder.path()).unwrap_err().to_string();
        let wanted = format!("model.safetensors.index.json: `{file}` is not the name of a file beside it");
        assert!(error.ends_with(&wanted), "{error}");
        assert_eq!(load(folder.path()).err().unwrap().to_string(), error);
    }
}

#[cfg(unix)]
#[test]
fn links_of_an_index_stay_in_the_folder_or_in_the_hubs_cache() {
    let (cache, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seed = fixture("seeds/weights/one");
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/0a1b"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::copy(&seed, blobs.join("77")).unwrap();
    std::fs::copy(&seed, elsewhere.path().join("secret")).unwrap();
    let given = indexed("a.safetensors");
    std::fs::copy(given.path().join("model.safetensors.index.json"), snapshot.join("model.safetensors.index.json"))
        .unwrap();
    std::os::unix::fs::symlink("../../blobs/77", snapshot.join("a.safetensors")).unwrap();
    assert_eq!(check_weights(&snapshot).unwrap().len(), 2);
    std::os::unix::fs::symlink(elsewhere.path().join("secret"), given.path().join("a.safetensors")).unwrap();
    let error = check_weights(given.path()).unwrap_err().to_string();
    assert!(error.contains("`a.safetensors` is a link out of its folder, to ") && error.contains("secret"), "{error}");
}

/// A run's checkpoint of step 3, sound.
fn checkpoint() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let step = root.path().join("step-3");
    std::fs::create_dir(&step).unwrap();
    for (from, to) in [
        ("seeds/weights/one", "model.safetensors"),
        ("seeds/given/state.json", "state.json"),
        ("seeds/given/MANIFEST.json", "MANIFEST.json"),
    ] {
        std::fs::copy(fixture(from), step.join(to)).unwrap();
    }
    root
}

/// Why the checkpoint is left aside after a change of its folder.
fn damage(change: impl FnOnce(&Path)) -> String {
    let root = checkpoint();
    assert!(newest(root.path()).0.is_some());
    change(&root.path().join("step-3"));
    let (found, mut warnings) = newest(root.path());
    assert!(found.is_none() && warnings.len() == 1, "{warnings:?}");
    warnings.remove(0)
}

#[test]
fn a_manifest_lists_files_of_its_folder() {
    let manifest = |change: fn(&mut serde_json::Value)| {
        move |step: &Path| {
            let path = step.join("MANIFEST.json");
            let mut json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            change(&mut json);
            std::fs::write(path, json.to_string()).unwrap();
        }
    };
    let outside = damage(manifest(|json| {
        json["files"]["../step-3/model.safetensors"] = json["files"]["model.safetensors"].clone();
    }));
    assert!(outside.contains("is not the name of a file beside it"), "{outside}");
    let unlisted = damage(manifest(|json| drop(json["files"].as_object_mut().unwrap().remove("state.json"))));
    assert!(unlisted.ends_with("MANIFEST.json does not list state.json"), "{unlisted}");
    let sizes = damage(manifest(|json| json["files"]["state.json"]["bytes"] = (-1).into()));
    assert!(sizes.contains("MANIFEST.json: invalid value"), "{sizes}");
}

#[test]
fn a_checkpoint_that_is_renamed_or_torn_does_not_count() {
    let root = checkpoint();
    std::fs::rename(root.path().join("step-3"), root.path().join("step-4")).unwrap();
    let (found, warnings) = newest(root.path());
    assert!(found.is_none());
    assert!(warnings[0].ends_with("state.json says step 3, and the folder's name says 4"), "{warnings:?}");
    let torn = damage(|step| {
        let path = step.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    });
    assert!(torn.contains("model.safetensors is not what was written"), "{torn}");
}

#[cfg(unix)]
#[test]
fn a_checkpoint_holds_no_link_to_files_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let linked = damage(|step| {
        let (path, other) = (step.join("model.safetensors"), elsewhere.path().join("other"));
        std::fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink(other, path).unwrap();
    });
    assert!(linked.contains("is a link out of its folder"), "{linked}");
}

/// A folder with one file.
fn holding(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    folder
}

#[test]
fn nesting_ends() {
    const DEEP: usize = 200_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let json = format!("{}0{}", open.repeat(DEEP), close.repeat(DEEP));
        assert!(config_of(holding("config.json", &json).path()).is_err());
        assert!(parse_examples(&json, "e", &ModelConfig::default()).is_err());
        assert!(WeightsFile::parse(&safetensors(&json, b""), Path::new("w")).is_err());
        assert!(Tokenizer::read(holding("tokenizer.json", &json).path()).is_err());
        assert!(Pieces::read(&holding("tokenizer.json", &json).path().join("tokenizer.json")).is_err());
        assert!(TaskRows::read(&holding("rows.jsonl", &json).path().join("rows.jsonl"), &Columns::default()).is_err());
        assert!(write_run(holding("metrics.jsonl", &format!("{json}\n{{}}\n")).path(), None).is_err());
        let folder = indexed("w");
        std::fs::write(folder.path().join("model.safetensors.index.json"), &json).unwrap();
        assert!(check_weights(folder.path()).is_err());
        let broken = damage(|step| std::fs::write(step.join("MANIFEST.json"), &json).unwrap());
        assert!(broken.contains("is damaged and left aside: MANIFEST.json: "), "{broken}");
    }
    for toml in [
        format!("seed = {}1{}", "[".repeat(DEEP), "]".repeat(DEEP)),
        format!("seed = {}1{}", "{a=".repeat(DEEP), "}".repeat(DEEP)),
        format!("[{}a]\n", "a.".repeat(DEEP)),
        format!("{}a = 1\n", "a.".repeat(DEEP)),
    ] {
        assert!(RunConfig::parse(&toml, "c").is_err());
        assert!(lowland::sweep::plan(&holding("s.toml", &toml).path().join("s.toml")).is_err());
    }
    // Symbols that follow from one another, the last ones first.
    let mut grammar = String::from("S N0 1\n");
    (0..50_000).for_each(|i| grammar += &format!("N{i} N{} 1\n", i + 1));
    assert!(Grammar::parse(&(grammar + "N50000 a 1\n"), "g").is_ok());
}

#[test]
fn long_lines_take_no_longer_than_their_length() {
    const LONG: usize = 4_000_000;
    let begun = Instant::now();
    let word = "x".repeat(LONG);
    let words = "x ".repeat(LONG / 2);
    for line in [&word, &words] {
        assert!(RunConfig::parse(&format!("seed = 1 # {line}\n{line}\n"), "c").is_err());
        assert!(Grammar::parse(&format!("S a {line}\n"), "g").is_err());
        assert!(Grammar::parse(&format!("S -> '{line}' [0.5] | {line} [0.5]\n"), "g").is_err());
        assert!(Hmm::parse(&format!("emission a {line} 1\n{line}"), "h", 1, 4).is_err());
        assert!(parse_examples(line, "e", &ModelConfig::default()).is_err());
        for name in ["rows.csv", "rows.tsv", "rows.jsonl"] {
            assert!(TaskRows::read(&holding(name, line).path().join(name), &Columns::default()).is_err());
        }
        assert!(config_of(holding("config.json", line).path()).is_err());
    }
    // Symbols of four million letters that differ in the last one.
    assert!(Grammar::parse(&format!("S {word}a 1\n{word}a b 1\n{word}b c 1\n"), "g").is_ok());
    let seconds = begun.elapsed().as_secs_f64();
    assert!(seconds < 60.0, "{seconds:.1} s");
}

#[test]
fn numbers_that_are_none_are_refused_with_their_key() {
    for (line, key) in [
        ("[train]\nsteps = 9223372036854775807", "train.steps"),
        ("[train]\nclip = nan", "train.clip"),
        ("[train]\noptimizer = { kind = \"adamw\", lr = inf }", "train.optimizer"),
        ("[train]\noptimizer = { kind = \"adamw\", lr = 1e-3, eps = nan }", "train.optimizer"),
        ("[train]\nschedule = { kind = \"linear\", warmup = nan }", "train.schedule"),
        ("[train]\nmicro_batch = 0", "train.micro_batch"),
        ("[train]\nloss_scale = -inf", "train.loss_scale"),
        ("[train]\nalgorithm = { kind = \"sam\", rho = nan }", "train.algorithm"),
        ("[train]\nalgorithm = { kind = \"label-noise\", probability = 1.5 }", "train.algorithm"),
        ("[language]\nmax_length = 100000", "language.max_length"),
        ("[language]\nkind = \"brackets\"\nkappa = nan", "language.kappa"),
        ("[language]\nkind = \"hmm\"\nmin_length = 40", "language.min_length"),
        ("[model]\nlayer_norm_eps = nan", "model"),
        ("[model]\nhidden_dropout_prob = 1.0", "model"),
        ("[model]\nhidden_size = 33", "model"),
    ] {
        let error = RunConfig::parse(line, "c").expect_err(line).to_string();
        let at = error.starts_with("c:2: ") || error.starts_with("c:3: ") || error.starts_with("c:1: ");
        assert!(at && error.contains(key.rsplit('.').next().unwrap()), "{line}: {error}");
    }
    let sweep = holding("s.toml", "base = \"b.toml\"\n[grid]\n\"train.clip\" = [1.0, nan]\n");
    let error = lowland::sweep::plan(&sweep.path().join("s.toml")).unwrap_err().to_string();
    assert!(error.ends_with("s.toml: `grid.train.clip` must be a finite number"), "{error}");
    let given = |key: &str, value: &str| {
        let mut json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(fixture("seeds/given/config.json")).unwrap()).unwrap();
        json[key] = serde_json::from_str(value).unwrap();
        config_of(holding("config.json", &json.to_string()).path()).expect_err(key).to_string()
    };
    for (key, value) in [
        ("vocab_size", "0"),
        ("vocab_size", "4294967295"),
        ("vocab_size", "-1"),
        ("hidden_size", "4e9"),
        ("num_hidden_layers", "1000000"),
        ("num_attention_heads", "3"),
        ("max_position_embeddings", "0"),
        ("layer_norm_eps", "-1e-12"),
    ] {
        let error = given(key, value);
        assert!(error.contains("config.json: "), "{error}");
    }
}
