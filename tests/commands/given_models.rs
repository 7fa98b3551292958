//! Sweeps over models that were not trained by them: what they ask, covariates, replaced files, interruption.

use std::process::Stdio;

use lowland::sweep::Table;
use serde_json::{Value, json};

use crate::folder::{Folder, text};

const TRAIN: &str = "[train]\nsteps = 60\nbatch_size = 32\noptimizer = { kind = \"adamw\", lr = 5e-3 }\n\
    evaluate_every = 0\ncheckpoint_every = 20\nkeep_checkpoints = 0\n[evaluate]\nsentences = 50\n";

/// Three checkpoints of a run in `run`, one of them under the names and in the places of the hub's cache.
fn trained() -> Folder {
    let f = Folder::new(TRAIN);
    f.train(&["output=run"], 0);
    let hub = f.path("models--somebody--small");
    let snapshot = hub.join("snapshots/0123");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(hub.join("refs")).unwrap();
    std::fs::write(hub.join("refs/main"), "0123").unwrap();
    for entry in std::fs::read_dir(f.path("run/checkpoints/step-60")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
    }
    f
}

const SWEEP: &str = r#"
base = "run.toml"
output = "OUT"
covariates = "scores.csv"
saturation_bound = 0.4
[[model]]
path = "run/checkpoints/step-20"
seed = 1
run = "first"
[[model]]
path = "run/checkpoints/step-40"
label = "the middle, \"40\""
run = "first"
[[model]]
path = "models--somebody--small"
label = "last"
[examine]
sentences = 100
[examine.measure]
trace = { sentences = 64 }
noise = { sentences = 32 }
[[examine.probe]]
task = "span:2"
method = "ridge"
ridge = [1e-2]
train = 100
validation = 50
test = 200
"#;

/// As Excel writes it: a mark in front, CR LF, quotes; a cell is empty.
const SCORES: &str = "\u{feff}label,\"score, per cent\",size\r\nstep-20,61.5,7\r\n\
    \"the middle, \"\"40\"\"\",70.25,\r\nlast,-1e2,3\r\n";

fn table(f: &Folder) -> Table {
    serde_json::from_str(&f.read("OUT/table.json")).unwrap()
}

