//! Reading a config: file, then `key.path=value` overrides, with errors that name the line or the override and what
//! would be right.

use std::path::{Path, PathBuf};

use super::run::RunConfig;
use crate::files;
use crate::ops::KernelChoice;
use crate::text::without_mark;

/// An error in a config, and its place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// `file:line`, the file, or the override.
    pub place: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ConfigError {
    /// An error at a key or another place.
    pub fn at(place: impl Into<String>, message: impl std::fmt::Display) -> ConfigError {
        ConfigError { place: place.into(), message: message.to_string() }
    }
}

/// The origin of a key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Neither the file nor an override sets it.
    Default,
    /// A line of the config file.
    File {
        /// As it was given on the command line.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// The override that set it, `key=value`.
    Override(String),
}

/// A config with where it came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Every key with its value, overrides applied.
    pub config: RunConfig,
    /// The file's stem.
    pub name: String,
    /// Folder that relative paths in the file start from.
    pub base: PathBuf,
    /// Kernel variants asked for on the command line; no part of the config, and they go before it.
    pub kernel_choice: KernelChoice,
    text: String,
    file: String,
    overrides: Vec<String>,
}

impl Resolved {
    /// The config of an empty file: every key has its default.
    pub fn of_defaults(name: &str) -> Resolved {
        Resolved {
            config: RunConfig::default(),
            name: name.into(),
            base: PathBuf::new(),
            kernel_choice: KernelChoice::default(),
            text: String::new(),
            file: name.into(),
            overrides: Vec::new(),
        }
    }
}

/// Reads a config file and applies overrides of the form `train.steps=500`.
pub fn load(path: &Path, overrides: &[String]) -> Result<Resolved, ConfigError> {
    let file = path.display().to_string();
    let error = |message: String| ConfigError { place: file.clone(), message };
    let bytes = files::read_any(path, files::SMALL).map_err(|e| error(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| error("is not UTF-8 text".into()))?;
    let text = without_mark(&text).to_string();
    let mut config = parse(&text, &file, overrides)?;
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    for (_, relative) in config.paths().into_iter().filter(|(key, _)| key != "output") {
        *relative = base.join(&*relative);
    }
    let name = path.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
    Ok(Resolved {
        config,
        name,
        base,
        kernel_choice: KernelChoice::default(),
        text,
        file,
        overrides: overrides.to_vec(),
    })
}

fn parse(text: &str, file: &str, overrides: &[String]) -> Result<RunConfig, ConfigError> {
    // The file by itself first, so that its own errors name its lines.
    let config = RunConfig::parse(text, file)?;
    if overrides.is_empty() { Ok(config) } else { with_overrides(text, file, overrides) }
}

impl RunConfig {
    /// Parses and checks the text of a config; `file` is named in errors.
    pub fn parse(text: &str, file: &str) -> Result<RunConfig, ConfigError> {
        let mut config: RunConfig = toml::from_str(text).map_err(|e| describe(&e, text, file))?;
        config.model.complete();
        let not_finite = not_finite(text).map(|key| (key, "must be a finite number".to_string()));
        not_finite.map_or_else(|| config.check(), Err).map_err(|(key, message)| ConfigError {
            place: line_of(text, &key).map_or(file.to_string(), |line| format!("{file}:{line}")),
            message: format!("`{key}`: {message}"),
        })?;
        Ok(config)
    }

    /// The config as TOML with every key. Paths that are no text are those of [`shown`](Self::shown).
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.shown()).expect("every value has a TOML form")
    }

    /// The config as TOML text with overrides applied on top.
    ///
    /// # Errors
    /// Names the override that is wrong.
    pub fn with(&self, overrides: &[String]) -> Result<RunConfig, ConfigError> {
        let mut made = with_overrides(&self.to_toml(), "config", overrides)?;
        // What is no text did not survive; where no override replaced it, it is what it was.
        let (mut shown, mut own) = (self.shown(), self.clone());
        let before: Vec<((String, &mut PathBuf), &mut PathBuf)> =
            shown.paths().into_iter().zip(own.paths().into_iter().map(|(_, path)| path)).collect();
        for (key, made) in made.paths() {
            if let Some((_, own)) = before.iter().find(|((of, shown), _)| *of == key && *made == **shown) {
                *made = (**own).clone();
            }
        }
        Ok(made)
    }
}

/// The key of a number that is infinite or none at all; no key of a config or a sweep may be.
pub(crate) fn not_finite(text: &str) -> Option<String> {
    fn found(value: &toml::Value) -> Option<String> {
        match value {
            toml::Value::Float(number) if !number.is_finite() => Some(String::new()),
            toml::Value::Array(values) => values.iter().find_map(found),
            toml::Value::Table(table) => table.iter().find_map(|(key, value)| Some(dotted(key, &found(value)?))),
            _ => None,
        }
    }
    found(&toml::Value::Table(text.parse().ok()?))
}

fn dotted(key: &str, rest: &str) -> String {
    if rest.is_empty() { key.into() } else { format!("{key}.{rest}") }
}

