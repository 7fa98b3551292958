//! The command as scripts see it: exit codes, messages, JSON, files, interruption.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::fixtures::fixture;
use serde_json::Value;

use crate::folder::{Folder, signal, text};

/// A run of about a second.
const RUN: &str = r#"
hidden_dropout_prob = 0.1
[train]
steps = 120
batch_size = 64
micro_batch = 32
optimizer = { kind = "adamw", lr = 2e-3 }
checkpoint_every = 10
keep_checkpoints = 2
evaluate_every = 40
[evaluate]
sentences = 200
"#;

/// What a folder holds, sorted; nothing where there is none.
fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

fn train(f: &Folder, output: &str) -> Output {
    f.lowland(&["train", "run.toml", &format!("output={output}")])
}

#[test]
fn wrong_input_gets_a_message_and_the_right_exit_code() {
    let f = Folder::new(RUN);
    std::fs::write(f.path("bad.toml"), "seed = 1\n[train]\nstep = 5\n").unwrap();
    std::fs::write(f.path("kind.toml"), "[train]\nsteps = \"many\"\n").unwrap();
    std::fs::write(f.path("latin1.toml"), b"name = \"\xff\"\n").unwrap();
    std::fs::write(f.path("empty.toml"), "").unwrap();
    std::fs::write(f.path("heads.toml"), "[model]\nhidden_size = 10\nnum_attention_heads = 3\n").unwrap();
    std::fs::write(f.path("grammar.txt"), "S A B 1\nA a -1\nB b 1\n").unwrap();
    std::fs::write(f.path("grammar.toml"), "[language]\nrules = \"grammar.txt\"\n").unwrap();
    std::fs::write(f.path("nowhere.toml"), "[language]\nrules = \"nowhere.txt\"\n").unwrap();
    std::fs::write(
        f.path("examples.jsonl"),
        "{\"input_ids\": [0, 3, 2], \"masked_positions\": [7], \"labels\": [5]}\n",
    )
    .unwrap();
    let model = fixture("roberta-20");
    let model = model.to_str().unwrap();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["trian"], 2, &["train"]),
        (&["train"], 2, &["CONFIG"]),
        (&["train", "missing.toml"], 2, &["missing.toml", "cannot be read"]),
        (&["train", "bad.toml"], 2, &["bad.toml:3", "step", "steps"]),
        (&["train", "kind.toml"], 2, &["kind.toml:2"]),
        (&["train", "latin1.toml"], 2, &["UTF-8"]),
        (&["train", "empty.toml"], 2, &["no language"]),
        (&["train", "heads.toml"], 2, &["heads"]),
        (&["train", "grammar.toml"], 2, &["grammar.txt:2"]),
        (&["train", "nowhere.toml"], 2, &["nowhere.txt", "cannot be read"]),
        (&["train", "run.toml", "train.stepz=5"], 2, &["train.stepz=5", "steps"]),
        (&["train", "run.toml", "train.steps"], 2, &["key.path=value"]),
        (&["train", "run.toml", "train.start_from=nowhere"], 5, &["nowhere"]),
        (&["train", "run.toml", "model.hidden_act=mish"], 2, &["mish", "gelu_new", "silu"]),
        (&["train", "run.toml", "model.type=distilbert"], 2, &["distilbert", "roberta"]),
        (&["--adapter", "gpu0", "doctor"], 2, &["gpu0", "software"]),
        (&["--adapter", "name:nothing of this name", "doctor"], 6, &["no usable adapter"]),
        (&["--adapter", "index:99", "train", "run.toml"], 6, &["no usable adapter"]),
        (&["eval", "nowhere", "run.toml"], 5, &["nowhere"]),
        (&["eval", model, "missing.jsonl"], 2, &["missing.jsonl"]),
        (&["eval", model, "examples.jsonl"], 2, &["examples.jsonl:1", "masked position 7"]),
        (&["eval", model, "examples.jsonl", "--export", "weights", "x"], 2, &["logits FILE"]),
        (&["language", "floor", "run.toml", "--count", "0"], 2, &["0"]),
        (&["language", "label", "run.toml", "--task", "Z"], 2, &["Z"]),
        (&["config", "explain", "train.optimiser"], 2, &["optimizer"]),
        (&["report", "."], 2, &["holds no run"]),
        (&["report", "nowhere"], 2, &["holds no run"]),
    ];
    for (arguments, code, wanted) in cases {
        let output = f.lowland(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed {}", text(&output.stdout));
        assert!(!error.contains("panicked"), "{arguments:?}: {error}");
        for word in *wanted {
            assert!(error.contains(word), "{arguments:?}: `{word}` is not in: {error}");
        }
    }
}

