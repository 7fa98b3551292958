//! A scratch folder, and the program run in it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// 8 words of 12, and a model of one layer. Tests write the rest behind it, the model's section first.
pub const SMALL: &str = r#"
seed = 3
[language]
random = { levels = 3, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 8
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
"#;

pub struct Folder {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, Option<OsString>)>,
}

impl Folder {
    pub fn empty() -> Folder {
        Folder { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// With `run.toml`: the small language and model, and `more`.
    pub fn new(more: &str) -> Folder {
        let folder = Folder::empty();
        folder.write("run.toml", &format!("{SMALL}{more}"));
        folder
    }

    /// Every command gets this variable.
    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Folder {
        self.variables.push((name, Some(value.as_ref().to_os_string())));
        self
    }

    /// No command gets this variable.
    pub fn without(mut self, name: &'static str) -> Folder {
        self.variables.push((name, None));
        self
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: impl AsRef<Path>, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A file of JSON.
    pub fn value(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The program with these arguments, nothing on its standard input.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    pub fn lowland(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs with something on standard input.
    pub fn with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(self.command(arguments).stdin(Stdio::piped()));
        // The command may have stopped before it read anything.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// What a command prints, and its notes; it must succeed.
    pub fn printed(&self, arguments: &[&str]) -> (String, String) {
        let output = self.lowland(arguments);
        let notes = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {notes}");
        (text(&output.stdout), notes)
    }

    /// The object that a command prints; it must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let (printed, _) = self.printed(arguments);
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {printed}"))
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
        let mut child = self.start(&mut self.command(arguments));
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

    /// Trains into a run and kills it with SIGKILL as soon as its log has a step.
    pub fn train_killed(&self, run: &str, overrides: &[&str], step: u64) {
        let output = format!("output={run}");
        let arguments = [&["train", "run.toml", &output], overrides].concat();
        let logged = format!("\"step\":{step}");
        let mut child = self.begin(&arguments, &format!("{run}/metrics.jsonl"), |text| text.contains(&logged));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a command whose output is read at its end.
    pub fn start(&self, command: &mut Command) -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends a signal by name.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A field that is a number.
pub fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is {}", value[key]))
}