fn with_overrides(text: &str, file: &str, overrides: &[String]) -> Result<RunConfig, ConfigError> {
    let mut table: toml::Table = text.parse().map_err(|e| describe(&e, text, file))?;
    let defaults = toml::Value::try_from(RunConfig::default()).expect("every value has a TOML form");
    // Overrides may be possible only together; what stays wrong to the end is blamed on the one that began it.
    let mut wrong = None;
    for one in overrides {
        let error = |message: String| ConfigError { place: format!("override `{one}`"), message };
        let (key, value) =
            one.split_once('=').ok_or_else(|| error("write `key.path=value`, as `train.steps=500`".into()))?;
        let value = parse_value(value.trim());
        let path: Vec<&str> = key.trim().split('.').collect();
        insert(&mut table, &defaults, &path, value).map_err(error)?;
        let now = toml::to_string(&table).map_err(|e| error(e.to_string()))?;
        wrong = RunConfig::parse(&now, "").err().map(|e| wrong.unwrap_or_else(|| error(e.message)));
    }
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let now = toml::to_string(&table).expect("it was written before");
    RunConfig::parse(&now, file)
}

/// A TOML value; text that is none is taken as a string.
fn parse_value(text: &str) -> toml::Value {
    match format!("v = {text}").parse::<toml::Table>() {
        Ok(mut table) => table.remove("v").unwrap_or_else(|| toml::Value::String(text.into())),
        Err(_) => toml::Value::String(text.into()),
    }
}

/// Sets one key. A section that the table lacks starts empty or, where a `kind` says which of several shapes it has, as
/// the default's: `train.optimizer.lr=2e-3` alone means the default optimizer.
fn insert(table: &mut toml::Table, defaults: &toml::Value, path: &[&str], value: toml::Value) -> Result<(), String> {
    match path {
        [] | [""] => Err("the key is empty".into()),
        [last] => {
            table.insert(last.to_string(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let absent = toml::Value::Boolean(false);
            let default = defaults.get(first).unwrap_or(&absent);
            let inner = table.entry(first.to_string()).or_insert_with(|| match default.get("kind") {
                Some(_) if rest != ["kind"] => default.clone(),
                _ => toml::Value::Table(toml::Table::new()),
            });
            match inner.as_table_mut() {
                Some(inner) => insert(inner, default, rest, value),
                None => Err(format!("`{first}` is a value, not a section")),
            }
        }
    }
}

/// A parse error with its line and, for an unknown key, what was probably meant.
fn describe(error: &toml::de::Error, text: &str, file: &str) -> ConfigError {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = match line {
        Some(line) if !file.is_empty() => format!("{file}:{line}"),
        _ => file.to_string(),
    };
    let raw = error.message();
    let quoted: Vec<&str> = raw.split('`').skip(1).step_by(2).collect();
    let message = match quoted.split_first() {
        Some((unknown, known)) if raw.starts_with("unknown field") => {
            let best = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
            match best {
                Some(best) if strsim::jaro_winkler(best, unknown) > 0.75 => {
                    format!("unknown key `{unknown}`; did you mean `{best}`?")
                }
                _ => format!("unknown key `{unknown}`; known here: {}", known.join(", ")),
            }
        }
        Some((unknown, known)) if raw.starts_with("unknown variant") => {
            format!("`{unknown}` is not possible here; one of: {}", known.join(", "))
        }
        _ => raw.trim_end().to_string(),
    };
    ConfigError { place, message }
}

/// Line of a key, counted from 1, where the text sets it: a section's head, a key in its section, or an inline table.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let parts: Vec<&str> = key.split('.').collect();
    let mut section: Vec<String> = Vec::new();
    let mut best: Option<(usize, usize)> = None;
    for (i, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if let Some(head) = trimmed.strip_prefix('[').and_then(|l| l.split(']').next()) {
            section = head.split('.').map(|s| s.trim().to_string()).collect();
        }
        let mut path = section.clone();
        if let Some((left, _)) = trimmed.split_once('=').filter(|_| !trimmed.starts_with(['[', '#'])) {
            path.extend(left.split('.').map(|s| s.trim().trim_matches('"').to_string()));
        }
        let shared = path.iter().zip(&parts).take_while(|(a, b)| a == *b).count();
        if shared == path.len() && shared > 0 && best.is_none_or(|(most, _)| shared > most) {
            best = Some((shared, i + 1));
        }
    }
    best.map(|(_, line)| line)
}

impl Resolved {
    /// A config that is not a file; relative paths in it start from the working directory.
    pub fn from_text(text: &str, name: &str, overrides: &[String]) -> Result<Resolved, ConfigError> {
        let config = parse(text, name, overrides)?;
        let (text, overrides) = (text.to_string(), overrides.to_vec());
        Ok(Resolved {
            config,
            name: name.into(),
            base: PathBuf::new(),
            kernel_choice: KernelChoice::default(),
            text,
            file: name.into(),
            overrides,
        })
    }

    /// The config with kernel variants that were asked for outside of it.
    pub fn with_kernels(self, kernel_choice: &KernelChoice) -> Resolved {
        Resolved { kernel_choice: kernel_choice.clone(), ..self }
    }

    /// The origin of a key's value.
    pub fn origin(&self, key: &str) -> Origin {
        let covers = |o: &&String| {
            let set = o.split('=').next().unwrap_or("").trim();
            set == key || key.starts_with(&format!("{set}."))
        };
        if let Some(one) = self.overrides.iter().rev().find(covers) {
            return Origin::Override(one.clone());
        }
        let table: Option<toml::Table> = self.text.parse().ok();
        let mut value = table.map(toml::Value::Table);
        for part in key.split('.') {
            value = value.and_then(|v| v.get(part).cloned());
        }
        match value {
            Some(_) => Origin::File { file: self.file.clone(), line: line_of(&self.text, key).unwrap_or(0) },
            None => Origin::Default,
        }
    }
}
