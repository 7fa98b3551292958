//! Sweeps that run: done once, interrupted at any moment, failures, a common start, what the table says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lowland::random::{Purpose, Stream};
use lowland::sweep::{Table, plan};
use serde_json::Value;

use crate::folder::{Folder, text};

const BASE: &str = r#"
[language]
random = { levels = 2, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 4
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
[train]
steps = 60
batch_size = 32
optimizer = { kind = "adamw", lr = 5e-3 }
evaluate_every = 0
checkpoint_every = 20
keep_checkpoints = 0
[evaluate]
sentences = 50
"#;

const SWEEP: &str = r#"
base = "base.toml"
intervention = "size"
output = "OUT"
saturation_bound = 0.4
[grid]
seed = [3, 4]
[[zip]]
label = ["small", "large"]
"model.hidden_size" = [8, 16]
"model.num_attention_heads" = [1, 2]
"model.intermediate_size" = [16, 32]
[examine]
models = "checkpoints"
sentences = 200
lookup = true
enlarge = "largest"
[examine.measure]
trace = { sentences = 64 }
noise = { sentences = 32 }
[[examine.probe]]
task = "span:2"
train = 100
validation = 50
test = 200
seeds = 2
epochs = 5
[[examine.probe]]
task = "span:2"
method = "ridge"
ridge = [1e-2]
train = 100
validation = 50
test = 200
"#;

fn based() -> Folder {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    f
}

fn table_of(f: &Folder, folder: &str) -> Table {
    serde_json::from_str(&f.read(&format!("{folder}/table.json"))).unwrap()
}

fn bytes_of(f: &Folder, folder: &str) -> Vec<u8> {
    f.read(&format!("{folder}/table.json")).into_bytes()
}

#[test]
fn a_sweep_is_run_once_and_its_table_holds_every_model() {
    let f = based();
    f.write("size.toml", SWEEP);
    let status = f.json(&["sweep", "status", "size.toml", "--json"]);
    assert!(status["runs"].as_array().unwrap().iter().all(|run| run["state"] == "missing"), "{status}");
    let before = f.json(&["sweep", "collect", "size.toml", "--json"]);
    assert_eq!((before["rows"].as_array().unwrap().len(), before["missing"].as_array().unwrap().len()), (0, 4));
    let output = f.lowland(&["sweep", "run", "size.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("size: 4 of 4 runs done"), "{}", text(&output.stdout));
    let table = table_of(&f, "OUT");
    assert!(table.missing.is_empty());
    assert_eq!(table.rows.len(), 4 * 3 + 1, "checkpoints at 20, 40, the end at 60, and the lookup table");
    assert_eq!(table.tasks.iter().map(|t| t.task.as_str()).collect::<Vec<_>>(), ["span:2", "span:2 ridge"]);
    let (models, lookup) = table.rows.split_at(12);
    for row in models {
        let e = row.evaluation.as_ref().unwrap();
        assert_eq!(row.saturated, e.excess_loss.unwrap() < 0.4);
        assert_eq!(row.last, row.step == 60);
        let c = row.curvature.as_ref().unwrap();
        assert!(c.fisher_trace > 0.0 && c.noise_trace.unwrap() > 0.0 && c.measure_seconds == 0.0);
        assert_eq!(c.step, row.step);
        assert!(row.parametrisation.starts_with("width 16, 1 layers, 2 heads, feed-forward 32"));
        // Of the model as trained, on the sentences of its curvature, which is that of the model embedded by
        // duplication.
        let all = row.conventions.as_ref().unwrap();
        assert!(all.into == "width 16, 1 layers, 2 heads, feed-forward 32" && all.note.is_none(), "{all:?}");
        let close = |a: f64, b: f64, what: &str| assert!((a / b - 1.0).abs() < 1e-4, "{what}: {a} and {b}");
        close(all.duplicate.unwrap(), c.fisher_trace, "embedded");
        close(all.duplicate_standard_error.unwrap(), c.fisher_trace_standard_error, "its error");
        let (paper, balanced) = (all.paper.unwrap(), all.balanced.unwrap());
        assert!(balanced < all.duplicate.unwrap().min(paper) && all.balanced_bias.unwrap() < 0.0);
        if row.label == "large" {
            close(all.own, paper, "nothing to embed");
            close(all.own_standard_error, all.paper_standard_error.unwrap(), "its error");
        } else {
            assert!((all.own / paper - 1.0).abs() > 0.01, "{all:?}");
        }
        assert_eq!(row.downstream.len(), 2);
        assert_eq!(row.downstream[0].per_seed.len(), 2);
        // Linear decay after 6 % of 60 steps of warm-up.
        assert!(row.noise_time > 0.0 && row.noise_time < 60.0 * 25e-6 / 32.0);
    }
    assert!(models[0].parameters < models[11].parameters && models[0].label == "small" && models[11].label == "large");
    assert!(models[2].evaluation.as_ref().unwrap().excess_loss < models[0].evaluation.as_ref().unwrap().excess_loss);
    assert!(lookup[0].evaluation.is_none() && lookup[0].downstream.len() == 2);
    // What `lowland probe`, `enlarge` and `measure` say of the same model, by their own ways.
    let folder = plan_of(&f, "size.toml").folder(&plan_of(&f, "size.toml").runs[3]);
    let model = folder.join("model").display().to_string();
    let arguments = ["--task", "span:2", "--train", "100", "--validation", "50", "--test", "200", "--seeds", "2"];
    let probe =
        f.json(&[&["probe", &model, "base.toml", "seed=0", "--epochs", "5", "--json"][..], &arguments[..]].concat());
    assert_eq!(probe["accuracy"].as_f64().unwrap(), models[11].downstream[0].accuracy);

    // Again: nothing is run, nothing changes.
    let bytes = bytes_of(&f, "OUT");
    let stamp = |p: &Path| std::fs::metadata(p).unwrap().modified().unwrap();
    let result = folder.join("result.json");
    let before = stamp(&result);
    let again = f.lowland(&["sweep", "run", "size.toml"]);
    assert!(again.status.success());
    assert!(!text(&again.stderr).contains("run 1 of 4"), "{}", text(&again.stderr));
    assert_eq!(bytes_of(&f, "OUT"), bytes);
    assert_eq!(stamp(&result), before);
    // Another question asks only what is new.
    f.write("size.toml", &SWEEP.replace("seeds = 2\nepochs = 5", "seeds = 3\nepochs = 5"));
    let third = f.lowland(&["sweep", "run", "size.toml"]);
    let error = text(&third.stderr);
    assert!(third.status.success() && error.contains("task span:2"), "{error}");
    assert!(
        !error.contains(": curvature") && !error.contains("convention") && !error.contains("step 60/60"),
        "{error}"
    );
    assert_eq!(stamp(&result), before);
    assert_eq!(table_of(&f, "OUT").rows[0].downstream[0].per_seed.len(), 3);
    assert_eq!(table_of(&f, "OUT").rows[0].curvature, table.rows[0].curvature);
}

fn plan_of(f: &Folder, name: &str) -> lowland::sweep::SweepPlan {
    let mut plan = plan(&f.path(name)).unwrap();
    plan.store = f.path(&plan.store);
    plan.output = f.path(&plan.output);
    plan
}

#[cfg(unix)]
#[test]
fn killed_at_random_moments_a_sweep_ends_with_the_same_table() {
    let f = based();
    f.write("whole.toml", &SWEEP.replace("OUT", "whole").replace("base =", "name = \"x\"\nbase ="));
    f.write("cut.toml", &SWEEP.replace("OUT", "cut").replace("base =", "name = \"x\"\nbase ="));
    let start = Instant::now();
    assert!(f.lowland(&["sweep", "run", "whole.toml"]).status.success());
    let whole = start.elapsed();
    let mut random = Stream::new(31, Purpose::Test, 0);
    let mut kills = 0;
    loop {
        let mut child =
            f.command(&["sweep", "run", "cut.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if kills == 8 {
            assert!(child.wait().unwrap().success());
            break;
        }
        std::thread::sleep(whole.mul_f64(0.4 * random.uniform()));
        // The first half by SIGINT, which saves and ends with 75, the others by SIGKILL.
        if kills % 2 == 0 {
            let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            let code = child.wait().unwrap().code();
            // Before the handler stands a signal ends the process by itself.
            assert!(matches!(code, Some(75 | 0) | None), "{code:?}");
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        kills += 1;
    }
    assert!(bytes_of(&f, "cut") == bytes_of(&f, "whole"), "the tables differ");
}

#[test]
fn failures_are_said_and_do_not_stop_the_others() {
    let f = based();
    f.write(
        "lr.toml",
        "base = \"base.toml\"\noutput = \"lr\"\n[grid]\n\"train.optimizer\" = [{ kind = \"sgd\", lr = 1e30 }, \
         { kind = \"sgd\", lr = 0.1 }]\n",
    );
    let first = f.lowland(&["sweep", "run", "lr.toml"]);
    assert_eq!(first.status.code(), Some(3), "{}", text(&first.stderr));
    let error = text(&first.stderr);
    assert!(error.contains("FAILED") && error.contains("diverged at step"), "{error}");
    let table = table_of(&f, "lr");
    assert_eq!((table.rows.len(), table.missing.len()), (1, 1));
    assert!(table.missing[0].reason.contains("diverged"), "{:?}", table.missing);
    let status = f.json(&["sweep", "status", "lr.toml", "--json"]);
    let states: Vec<&str> =
        status["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "done"]);
    // What diverged is not tried again by itself.
    let second = f.lowland(&["sweep", "run", "lr.toml"]);
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second.stderr).contains("--retry-diverged"), "{}", text(&second.stderr));
    std::fs::remove_dir_all(f.path("lr")).unwrap();
    let fast = f.lowland(&["sweep", "run", "lr.toml", "--fail-fast", "--json"]);
    assert_eq!(fast.status.code(), Some(3));
    let summary: Value = serde_json::from_slice(&fast.stdout).unwrap();
    assert_eq!((summary["done"].as_u64(), summary["failed"][0]["exit_code"].as_u64()), (Some(0), Some(3)));
}

#[test]
fn runs_begin_with_one_model_that_is_trained_once() {
    let f = based();
    f.write(
        "theory.toml",
        r#"
base = "base.toml"
output = "theory"
collapse = { of = "fisher_trace" }
[start]
overrides = ["train.steps=30", "seed=9"]
[grid]
"train.batch_size" = [16, 32]
[[zip]]
"train.optimizer" = [{ kind = "sgd", lr = 0.1 }, { kind = "sgd", lr = 0.05, momentum = 0.5 }]
[examine]
models = "checkpoints"
sentences = 100
alignment = true
[examine.measure]
trace = { sentences = 32 }
"#,
    );
    let output = f.lowland(&["sweep", "run", "theory.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = table_of(&f, "theory");
    assert_eq!(table.collapse.as_ref().unwrap().of, "fisher_trace");
    let begun: Vec<_> = table.rows.iter().filter(|row| row.step == 0).collect();
    assert_eq!((table.rows.len(), begun.len()), (16, 4));
    for row in &begun {
        assert_eq!(row.curvature, begun[0].curvature, "the same model stands at the beginning of all");
        assert_eq!(row.evaluation, begun[0].evaluation);
        assert_eq!(row.noise_time, 0.0);
        // Nearly all of a grammar's conditionals are different ones.
        assert_eq!(row.alignment, None);
        assert!(row.notes.iter().any(|note| note.contains("alignment") && note.contains("conditionals")), "{row:?}");
    }
    let plan = plan_of(&f, "theory.toml");
    let start = plan.folder(&plan.starts[0]);
    assert_eq!(std::fs::read_dir(f.path("theory/runs")).unwrap().count(), 5, "four runs and their start");
    for run in &plan.runs {
        let text = std::fs::read_to_string(plan.folder(run).join("config.toml")).unwrap();
        let config: toml::Table = text.parse().unwrap();
        let from = PathBuf::from(config["train"]["start_from"].as_str().unwrap());
        assert_eq!(from.canonicalize().unwrap(), start.join("model").canonicalize().unwrap());
    }
    // SGD without momentum for the whole run at lr 0.1 and batch 16, against the same sum by hand.
    let row = table.rows.iter().find(|r| r.batch_size == 16 && r.learning_rate == 0.1 && r.last).unwrap();
    let schedule = &plan.runs[0].resolved.config.train.schedule;
    let by_hand: f64 = (0..60).map(|t| (0.1 * schedule.factor(t, 60)).powi(2) / 16.0).sum();
    assert!((row.noise_time - by_hand).abs() < 1e-12);
    let row = table.rows.iter().find(|r| r.batch_size == 16 && r.learning_rate == 0.05 && r.last).unwrap();
    assert!((row.noise_time - by_hand).abs() < 1e-12, "momentum 0.5 doubles the learning rate");
}

/// A small decoder lies in no larger one by `enlarge`, and nothing is said of what its trace would be there.
#[test]
fn decoders_of_several_sizes_have_their_own_trace_alone() {
    let f = Folder::empty();
    f.write(
        "llama.toml",
        "[language]\nrandom = { levels = 2, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }\nmax_length = 4\n\
         [model]\ntype = \"llama\"\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
         intermediate_size = 16\n[objective]\nkind = \"causal\"\n[train]\nsteps = 3\nbatch_size = 8\n\
         evaluate_every = 0\n",
    );
    let sweep = "base = \"llama.toml\"\noutput = \"OUT\"\n[grid]\n\"model.num_hidden_layers\" = [1, 2]\n\
                 [examine]\nsentences = 20\n[examine.measure]\ntrace = { sentences = 8 }\n";
    f.write("depth.toml", sweep);
    let output = f.lowland(&["sweep", "run", "depth.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = table_of(&f, "OUT");
    assert_eq!(table.rows.len(), 2);
    for row in &table.rows {
        assert!(row.curvature.is_some() && row.conventions.is_none(), "{row:?}");
        assert!(row.parametrisation.ends_with("as trained"), "{row:?}");
    }
    f.write("into.toml", &sweep.replace("[examine]\n", "[examine]\nenlarge = \"largest\"\n"));
    let output = f.lowland(&["sweep", "plan", "into.toml"]);
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("enlarge") && error.contains("llama"), "{error}");
}

#[test]
fn two_processes_share_a_sweep() {
    let f = based();
    f.write("size.toml", SWEEP);
    let children: Vec<_> = (0..2)
        .map(|_| {
            f.command(&["sweep", "run", "size.toml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut begun = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        // The first to end leaves what the other is at.
        assert!(matches!(output.status.code(), Some(0 | 75)), "{}", text(&output.stderr));
        begun += text(&output.stderr).matches(" of 4: ").count();
    }
    assert!(begun >= 4, "{begun} runs begun");
    // A process that came too late for a run leaves it to the other; both together did all of them.
    let last = f.lowland(&["sweep", "run", "size.toml"]);
    assert!(last.status.success() && table_of(&f, "OUT").missing.is_empty());
}

#[test]
fn sweeps_that_cannot_be_are_refused() {
    let f = based();
    let head = "base = \"base.toml\"\n";
    for (body, wanted) in [
        ("[grid]\n\"language.random.vocabulary\" = [12, 14]\n", "has another language than"),
        ("[grid]\n\"train.keep_checkpoints\" = [2]\n[examine]\nmodels = \"checkpoints\"\n", "train.keep_checkpoints"),
        ("[examine]\nmodels = \"all\"\n", "unknown variant `all`"),
        ("[examine]\nenlarge = \"big\"\n", "neither \"largest\" nor a size"),
        (
            "[[examine.probe]]\ntask = \"B\"\n[[examine.probe]]\ntask = \"b\"\ntrain = 100\n",
            "number 2: is called `b` as number 1 is; give one of them a `label`",
        ),
        ("[[examine.probe]]\ntask = \"B\"\nlabel = \" \"\n", "`label` is empty"),
        ("[examine]\nsentences = 0\n", "`sentences`: 0 must lie in"),
        ("[[examine.probe]]\ntask = \"d\"\n", "[[examine.probe]] number 1: `task`"),
        ("[[examine.probe]]\ntask = \"b\"\nlr = -1.0\n", "`lr` must be positive"),
        ("[examine.measure]\nevery = 10\n", "`every`: which models are measured is said by `models`"),
        ("[examine.measure]\ntrace = { sentences = 1 }\n", "`measure.trace.sentences`"),
        ("saturation_bound = 0.0\n", "`saturation_bound` 0 must be positive"),
        ("collapse = { of = \"loss\" }\n", "`collapse.of`"),
        ("[start]\noverrides = [\"train.stpes=3\"]\n", "did you mean `steps`"),
    ] {
        f.write("bad.toml", &format!("{head}{body}"));
        let output = f.lowland(&["sweep", "run", "bad.toml"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{body}: {error}");
        assert!(error.contains(wanted), "{body}: {error}");
    }
}

#[test]
fn a_sweep_with_an_impossible_probe_is_refused_before_anything_is_trained() {
    let f = based();
    for (probe, wanted) in [
        ("task = \"span:4\"", "number 2: `task`: task span:4: asks about sentences of at least 5 words"),
        ("task = \"task-1\"", "number 2: `task`: task task-1: a grammar has the tasks"),
        ("task = \"A\"\nlayer = 7", "number 2: `layer`: layer 7: this model has 0 (the embedding) to 1"),
    ] {
        let sweep = format!(
            "base = \"base.toml\"\noutput = \"out\"\n[[examine.probe]]\ntask = \"span:2\"\n[[examine.probe]]\n{probe}\n"
        );
        f.write("bad.toml", &sweep);
        for command in ["plan", "run"] {
            let output = f.lowland(&["sweep", command, "bad.toml"]);
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command}: {error}");
            assert!(error.contains(wanted), "{command}: {error}");
            assert!(output.stdout.is_empty() && !f.path("out").exists(), "{command}: {}", text(&output.stdout));
        }
    }
}

#[test]
fn a_row_stands_with_what_is_known() {
    let f = based();
    let sizes = "train = 60\nvalidation = 30\ntest = 60\nseeds = 1\nepochs = 2\n";
    let head = format!(
        "base = \"base.toml\"\noutput = \"out\"\n[grid]\nseed = [1, 2]\n[examine]\nsentences = 50\n[[examine.probe]]\n\
         task = \"span:2\"\n{sizes}"
    );
    let diverging = format!("[[examine.probe]]\ntask = \"span:2\"\nmethod = \"finetune\"\nlr = 1e30\n{sizes}");
    let last = format!("[[examine.probe]]\ntask = \"A\"\n{sizes}");
    f.write("s.toml", &format!("{head}{diverging}{last}"));
    let first = f.lowland(&["sweep", "run", "s.toml"]);
    let error = text(&first.stderr);
    assert_eq!(first.status.code(), Some(3), "{error}");
    assert!(error.contains("task span:2 finetune: seed 0: the loss or its gradient was no longer finite"), "{error}");
    assert!(text(&first.stdout).contains("not known: task span:2 finetune"), "{}", text(&first.stdout));
    let table = table_of(&f, "out");
    assert_eq!((table.rows.len(), table.missing.len()), (2, 0), "{:?}", table.missing);
    for row in &table.rows {
        assert!(row.evaluation.is_some() && row.curvature.is_none());
        let tasks: Vec<&str> = row.downstream.iter().map(|d| d.task.as_str()).collect();
        assert_eq!(tasks, ["span:2", "A"], "the question behind the one that failed was asked");
        assert_eq!(row.notes.len(), 1);
        assert!(
            row.notes[0].starts_with("task span:2 finetune: ") && row.notes[0].contains("finite"),
            "{:?}",
            row.notes
        );
    }
    let page = std::fs::read_to_string(f.path("out/report.html")).unwrap();
    assert!(page.contains("Models of which something is not known"));
    let states = |status: Value| -> Vec<String> {
        status["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(states(f.json(&["sweep", "status", "s.toml", "--json"])), ["failed", "failed"]);
    // What diverged is not asked again by itself, and still fails the command; another question is asked.
    let more = format!("[[examine.probe]]\ntask = \"A\"\nmethod = \"ridge\"\n{}", sizes.replace("epochs = 2\n", ""));
    f.write("s.toml", &format!("{head}{diverging}{last}{more}"));
    let before = f.json(&["sweep", "collect", "s.toml", "--json"]);
    let notes = before["rows"][0]["notes"].as_array().unwrap();
    assert_eq!((notes.len(), notes[1].as_str().unwrap()), (2, "task A ridge: not asked yet"));
    let second = f.lowland(&["sweep", "run", "s.toml"]);
    let error = text(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{error}");
    assert!(error.contains("--retry-diverged") && error.contains(": task A ridge"), "{error}");
    assert!(!error.contains("step 60/60") && !error.contains(": task span:2 finetune\n"), "{error}");
    assert_eq!(table_of(&f, "out").rows[0].downstream.len(), 3);
    // Without the question, or once it has an answer, all is well.
    f.write("s.toml", &format!("{head}{last}{more}"));
    let third = f.lowland(&["sweep", "run", "s.toml"]);
    assert!(third.status.success(), "{}", text(&third.stderr));
    assert!(table_of(&f, "out").rows.iter().all(|row| row.notes.is_empty() && row.downstream.len() == 3));
    assert_eq!(states(f.json(&["sweep", "status", "s.toml", "--json"])), ["done", "done"]);
}

#[test]
fn a_question_to_the_common_start_that_fails_does_not_keep_the_others_from_beginning() {
    let f = based();
    let sizes = "train = 60\nvalidation = 30\ntest = 60\nseeds = 1\nepochs = 2\n";
    f.write(
        "s.toml",
        &format!(
            "base = \"base.toml\"\noutput = \"out\"\n[start]\noverrides = [\"train.steps=20\"]\n[grid]\n\
             seed = [1]\n[examine]\nmodels = \"checkpoints\"\nsentences = 50\n\
             [[examine.probe]]\ntask = \"A\"\nmethod = \"finetune\"\nlr = 1e30\n{sizes}\
             [[examine.probe]]\ntask = \"A\"\n{sizes}"
        ),
    );
    let output = f.lowland(&["sweep", "run", "s.toml"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("the first of 4 questions without an answer"), "{error}");
    let table = table_of(&f, "out");
    assert_eq!(table.rows.iter().map(|row| row.step).collect::<Vec<_>>(), [0, 20, 40, 60]);
    assert!(table.rows.iter().all(|row| row.downstream.len() == 1 && row.notes.len() == 1), "{:?}", table.rows);
}
