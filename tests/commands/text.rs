//! Text from the command line: training, killed and gone on with; evaluation, measurement, sweep and report without an
//! excess loss; perplexity; what is refused.

use serde_json::{Value, json};

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, signal, text};

const MORE: &str = r#"
[train]
steps = 60
batch_size = 8
optimizer = { kind = "adamw", lr = 3e-3 }
evaluate_every = 20
checkpoint_every = 20
[evaluate]
sentences = 30
[measure]
every = 0
trace = { sentences = 16, draws = 2 }
noise = { sentences = 16 }
"#;

const CAUSAL: &str = "[model]\ntype = \"gpt2\"\nn_embd = 16\nn_layer = 1\nn_head = 2\n[objective]\nkind = \"causal\"\n";
const MASKED: &str = "[model]\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
                      intermediate_size = 32\n[objective]\nmask = { bernoulli = 0.15 }\n";

/// Two of the project's own pages under the tokenizer of configs/mini.
fn folder(model: &str) -> Folder {
    let f = Folder::empty();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["architecture", "curvature"] {
        std::fs::copy(root.join(format!("docs/{name}.md")), f.path(format!("{name}.md"))).unwrap();
    }
    std::fs::create_dir(f.path("tokenizer")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(root.join("configs/mini/text").join(name), f.path("tokenizer").join(name)).unwrap();
    }
    let language = "seed = 2\n[language]\nkind = \"text\"\nfiles = [\"architecture.md\", \"curvature.md\"]\n\
                    tokenizer = \"tokenizer\"\nlength = 32\nheld_out = 0.1\ncache = \"cache\"\n";
    f.write("run.toml", &format!("{language}{model}{MORE}"));
    f
}

/// A run that is killed and gone on with is to the bit one that was never stopped, and says its held-out loss alone.
#[cfg(unix)]
#[test]
fn runs_on_text_are_killed_and_resumed_to_the_bit() {
    for model in [CAUSAL, MASKED] {
        let f = folder(model);
        f.train(&["output=whole"], 0);
        let mut child = f.begin(&["train", "run.toml", "output=killed"], "killed/metrics.jsonl", |text| {
            text.lines().any(|line| line.contains("\"step\":30"))
        });
        signal(&child, "-KILL");
        child.wait().unwrap();
        assert!(!f.path("killed/result.json").exists());
        let said = f.train(&["output=killed"], 0);
        assert!(said.contains("resumed at step"), "{said}");
        assert!(f.weights("killed") == f.weights("whole"), "the same weights");
        assert_eq!(f.result("killed")["loss"], f.result("whole")["loss"]);

        let result = f.value("whole/result.json");
        assert!(result["excess_loss"].is_null() && result["entropy_floor"].is_null());
        assert!(text(result["notes"][0].as_str().unwrap().as_bytes()).contains("text has no known truth"));
        assert!(number(&result, "loss") < 6.6 && number(&result, "loss_standard_error") > 0.0, "{result}");
        let lines: Vec<Value> =
            f.read("whole/metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let evaluated: Vec<&Value> = lines.iter().filter(|line| line["held_out_loss"].is_number()).collect();
        assert_eq!(evaluated.len(), 4);
        assert!(evaluated.iter().all(|line| line["excess_loss"].is_null() && line["notes"].is_array()));
        assert!(number(evaluated[3], "held_out_loss") < number(evaluated[0], "held_out_loss"));
        // The tokenizer goes along, byte by byte, and its ids are in config.json.
        assert_eq!(f.read("whole/model/tokenizer.json"), f.read("tokenizer/tokenizer.json"));
        let config = f.value("whole/model/config.json");
        assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&0.into(), &2.into()));
        assert_eq!((&config["pad_token_id"], &config["vocab_size"]), (&1.into(), &1000.into()));
    }
}