#[test]
fn sentences_that_are_not_of_the_language_are_refused_by_line() {
    let f = Folder::new(RUN);
    for (input, wanted) in [
        (&b"w00 w00\nw00 nonsense\n"[..], "line 1"),
        (b"w00 nonsense\n", "`nonsense` is not a word"),
        (b"w00 w00 w00 w00 w00 w00 w00 w00 w00\n", "sentences have at most 8"),
        (b"\xff\xfe\n", "not UTF-8"),
    ] {
        let output = f.with_input(&["language", "conditional", "run.toml"], input);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(wanted), "{wanted}: {}", text(&output.stderr));
    }
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let f = Folder::new(RUN);
    let mut child = f
        .command(&["language", "sample", "run.toml", "--count", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn language_commands_agree_with_each_other() {
    let f = Folder::new(RUN);
    let floor = f.json(&["language", "floor", "run.toml", "--count", "300", "--json"]);
    assert!(floor["entropy_floor"].as_f64().unwrap() > 0.5 && floor["standard_error"].as_f64().unwrap() > 0.0);
    assert_eq!(floor["count"], 300);
    assert_eq!(floor["sentence_length"]["max"], 8);
    let words: Vec<String> =
        text(&f.lowland(&["language", "vocabulary", "run.toml"]).stdout).lines().map(str::to_string).collect();
    assert!(words.is_sorted() && !words.is_empty());
    let sentences = f.lowland(&["language", "sample", "run.toml", "--count", "5", "--seed", "8"]).stdout;
    assert_eq!(text(&sentences).lines().count(), 5);
    let known = f.with_input(&["language", "conditional", "run.toml"], &sentences);
    for (line, sentence) in text(&known.stdout).lines().zip(text(&sentences).lines()) {
        let value: Value = serde_json::from_str(line).unwrap();
        let said: Vec<&str> = value["words"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        assert_eq!(said.join(" "), sentence);
        assert!(value["log_probability"].as_f64().unwrap() < 0.0);
        for row in value["conditional"].as_array().unwrap() {
            let row: Vec<f64> = row.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
            assert_eq!(row.len(), words.len());
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
    let of_input = f.with_input(&["language", "label", "run.toml", "--task", "A"], &sentences);
    let of_count = f.lowland(&["language", "label", "run.toml", "--task", "A", "--count", "5", "--seed", "8"]);
    assert_eq!(text(&of_input.stdout), text(&of_count.stdout));
    let label: Value = serde_json::from_str(text(&of_count.stdout).lines().next().unwrap()).unwrap();
    assert!(label["label"].is_string() && label["probability"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_run_leaves_its_folder_and_eval_repeats_its_numbers() {
    let f = Folder::new(RUN);
    let output = train(&f, "run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    for name in ["config.toml", "run.json", "metrics.jsonl", "result.json", "model/config.json", "model/vocab.txt"] {
        assert!(f.path("run").join(name).exists(), "{name}");
    }
    let result: Value = serde_json::from_slice(&std::fs::read(f.path("run/result.json")).unwrap()).unwrap();
    assert_eq!(result["status"], "done");
    let kept = std::fs::read_dir(f.path("run/checkpoints")).unwrap().count();
    assert_eq!(kept, 2, "checkpoints kept");
    // The same held-out sentences, the same model: the same excess loss to the last digit.
    let eval = f.json(&["eval", "run/model", "run.toml", "--per-example", "--json"]);
    assert_eq!(eval["excess_loss"], result["excess_loss"]);
    assert_eq!(eval["count"], 200);
    let each: Vec<f64> = eval["per_example"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(each.len(), 200);
    let mean = each.iter().sum::<f64>() / 200.0;
    assert!((mean - eval["loss"].as_f64().unwrap()).abs() < 1e-12);
    let spread = each.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 199.0;
    assert!(((spread / 200.0).sqrt() - eval["standard_error"].as_f64().unwrap()).abs() < 1e-12);
    // Finished runs are not run again, and another config does not touch them.
    let again = train(&f, "run");
    assert!(again.status.success() && text(&again.stderr).contains("finished already"));
    let other = f.lowland(&["train", "run.toml", "output=run", "train.steps=7"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("another config"));
    // The page about it holds both figures and loads nothing.
    assert!(f.lowland(&["report", "run"]).status.success());
    let page = std::fs::read_to_string(f.path("run/report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(page.contains("entropy floor") && !page.contains("<script") && !page.contains("src="));
}

#[test]
fn eval_of_a_file_writes_logits_and_hidden_states() {
    let f = Folder::new(RUN);
    assert!(f.lowland(&["train", "run.toml", "output=run", "train.steps=2"]).status.success());
    let lines = concat!(
        "{\"input_ids\": [0, 3, 5, 6, 2], \"masked_positions\": [1], \"labels\": [4]}\n",
        "{\"input_ids\": [0, 5, 3, 3, 7, 2, 1], \"masked_positions\": [2, 3], \"labels\": [6, 5]}\n"
    );
    std::fs::write(f.path("examples.jsonl"), lines).unwrap();
    let eval = f.json(&[
        "eval",
        "run/model",
        "examples.jsonl",
        "--export",
        "logits",
        "logits.safetensors",
        "--per-example",
        "--json",
    ]);
    assert_eq!((eval["count"].as_u64(), eval["masked_positions"].as_u64()), (Some(2), Some(3)));
    assert!(eval["excess_loss"].is_null());
    let bytes = std::fs::read(f.path("logits.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("logits").unwrap();
    let vocabulary = view.shape()[1];
    assert_eq!(view.shape()[0], 3);
    let logits: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
    let mut total = 0.0;
    for (row, label) in logits.chunks(vocabulary).zip([4usize, 6, 5]) {
        let sum: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
        total += sum.ln() - f64::from(row[label]);
    }
    assert!((total / 3.0 - eval["loss"].as_f64().unwrap()).abs() < 1e-6);
    f.json(&["eval", "run/model", "examples.jsonl", "--export", "hidden", "hidden.safetensors", "--json"]);
    let bytes = std::fs::read(f.path("hidden.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("hidden_states.1").unwrap().shape(), [2, 6, 16]);
    assert_eq!(file.tensor("attention_mask").unwrap().shape(), [2, 6]);
}

#[test]
fn a_dry_run_says_what_a_run_needs_and_writes_nothing() {
    let f = Folder::new(RUN);
    let plan = f.json(&["train", "run.toml", "output=run", "--dry-run", "--json"]);
    assert!(plan["parameters"].as_u64().unwrap() > 1000 && plan["flops_per_step"].as_f64().unwrap() > 1e6);
    let bytes = &plan["bytes"];
    let parts = ["parameters", "gradients", "optimizer", "activations", "workspace", "batch", "evaluation", "other"];
    let sum: u64 = parts.iter().map(|k| bytes[k].as_u64().unwrap()).sum();
    assert_eq!(bytes["total"].as_u64().unwrap(), sum);
    // One layer has nothing to gain; what deeper models gain is in `memory.rs`.
    assert!(bytes["activations_recomputed"].as_u64().unwrap() > 0 && bytes["activations_stored"].as_u64().unwrap() > 0);
    assert!(!f.path("run").exists());
}

#[test]
fn a_plan_that_cannot_fit_is_refused_before_anything_is_allocated() {
    let f = Folder::new(RUN);
    let huge = [
        "train",
        "run.toml",
        "output=run",
        "train.batch_size=1048576",
        "train.micro_batch=1048576",
        "model.intermediate_size=8192",
    ];
    let start = Instant::now();
    let output = f.lowland(&huge);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("micro_batch"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
}

#[test]
fn what_an_adapter_cannot_bind_is_named_with_advice_that_helps() {
    let f = Folder::new(RUN);
    let language = "[language]\nkind = \"hmm\"\nmax_length = 6\nhmm = { states = 2, vocabulary = 70000, \
                    transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }\n[model]\n\
                    hidden_size = 1024\nnum_hidden_layers = 1\nnum_attention_heads = 8\nintermediate_size = 64\n\
                    [train]\nsteps = 2\nbatch_size = 64\n";
    std::fs::write(f.path("big.toml"), language).unwrap();
    let limits = f.json(&["doctor", "--json"])["limits"].clone();
    let [limit, largest] = ["largest_binding", "largest_buffer"].map(|key| limits[key].as_u64().unwrap());
    let dry = |more: &[&str]| {
        let output = f.lowland(&[&["train", "big.toml", "output=big", "--dry-run"], more].concat());
        (output.status.code(), text(&output.stderr))
    };
    // A table that is only too large for a binding is no hindrance.
    let (code, error) = dry(&["train.micro_batch=1"]);
    assert_eq!(code, Some(0), "{error}");
    if largest < 1 << 33 {
        // The table of words is too large for an allocation, whatever the batch.
        let width = (largest / (4 * 70004) + 64) / 64 * 64;
        let sizes = [format!("model.hidden_size={width}"), format!("model.num_attention_heads={}", width / 64)];
        for more in [&[][..], &["train.micro_batch=1"]] {
            let (code, error) = dry(&[&[&*sizes[0], &*sizes[1]], more].concat());
            assert_eq!(code, Some(4), "{error}");
            assert_eq!(error.matches("does not fit this adapter").count(), 1, "{error}");
            assert!(error.contains(&format!("word_embeddings.weight` (70004 x {width}) takes ")), "{error}");
            assert!(!error.contains("micro_batch") && error.contains("No batch changes its size"), "{error}");
            let most = format!("allocates at most {:.1} MiB", largest as f64 / f64::from(1 << 20));
            assert!(error.contains(&most), "{error}");
            assert!(error.contains(&format!("at most {} columns", largest / 16 / 70004 * 4)), "{error}");
        }
    }
    // Logits of a batch, which smaller batches make smaller: the number given is the largest that fits.
    let batch = (2 * limit / (4 * 70004)).min(1 << 20);
    let sizes = ["model.hidden_size=8".to_string(), format!("train.batch_size={batch}")];
    let with = |micro: u64| {
        let micro = format!("train.micro_batch={micro}");
        dry(&[&sizes[0], &sizes[1], &micro])
    };
    let (code, error) = with(batch);
    assert_eq!(code, Some(4), "{error}");
    let most = error.split("Set `train.micro_batch` to ").nth(1).and_then(|t| t.split(' ').next()).unwrap();
    let most: u64 = most.parse().unwrap_or_else(|_| panic!("{error}"));
    assert!(error.contains(&format!("({batch} now)")), "{error}");
    assert!(most >= 1 && with(most).0 == Some(0) && with(most + 1).0 == Some(4), "{most} of {batch}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_with_step_and_tensor() {
    let f = Folder::new(RUN);
    let output = f.lowland(&[
        "train",
        "run.toml",
        "output=run",
        "train.optimizer.lr=1e30",
        "train.schedule={kind=\"constant\"}",
    ]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("diverged at step"), "{error}");
    let result: Value = serde_json::from_slice(&std::fs::read(f.path("run/result.json")).unwrap()).unwrap();
    assert_eq!(result["status"], "diverged");
    assert!(result["step"].as_u64().unwrap() >= 1 && result["tensor"].is_string());
}

#[cfg(unix)]
#[test]
fn killed_at_20_random_moments_a_run_ends_with_the_same_bits() {
    let f = Folder::new(RUN);
    // The driver compiles its kernels in the first run, and a moment of that run lies behind the end of the others.
    assert!(train(&f, "first").status.success());
    let start = Instant::now();
    assert!(train(&f, "whole").status.success());
    let whole = start.elapsed();
    let expected = f.weights("whole");
    let mut random = lowland::random::Stream::new(20, lowland::random::Purpose::Test, 0);
    let (mut kills, mut run, mut resumed) = (0, 0, 0);
    while kills < 20 {
        let folder = format!("run{run}");
        let checkpoints = || names(&f.path(&folder).join("checkpoints"));
        let before = checkpoints();
        let mut child = f
            .command(&["train", "run.toml", &format!("output={folder}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut wait = whole.mul_f64(random.uniform());
        // Every second one in its training, however long a start is: some moments after a checkpoint of its own.
        if kills % 2 == 1 {
            while checkpoints() == before && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            wait /= 20;
        }
        std::thread::sleep(wait);
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            assert!(f.weights(&folder) == expected, "{folder} ended with other weights");
            run += 1;
        } else {
            kills += 1;
            resumed += usize::from(!checkpoints().is_empty());
        }
    }
    let last = train(&f, &format!("run{run}"));
    assert!(last.status.success(), "{}", text(&last.stderr));
    assert!(f.weights(&format!("run{run}")) == expected, "the last run ended with other weights");
    assert!(resumed > 3, "only {resumed} of the kills left a checkpoint");
    let metrics = |run: &str| std::fs::read_to_string(f.path(run).join("metrics.jsonl")).unwrap();
    let steps = |text: &str| -> Vec<u64> {
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps(&metrics(&format!("run{run}"))), steps(&metrics("whole")), "no line twice, none missing");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_a_checkpoint_and_exits_75() {
    let f = Folder::new(RUN);
    assert!(train(&f, "whole").status.success());
    let child = f.command(&["train", "run.toml", "output=run"]).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !f.path("run/metrics.jsonl").exists() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(150));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(!f.path("run/result.json").exists());
    let resumed = train(&f, "run");
    assert!(resumed.status.success() && text(&resumed.stderr).contains("resumed at step"), "{}", text(&resumed.stderr));
    assert!(f.weights("run") == f.weights("whole"));
}

#[test]
fn a_damaged_checkpoint_is_skipped_with_a_warning() {
    let f = Folder::new(RUN);
    assert!(train(&f, "whole").status.success());
    assert!(train(&f, "run").status.success());
    // As if killed before the end: the result and the model are not there yet.
    std::fs::remove_file(f.path("run/result.json")).unwrap();
    std::fs::remove_dir_all(f.path("run/model")).unwrap();
    let newest = f.path("run/checkpoints/step-120");
    let weights = newest.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let output = train(&f, "run");
    let error = text(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(error.contains("warning") && error.contains("resumed at step 110"), "{error}");
    assert!(f.weights("run") == f.weights("whole"));
}

#[test]
fn doctor_names_the_adapter_and_runs_a_kernel() {
    let f = Folder::new(RUN);
    let doctor = f.json(&["doctor", "--json"]);
    assert_eq!(doctor["kernel"]["passed"], true);
    assert!(!doctor["adapters"].as_array().unwrap().is_empty());
    assert!(doctor["chosen"]["name"].is_string() && doctor["chosen"]["reason"].is_string());
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let f = Folder::new(RUN);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let completions = text(&f.lowland(&["completions", shell]).stdout);
        assert!(completions.contains("selftest"), "{shell}");
    }
    assert!(text(&f.lowland(&["man"]).stdout).contains(".TH lowland"));
    assert!(f.lowland(&["man", "--out", "man"]).status.success());
    assert!(Path::new(&f.path("man/lowland-train.1")).exists());
}

/// What `[model]` asks for is trained, written as `transformers` names it, read again, measured by layers and enlarged.
#[test]
fn a_run_of_another_type_and_activation_goes_the_whole_way() {
    let f = Folder::new(RUN);
    let settings = ["model.type=roberta", "model.hidden_act=relu", "train.steps=20", "output=run"];
    let output = f.lowland(&[&["train", "run.toml"][..], &settings].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config: Value = serde_json::from_slice(&std::fs::read(f.path("run/model/config.json")).unwrap()).unwrap();
    assert_eq!(config["model_type"], "roberta");
    assert_eq!(config["architectures"][0], "RobertaForMaskedLM");
    assert_eq!(config["hidden_act"], "relu");
    let loss = |model: &str| f.json(&["eval", model, "run.toml", "--count", "100", "--json"])["loss"].as_f64().unwrap();
    let small = loss("run/model");
    let trace = f.json(&[
        "measure",
        "trace",
        "run/model",
        "run.toml",
        "--count",
        "20",
        "--estimator",
        "random-signs",
        "--json",
    ]);
    let layers: Vec<&String> = trace["per_layer"].as_object().unwrap().keys().collect();
    assert_eq!(layers, ["embeddings", "layer 0", "head"]);
    assert!(trace["per_tensor"]["lm_head.bias"].is_number() && trace["trace"].as_f64().unwrap() > 0.0);
    assert!(f.lowland(&["enlarge", "run/model", "hidden=32", "large"]).status.success());
    assert!((loss("large") - small).abs() < 1e-5);

    let refused = |arguments: &[&str], code: i32, wanted: &[&str]| {
        let output = f.lowland(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        wanted.iter().for_each(|w| assert!(message.contains(w), "{arguments:?}: {message}"));
    };
    // Weights of one activation are not taken for another.
    let from = ["train", "run.toml", "model.type=roberta", "train.start_from=run/model", "output=other"];
    refused(&from, 2, &["hidden_act", "\"relu\"", "\"gelu\""]);
    // A run is not its model.
    refused(&["eval", "run", "run.toml"], 2, &["did you mean run/model?"]);
    refused(&["eval", "run.toml", "run.toml"], 2, &["run.toml: this is a file; a model is a folder"]);
    refused(&["eval", "run/checkpoints", "run.toml"], 2, &["did you mean run/checkpoints/step-20?"]);
    // Weights that are not read, and weights that are not there.
    let weights = f.path("large/model.safetensors");
    std::fs::rename(&weights, f.path("large/pytorch_model.bin")).unwrap();
    refused(&["eval", "large", "run.toml"], 2, &["pytorch_model.bin", "python -c"]);
    let index = r#"{"weight_map": {"lm_head.bias": "model-00001-of-00001.safetensors"}}"#;
    std::fs::write(f.path("large/model.safetensors.index.json"), index).unwrap();
    refused(&["eval", "large", "run.toml"], 5, &["1 of its 1 files", "model-00001-of-00001.safetensors"]);
}

/// A run that starts from a sharded model is another run when a shard changes.
#[test]
fn the_hash_of_a_run_sees_the_shards_that_it_starts_from() {
    let f = Folder::new(RUN);
    std::fs::create_dir(f.path("start")).unwrap();
    std::fs::write(f.path("start/config.json"), "{}").unwrap();
    std::fs::write(f.path("start/model.safetensors.index.json"), r#"{"weight_map": {"x": "one.safetensors"}}"#)
        .unwrap();
    let hash = |content: &str| {
        std::fs::write(f.path("start/one.safetensors"), content).unwrap();
        let start = format!("train.start_from={:?}", f.path("start"));
        lowland::config::load(&f.path("run.toml"), &[start]).unwrap().hash()
    };
    assert_ne!(hash("a"), hash("b"));
    assert_eq!(hash("a"), hash("a"));
}
