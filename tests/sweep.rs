//! Plans of sweeps: combinations, exclusions, ids, and files with mistakes.

use std::path::Path;

use lowland::config;
use lowland::sweep::{Plan, plan};

const BASE: &str = "[language]\nrandom = { levels = 2, symbols = 3, rules = 2, vocabulary = 12 }\nmax_length = 4\n\
                    [model]\nhidden_size = 64\nnum_attention_heads = 4\n";

fn with(folder: &Path, text: &str) -> Result<Plan, String> {
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
    assert_eq!((c.seed, c.train.steps, c.model.hidden_size, c.model.num_attention_heads), (5, 10, 30, 3));
    assert_eq!(plan.runs[1].seed, 6, "the seed varies fastest");
    assert_eq!(plan.runs[0].group, plan.runs[1].group);
    assert_ne!(plan.runs[0].group, plan.runs[2].group);
    let mut ids: Vec<&str> = plan.runs.iter().map(|r| r.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12);
    for run in &plan.runs {
        let c = &run.resolved.config;
        assert!(!(c.model.hidden_size == 96 && c.train.steps == 20));
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
