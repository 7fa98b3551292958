//! Generated languages from the command line: sentences and their file, conditionals, floor, training and evaluation,
//! and what is refused.

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, text};
use serde_json::Value;

fn folder() -> Folder {
    let f = Folder::empty();
    let model = fixture("opt-120");
    f.write(
        "run.toml",
        &format!(
            "seed = 3\n[language]\nkind = \"generated\"\nmodel = {model:?}\ntokens = 12\nmax_length = 5\n\
             [model]\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\nintermediate_size = 32\n\
             [train]\nsteps = 40\nbatch_size = 32\noptimizer = {{ kind = \"adamw\", lr = 5e-3 }}\n\
             evaluate_every = 20\ncheckpoint_every = 20\n[evaluate]\nsentences = 40\n"
        ),
    );
    f
}

#[test]
fn sentences_are_written_and_read_and_their_conditionals_exact() {
    let f = folder();
    let (sampled, _) = f.printed(&["language", "sample", "run.toml", "--count", "300"]);
    let lines: Vec<&str> = sampled.lines().collect();
    assert_eq!(lines.len(), 301);
    let said: Value = serde_json::from_str(lines[0].strip_prefix("# ").unwrap()).unwrap();
    assert_eq!((&said["tokens"], &said["max_length"], &said["seed"]), (&"4-15".into(), &5.into(), &3.into()));
    assert!(lines[1..].iter().all(|line| (1..=5).contains(&line.split(' ').count())));
    let (words, _) = f.printed(&["language", "vocabulary", "run.toml"]);
    assert!(words.lines().eq((4..16).map(|id| id.to_string())), "{words}");

    // What is sampled can be asked about as it is.
    let piped = f.with_input(&["language", "conditional", "run.toml"], lines[..3].join("\n").as_bytes());
    assert_eq!(text(&piped.stdout).lines().count(), 2, "{}", text(&piped.stderr));

    // One that is as long as can be, and one that is not.
    let of = |whole: bool| *lines[1..].iter().find(|line| (line.split(' ').count() == 5) == whole).unwrap();
    let input = format!("{}\n{}\n", of(true), of(false));
    let known = f.with_input(&["language", "conditional", "run.toml"], input.as_bytes());
    assert!(known.status.success(), "{}", text(&known.stderr));
    for (line, n) in text(&known.stdout).lines().zip([5, of(false).split(' ').count()]) {
        let value: Value = serde_json::from_str(line).unwrap();
        let rows = value["conditional"].as_array().unwrap();
        assert_eq!(rows.len(), n);
        for row in rows {
            let sum: f64 = row.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-12 && row.as_array().unwrap().len() == 12);
        }
        assert!(number(&value, "log_probability") < 0.0);
    }
    let next = f.with_input(&["language", "conditional", "run.toml", "--causal"], input.as_bytes());
    let first: Value = serde_json::from_str(text(&next.stdout).lines().next().unwrap()).unwrap();
    assert_eq!((first["next"].as_array().unwrap().len(), first["next"][5][12].as_f64()), (6, Some(1.0)));
    let floor = f.json(&["language", "floor", "run.toml", "--count", "100", "--json"]);
    assert!(number(&floor, "entropy_floor") > 0.0 && number(&floor, "standard_error") > 0.0);
    let causal =
        ["language", "floor", "run.toml", "objective.kind=causal", "model.type=llama", "--count", "100", "--json"];
    assert!(number(&f.json(&causal), "entropy_floor") > 0.0);

    // The file in the place of drawn sentences; written under the same config.
    f.write("sentences.txt", &sampled);
    let named = "language.sentences=sentences.txt";
    let (again, _) = f.printed(&["language", "sample", "run.toml", named, "--count", "300"]);
    assert_eq!(again, sampled);
    f.train(&[named, "output=from-file"], 0);
    f.train(&["output=drawn"], 0);
    let floor = |run: &str| number(&f.value(&format!("{run}/result.json")), "entropy_floor");
    assert_eq!(floor("from-file"), floor("drawn"), "held-out sentences are drawn either way");
    let other = f.lowland(&["train", "run.toml", named, "language.tokens=13", "output=other"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("of the tokens 4-15, `language.tokens` are 4-16"));
}