fn said(f: &Folder, command: &[&str]) -> String {
    let output = f.lowland(command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn models_that_are_there_are_asked_as_trained_ones_are() {
    let f = trained();
    f.write("own.toml", SWEEP);
    f.write("scores.csv", SCORES);
    let plan = f.json(&["sweep", "plan", "own.toml", "--json"]);
    let labels: Vec<&str> = plan["runs"].as_array().unwrap().iter().map(|r| r["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["step-20", "the middle, \"40\"", "last"]);
    assert_eq!(plan["runs"][1]["given"]["covariates"], json!({ "score, per cent": 70.25 }));
    assert!(plan["runs"][2]["given"]["folder"].as_str().unwrap().ends_with("snapshots/0123"), "{plan}");
    let before = f.json(&["sweep", "collect", "own.toml", "--json"]);
    assert_eq!(before["missing"][0]["reason"], "not begun");

    said(&f, &["sweep", "run", "own.toml"]);
    let found = table(&f);
    assert_eq!((found.rows.len(), found.missing.len()), (3, 0));
    for (row, model) in found.rows.iter().zip(["run/checkpoints/step-20", "run/checkpoints/step-40", "run/model"]) {
        // What `eval` says of the same model on the same sentences; `run/model` is the last checkpoint.
        let eval = f.json(&["eval", model, "run.toml", "seed=0", "--count", "100", "--json"]);
        let own = row.evaluation.as_ref().unwrap();
        let theirs = eval["excess_loss"].as_f64().unwrap();
        let excess = own.excess_loss.unwrap();
        assert!((excess - theirs).abs() < 1e-9, "{model}: {excess} and {theirs}");
        assert_eq!(own.sentences, 100);
        assert!(row.curvature.as_ref().unwrap().noise_trace.unwrap() > 0.0 && row.downstream.len() == 1);
        assert!(row.parameters > 1000 && row.parametrisation.contains("as trained"));
        assert!(row.path.is_some() && row.notes.is_empty());
    }
    assert_eq!(found.rows[0].drawn_with.as_deref(), Some("first"));
    assert_eq!(found.rows[0].seed, 1);
    assert_eq!(found.rows[1].covariates.len(), 1, "an empty cell is no number");
    assert_eq!(found.rows[2].covariates["score, per cent"], -100.0);

    // Coefficients of three models, two of one training.
    let rows: Value = f.value("OUT/tables/correlations.json");
    let of = |covariate: &str, predictor: &str| {
        let fits = |r: &&Value| {
            (&r["covariate"], &r["predictor"]) == (&covariate.into(), &predictor.into())
                && r["coefficient"] == "spearman"
                && r["models"] == "all"
                && r["given"].is_null()
        };
        rows.as_array().unwrap().iter().find(fits).unwrap_or_else(|| panic!("{covariate}, {predictor}")).clone()
    };
    let score = of("score, per cent", "fisher_trace");
    assert_eq!((&score["n_models"], &score["n_runs"]), (&json!(3), &json!(2)));
    let traces = found.rows.iter().map(|r| r.curvature.as_ref().unwrap().fisher_trace);
    let traces: Vec<f64> = traces.collect();
    let rank = lowland::statistics::Coefficient::Spearman.of(&traces, &[61.5, 70.25, -100.0]).unwrap();
    assert!((score["value"].as_f64().unwrap() - rank).abs() < 1e-12, "{score}");
    assert_eq!(of("size", "accuracy_span:2 ridge")["n_models"], 2);
    let page = f.read("OUT/report.html");
    assert!(page.contains("Correlations of covariates") && page.contains("score, per cent"));
    assert!(f.path("OUT/figures/covariates.svg").exists() && f.path("OUT/figures/covariates-excess-loss.png").exists());
    assert!(f.read("OUT/tables/models.csv").contains("\"covariate.score, per cent\""));

    // Again: nothing is asked, nothing changes.
    let bytes = f.read("OUT/table.json");
    assert!(!said(&f, &["sweep", "run", "own.toml"]).contains("model 1 of 3"));
    assert_eq!(f.read("OUT/table.json"), bytes);
    // New scores ask nothing either.
    f.write("scores.csv", &SCORES.replace("61.5", "62.5"));
    assert!(!said(&f, &["sweep", "run", "own.toml"]).contains("model 1 of 3"));
    assert_eq!(table(&f).rows[0].covariates["score, per cent"], 62.5);
    // A model in the place of another one is asked, and only that.
    std::fs::copy(f.path("run/checkpoints/step-20/model.safetensors"), f.path("kept")).unwrap();
    f.train(&["output=other", "seed=9", "train.steps=20"], 0);
    let to = f.path("run/checkpoints/step-20/model.safetensors");
    std::fs::copy(f.path("other/model/model.safetensors"), &to).unwrap();
    let said_of = said(&f, &["sweep", "run", "own.toml"]);
    assert!(said_of.contains("model 1 of 3") && !said_of.contains("model 2 of 3"), "{said_of}");
    let replaced = table(&f);
    assert_ne!(replaced.rows[0].evaluation, found.rows[0].evaluation);
    assert_eq!(replaced.rows[1], found.rows[1]);
    // The first one again: its answers are still there.
    std::fs::copy(f.path("kept"), to).unwrap();
    assert!(!said(&f, &["sweep", "run", "own.toml"]).contains("model 1 of 3"));
    assert_eq!(table(&f).rows[0].evaluation, found.rows[0].evaluation);
}

#[test]
fn examples_stand_in_the_place_of_a_language() {
    let f = trained();
    // No words that a language could find; some examples predict two tokens.
    for file in ["vocab.txt", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(f.path("run/checkpoints/step-40").join(file)).unwrap();
    }
    let line = |i: u32| {
        let (token, position, label) = if i.is_multiple_of(2) { (",3", ",4", ",9") } else { ("", "", "") };
        let (a, b, first) = (4 + i % 12, 4 + i * 5 % 12, 4 + i * 7 % 12);
        format!(
            "{{\"input_ids\":[0,{a},3,{b}{token},2],\"masked_positions\":[2{position}],\
             \"labels\":[{first}{label}]}}\n"
        )
    };
    f.write("examples.jsonl", &(0..20).map(line).collect::<String>());
    let own = "output = \"OUT\"\nexamples = \"examples.jsonl\"\n[[model]]\npath = \"run/checkpoints/step-20\"\n\
        [[model]]\npath = \"run/checkpoints/step-40\"\n[examine]\nsentences = 15\n";
    let measured = "[examine.measure]\ntrace = { sentences = 64 }\nnoise = { sentences = 16 }\n";
    f.write("own.toml", &format!("{own}{measured}"));
    said(&f, &["sweep", "run", "own.toml"]);
    let found = table(&f);
    assert_eq!((found.rows.len(), found.language.as_str()), (2, "examples of examples.jsonl"));
    for (row, model) in found.rows.iter().zip(["run/checkpoints/step-20", "run/checkpoints/step-40"]) {
        let examples = row.examples.as_ref().unwrap();
        let eval = f.json(&["eval", model, "examples.jsonl", "--count", "15", "--as-sample", "--json"]);
        assert!((examples.loss - eval["loss"].as_f64().unwrap()).abs() < 1e-9, "{model}");
        assert!((examples.loss_standard_error - eval["standard_error"].as_f64().unwrap()).abs() < 1e-9);
        assert_eq!((examples.examples, examples.predicted), (15, 23));
        assert!(row.evaluation.is_none() && !row.saturated);
        let curvature = row.curvature.as_ref().unwrap();
        let each = curvature.tokens_per_example.unwrap();
        let ratio = curvature.bartlett.as_ref().unwrap().noise_fisher.unwrap();
        // The covariance of summed gradients, as `measure noise` has it.
        let noise = f.json(&["measure", "noise", model, "examples.jsonl", "--count", "16", "--as-sample", "--json"]);
        let (own, theirs) = (curvature.noise_trace.unwrap(), noise["trace_covariance"].as_f64().unwrap());
        assert!((own / theirs - 1.0).abs() < 1e-4, "{own} and {theirs}");
        assert!(curvature.fisher_trace > 0.0);
        // Over the first 16 examples of the 20, whose trace is measured over all.
        let want = own / (curvature.fisher_trace * each);
        assert!(ratio > 0.5 * want && ratio < 2.0 * want, "{ratio} and {want}");
    }
    let page = f.read("OUT/report.html");
    assert!(!page.contains("saturated: their excess loss") && !page.contains("Correlations of accuracy"));

    let refused = |more: &str, wanted: &str| {
        f.write("bad.toml", &format!("{own}{more}"));
        let output = f.lowland(&["sweep", "run", "bad.toml"]);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(wanted), "{more}: {error}");
    };
    refused("[[examine.probe]]\ntask = \"b\"\n", "a task needs a language");
    refused("lookup = true\n", "only a language has exact conditionals");
    refused("positions = \"all\"\n", "the examples say what is predicted");
    f.write("examples.jsonl", "{\"input_ids\":[0,99,2],\"masked_positions\":[1],\"labels\":[4]}\n");
    refused("", "examples.jsonl:1: token 99 is not in the vocabulary");
    std::fs::remove_file(f.path("examples.jsonl")).unwrap();
    refused("", "examples.jsonl: cannot be read");
}

#[cfg(unix)]
#[test]
fn a_killed_sweep_over_given_models_goes_on() {
    let f = trained();
    f.write("scores.csv", SCORES);
    f.write("own.toml", SWEEP);
    said(&f, &["sweep", "run", "own.toml"]);
    let whole = f.read("OUT/table.json");
    std::fs::remove_dir_all(f.path("OUT")).unwrap();
    let answers = |f: &Folder| {
        let folders = std::fs::read_dir(f.path("OUT/runs")).into_iter().flatten().flatten();
        let given = folders.flat_map(|e| std::fs::read_dir(e.path().join("examined/given")).into_iter().flatten());
        given.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "json")).count()
    };
    let mut kept = 0;
    for wanted in [1, 4, 6] {
        let mut child =
            f.command(&["sweep", "run", "own.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while answers(&f) < wanted && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(answers(&f) >= wanted.max(kept), "an answer was lost");
        kept = answers(&f);
    }
    // A claim that was being written when its process was killed names nobody, and is left to grow stale.
    let mut last = f.lowland(&["sweep", "run", "own.toml"]);
    for _ in 0..200 {
        if last.status.code() != Some(75) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
        last = f.lowland(&["sweep", "run", "own.toml"]);
    }
    assert!(last.status.success(), "{}", text(&last.stderr));
    assert_eq!(f.read("OUT/table.json"), whole);
}

#[test]
fn what_cannot_be_asked_is_refused_before_anything_runs() {
    let f = trained();
    let model = "[[model]]\npath = \"run/checkpoints/step-20\"\n";
    let head = "base = \"run.toml\"\noutput = \"OUT\"\n";
    std::fs::create_dir(f.path("empty")).unwrap();
    f.write("empty/config.json", &f.read("run/model/config.json"));
    for (sweep, wanted) in [
        (format!("{head}{model}[[model]]\npath = \"nowhere\"\n"), "[[model]] number 2: `path`: "),
        (format!("{head}{model}[[model]]\npath = \"nowhere\"\n"), "nowhere: there is no such folder"),
        (format!("{head}[[model]]\npath = \"run\"\n"), "this is the folder of a run; did you mean"),
        (format!("{head}[[model]]\npath = \"empty\"\n"), "there is neither model.safetensors nor"),
        (format!("{head}{model}{model}"), "`step-20`, seed 0 is there already"),
        (format!("{head}{model}{model}label = \"again\"\n"), "its files are those of `step-20`, seed 0"),
        (format!("{head}[grid]\nseed = [1]\n{model}"), "[grid] belongs to models that are trained"),
        (format!("{head}{model}[start]\n"), "[start] belongs to models that are trained"),
        (format!("{head}{model}[examine]\nmodels = \"checkpoints\"\n"), "name each checkpoint by its own path"),
        (model.to_string(), "give `base`, a run config with the language"),
        (format!("{head}covariates = \"scores.csv\"\n"), "`covariates` belongs to models that are there already"),
        (format!("{head}{model}steps = 20\n"), "unknown field `steps`"),
    ] {
        f.write("bad.toml", &sweep);
        let output = f.lowland(&["sweep", "run", "bad.toml"]);
        let error = text(&output.stderr);
        // What is not there is an input that cannot be read, as of `eval`.
        let code = if wanted.contains("there is n") || wanted.ends_with("`path`: ") { 5 } else { 2 };
        assert!(output.status.code() == Some(code) && error.contains(wanted), "{sweep}: {error}");
    }
    f.write("own.toml", &format!("{head}covariates = \"scores.csv\"\n{model}[[model]]\npath = \"run/model\"\n"));
    for (scores, wanted) in [
        ("name,score\nstep-20,1\n", "scores.csv: has no column `label`, which names the models; there are name, score"),
        ("label,score\nstep-20,1\nmodel,high\n", "scores.csv:3: column `score`: `high` is no number"),
        ("label,score\nstep-20,1\nmodel,nan\n", "`nan` is no number; leave the cell empty"),
        ("label,score\nstep-20,1,2\n", "scores.csv:2: has 3 cells, and the first line names 2 columns"),
        ("label,score\nstep-20,1\nstep-20,2\n", "scores.csv:3: `step-20` is in line 2 already"),
        ("label,score,score\nstep-20,1,2\n", "has two columns `score`"),
        (
            "label,score\nstep-20,1\nmodle,2\n",
            "no [[model]] is called `modle` (line 3), and there is no line about `model`, seed 0",
        ),
    ] {
        f.write("scores.csv", scores);
        let output = f.lowland(&["sweep", "plan", "own.toml"]);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(wanted), "{scores}: {error}");
    }
    // Lines too many or too few are no mistake, and said.
    for (scores, wanted) in [
        ("label,score\nstep-20,1\nmodel,2\nother,3\n", "no [[model]] is called `other` (line 4)"),
        ("label,score\nmodel,2\n", "no line about `step-20`, seed 0"),
    ] {
        f.write("scores.csv", scores);
        assert!(said(&f, &["sweep", "plan", "own.toml"]).contains(wanted), "{scores}");
    }
    assert!(!f.path("OUT").exists());

    // A shard that is not there, as `eval` says it.
    std::fs::create_dir(f.path("shards")).unwrap();
    f.write("shards/config.json", &f.read("run/model/config.json"));
    f.write("shards/model.safetensors.index.json", "{\"weight_map\": {\"x\": \"model-1.safetensors\"}}");
    f.write("bad.toml", &format!("{head}[[model]]\npath = \"shards\"\n"));
    for arguments in [&["sweep", "plan", "bad.toml"][..], &["eval", "shards", "run.toml"]] {
        let output = f.lowland(arguments);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(5) && error.contains("1 of its 1 files are missing"), "{error}");
    }

    // A model whose weights are not whole fails by itself.
    f.write("scores.csv", "label,score\nstep-20,1\nmodel,2\n");
    let weights = std::fs::read(f.path("run/model/model.safetensors")).unwrap();
    std::fs::write(f.path("run/model/model.safetensors"), &weights[..weights.len() - 4]).unwrap();
    let output = f.lowland(&["sweep", "run", "own.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let found = table(&f);
    assert_eq!((found.rows.len(), found.missing.len()), (1, 1));
    assert!(found.missing[0].reason.contains("the file is truncated"), "{:?}", found.missing);
}
