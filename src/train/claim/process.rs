//! This process as others can recognise it, and whether another one is gone.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// Where a process number has its meaning, and which of the processes of that number it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The boot of the machine and the name space of process numbers (containers have their own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// When the process began, in ticks since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Whose process it is: of others' one may not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
}

/// This process.
pub(super) struct Here {
    pub host: String,
    pub process: u32,
    pub place: Place,
}

/// This process.
pub(super) fn here() -> &'static Here {
    static HERE: OnceLock<Here> = OnceLock::new();
    HERE.get_or_init(|| {
        let process = std::process::id();
        Here { host: host(), process, place: place(process) }
    })
}

fn host() -> String {
    let file = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let command = || {
        let output = std::process::Command::new("hostname").stdin(std::process::Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let name = file.or_else(command).map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "an unnamed host".into())
}

#[cfg(target_os = "linux")]
fn place(process: u32) -> Place {
    use std::os::unix::fs::MetadataExt;
    let machine = || {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
        Some(format!("{} {}", boot.trim(), space.display()))
    };
    Place {
        machine: machine(),
        started: state(process).map(|(_, started)| started),
        user: std::fs::metadata("/proc/self").ok().map(|m| m.uid()),
    }
}

#[cfg(not(target_os = "linux"))]
fn place(_: u32) -> Place {
    Place::default()
}

/// State and begin of a process, where the system tells.
fn state(process: u32) -> Option<(char, String)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything. Begin is field 22 of proc(5), the state is field 3.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.to_string()))
}

/// Whether it is certain that a process exists no longer; false where that cannot be told from here.
pub(super) fn is_gone(place: &Place, process: u32) -> bool {
    let own = &here().place;
    let known = place.machine.is_some() && place.started.is_some() && place.user.is_some();
    if !known || place.machine != own.machine || place.user != own.user {
        return false;
    }
    match state(process) {
        // Ended, and nobody has asked yet how.
        Some(('Z' | 'X', _)) => true,
        Some((_, started)) => Some(started) != place.started,
        None => true,
    }
}