#[test]
fn a_model_is_trained_evaluated_measured_and_probed_on_it() {
    let f = folder();
    f.train(&["output=run"], 0);
    let result = f.value("run/result.json");
    let (floor, loss, excess) =
        (number(&result, "entropy_floor"), number(&result, "loss"), number(&result, "excess_loss"));
    assert!((floor + excess - loss).abs() < 1e-9 && excess > 0.0);
    let eval = f.json(&["eval", "run/model", "run.toml", "--count", "40", "--json"]);
    assert!((number(&eval, "excess_loss") - excess).abs() < 1e-6, "{eval}");
    let trace = f.json(&["measure", "trace", "run/model", "run.toml", "--count", "64", "--json"]);
    assert!(number(&trace, "trace") > 0.0);
    // More than the weights, and no more than a small model takes.
    let weights = 4.0 * number(&trace, "parameters");
    for of in [&eval, &trace] {
        let peak = number(of, "peak_bytes");
        assert!(peak > weights && peak < 5e8, "{of}");
    }
    // A task from a file, in the language's words: whether the first word is one of the first six.
    let (sampled, _) = f.printed(&["language", "sample", "run.toml", "--count", "400", "--seed", "9"]);
    let row = |line: &str| {
        let first: u32 = line.split(' ').next().unwrap().parse().unwrap();
        format!("{line},{}\n", if first < 10 { "low" } else { "high" })
    };
    f.write("task.csv", &format!("text,label\n{}", sampled.lines().skip(1).map(row).collect::<String>()));
    let probe = [
        "probe",
        "run/model",
        "run.toml",
        "--task",
        "task.csv",
        "--train",
        "250",
        "--validation",
        "50",
        "--test",
        "100",
        "--epochs",
        "30",
        "--json",
    ];
    let probe = f.json(&probe);
    assert!(number(&probe, "accuracy") > number(&probe, "majority"), "{probe}");
    let label = f.lowland(&["probe", "run/model", "run.toml", "--task", "A"]);
    assert_eq!(label.status.code(), Some(2));
    assert!(text(&label.stderr).contains("no tasks of its own"), "{}", text(&label.stderr));
}

