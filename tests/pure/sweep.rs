//! Plans of sweeps: combinations, exclusions, ids, and files with mistakes.

use std::path::Path;

use lowland::config;
use lowland::sweep::{SweepPlan, check, plan};

const BASE: &str = "[language]\nrandom = { levels = 2, symbols = 3, rules = 2, vocabulary = 12 }\nmax_length = 4\n\
                    [model]\nhidden_size = 64\nnum_attention_heads = 4\n";

fn with(folder: &Path, text: &str) -> Result<SweepPlan, String> {
    std::fs::write(folder.join("base.toml"), BASE).unwrap();
    let path = folder.join("size.toml");
    std::fs::write(&path, text).unwrap();
    plan(&path).map_err(|e| e.to_string().replace(&folder.display().to_string(), ""))
}

#[test]
fn grids_zips_seeds_and_exclusions_combine() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
base = "base.toml"
[grid]
train.steps = [10, 20]
train.optimizer = [{ kind = "adamw", lr = 1e-3 }, { kind = "sgd", lr = 0.1 }]
seed = { from = 5, count = 2 }
[[zip]]
"model.hidden_size" = [30, 96]
"model.num_attention_heads" = [3, 6]
[[exclude]]
"model.hidden_size" = 96
"train.steps" = 20
"#;
    let plan = with(folder.path(), text).unwrap();
    assert_eq!((plan.name.as_str(), plan.runs.len(), plan.excluded, plan.duplicates), ("size", 12, 4, 0));
    let c = &plan.runs[0].resolved.config;
    assert_eq!((c.seed, c.train.steps, c.model.hidden_size, c.model.num_attention_heads), (5, 10, Some(30), Some(3)));
    assert_eq!(plan.runs[1].seed, 6, "the seed varies fastest");
    assert_eq!(plan.runs[0].group, plan.runs[1].group);
    assert_ne!(plan.runs[0].group, plan.runs[2].group);
    let mut ids: Vec<&str> = plan.runs.iter().map(|r| r.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12);
    for run in &plan.runs {
        let c = &run.resolved.config;
        assert!(!(c.model.hidden_size == Some(96) && c.train.steps == 20));
        assert_eq!(c.train.optimizer.lr() == 0.1, run.overrides.iter().any(|o| o.contains("sgd")), "{run:?}");
        let again = config::load(&plan.base, &run.overrides).unwrap();
        assert_eq!(again.hash(), run.id, "the overrides alone give the run");
    }
}

#[test]
fn the_same_run_has_the_same_id_everywhere_and_is_planned_once() {
    let folder = tempfile::tempdir().unwrap();
    let twice = with(folder.path(), "base = \"base.toml\"\n[grid]\nseed = [1, 1, 2]\n").unwrap();
    assert_eq!((twice.runs.len(), twice.duplicates), (2, 1));
    let other = with(folder.path(), "name = \"x\"\nbase = \"base.toml\"\n[grid]\nseed = [2]\ntrain.steps = [2000]\n");
    let other = other.unwrap();
    assert_eq!((other.name.as_str(), &other.runs[0].id), ("x", &twice.runs[1].id), "2000 steps are the default");
    assert_eq!(with(folder.path(), "base = \"base.toml\"\n").unwrap().runs.len(), 1);
}

