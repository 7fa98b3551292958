//! What commands say on the recorded models and on one that is trained here, short training runs, and the dispatches of
//! all of them. What depends on the clock is left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Record, dispatches, hash};

/// Fields that tell of time, not of results.
const CLOCK: &[&str] = &[
    "seconds",
    "seconds_left",
    "sentences_per_second",
    "queue_idle",
    "step_seconds",
    "measure_seconds",
    "part_seconds",
];

/// A name, and arguments in which MODEL and EXAMPLES stand for those of a fixture.
const MEASURES: &[(&str, &str)] = &[
    ("eval", "eval MODEL EXAMPLES --per-example"),
    ("trace quadratic-form", "measure trace MODEL EXAMPLES --samples 8"),
    ("trace quadratic-form ggn", "measure trace MODEL EXAMPLES --samples 8 --matrix ggn"),
    ("trace hutchinson", "measure trace MODEL EXAMPLES --estimator hutchinson --samples 6"),
    ("trace hutch++", "measure trace MODEL EXAMPLES --estimator hutch++ --samples 12"),
    ("trace xtrace", "measure trace MODEL EXAMPLES --estimator xtrace --samples 10"),
    ("trace random-signs", "measure trace MODEL EXAMPLES --estimator random-signs --samples 64"),
    ("trace sampled-labels", "measure trace MODEL EXAMPLES --estimator sampled-labels --samples 64"),
    ("trace exact-labels", "measure trace MODEL EXAMPLES --estimator exact-labels"),
    ("trace empirical", "measure trace MODEL EXAMPLES --matrix empirical_fisher"),
    ("trace covariance", "measure trace MODEL EXAMPLES --matrix noise_covariance"),
    ("spectrum", "measure spectrum MODEL EXAMPLES --top 2 --density --steps 12 --density-probes 3"),
    ("spectrum ggn", "measure spectrum MODEL EXAMPLES --top 2 --matrix ggn"),
    ("noise", "measure noise MODEL EXAMPLES --bartlett --samples 6"),
    ("noise model", "measure noise MODEL EXAMPLES --labels model"),
    ("sharpness", "measure sharpness MODEL EXAMPLES --sharpness-batch 2"),
];

/// All measures on the first of them, `eval` and a trace on the others.
const FIXTURES: &[&str] = &["bert-18", "roberta-20", "bert-24", "bert-untied", "postnorm-16", "roberta-32"];

/// On the model of the plain training.
const TRAINED: &[(&str, &str)] = &[
    ("eval language", "eval MODEL CONFIG --count 64 --per-example"),
    ("trace language", "measure trace MODEL CONFIG --estimator random-signs --count 64 --draws 2"),
    ("trace hessian language", "measure trace MODEL CONFIG --samples 4 --count 64"),
    (
        "trace importance",
        "measure trace MODEL CONFIG --estimator random-signs --count 256 --sentences importance --samples 64",
    ),
    ("noise language", "measure noise MODEL CONFIG --count 32 --bartlett --samples 4"),
    ("probe", "probe MODEL CONFIG --task B --train 64 --validation 32 --test 32 --seeds 2"),
    ("probe ridge", "probe MODEL CONFIG --task B --train 64 --validation 32 --test 32 --seeds 2 --method ridge"),
    ("finetune", "finetune MODEL CONFIG --task B --train 64 --validation 32 --test 32 --seeds 1 --epochs 2"),
];

const PLAIN: &str = "train.steps=20 train.evaluate_every=10 measure.every=10";

/// A name and keys of a short run of the quick-start config.
const RUNS: &[(&str, &str)] = &[
    ("plain", PLAIN),
    (
        "dropout",
        "train.steps=3 model.hidden_dropout_prob=0.1 model.attention_probs_dropout_prob=0.1 train.micro_batch=64 \
         measure.every=0",
    ),
    ("sam", "train.steps=3 train.algorithm={kind=\"sam\"} measure.every=0"),
    ("adversarial", "train.steps=6 train.algorithm={kind=\"adversarial\",task=\"B\",sentences=256} measure.every=0"),
    ("label noise", "train.steps=3 train.algorithm={kind=\"label-noise\"} measure.every=0"),
];

pub fn run_all(all: &mut Record) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut guard = Guard { work: scratch.path().into(), root: root.into(), all };
    for (i, fixture) in FIXTURES.iter().enumerate() {
        let model = root.join("tests/fixtures").join(fixture);
        for (name, line) in &MEASURES[..if i < 2 { MEASURES.len() } else { 2 }] {
            let line = line.replace("EXAMPLES", &text(&model.join("examples.jsonl")));
            guard.says(&format!("{fixture}: {name}"), &line.replace("MODEL", &text(&model)));
        }
    }
    let config = text(&root.join("configs/quickstart.toml"));
    for (name, keys) in RUNS {
        guard.trains(name, &format!("train {config} {keys} train.checkpoint_every=0"));
    }
    let model = guard.work.join("plain/model");
    for (name, line) in TRAINED {
        guard.says(name, &line.replace("MODEL", &text(&model)).replace("CONFIG", &config));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

struct Guard<'a> {
    work: PathBuf,
    root: PathBuf,
    all: &'a mut Record,
}

impl Guard<'_> {
    /// Runs a command and notes its JSON.
    fn says(&mut self, name: &str, line: &str) {
        let stdout = self.run(name, &format!("{line} --json"));
        let lines = self.lines(&stdout);
        self.all.insert(format!("command {name} | JSON"), lines);
    }

    /// Trains and notes what the run's folder holds.
    fn trains(&mut self, name: &str, line: &str) {
        let run = self.work.join(name.replace(' ', "-"));
        self.run(&format!("train {name}"), &format!("{line} output={}", text(&run)));
        let read = |name: &str| std::fs::read(run.join(name)).unwrap_or_else(|e| panic!("{name} of the run: {e}"));
        let mut lines = vec![format!("{} weights", hash(&read("model/model.safetensors")))];
        for line in String::from_utf8_lossy(&read("metrics.jsonl")).lines() {
            lines.extend(self.lines(line));
        }
        lines.extend(self.lines(&String::from_utf8_lossy(&read("result.json"))));
        self.all.insert(format!("command train {name} | run"), lines);
    }

    /// Runs a command, notes its dispatches and gives back what it printed.
    fn run(&mut self, name: &str, line: &str) -> String {
        eprintln!("{name}");
        let log = self.work.join("log");
        let _ = std::fs::remove_dir_all(&log);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
        command.args(line.split_whitespace()).env("LOWLAND_DISPATCH_LOG", &log);
        if std::env::var_os("LOWLAND_ADAPTER").is_none() {
            command.env("LOWLAND_ADAPTER", "software");
        }
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let (run, shared) = dispatches::of_log(&log);
        self.all.insert(format!("command {name} | dispatches"), run);
        self.all.insert(format!("command {name} | memory"), shared);
        String::from_utf8(output.stdout).expect("text")
    }

    /// JSON in lines, without what depends on the clock and on where files lie.
    fn lines(&self, json: &str) -> Vec<String> {
        let mut value: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        timeless(&mut value);
        let text = serde_json::to_string_pretty(&value).expect("was read");
        let text = text.replace(&self::text(&self.work), "WORK").replace(&self::text(&self.root), "ROOT");
        text.lines().map(str::to_string).collect()
    }
}

fn timeless(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !CLOCK.contains(&key.as_str()));
            map.values_mut().for_each(timeless);
        }
        Value::Array(all) => all.iter_mut().for_each(timeless),
        _ => {}
    }
}
