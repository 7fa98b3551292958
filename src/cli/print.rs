//! Text and JSON on standard output, notes and errors on standard error. Writing never panics: a closed pipe ends the
//! command quietly.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::config::RunConfig;
use crate::train::Corpus;

/// Whether an object was printed.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// Whether there is an object on standard output already.
pub fn printed() -> bool {
    PRINTED.load(Ordering::Relaxed)
}

/// One JSON object on standard output.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    PRINTED.store(true, Ordering::Relaxed);
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    line(&text)
}

/// A path for JSON, which holds text alone: what is none is shown as `\u{fffd}`.
pub fn path(path: &std::path::Path) -> serde_json::Value {
    path.display().to_string().into()
}

/// A line on standard output.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// A line on standard error; where that is closed there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", shown(text));
}

/// What is possible in a language and probably not meant.
pub fn notes(corpus: &Corpus) {
    corpus.language.notes().iter().for_each(|text| note(text));
}

/// The same for a command that leaves reading the language, and what is wrong with it, to others.
pub fn notes_of(config: &RunConfig) {
    if let Ok(corpus) = Corpus::open(&config.language, &config.objective, config.seed) {
        notes(&corpus);
    }
}

/// `error: ` and the message on standard error.
pub fn error(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "error: {}", shown(text))
}

/// Letters of a message that are shown: messages quote files, whose lines may be long.
const SHOWN: usize = 8000;

/// A message as a terminal may have it: what it quotes of files cannot move the cursor or set colours, and does not
/// fill the screen. A place stands at a message's beginning and the remedy at its end, so both are kept.
pub fn shown(text: &str) -> String {
    let escaped = |text: &str| -> String {
        let one = |c: char| match c.is_control() && !"\n\t".contains(c) {
            true => c.escape_unicode().to_string(),
            false => c.to_string(),
        };
        text.chars().map(one).collect()
    };
    let count = text.chars().count();
    if count <= SHOWN {
        return escaped(text);
    }
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let (begin, end) = (at(SHOWN / 2), at(count - SHOWN / 2));
    format!("{} [... {} characters ...] {}", escaped(&text[..begin]), count - SHOWN, escaped(&text[end..]))
}

/// Bytes in the unit that suits them.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

/// A number with 5 digits.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match () {
        () if value == 0.0 => "0".into(),
        () if !value.is_finite() => "unknown".into(),
        () if !(1e-4..1e6).contains(&size) => format!("{value:.4e}"),
        () => format!("{value:.*}", (4 - size.log10().floor() as i32).max(0) as usize),
    }
}

/// A value with its standard error.
pub fn with_error(value: f64, error: Option<f64>) -> String {
    match error {
        Some(error) if error.is_finite() => format!("{} ± {}", short(value), short(error)),
        _ => short(value),
    }
}

/// Rows of a name and a value, the values below each other.
pub fn table(rows: &[(String, String)]) -> String {
    let wide = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<wide$}{value}")).collect();
    lines.join("\n")
}

/// A number of seconds as 12 s, 3 min 5 s or 2 h 10 min.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{SHOWN, shown};

    #[test]
    fn what_messages_quote_is_tame() {
        assert_eq!(shown("a.toml:3: `x` is\n\twrong \u{e9}"), "a.toml:3: `x` is\n\twrong \u{e9}");
        assert_eq!(shown("`\u{1b}[2J\r`"), "`\\u{1b}[2J\\u{d}`");
        let long = shown(&format!("file:1: `{}` is no number; write one", "\u{e9}".repeat(1_000_000)));
        assert!(long.starts_with("file:1: `\u{e9}") && long.ends_with("is no number; write one"), "{long}");
        assert!(long.chars().count() < SHOWN + 100);
    }
}