#[test]
fn files_with_mistakes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let head = "base = \"base.toml\"\n";
    for (text, wanted) in [
        ("[grid]\n", "missing field `base`"),
        ("base = \"base.toml\"\n[gird]\nseed = [1]\n", "size.toml:2: unknown field `gird`"),
        ("base = \"none.toml\"\n", "none.toml: cannot be read"),
        (&format!("{head}[grid]\nseed = 3\n"), "[grid] `seed`: write an array"),
        (&format!("{head}[grid]\nseed = []\n"), "[grid] `seed` has no values"),
        (&format!("{head}[grid]\nseed = {{ from = 0, count = -1 }}\n"), "[grid] `seed`: write an array"),
        (
            &format!("{head}[grid]\ntrain.stpes = [1]\n"),
            "override `train.stpes=1`: unknown key `stpes`; did you mean `steps`",
        ),
        (&format!("{head}[grid]\nmodel.num_attention_heads = [5]\n"), "override `model.num_attention_heads=5`"),
        (
            &format!("{head}[[zip]]\nseed = [1]\ntrain.steps = [1, 2]\n"),
            "[[zip]] `seed` has 1 values and `train.steps` 2",
        ),
        (&format!("{head}[grid]\nseed = [1]\n[[zip]]\nseed = [1]\n"), "`seed` is on two axes"),
        (
            &format!("{head}[grid]\nseed = [1]\n[[exclude]]\nseed = 2\n"),
            "[[exclude]] number 1 fits no combination: seed = 2",
        ),
        (&format!("{head}[grid]\nseed = [1]\n[[exclude]]\nseed = 1\n"), "leaves no run"),
        (
            &format!("{head}[grid]\nseed = {{ from = 0, count = 99999 }}\ntrain.steps = [1, 2]\n"),
            "more than 100000 runs",
        ),
    ] {
        let error = with(folder.path(), text).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

#[test]
fn questions_that_cannot_be_answered_are_found_in_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let model = "[model]\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\nintermediate_size = 32\n";
    let hmm = |states: u32| {
        format!(
            "[language]\nkind = \"hmm\"\nhmm = {{ states = {states}, vocabulary = 5, seed = 1 }}\n\
             max_length = 6\n{model}"
        )
    };
    std::fs::write(at.join("hmm.toml"), hmm(3)).unwrap();
    std::fs::write(at.join("one.toml"), hmm(1)).unwrap();
    for (name, rules, longest) in [
        ("toy", "S NP VP 1\nNP dogs 0.7\nNP cats 0.3\nVP V NP 0.5\nVP sleep 0.5\nV see 1\n", 8),
        ("chain", "S A Q 1\nQ B R 1\nR B R 0.9\nR b 0.1\nA a 1\nB b 1\n", 16),
        ("rare", "S T 1\nS U 1\nT T U 0.1\nT a 0.9\nU U T 0.1\nU b 0.9\n", 12),
        ("alike", "S T 1\nT a T 0.5\nT b 0.5\n", 8),
    ] {
        std::fs::write(at.join(format!("{name}.txt")), rules).unwrap();
        let text = format!("[language]\nrules = \"{name}.txt\"\nmax_length = {longest}\n{model}");
        std::fs::write(at.join(format!("{name}.toml")), text).unwrap();
    }
    let ask = |base: &str, body: &str| {
        let path = at.join("s.toml");
        std::fs::write(&path, format!("base = \"{base}.toml\"\n[grid]\nseed = [1, 2]\n{body}\n")).unwrap();
        let plan = plan(&path).map_err(|e| e.to_string())?;
        check(&plan).map_err(|e| e.to_string())
    };
    let probe = |body: &str| format!("[[examine.probe]]\ntask = \"task-1\"\n[[examine.probe]]\n{body}");
    for (base, body, wanted) in [
        (
            "hmm",
            "task = \"task-9\"",
            "number 2: `task`: task task-9: asks for word 9; sentences have at most 6, so that",
        ),
        ("hmm", "task = \"A\"", "number 2: `task`: task A: a hidden Markov model has the tasks `task-K`"),
        ("hmm", "task = \"task-2\"\nlayer = 7", "number 2: `layer`: layer 7: this model has 0 (the embedding) to 1"),
        ("hmm", "task = \"task-2\"\nlayer = -3", "number 2: `layer`: layer -3"),
        ("hmm", "task = \"task-2\"\nmethod = \"finetune\"\nlayer = 0", "`layer` belongs to \"adamw\" and \"ridge\""),
        ("hmm", "task = \"task-2\"\nmethod = \"finetune\"\nprojection = 8", "`projection` belongs to"),
        ("hmm", "task = \"task-2\"\nmethod = \"ridge\"\nepochs = 8", "`epochs` belongs to"),
        (
            "hmm",
            "task = \"task-2\"\nmethod = \"ridge\"\nencoder_dropout = 0.1",
            "`encoder_dropout` belongs to \"adamw\"",
        ),
        ("hmm", "task = \"task-2\"\nmethod = \"finetune\"\nschedule = \"polynomial\"", "`schedule` belongs to"),
        ("hmm", "task = \"task-2\"\npooled = true", "`pooled` belongs to \"finetune\""),
        ("hmm", "task = \"task-2\"\nfeature_dropout = 1.0", "`feature_dropout`: 1 must lie in [0, 1)"),
        ("hmm", "task = \"task-2\"\npadded_length = 8", "`padded_length` belongs to `features = \"padded\"`"),
        (
            "hmm",
            "task = \"task-2\"\nfeatures = \"padded\"\npadded_length = 9",
            "number 2: `padded_length`: 9 tokens are too many: the model has positions for 8",
        ),
        ("hmm", "task = \"task-2\"\nprojection = 70000", "`projection` must be at most 65536"),
        (
            "one",
            "task = \"task-2\"",
            "number 1: `task`: task task-1: all labels are `z0`; there is nothing to tell apart",
        ),
    ] {
        let error = ask(base, &probe(body)).expect_err(body);
        assert!(error.contains("[[examine.probe]]") && error.contains(wanted), "{body}: {error}");
    }
    for (base, task, wanted) in [
        ("toy", "A", "no rule leads from the start symbol to one symbol alone"),
        ("toy", "task-1", "a grammar has the tasks"),
        ("toy", "span:8", "asks about sentences of at least 9 words, and `language.max_length` is 8"),
        ("toy", "B", "2300 have fewer than the 5 words it asks about (the longest has 3)"),
        ("chain", "C", "no symbol yields the first 2 words alone"),
        ("rare", "span:11", "words it asks about"),
        ("alike", "A", "all labels are `T`; there is nothing to tell apart"),
    ] {
        let error = ask(base, &format!("[[examine.probe]]\ntask = \"{task}\"")).expect_err(task);
        assert!(
            error.contains("sweep s: [[examine.probe]] number 1: `task`") && error.contains(wanted),
            "{task}: {error}"
        );
    }
    let error = ask("hmm", "[examine]\nenlarge = { hidden_size = 24 }\n").unwrap_err();
    assert!(error.contains("[examine] `enlarge`") && error.contains("no multiple of the model's 16"), "{error}");
    let error = ask("toy", "[[examine.probe]]\ntask = \"span:2\"").unwrap_err();
    assert!(
        error.contains("(the longest has 3), and in ") && error.contains("no symbol yields the first 2"),
        "{error}"
    );
    // What can be.
    for (base, task) in [("hmm", "task-6"), ("rare", "A"), ("rare", "span:2")] {
        let found = ask(base, &format!("[[examine.probe]]\ntask = \"{task}\"\nlayer = -2\n"));
        assert_eq!(found, Ok(vec![]), "{base} {task}");
    }
}

