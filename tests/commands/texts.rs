//! Probes and fine-tuning on files of texts under a model's own tokenizer, with and without a language model's head.

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, text};

/// A folder as GLUE has them: two classes that a word tells apart, one text or a question with a sentence.
fn glue(f: &Folder, name: &str, pairs: bool) {
    std::fs::create_dir(f.path(name)).unwrap();
    let ends = ["the film", "a \"story\"", "it's", "very"];
    let rows = |from: usize, n: usize| -> String {
        let row = |i: usize| {
            let (word, class) = if i.is_multiple_of(2) { ("charming", 1) } else { ("slow", 0) };
            let text = format!("{} {word} {}", ends[i % 4], ends[i / 2 % 4]);
            let names = ["not_entailment", "entailment"];
            match pairs {
                false => format!("{text}\t{class}\r\n"),
                true => format!("{i}\twhat is the river?\t{text}\t{}\r\n", names[class]),
            }
        };
        (from..from + n).map(row).collect()
    };
    let head = if pairs { "index\tquestion\tsentence\tlabel\r\n" } else { "sentence\tlabel\r\n" };
    f.write(format!("{name}/train.tsv"), &format!("{head}{}broken\r\n", rows(0, 80)));
    f.write(format!("{name}/dev.tsv"), &format!("{head}{}", rows(101, 30)));
    f.write(format!("{name}/test.tsv"), "index\tsentence\r\n0\tthe film\r\n");
}

#[test]
fn every_model_probes_and_fine_tunes_on_texts_and_pairs() {
    let f = Folder::empty();
    glue(&f, "SST-2", false);
    glue(&f, "QNLI", true);
    for (name, features) in
        [("bert", "mean"), ("bert-body", "mean"), ("roberta", "mean"), ("gpt2", "last"), ("llama", "last")]
    {
        let model = fixture("texts").join(name);
        let model = model.to_str().unwrap();
        for task in ["SST-2", "QNLI"] {
            let of = [model, "--task", task, "--validation", "10", "--seeds", "1", "--json"];
            let probed = f.json(&[&["probe"][..], &of, &["--method", "ridge"]].concat());
            assert_eq!(probed["features"], format!("{features} of layer 2"), "{name}");
            assert_eq!([&probed["train"], &probed["validation"], &probed["test"]], [70, 10, 30], "{name}");
            assert_eq!([&probed["skipped"], &probed["truncated"], &probed["max_tokens"]], [1, 0, 40], "{name}");
            assert!(number(&probed, "accuracy") > 0.8, "{name} {task}: {probed}");
            assert_eq!(number(&probed, "unknown_share") > 0.0, name.starts_with("bert"), "{name}: {probed}");
        }
        let of =
            [model, "--task", "QNLI", "--validation", "10", "--train", "40", "--test", "20", "--seeds", "1", "--json"];
        let tuned = f.json(&[&["finetune"][..], &of, &["--epochs", "2", "--max-tokens", "12"]].concat());
        assert_eq!([&tuned["train"], &tuned["test"], &tuned["max_tokens"]], [40, 20, 12], "{name}");
        assert!(number(&tuned, "truncated") > 0.0, "{name}");
        let read = if features == "last" { "last token" } else { "first token" };
        assert!(tuned["features"].as_str().unwrap().starts_with(read), "{name}: {tuned}");
    }
    let bert = fixture("texts/bert-body");
    let bert = bert.to_str().unwrap();
    let of = ["probe", bert, "--task", "SST-2", "--validation", "10", "--seeds", "2", "--epochs", "3"];
    let (printed, notes) = f.printed(&of);
    assert!(printed.contains("0 texts cut to 40 tokens, ") && printed.contains("1 without a label"), "{printed}");
    assert!(notes.contains("no language model's head"), "{notes}");
    let seeded =
        |seed: &str| f.json(&[&of[..], &["--json", "--train", "20", "--seed", seed]].concat())["per_seed"].clone();
    assert_eq!(seeded("0"), seeded("0"));
    let exported = f.json(&[&of[..], &["--json", "--features", "concat", "--encoder-dropout", "0.1"]].concat());
    let width = exported["width"].as_u64().unwrap();
    assert!(width > 8 && width.is_multiple_of(8), "{exported}");
    let sets = ["probe", bert, "--task", "SST-2", "--validation", "10", "--method", "ridge", "--json"];
    let sets = f.json(&[&sets[..], &["--label-sets", "2", "--train-sizes", "35,20"]].concat());
    assert_eq!([&sets["label_sets"]["sets"], &sets["label_sets"]["sizes"][1]["train"]], [2, 35], "{sets}");
    // Of gpt2's pairs nothing stands between the texts.
    let gpt2 = fixture("texts/gpt2");
    let of = ["probe", gpt2.to_str().unwrap(), "--task", "QNLI", "--validation", "10", "--method", "ridge"];
    assert!(f.printed(&of).1.contains("no special token between"));
}

#[test]
fn what_cannot_be_is_refused_with_what_would_be_right() {
    let f = Folder::empty();
    glue(&f, "SST-2", false);
    f.write("run.toml", crate::folder::SMALL);
    f.write("line.jsonl", "{\"input_ids\":[2,3],\"masked_positions\":[1],\"labels\":[5]}\n");
    let body = fixture("texts/bert-body");
    let body = body.to_str().unwrap();
    let words = fixture("words/bert");
    let words = words.to_str().unwrap();
    let gpt2 = fixture("texts/gpt2");
    let gpt2 = gpt2.to_str().unwrap();
    let probe = |more: &[&'static str]| [&["probe", body, "--task", "SST-2", "--validation", "10"], more].concat();
    let bare = fixture("bert-tiny");
    let bare = bare.to_str().unwrap();
    let head = "no language model's head";
    for (arguments, wanted) in [
        (vec!["eval", body, "line.jsonl"], head),
        (vec!["measure", "trace", body, "line.jsonl"], head),
        (vec!["probe", body, "--task", "B"], "a task of a language needs its run config"),
        (vec!["probe", body, "--task", "none.tsv"], "cannot be read"),
        (vec!["probe", bare, "--task", "SST-2"], "has no tokenizer.json"),
        (probe(&["--label-sets", "2", "--train", "60"]), "70 rows to train on, of 120 for 2 label sets of 60 rows"),
        (probe(&["--train-sizes", "20,71"]), "70 rows to train on, of 71 for 1 label set of 71 rows"),
        (probe(&["--max-tokens", "41"]), "--max-tokens 41: the model has positions for 40"),
        (probe(&["--max-tokens", "2"]), "leave no room for a text"),
        (probe(&["--features", "lookup"]), "--features lookup needs a run config and sentences"),
        (probe(&["--features", "padded"]), "--features padded needs a run config"),
        (probe(&["--with-prior"]), "--with-prior belongs to a run config"),
        (probe(&["--label-column", "class"]), "train.tsv:1: no column `class`"),
        (probe(&["--text-column", "a", "--text-column", "b", "--text-column", "c"]), "--text-column: one, or two"),
        (probe(&["--tokenizer", "run.toml"]), "run.toml: "),
        (vec!["probe", body, "--task", "SST-2", "--validation", "79"], "79 of them are to validate"),
        (vec!["probe", gpt2, "--task", "SST-2", "--validation", "10", "--features", "first"], "--features first"),
        (vec!["probe", words, "run.toml", "--task", "SST-2", "--max-tokens", "9"], "--max-tokens: with run.toml"),
    ] {
        let output = f.lowland(&arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(wanted), "{arguments:?}: {error}");
    }
}
