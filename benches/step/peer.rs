//! The other side of a race: a process that answers each line with one (the scripts of `benches/peers`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Error;

const PAUSE: Duration = Duration::from_millis(30);

/// PyTorch in a process of its own.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Versions, threads and device.
    pub about: Value,
}

impl Peer {
    /// Starts a script of `benches/peers`, or says why it is left out.
    pub fn start(script: &str, device: &str) -> Option<Peer> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("LOWLAND_PEERS").map_or(root.join("target/peers/bin/python"), PathBuf::from);
        let script = root.join("benches/peers").join(script);
        let child = Command::new(&python)
            .arg(script)
            .args(["--device", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            println!("PyTorch is left out: {} is not there (`make peers` makes it)", python.display());
            return None;
        };
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut peer = Peer { child, input, output, about: Value::Null };
        match peer.answer() {
            Ok(about) => peer.about = about,
            Err(_) => {
                println!("PyTorch is left out: {} lacks torch or transformers", python.display());
                return None;
            }
        }
        Some(peer)
    }

    fn answer(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Sends an order and waits for what comes back.
    pub fn ask(&mut self, order: &Value) -> Result<Value, Error> {
        writeln!(self.input, "{order}")?;
        self.answer()
    }

    /// Seconds of one run of an order. Its threads spin for a while after their work, so that whoever runs next would
    /// find the cores taken: a pause follows.
    pub fn seconds(&mut self, mut order: Value) -> Result<f64, Error> {
        order["times"] = json!(1);
        let seconds = self.ask(&order)?["seconds"][0].as_f64().ok_or("no time came back")?;
        std::thread::sleep(PAUSE);
        Ok(seconds)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