#[test]
fn each_seed_may_begin_with_a_model_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let text = |each: &str| {
        format!(
            "base = \"base.toml\"\n[grid]\ntrain.steps = [10, 20]\nseed = [3, 4]\n\
             [start]\noverrides = [\"train.steps=5\"]\n{each}"
        )
    };
    let common = with(folder.path(), &text("")).unwrap();
    assert_eq!(common.starts.len(), 1);
    assert!(common.runs.iter().all(|run| common.start_of(run).unwrap().id == common.starts[0].id));
    let own = with(folder.path(), &text("each_seed = true\n")).unwrap();
    assert_eq!(own.starts.iter().map(|start| start.seed).collect::<Vec<u64>>(), [3, 4]);
    assert!(own.runs.iter().all(|run| own.start_of(run).unwrap().seed == run.seed));
    assert!(own.starts.iter().all(|start| own.is_start(start) && start.resolved.config.train.steps == 5));
    // Runs that differ in the seed alone are a group, though they begin with different models.
    assert_eq!(own.runs[0].group, own.runs[1].group);
    assert_ne!(own.runs[0].group, own.runs[2].group);
    // A run after another model is another run.
    assert!(own.runs.iter().zip(&common.runs).all(|(own, common)| own.id != common.id && own.group != common.group));
}
