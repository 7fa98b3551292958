//! A folder with a config of a run of about a second, and the program in it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// 8 words of 12, a model of one layer; the rate does not depend on the length.
pub const CONFIG: &str = r#"
seed = 3
[language]
random = { levels = 3, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 8
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
hidden_dropout_prob = 0.1
[train]
steps = 60
batch_size = 32
optimizer = { kind = "adamw", lr = 2e-3 }
schedule = { kind = "constant", warmup = 0.0 }
checkpoint_every = 20
keep_checkpoints = 2
evaluate_every = 20
[evaluate]
sentences = 100
"#;

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("run.toml", CONFIG);
        folder
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn value(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn lowland(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Trains, and gives what it said; the exit code must be that.
    pub fn train(&self, overrides: &[&str], code: i32) -> String {
        let output = self.lowland(&[&["train", "run.toml"], overrides].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{overrides:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        error
    }

    pub fn weights(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.path(run).join("model/model.safetensors")).unwrap()
    }

    /// `result.json` without what the clock, the adapter's memory and the number of attempts tell.
    pub fn result(&self, run: &str) -> Value {
        let mut value = self.value(&format!("{run}/result.json"));
        for name in ["seconds", "queue_idle", "peak_bytes", "earlier_lengths"] {
            value.as_object_mut().unwrap().remove(name);
        }
        value
    }

    /// As if killed right before the end.
    pub fn unfinish(&self, run: &str) {
        std::fs::remove_file(self.path(run).join("result.json")).unwrap();
        std::fs::remove_dir_all(self.path(run).join("model")).unwrap();
    }

    /// Starts the program and waits until a file is there and `enough` of its text.
    pub fn begin(&self, arguments: &[&str], file: &str, enough: impl Fn(&str) -> bool) -> Child {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !std::fs::read_to_string(self.path(file)).is_ok_and(|text| enough(&text)) {
            assert!(begun.elapsed() < Duration::from_secs(120), "{file} does not come");
            if let Some(status) = child.try_wait().unwrap() {
                panic!("ended with {status}: {}", text(&child.wait_with_output().unwrap().stderr));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends a signal by name.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}
