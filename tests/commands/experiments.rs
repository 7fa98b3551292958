//! What experiments ask of a sweep beside models and accuracies: other gauges, levels of the excess loss, outcomes in
//! nats over label sets, a plan.

use lowland::sweep::{Row, Table};
use serde_json::Value;

use crate::folder::{Folder, number, text};

const BASE: &str = r#"
[language]
kind = "hmm"
hmm = { states = 3, vocabulary = 5, transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }
max_length = 4
[model]
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 16
[train]
steps = 60
batch_size = 32
optimizer = { kind = "adamw", lr = 1e-2 }
evaluate_every = 0
checkpoint_every = 10
keep_checkpoints = 0
[evaluate]
sentences = 50
"#;

const GAUGES: &str = r#"
base = "base.toml"
output = "OUT"
store = "STORE"
plan = "plan.toml"
[grid]
seed = [101, 102]
[[gauge]]
label = "small tables"
tables = 0.25
[[gauge]]
residual = 2.0
[examine]
sentences = 200
[examine.measure]
trace = { sentences = 100 }
flatness = { sentences = 100 }
[[examine.probe]]
task = "task-2"
method = "ridge"
labels = "drawn"
label_sets = 3
train = 60
train_sizes = [30, 60]
validation = 40
test = 200
[[examine.probe]]
task = "task-2"
method = "ridge"
labels = "posterior"
layer = 0
standardise = true
train = 60
validation = 40
test = 200
[[examine.probe]]
task = "task-2"
method = "finetune"
labels = "drawn"
train = 60
validation = 40
test = 100
epochs = 2
warmup_steps = 2
rates = [1e-3, 1e-1]
seeds = 2
forgetting = 100
"#;

const PLAN: &str = r#"
question = "Does a gauge change what a probe reads?"
sweep_hash = "HASH"
seeds = [101, 102]
exclude = "none"
[[primary]]
outcome = "excess_nats"
task = "task-2 drawn ridge"
test = "difference"
between = ["base, small tables", "base"]
decide = "equivalence"
smallest_effect = 0.005
"#;

fn table_of(f: &Folder) -> Table {
    serde_json::from_str(&f.read("OUT/table.json")).unwrap()
}

fn records(f: &Folder, name: &str) -> Vec<Value> {
    serde_json::from_str(&f.read(&format!("OUT/tables/{name}.json"))).unwrap()
}

