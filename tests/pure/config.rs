//! Configs: defaults, schema, overrides, messages.

use std::path::Path;

use lowland::config::{self, Origin, Resolved, RunConfig};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schema_checked_in_is_the_codes() {
    let text = std::fs::read_to_string(root().join("docs/schema/run.schema.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(recorded, config::schema(), "write it anew: lowland config schema > docs/schema/run.schema.json");
    let text = std::fs::read_to_string(root().join("docs/schema/sweep.schema.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let own = lowland::sweep::schema();
    assert_eq!(recorded, own, "write it anew: lowland config schema sweep > docs/schema/sweep.schema.json");
}

#[test]
fn every_key_is_documented() {
    fn walk(prefix: &str, missing: &mut Vec<String>) {
        let e = config::explain(prefix).unwrap();
        if e.description.trim().is_empty() {
            missing.push(prefix.to_string());
        }
        for key in e.inside {
            walk(&if prefix.is_empty() { key } else { format!("{prefix}.{key}") }, missing);
        }
    }
    let mut missing = Vec::new();
    walk("", &mut missing);
    assert!(missing.is_empty(), "no words about {missing:?}");
}

#[test]
fn configs_of_the_project_are_whole() {
    for folder in ["configs", "configs/mini", "configs/paper"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                let text = std::fs::read_to_string(&path).unwrap();
                match text.parse::<toml::Table>().unwrap().contains_key("base") {
                    // A sweep file resolves every run of its plan; no two are the same.
                    true => {
                        let plan = lowland::sweep::plan(&path).unwrap_or_else(|e| panic!("{e}"));
                        assert_eq!((plan.excluded, plan.duplicates), (0, 0), "{}", path.display());
                        let seeds = plan.runs.iter().filter(|run| run.group == plan.runs[0].group).count();
                        assert!(seeds >= 3, "{}: {seeds} seeds", path.display());
                    }
                    false => {
                        config::load(&path, &[]).unwrap_or_else(|e| panic!("{e}"));
                    }
                }
            }
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let c = RunConfig::default();
    assert_eq!((c.seed, c.language.max_length), (0, 32));
    assert_eq!(
        (c.model.hidden_size, c.model.num_hidden_layers, c.model.num_attention_heads),
        (Some(128), Some(4), Some(4))
    );
    assert_eq!((c.model.intermediate_size, c.train.steps, c.train.batch_size), (Some(512), 2000, 256));
    assert_eq!((c.train.micro_batch(), c.train.clip, c.train.checkpoint_every), (256, 0.0, 500));
    assert_eq!((c.train.keep_checkpoints, c.train.evaluate_every, c.evaluate.sentences), (3, 100, 2000));
    assert_eq!(c.train.optimizer.lr(), 1e-3);
}

#[test]
fn toml_of_a_config_reads_back_as_itself() {
    let text =
        "seed = 7\n[objective]\nmask = { bernoulli = 0.15 }\n[train]\noptimizer = { kind = \"sgd\", momentum = 0.5 }\n";
    let released = std::fs::read_to_string(root().join("configs/paper/released.toml")).unwrap();
    for text in [text, &released] {
        let config = RunConfig::parse(text, "x").unwrap();
        assert_eq!(RunConfig::parse(&config.to_toml(), "x").unwrap(), config);
    }
}

#[test]
fn overrides_win_and_every_value_knows_where_it_came_from() {
    let text = "seed = 7\n[train]\nsteps = 10\n";
    let resolved = Resolved::from_text(text, "run", &["train.batch_size=8".into(), "seed=9".into()]).unwrap();
    assert_eq!((resolved.config.seed, resolved.config.train.steps, resolved.config.train.batch_size), (9, 10, 8));
    assert_eq!(resolved.origin("train.steps"), Origin::File { file: "run".into(), line: 3 });
    assert_eq!(resolved.origin("seed"), Origin::Override("seed=9".into()));
    assert_eq!(resolved.origin("train.clip"), Origin::Default);
}

#[test]
fn the_hash_names_what_changes_results_and_no_more() {
    let of = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
        Resolved::from_text("seed = 1\n", "run", &overrides).unwrap().hash()
    };
    assert_eq!(of(&[]), of(&["output=elsewhere"]));
    assert_eq!(of(&[]), of(&["train.steps=2000"]), "a default written down is the same config");
    assert_ne!(of(&[]), of(&["seed=2"]));
    assert_ne!(of(&[]), of(&["train.optimizer.lr=2e-3"]));
}

#[test]
fn overrides_are_possible_together() {
    let with = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
        Resolved::from_text("seed = 1\n", "run", &overrides).map(|r| r.config.model).map_err(|e| e.to_string())
    };
    // 30 is no multiple of the default's 4 heads, and 128 none of 3.
    for order in [
        ["model.hidden_size=30", "model.num_attention_heads=3"],
        ["model.num_attention_heads=3", "model.hidden_size=30"],
    ] {
        let model = with(&order).unwrap();
        assert_eq!((model.hidden_size, model.num_attention_heads), (Some(30), Some(3)));
    }
    let error = with(&["model.hidden_size=30", "train.steps=5"]).unwrap_err();
    assert!(error.contains("override `model.hidden_size=30`"), "{error}");
    let error = with(&["train.stpes=5", "model.hidden_size=64"]).unwrap_err();
    assert!(error.contains("override `train.stpes=5`"), "{error}");
}

#[test]
fn wrong_values_are_refused_by_key_and_line() {
    for (text, wanted) in [
        ("[trian]\n", vec!["file:1", "train"]),
        ("\n[train]\nbatch_sise = 3\n", vec!["file:3", "batch_size"]),
        ("[train]\nbatch_size = -3\n", vec!["file:2"]),
        ("[train]\nbatch_size = 0\n", vec!["file:2", "batch_size"]),
        ("[train]\noptimizer = { kind = \"adam\" }\n", vec!["file:2", "adamw"]),
        ("[train]\noptimizer = { kind = \"adamw\", lr = nan }\n", vec!["lr"]),
        ("[train]\noptimizer = { kind = \"adamw\", betas = [0.9, 1.0] }\n", vec!["betas"]),
        ("[train]\nclip = -1.0\n", vec!["file:2", "clip"]),
        ("[model]\nhidden_size = 10\nnum_attention_heads = 3\n", vec!["heads"]),
        ("[model]\nhidden_dropout_prob = 1.5\n", vec!["dropout"]),
        ("[objective]\nmask = { bernoulli = 0.0 }\n", vec!["bernoulli"]),
        ("[objective]\nmask = \"two\"\n", vec!["file:2"]),
        ("[objective]\nmask = { several = { share = 0.0 } }\n", vec!["file:2", "share"]),
        ("[objective]\nmask = { several = { at_most = 0 } }\n", vec!["file:2", "at_most"]),
        ("[objective]\nmask = { several = { hidden = 0.8, random = 0.3 } }\n", vec!["file:2", "more than 1"]),
        ("[objective]\nmask = { several = { maskings = 5 } }\n", vec!["file:2", "train.sentences"]),
        ("[objective]\nmask = { several = { shares = 0.1 } }\n", vec!["file:2", "share"]),
        ("[train]\nsentences = 0\n", vec!["file:2", "at least 1"]),
        (
            "[train]\nschedule = { kind = \"wsd\", warmup = 0.5, decay = 0.6 }\n",
            vec!["file:2", "schedule.decay", "warmup"],
        ),
        ("[train]\nschedule = { kind = \"wsd\", decay = -0.1 }\n", vec!["file:2", "schedule.decay", "0 to 1"]),
        (
            "[train]\nschedule = { kind = \"wsd\", floor = 2.0 }\n",
            vec!["file:2", "schedule.floor", "share of the peak"],
        ),
        ("[train]\nschedule = { kind = \"wsd\", decays = 0.1 }\n", vec!["file:2", "did you mean `decay`"]),
        ("[train]\nschedule = { kind = \"linear\", decay = 0.1 }\n", vec!["file:2", "unknown key `decay`"]),
        ("[train]\nema = 1.0\n", vec!["file:2", "train.ema", "between 0 and 1"]),
        ("[train]\nwidth = { base = 0 }\n", vec!["file:2", "width.base", "at least 1"]),
        ("[train]\nwidth = { base = 16 }\nstart_from = \"m\"\n", vec!["file:2", "width.head", "set it to 0"]),
        ("[train]\nwidth = { lr = 1.0 }\n", vec!["file:2", "base"]),
        ("[objective]\nlabels = { mix = { between = -1.0 } }\n", vec!["file:2", "mix.between", "0 or positive"]),
        ("[objective]\nlabels = { mix = { groups = 1 } }\n", vec!["file:2", "mix.groups", "at least 2"]),
        ("[objective]\nlabels = { mix = { withn = 1 } }\n", vec!["file:2", "did you mean `within`"]),
        (
            "[objective]\nlabels = { mix = { within = 0.5 } }\n[train]\nalgorithm = { kind = \"label-noise\" }\n",
            vec!["file:4", "set `objective.labels"],
        ),
        ("[train]\nstop = { excess = 0.0 }\n", vec!["file:2", "stop.excess", "positive"]),
        ("[train]\nevaluate_every = 0\nstop = { excess = 0.1 }\n", vec!["file:3", "set `train.evaluate_every`"]),
        ("[train]\nbranch = { from = \"r\", step = 2000 }\n", vec!["train.steps", "nothing to train"]),
        ("[evaluate]\npositions = \"two\"\n", vec!["file:2", "all"]),
        (
            "[model]\ntype = \"gpt2\"\n[objective]\nkind = \"causal\"\n[evaluate]\npositions = \"all\"\n",
            vec!["evaluate.positions", "belongs to"],
        ),
        (
            "[model]\ntype = \"gpt2\"\n[objective]\nkind = \"causal\"\n[train]\nalgorithm = { kind = \"adversarial\", \
             task = \"b\", head = \"ridge\", reads = \"first\" }\n",
            vec!["train.algorithm.reads", "no word"],
        ),
        ("seed = [1\n", vec!["file:"]),
        ("[language]\nkind = \"hmm\"\nrules = \"r\"\n", vec!["file:3", "pcfg"]),
        ("[language]\nhmm = { states = 2, vocabulary = 3 }\n", vec!["file:2", "hmm"]),
        ("[language]\nmin_length = 2\n", vec!["file:2", "hmm"]),
        ("[language]\nkind = \"hmm\"\nmin_length = 9\nmax_length = 8\n", vec!["file:3", "max_length"]),
        ("[language]\nkind = \"hmm\"\nmatrices = \"m\"\nhmm = { states = 2, vocabulary = 3 }\n", vec!["both"]),
    ] {
        let error = RunConfig::parse(text, "file").expect_err(text).to_string();
        for word in wanted {
            assert!(error.contains(word), "{text}: `{word}` is not in: {error}");
        }
    }
}

/// With the released code's tables the shapes of `configs/paper` have the paper's sizes: its counts are with 30,522
/// words, 512 positions, two segments and without the pooler, which is not trained.
#[test]
fn the_papers_shapes_have_the_papers_sizes() {
    let tables = ["vocab_size=30522", "max_position_embeddings=514", "type_vocab_size=2"];
    let overrides: Vec<String> = tables.iter().map(|t| format!("model.{t}")).collect();
    for (name, millions) in [("2m", 2.12), ("9m", 8.83), ("41m", 41.41), ("235m", 234.41), ("730m", 730.0)] {
        let path = root().join(format!("configs/paper/pcfg-{name}.toml"));
        let config = config::load(&path, &overrides).unwrap().config.model;
        let encoder = lowland::model::Encoder::new(&config.model_config(204, 18)).unwrap();
        let found = encoder.parameter_count() as f64 / 1e6;
        println!("{name}: {found:.3} M");
        assert!((found - millions).abs() < 0.006 + 1e-4 * millions, "{name}: {found} M, not {millions}");
        let padded = lowland::config::ModelSection { vocab_multiple_of: Some(8), ..config };
        assert_eq!(padded.vocabulary_rows(204), 30528);
    }
}

/// The LSTMs count their positions from 0.
#[test]
fn the_papers_lstms_have_the_papers_sizes() {
    let path = root().join("configs/paper/base-lstm.toml");
    for (layers, width, millions) in [(5, 256, 10.0), (12, 768, 67.0), (16, 1024, 134.4)] {
        let mut overrides: Vec<String> = ["vocab_size=30522", "max_position_embeddings=512", "type_vocab_size=2"]
            .map(|t| format!("model.{t}"))
            .into();
        overrides.push(format!("model.hidden_size={width}"));
        overrides.push(format!("model.num_hidden_layers={layers}"));
        let config = config::load(&path, &overrides).unwrap().config.model;
        let encoder = lowland::model::Encoder::new(&config.model_config(204, 18)).unwrap();
        let found = encoder.parameter_count() as f64 / 1e6;
        // Counted by hand: tables and their norm; of each layer two norms, two directions of four gates on the input
        // and on D / 2 units with two biases; the norm behind them; the head's dense layer with its norm, and its bias.
        let (d, l) = (f64::from(width), f64::from(layers));
        let layer = 4.0 * d + 2.0 * (4.0 * (d / 2.0) * (d + d / 2.0) + 8.0 * (d / 2.0));
        let hand = (30522.0 + 512.0 + 2.0) * d + 2.0 * d + l * layer + 2.0 * d + d * d + 3.0 * d + 30522.0;
        println!("{layers} x {width}: {found:.4} M, by hand {:.4} M", hand / 1e6);
        assert!((found - hand / 1e6).abs() < 1e-9, "{found} M, by hand {} M", hand / 1e6);
        assert!((found - millions).abs() < 0.01 * millions, "{found} M, not {millions}");
    }
}

/// Hashes name folders: a config from before a key existed keeps the name that it had.
#[test]
fn keys_of_the_released_recipe_are_not_written_where_they_are_not_used() {
    let text = RunConfig::parse("seed = 1\n", "x").unwrap().to_toml();
    for key in ["several", "positions", "train.sentences", "vocab", "head"] {
        let last = key.rsplit('.').next().unwrap();
        let written = text.lines().filter(|l| l.trim_start().starts_with(last)).count();
        let allowed = usize::from(key == "train.sentences");
        assert_eq!(written, allowed, "`{key}` in\n{text}");
    }
}

/// A stable phase is `constant` to the bit, whatever comes behind it.
#[test]
fn the_stable_phase_of_wsd_is_constant_and_its_end_is_near_the_floor() {
    use lowland::config::{ScheduleKind, Warmup, Wsd};
    for (warmup, decay, floor) in [(0.1, 0.2, 0.1), (0.06, 0.0, 0.3), (0.0, 1.0, 0.0), (0.3, 0.7, 0.7)] {
        let (constant, wsd) =
            (ScheduleKind::Constant(Warmup { warmup }), ScheduleKind::Wsd(Wsd { warmup, decay, floor }));
        for steps in [1u64, 7, 100, 1003] {
            let of = |schedule: &ScheduleKind| (0..steps).map(|s| schedule.factor(s, steps)).collect::<Vec<f64>>();
            let (constant, wsd) = (of(&constant), of(&wsd));
            let falls = (decay * steps as f64).round() as u64;
            let stable = (steps - falls + 1).min(steps) as usize;
            assert_eq!(wsd[..stable], constant[..stable], "{warmup} {decay} {floor} {steps}");
            let warm = (warmup * steps as f64).round() as usize;
            assert!(wsd[warm.min(steps as usize - 1)..].windows(2).all(|w| w[1] <= w[0]));
            if falls > 0 && falls + (warm as u64) <= steps {
                let last = wsd[steps as usize - 1];
                let want = floor + (1.0 - floor) / falls as f64;
                assert!((last - want).abs() < 1e-12, "{last} {want}");
            }
        }
    }
}

/// Keys of the second round are not written where they are not used.
#[test]
fn a_config_without_the_new_knobs_keeps_its_hash() {
    let text = RunConfig::parse("seed = 1\n", "x").unwrap().to_toml();
    for key in ["stop", "branch", "ema", "width", "mix"] {
        assert!(!text.contains(key), "`{key}` in\n{text}");
    }
    let of = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
        Resolved::from_text("seed = 1\n", "run", &overrides).unwrap().hash()
    };
    assert_eq!(of(&["train.evaluate_every=7"]), of(&[]));
    let stop = "train.stop={excess=0.1}";
    assert_ne!(of(&[stop]), of(&[]));
    assert_ne!(of(&[stop, "train.evaluate_every=7"]), of(&[stop]), "what looks for the end decides where it is");
}

#[test]
fn the_plain_algorithm_is_the_same_as_none() {
    let none = Resolved::from_text("seed = 1\n", "run", &[]).unwrap();
    let plain = Resolved::from_text("seed = 1\n[train]\nalgorithm = { kind = \"plain\" }\n", "run", &[]).unwrap();
    assert_eq!(plain.hash(), none.hash());
    let over = Resolved::from_text("seed = 1\n", "run", &["train.algorithm={ kind = \"plain\" }".into()]).unwrap();
    assert_eq!(over.config, none.config);
}