#[test]
fn what_is_asked_of_text_has_no_excess_loss_and_says_why() {
    let f = folder(CAUSAL);
    f.train(&["output=run"], 0);
    let eval = f.json(&["eval", "run/model", "run.toml", "--json"]);
    assert!(eval["excess_loss"].is_null() && eval["notes"][0].as_str().unwrap().contains("no known truth"), "{eval}");
    let result = f.value("run/result.json");
    assert!((number(&eval, "loss") - number(&result, "loss")).abs() < 1e-6, "the same held-out examples");
    let trace = f.json(&["measure", "trace", "run/model", "run.toml", "--count", "16", "--json"]);
    assert!(number(&trace, "trace") > 0.0 && number(&trace, "standard_error") > 0.0);
    assert_eq!(trace["target"], "population");
    let page = f.printed(&["report", "run"]).0;
    assert!(page.contains("report.html"), "{page}");
    let page = f.read("run/report.html");
    assert!(!page.contains("NaN") && page.contains("not known"), "nothing is made up");
    for (arguments, said) in [
        (&["language", "floor", "run.toml"][..], "text has no known truth"),
        (&["language", "conditional", "run.toml"], "text has no known truth"),
        (&["language", "label", "run.toml", "--task", "B", "--count", "1"], "text has no known truth"),
        (&["probe", "run/model", "run.toml", "--task", "B"], "text has no known truth"),
        (&["train", "run.toml", "output=soft", "objective.labels=expected"], "text has no known truth"),
        (&["train", "run.toml", "output=stop", "train.stop={excess=0.01}"], "train.stop: needs an excess loss"),
        (&["eval", "run/model", "run.toml", "--count", "100000"], "held-out examples"),
    ] {
        let output = f.lowland(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    let (sample, _) = f.printed(&["language", "sample", "run.toml", "--count", "3"]);
    assert!(sample.lines().count() == 3 && sample.contains(' '), "{sample}");
    // A model of another tokenizer is refused by name.
    let other = f.read("run/model/tokenizer.json").replacen("\"the\"", "\"hte\"", 1);
    assert_ne!(other, f.read("run/model/tokenizer.json"));
    f.write("run/model/tokenizer.json", &other);
    let error = text(&f.lowland(&["eval", "run/model", "run.toml"]).stderr);
    assert!(error.contains("`hte`") && error.contains("language.tokenizer"), "{error}");
}

#[test]
fn a_sweep_over_text_compares_losses_and_reports_them() {
    let f = folder(CAUSAL);
    f.write(
        "sweep.toml",
        "base = \"run.toml\"\noutput = \"sweep\"\n[grid]\nseed = [1, 2]\n[examine]\nsentences = 20\n\
         measure = { trace = { sentences = 16, draws = 2 } }\n",
    );
    let output = f.lowland(&["sweep", "run", "sweep.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = f.value("sweep/table.json");
    let row = &table["rows"][0]["evaluation"];
    assert!(row["excess_loss"].is_null() && number(row, "loss") > 1.0, "{table}");
    let page = f.read("sweep/report.html");
    assert!(!page.contains("NaN"), "{page}");
}

#[test]
fn perplexity_is_that_of_transformers_windows() {
    let f = Folder::empty();
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(fixture("text/losses.json")).unwrap()).unwrap();
    let (model, sample) =
        (fixture("text/gpt2").display().to_string(), fixture("text/sample.txt").display().to_string());
    for case in recorded["windows"].as_array().unwrap() {
        let [length, stride] = ["length", "stride"].map(|key| case[key].to_string());
        let command = ["eval", &model, &sample, "--length", &length, "--stride", &stride, "--json"];
        let found = f.json(&command);
        assert!((number(&found, "loss") - number(case, "loss")).abs() < 1e-5, "{found} {case}");
        assert!((number(&found, "transformers_loop_loss") - number(case, "loop")).abs() < 1e-5, "{found} {case}");
        assert_eq!((&found["tokens"], &found["bytes"]), (&case["tokens"], &recorded["bytes"]));
        let loss = number(&found, "loss");
        assert!((number(&found, "perplexity") / loss.exp() - 1.0).abs() < 1e-12);
        let bits = loss * number(&found, "tokens") / number(&found, "bytes") / std::f64::consts::LN_2;
        assert!((number(&found, "bits_per_byte") / bits - 1.0).abs() < 1e-12);
        assert!(found["standard_error_over"] == "windows" && number(&found, "loss_standard_error") > 0.0);
    }
    // Half of what the model has positions for where nothing is said; documents of lines and of JSON are the same.
    let found = f.json(&["eval", &model, &sample, "--json"]);
    assert_eq!((&found["length"], &found["stride"]), (&32.into(), &16.into()));
    let lines: Vec<String> = std::fs::read_to_string(&sample).unwrap().lines().map(str::to_string).collect();
    let json: Vec<String> = lines.iter().map(|line| serde_json::json!({ "text": line }).to_string()).collect();
    f.write("text.jsonl", &json.join("\n"));
    let of_json = f.json(&["eval", &model, "text.jsonl", "--text", "--json", "--per-example"]);
    let of_lines = f.json(&["eval", &model, &sample, "--format", "lines", "--json", "--per-example"]);
    assert_eq!(of_json, of_lines);
    assert_eq!(of_json["standard_error_over"], "documents");
    let each = of_json["per_example"].as_array().unwrap();
    let sum: f64 = each.iter().map(|nats| nats.as_f64().unwrap()).sum();
    assert!((sum / number(&of_json, "tokens") - number(&of_json, "loss")).abs() < 1e-9);
    // A document of one token keeps its place.
    f.write("short.txt", &["a", &lines[0], "a", "a", &lines[1]].join("\n"));
    std::fs::create_dir(f.path("bare")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("text/gpt2").join(name), f.path("bare").join(name)).unwrap();
    }
    let mut bare: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("text/gpt2/tokenizer.json")).unwrap()).unwrap();
    bare["post_processor"] = Value::Null;
    f.write("bare/tokenizer.json", &bare.to_string());
    let (printed, notes) = f.printed(&["eval", "bare", "short.txt", "--format", "lines", "--json", "--per-example"]);
    let short: Value = serde_json::from_str(&printed).unwrap();
    let each = short["per_example"].as_array().unwrap();
    assert_eq!(each.iter().map(Value::is_null).collect::<Vec<_>>(), [true, false, true, true, false], "{short}");
    assert_eq!((&short["too_short"], &short["documents"]), (&3.into(), &2.into()));
    assert_eq!(short["bytes"], lines[0].len() + lines[1].len());
    assert!(notes.contains("3 documents of a single token are left out"), "{notes}");
    f.write("one.txt", "a");
    for (arguments, said) in [
        (&["eval", "bare", "one.txt"][..], "one.txt: the text has a single token"),
        (&["eval", &model, &sample, "--batch", "4294967295"], "--batch 4294967295: of windows of 32 tokens"),
    ] {
        let output = f.lowland(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
    // One batch or several, the same numbers.
    let single = f.json(&["eval", &model, &sample, "--batch", "1", "--json"]);
    assert!((number(&single, "loss") - number(&found, "loss")).abs() < 1e-6);
}

#[test]
fn what_cannot_be_read_is_named_with_file_line_and_remedy() {
    let f = folder(CAUSAL);
    f.write("empty.txt", "\n\n");
    std::fs::write(f.path("latin.txt"), b"one\ntwo caf\xe9\n").unwrap();
    f.write("bad.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n");
    f.write("few.txt", "one\ntwo\n");
    f.write("broken.json", "{\"model\": 5}");
    let bpe = f.read("tokenizer/tokenizer.json");
    let cases: [(&[&str], i32, &[&str]); 11] = [
        (&["language.files=[\"missing.txt\"]"], 2, &["missing.txt", "cannot be read"]),
        (&["language.files=[\"empty.txt\"]"], 2, &["empty.txt", "holds no text"]),
        (&["language.files=\"latin.txt\""], 2, &["latin.txt:2", "UTF-8"]),
        (&["language.files=\"bad.jsonl\"", "language.format=jsonl"], 2, &["bad.jsonl:2", "field `text`", "txt"]),
        (&["language.files=\"few.txt\""], 2, &["few.txt", "held out", "language.held_out"]),
        (&["language.files=\"tokenizer\""], 2, &["tokenizer", "name the files"]),
        (&["language.tokenizer=\"broken.json\""], 2, &["broken.json"]),
        (&["language.tokenizer=\"nowhere.json\""], 2, &["nowhere.json", "cannot be read"]),
        (&["model.n_positions=16"], 2, &["n_positions", "tokens"]),
        (&["language.rules=\"x\""], 2, &["rules", "pcfg"]),
        (&["language.held_out=1.5"], 2, &["held_out", "above 0 and below 1"]),
    ];
    for (overrides, code, said) in cases {
        let error = f.train(&[&["output=none"], overrides].concat(), code);
        assert!(said.iter().all(|part| error.contains(part)), "{overrides:?}: {error}");
    }
    let f = folder(MASKED);
    std::fs::create_dir(f.path("maskless")).unwrap();
    f.write("maskless/tokenizer.json", &bpe.replace("<mask>", "<hidden>"));
    let error = f.train(&["output=none", "language.tokenizer=\"maskless\""], 2);
    assert!(error.contains("mask_token") && error.contains("causal"), "{error}");
    f.train(&["output=run", "train.steps=2"], 0);
    // A tokenizer of the same tokens that cuts otherwise, or gives them other roles.
    let whole: Value = serde_json::from_str(&bpe).unwrap();
    for (changed, key) in [
        (json!({ "model": { "byte_fallback": true } }), "model.byte_fallback"),
        (json!({ "model": { "merges": [] } }), "model.merges"),
        (json!({ "post_processor": null }), "post_processor"),
    ] {
        let mut other = whole.clone();
        for (key, value) in changed.as_object().unwrap() {
            match value.as_object() {
                Some(inner) => inner.iter().for_each(|(k, v)| other[key][k] = v.clone()),
                None => other[key] = value.clone(),
            }
        }
        std::fs::create_dir_all(f.path("other")).unwrap();
        f.write("other/tokenizer.json", &other.to_string());
        std::fs::copy(f.path("tokenizer/tokenizer_config.json"), f.path("other/tokenizer_config.json")).unwrap();
        let output = f.lowland(&["eval", "run/model", "run.toml", "language.tokenizer=\"other\"", "--count", "4"]);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(key), "{key}: {error}");
    }
    let roles = f.read("tokenizer/tokenizer_config.json");
    let other = roles.replace("\"</s>\"", "\"<pad>\"");
    assert_ne!(roles, other);
    f.write("tokenizer/tokenizer_config.json", &other);
    let error = f.train(&["output=run", "train.steps=4"], 2);
    assert!(error.contains("another config (what its files hold differs)"), "{error}");
    f.write("tokenizer/tokenizer_config.json", &roles);
    f.write("text.txt", "some text\n");
    for (arguments, said) in [
        (&["eval", "run/model", "text.txt"][..], "no perplexity"),
        (&["eval", "run/model", "run.toml", "--stride", "5"], "--text"),
    ] {
        let output = f.lowland(arguments);
        assert_eq!((output.status.code(), text(&output.stderr).contains(said)), (Some(2), true), "{arguments:?}");
    }
}