#[test]
fn models_in_other_gauges_are_asked_the_same_and_a_plan_registers_that_they_are_equal() {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    f.write("sweep.toml", GAUGES);
    f.write("plan.toml", PLAN);
    let output = f.lowland(&["sweep", "register", "sweep.toml"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("plan.toml: the plan is of a sweep with the hash HASH") && error.contains("write `sweep_hash")
    );
    let hash = error.split("sweep_hash = \"").nth(1).unwrap()[..16].to_string();
    f.write("plan.toml", &PLAN.replace("HASH", &hash));
    let registered = f.json(&["sweep", "register", "sweep.toml", "--json"]);
    assert_eq!((&registered["sweep_hash"], &registered["registered"]), (&hash.clone().into(), &true.into()));

    let output = f.lowland(&["sweep", "run", "sweep.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = table_of(&f);
    assert_eq!((table.rows.len(), table.missing.len()), (2 * 3, 0));
    for rows in table.rows.chunks(3) {
        let [own, tables, residual] = rows else { unreachable!() };
        assert_eq!((own.label.as_str(), tables.label.as_str()), ("base", "base, small tables"));
        assert_eq!(residual.label, "base, residual 2");
        assert_eq!((&tables.drawn_with, own.seed), (&Some(own.run.clone()), tables.seed));
        assert_eq!(tables.values["gauge.tables"], 0.25);
        assert!(own.notes.is_empty() && tables.notes.is_empty(), "{:?} {:?}", own.notes, tables.notes);
        for other in [tables, residual] {
            let apart = other.gauge.as_ref().unwrap().gauge_feature_difference;
            assert!(apart < 1e-5, "what the head reads is the same: {apart}");
            let excess = |row: &Row| row.evaluation.as_ref().unwrap().excess_loss.unwrap();
            assert!((excess(own) - excess(other)).abs() < 1e-5);
            let c = |row: &Row| row.curvature.clone().unwrap();
            assert!((c(other).fisher_trace / c(own).fisher_trace - 1.0).abs() > 1e-3, "another trace");
            let free = c(other).scale_free_trace.unwrap() / c(own).scale_free_trace.unwrap();
            assert!((free - 1.0).abs() < 1e-3, "and the same without scale: {free}");
            for task in 0..2 {
                let nats = |row: &Row| row.downstream[task].nats.excess_nats.unwrap();
                assert!((nats(own) - nats(other)).abs() < 2e-3, "task {task}: {} {}", nats(own), nats(other));
            }
        }
        let [drawn, posterior, tuned] = &own.downstream[..] else { panic!("three tasks") };
        let sets = drawn.nats.label_sets.as_ref().unwrap();
        assert_eq!((sets.sets, sets.sizes.len(), drawn.per_seed.len()), (3, 2, 3));
        let mean = sets.sizes.iter().map(|s| s.averaged.excess_nats.as_ref().unwrap().mean).sum::<f64>() / 2.0;
        assert!((drawn.nats.excess_nats.unwrap() - mean).abs() < 1e-9);
        assert!(drawn.nats.excess_nats_standard_error.unwrap() > 0.0 && posterior.nats.label_sets.is_none());
        assert!(tuned.nats.forgetting.is_some() && tuned.nats.forgetting_standard_error.unwrap() > 0.0);
        assert!(tuned.rates.len() == 1 && [1e-3, 1e-1].contains(&tuned.rates[0]), "{:?}", tuned.rates);
        let before = tuned.nats.excess_loss_before.unwrap();
        assert!(before > 0.0, "{before}");
    }
    let models = records(&f, "models");
    assert!(models[0]["excess_nats_task-2 drawn ridge_between_sets"].is_number(), "{}", models[0]);
    assert!(models[1]["gauge_feature_difference"].is_number());
    let page = f.read("OUT/report.html");
    assert!(page.contains("2 models of 2 runs.") && page.contains("4 more are the same functions in other gauges"));
    let figure = f.read("OUT/figures/gauges-sweep.svg");
    assert!(
        figure.contains("base: residual") && figure.contains("Forgetting, task-2"),
        "a line a gauge, a panel a task"
    );
    let effects = records(&f, "effects");
    let planned = &effects[0];
    assert_eq!((&planned["status"], &planned["n_runs"]), (&"registered".into(), &2.into()), "{planned}");
    assert!(number(planned, "value").abs() < 2e-3);
    // Nothing is asked again, and a plan that is changed afterwards registers nothing.
    let again = f.lowland(&["sweep", "run", "sweep.toml"]);
    assert!(again.status.success() && !text(&again.stderr).contains("task task-2"), "{}", text(&again.stderr));
    f.write("plan.toml", &PLAN.replace("HASH", &hash).replace("0.005", "0.1"));
    let collected = f.json(&["sweep", "collect", "sweep.toml", "--json"]);
    let differs = collected["registration"]["differs"][0].as_str().unwrap();
    assert!(differs.contains("changed after the first run"), "{differs}");
    assert_eq!(records(&f, "effects")[0]["status"], "exploratory");
}

const LAWS: &str = r#"
base = "base.toml"
output = "OUT"
store = "STORE"
collapse = { of = "fisher_trace", speed = true }
[start]
overrides = ["train.steps=600"]
[[zip]]
label = ["sampled", "expected"]
"objective.labels" = ["sampled", "expected"]
[grid]
"train.optimizer" = [{ kind = "sgd", lr = 0.1 }]
"train.schedule" = [{ kind = "constant", warmup = 0.0 }]
"train.steps" = [600]
"train.checkpoint_every" = [200]
seed = [101, 102, 103]
[examine]
models = "checkpoints"
sentences = 200
[examine.measure]
trace = { sentences = 512 }
flatness = { sentences = 512 }
"#;

#[test]
fn what_laws_of_sgd_say_stands_beside_what_was_measured() {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    f.write("sweep.toml", LAWS);
    let output = f.lowland(&["sweep", "run", "sweep.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = table_of(&f);
    assert_eq!((table.rows.len(), table.missing.len()), (2 * 3 * 4, 0));
    for row in &table.rows {
        // The model that they begin with is where all stand.
        let Some(moved) = &row.displacement else {
            assert_eq!(row.step, 0);
            continue;
        };
        assert_eq!((moved.since + 200, moved.others), (row.step, 2));
        assert!(moved.squared > 0.0 && moved.between_seeds > 0.0 && moved.inner < moved.squared, "{moved:?}");
    }
    let models = records(&f, "models");
    let of = |label: &str, key: &str| -> Vec<f64> {
        let own = models.iter().filter(|m| m["label"] == label);
        own.filter_map(|m| m[key].as_f64()).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let drift = of("sampled", "drift_slope");
    assert_eq!(
        (drift.len(), of("sampled", "drift_log_slope").len(), of("expected", "drift_log_slope").len()),
        (9, 9, 0)
    );
    // A hundredth of the noise is left where labels are the exact conditionals.
    let (noise, none) = (mean(&drift), mean(&of("expected", "drift_slope")));
    assert!((noise - 1.0).abs() < 0.4 && none.abs() < 0.3, "{noise} with the labels' noise, {none} without");
    assert_eq!((of("sampled", "trace_drop").len(), of("sampled", "speed_difference").len()), (9, 3));
    assert!(models[0].get("drift.tables").is_some() || models[1].get("drift.tables").is_some());
}

#[test]
fn checkpoints_around_a_level_of_the_excess_loss_are_examined_and_interpolated() {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    let sweep = |examine: &str| {
        format!(
            "base = \"base.toml\"\noutput = \"OUT\"\nstore = \"STORE\"\n[grid]\nseed = [101]\n[examine]\n\
             models = \"checkpoints\"\nsentences = 200\n{examine}[examine.measure]\ntrace = {{ sentences = 100 }}\n"
        )
    };
    f.write("all.toml", &sweep(""));
    assert!(f.lowland(&["sweep", "run", "all.toml"]).status.success());
    let all = table_of(&f).rows;
    let excess = |row: &Row| row.evaluation.as_ref().unwrap().excess_loss.unwrap();
    let at = (1..all.len()).find(|i| excess(&all[*i]) < 0.8 * excess(&all[i - 1])).expect("it falls");
    let (first, second) = (&all[at - 1], &all[at]);
    let level = (excess(first) * excess(second)).sqrt();
    let never = 1e-9;
    f.write("matched.toml", &sweep(&format!("matched = {{ excess = [{level}, {never}], widest = 100.0 }}\n")));
    let output = f.lowland(&["sweep", "run", "matched.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = table_of(&f);
    let [row] = &table.rows[..] else { panic!("one level is reached: {:?}", table.missing) };
    assert!(
        table.missing.len() == 1 && table.missing[0].reason.contains("does not fall through"),
        "{:?}",
        table.missing
    );
    assert!((excess(row) - level).abs() < 1e-12 && row.values["matched.excess"] == level);
    // Half way in ln excess.
    let trace = |row: &Row| row.curvature.as_ref().unwrap().fisher_trace;
    let half = 0.5 * (trace(first) + trace(second));
    assert!((trace(row) / half - 1.0).abs() < 1e-6, "{} and {half}", trace(row));
    assert_eq!((row.drawn_with.as_deref(), row.step), (Some(second.run.as_str()), second.step));
    f.write("narrow.toml", &sweep(&format!("matched = {{ excess = [{level}], widest = 1.01 }}\n")));
    assert!(f.lowland(&["sweep", "run", "narrow.toml"]).status.success());
    let table = table_of(&f);
    assert!(table.rows.is_empty() && table.missing[0].reason.contains("times apart"), "{:?}", table.missing);
    for (examine, wanted) in [
        ("matched = { excess = [] }\n", "`excess` has no level"),
        ("matched = { excess = [-1.0] }\n", "-1 must be positive"),
        ("matched = { excess = [0.1], widest = 1.0 }\n", "`widest` 1 must be above 1"),
        ("matched = { level = [0.1] }\n", "unknown field `level`"),
    ] {
        f.write("wrong.toml", &sweep(examine));
        let output = f.lowland(&["sweep", "plan", "wrong.toml"]);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn mistakes_in_gauges_and_outcomes_are_found_before_anything_is_trained() {
    let f = Folder::empty();
    f.write("base.toml", BASE);
    let head = "base = \"base.toml\"\noutput = \"OUT\"\n[grid]\nseed = [101]\n";
    let probe = "[[examine.probe]]\ntask = \"task-2\"\n";
    for (more, wanted) in [
        ("[[gauge]]\nlabel = \"a\"\n".to_string(), "[[gauge]] number 1: moves nothing"),
        ("[[gauge]]\ntables = 0.0\n".into(), "`tables` 0 must be positive"),
        ("[[gauge]]\ntables = 2\n[[gauge]]\ntables = 2.0\n".into(), "number 2: `tables 2` is there already"),
        ("[[gauge]]\ntabels = 2\n".into(), "unknown field `tabels`"),
        (format!("{probe}label_sets = 0\n"), "`label_sets` 0 must lie in 1 to 1000"),
        (format!("{probe}train = 50\ntrain_sizes = [20, 100]\n"), "`train_sizes`: 100 must lie in 2 to `train` = 50"),
        (format!("{probe}train_sizes = [20]\n"), "`train` = 2000 is more than any of `train_sizes`"),
        (format!("{probe}lr = 1.0\nrates = [1.0]\n"), "`lr` and `rates`"),
        (format!("{probe}forgetting = 50\n"), "`forgetting` belongs to \"finetune\""),
        (format!("{probe}method = \"finetune\"\nstandardise = true\n"), "`standardise` belongs to"),
        (format!("{probe}method = \"finetune\"\nlabels = \"posterior\"\n"), "belongs to linear probes"),
        (format!("{probe}labels = \"all\"\n"), "unknown variant `all`"),
    ] {
        f.write("wrong.toml", &format!("{head}{more}"));
        let output = f.lowland(&["sweep", "plan", "wrong.toml"]);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(wanted), "{wanted}: {error}");
    }
    f.write(
        "lstm.toml",
        &BASE
            .replace("hidden_size = 8", "type = \"lstm\"\nhidden_size = 8")
            .replace("num_attention_heads = 2\nintermediate_size = 16\n", ""),
    );
    f.write("wrong.toml", &format!("{}[[gauge]]\nresidual = 2\n", head.replace("base.toml", "lstm.toml")));
    let output = f.lowland(&["sweep", "plan", "wrong.toml"]);
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("[[gauge]] number 1 `residual`"), "{error}");
}
