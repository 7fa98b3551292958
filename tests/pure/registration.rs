//! Plans of experiments beside the sweeps that they speak of.

use std::path::Path;

use lowland::sweep::{SweepPlan, plan};

const BASE: &str = "[language]\nkind = \"hmm\"\nhmm = { states = 3, vocabulary = 5, seed = 1 }\nmax_length = 6\n\
                    [model]\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
                    intermediate_size = 32\n";
const SWEEP: &str = "base = \"base.toml\"\nplan = \"plan.toml\"\n[grid]\n\"train.optimizer.lr\" = [1e-3, 2e-3]\n\
                     seed = { from = 101, count = 3 }\n[[examine.probe]]\ntask = \"task-3\"\nmethod = \"ridge\"\n\
                     labels = \"drawn\"\n";

/// The fields that every plan has.
const HEAD: &str = "question = \"Does it?\"\nsweep_hash = \"HASH\"\nseeds = { from = 101, count = 3 }\n\
                    exclude = \"none\"\n";
const PRIMARY: &str = "[[primary]]\noutcome = \"excess_nats\"\ntask = \"task-3 drawn ridge\"\n\
                       measure = \"scale_free_trace\"\ntest = \"slope\"\ngiven = [\"excess_loss\"]\n\
                       within = [\"train.optimizer.lr\"]\nsmallest_effect = 0.005\n";

fn sweep(folder: &Path, text: &str) -> SweepPlan {
    std::fs::write(folder.join("base.toml"), BASE).unwrap();
    std::fs::write(folder.join("sweep.toml"), text).unwrap();
    plan(&folder.join("sweep.toml")).unwrap()
}

/// What differs between a sweep and a plan with its own hash; or the plan's mistake.
fn differs(folder: &Path, text: &str, plan: &str) -> Result<Vec<String>, String> {
    let sweep = sweep(folder, text);
    let plan = plan.replace("HASH", &sweep.hash().unwrap());
    std::fs::write(folder.join("plan.toml"), plan).unwrap();
    let place = |e: lowland::sweep::SweepError| e.to_string().replace(&folder.display().to_string(), "");
    Ok(sweep.registration(None).map_err(place)?.expect("the sweep names a plan").differs)
}

#[test]
fn a_plan_of_this_sweep_registers_its_tests() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert_eq!(differs(at, SWEEP, &format!("{HEAD}{PRIMARY}")), Ok(vec![]));
    let found = sweep(at, SWEEP).registration(None).unwrap().unwrap();
    assert_eq!((found.file.as_str(), found.plan.seeds.list()), ("plan.toml", vec![101, 102, 103]));
    assert_eq!(found.plan.primary[0].column(), "excess_nats_task-3 drawn ridge");
    let none = sweep(at, &SWEEP.replace("plan = \"plan.toml\"\n", ""));
    assert!(none.registration(None).unwrap().is_none());
    assert!(none.registration(Some(&at.join("plan.toml"))).unwrap().is_some(), "another plan can be named");
    let table = sweep(at, SWEEP).collect().unwrap();
    assert!(table.registration.unwrap().differs.is_empty(), "the table carries it");
}

#[test]
fn the_hash_is_of_the_sweep_file_and_of_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let own = sweep(at, SWEEP).hash().unwrap();
    assert_eq!(own, sweep(at, SWEEP).hash().unwrap());
    assert_ne!(own, sweep(at, &format!("{SWEEP}# another word\n")).hash().unwrap());
    let before = sweep(at, SWEEP);
    std::fs::write(at.join("base.toml"), format!("{BASE}[train]\nsteps = 7\n")).unwrap();
    assert_ne!(own, before.hash().unwrap(), "the run config is part of it");
}

#[test]
fn what_is_otherwise_than_planned_is_exploratory_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = format!("{HEAD}{PRIMARY}");
    for (text, plan, wanted) in [
        (SWEEP.to_string(), good.replace("HASH", "0123456789abcdef"), "the plan is of a sweep with the hash 0123"),
        (SWEEP.to_string(), good.replace("count = 3", "count = 4"), "the plan has the seeds [101, 102, 103, 104]"),
        (SWEEP.replace("from = 101", "from = 1"), good.clone(), "and the sweep [1, 2, 3]"),
        (SWEEP.to_string(), good.replace("task-3 drawn", "task-4 drawn"), "asks about the task `task-4 drawn ridge`"),
        (
            SWEEP.to_string(),
            good.replace("train.optimizer.lr", "train.steps"),
            "`train.steps`, which the sweep does not",
        ),
        (
            SWEEP.to_string(),
            format!(
                "{HEAD}[[primary]]\noutcome = \"fisher_trace\"\ntest = \"difference\"\nsmallest_effect = 0.1\n\
                 between = [\"lr 0.001\", \"lr 0.5\"]\n"
            ),
            "compares `lr 0.5`, and the sweep has the labels",
        ),
    ] {
        let found = differs(folder.path(), &text, &plan).unwrap();
        assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
    }
}

#[test]
fn mistakes_in_a_plan_have_their_line_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let good = format!("{HEAD}{PRIMARY}");
    for (plan, wanted) in [
        (
            good.replace("question = \"Does it?\"\n", ""),
            "missing field `question`; a plan has `question`, `sweep_hash`",
        ),
        (good.replace("exclude = \"none\"\n", ""), "missing field `exclude`"),
        (good.replace("outcome = \"excess_nats\"\n", ""), "plan.toml:5: missing field `outcome`"),
        (good.replace("test = \"slope\"\n", ""), "missing field `test`"),
        (good.replace("smallest_effect = 0.005\n", ""), "missing field `smallest_effect`"),
        (good.replace("measure = \"scale_free_trace\"\n", ""), "[[primary]] number 1, `measure`: is missing"),
        (good.replace("task = \"task-3 drawn ridge\"\n", ""), "`task`: `excess_nats` is of a task"),
        (good.replace("from = 101, count = 3", "from = 99, count = 3"), "plan.toml:3: `seeds`: 99 is under 101"),
        (good.replace("count = 3", "count = 4000000000000"), "plan.toml:3: `seeds`: 4000000000000 from 101 on"),
        (good.replace("{ from = 101, count = 3 }", "[]"), "plan.toml:3: `seeds` has none"),
        (good.replace("\"none\"", "\"\""), "plan.toml:4: `exclude` is empty"),
        (good.replace("0.005", "-1.0"), "plan.toml:12: [[primary]] number 1, `smallest_effect`: -1 must be above 0"),
        (good.replace("\"slope\"", "\"difference\""), "`measure`: a difference has none"),
        (good.replace("\"slope\"", "\"spearman\""), "`given`: belongs to `test = \"slope\"`"),
        (good.replace("\"slope\"", "\"partial\"\ndecide = \"equivalence\""), "`decide`: equivalence is tested of"),
        (good.replace("\"slope\"", "\"t-test\""), "unknown variant `t-test`"),
        (good.replace("exclude", "excluded"), "unknown field `excluded`"),
        (HEAD.to_string(), "missing field `primary`"),
    ] {
        let error = differs(folder.path(), SWEEP, &plan).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(error.contains("plan.toml"), "{error}");
    }
}