/// GLUE's files in the words of a language: pieces that are no words are replaced, left out or cut again.
#[test]
fn texts_are_read_in_the_words_that_a_language_has() {
    let f = folder();
    std::fs::create_dir(f.path("opt")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("opt-120").join(name), f.path("opt").join(name)).unwrap();
    }
    // "good" is made of the words "go" and "od"; "awful" of "a", "w" and "u" with unknown ones between them, too many
    // for the language's longest sentence.
    let words = ["<s>", "<pad>", "</s>", "<unk>", "go", "od", "bad", "film", "a", "plot", "x", "y", "z", "u", "v", "w"];
    let vocabulary: String =
        words.iter().chain(&["good", "awful"]).enumerate().map(|(i, w)| format!("{w:?}: {i}, ")).collect();
    f.write(
        "opt/tokenizer.json",
        &format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null, "decoder": null,
            "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "<unk>"}}}}"#,
            vocabulary.trim_end_matches(", ")
        ),
    );
    let model = "language.model=opt";
    f.train(&[model, "output=run"], 0);
    let lines = |n: usize| -> String {
        (0..n).map(|i| if i % 2 == 0 { "a good film\t1\n" } else { "a bad awful plot\t0\n" }).collect()
    };
    std::fs::create_dir(f.path("SST-2")).unwrap();
    f.write("SST-2/train.tsv", &format!("sentence\tlabel\n{}", lines(60)));
    f.write("SST-2/dev.tsv", &format!("sentence\tlabel\n{}", lines(20)));
    let asked = |command: &str, task: &str, more: &[&str]| {
        let sizes =
            ["--train", "40", "--validation", "10", "--test", "20", "--epochs", "40", "--batch", "8", "--seeds", "1"];
        let given = [&[command, "run/model", "run.toml", model, "--task", task][..], &sizes, more, &["--json"]];
        given.concat().into_iter().map(String::from).collect::<Vec<String>>()
    };
    let json = |command: &str, task: &str, more: &[&str]| {
        let given = asked(command, task, more);
        f.json(&given.iter().map(String::as_str).collect::<Vec<&str>>())
    };
    for (policy, share) in [("unk", 2.0 / 7.0), ("drop", 2.0 / 7.0), ("split", 2.0 / 7.0)] {
        let probe = json("probe", "SST-2", &["--out-of-vocabulary", policy, "--lr", "0.05"]);
        assert!((number(&probe, "unknown_share") - share).abs() < 0.02, "{probe}");
        assert_eq!(
            (number(&probe, "accuracy"), number(&probe, "truncated") > 0.0),
            (1.0, policy == "split"),
            "{probe}"
        );
        assert_eq!(number(&probe, "max_tokens"), 7.0);
    }
    let fine = json("finetune", "SST-2", &["--out-of-vocabulary", "unk", "--lr", "3e-3", "--warmup-steps", "0"]);
    assert_eq!(number(&fine, "accuracy"), 1.0, "{fine}");

    let pairs = |n: usize| -> String {
        let row = |i: usize| match i % 2 {
            0 => format!("{i}\ta film\tgood plot x y z\tentailment\n"),
            _ => format!("{i}\ta film\tbad plot u v w\tnot_entailment\n"),
        };
        (0..n).map(row).collect()
    };
    std::fs::create_dir(f.path("QNLI")).unwrap();
    f.write("QNLI/train.tsv", &format!("index\tquestion\tsentence\tlabel\n{}", pairs(60)));
    f.write("QNLI/dev.tsv", &format!("index\tquestion\tsentence\tlabel\n{}", pairs(20)));
    // Seven tokens: `<s>`, two words, `</s>`, two or three words, `</s>`.
    let qnli = json("probe", "QNLI", &["--out-of-vocabulary", "drop", "--lr", "0.05"]);
    assert_eq!((number(&qnli, "truncated"), number(&qnli, "accuracy")), (70.0, 1.0), "{qnli}");

    let refused = |task: &str, more: &[&str], said: &str| {
        let given = asked("probe", task, more);
        let output = f.lowland(&given.iter().map(String::as_str).collect::<Vec<&str>>());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said) && !error.contains("panicked"), "{said}: {error}");
    };
    refused("SST-2", &[], "`good` is not in the model's vocabulary");
    refused("SST-2", &["--out-of-vocabulary", "unk", "--max-tokens", "2"], "leave no room");
    refused("SST-2", &["--out-of-vocabulary", "unk", "--max-tokens", "500"], "the model has positions for");
    refused("SST-2", &["--out-of-vocabulary", "unk", "--with-prior"], "--with-prior: the rows of TASK");
    refused("SST-2", &["--out-of-vocabulary", "unk", "--features", "lookup"], "these texts are cut by a tokenizer");
    refused("A", &["--out-of-vocabulary", "unk"], "is no file of texts");
    refused("SST-2", &["--out-of-vocabulary", "unk", "language.model=../none"], "none");
    // The words are spelled by this file then, which cuts no text.
    f.write("opt/vocab.json", &format!("{{{}}}", vocabulary.trim_end_matches(", ")));
    std::fs::remove_file(f.path("opt/tokenizer.json")).unwrap();
    refused("SST-2", &["--out-of-vocabulary", "unk"], "has no tokenizer.json");
}

#[test]
fn what_makes_no_language_ends_with_2_and_says_where() {
    let f = folder();
    for (overrides, said) in [
        (&["language.model=nowhere"][..], "nowhere"),
        (&["language.tokens=0"], "language.tokens: 0 is not possible"),
        (&["language.tokens=4294967295"], "the model's vocabulary of 120 has 116"),
        (&["language.tokens=none.txt"], "none.txt"),
        (&["language.sentences=none.txt"], "none.txt"),
        (&["language.max_length=64"], "positions for 64"),
        (&["language.kind=pcfg"], "belongs to `kind = \"generated\"`"),
        (&["language.length=3"], "belongs to `kind = \"brackets\"`"),
    ] {
        let output = f.lowland(&[&["train", "run.toml", "--dry-run"], overrides].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{overrides:?}: {error}");
        assert!(error.contains(said) && !error.contains("panicked"), "{overrides:?}: {error}");
    }
    f.write("bare.toml", "[language]\nkind = \"generated\"\ntokens = 3\n");
    let bare = f.lowland(&["language", "vocabulary", "bare.toml"]);
    assert_eq!(bare.status.code(), Some(2));
    assert!(text(&bare.stderr).contains("give `model = \"FOLDER\"` and `tokens`, as 2000"));
}
