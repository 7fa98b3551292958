//! Turns a `.wgsl` file of `shaders/` into the text of one kernel variant.
//!
//! The files are plain WGSL that any tool reads. Annotations live in comments ([`annotations`](super::annotations)
//! reads them, `docs/shaders.md` describes them): a file is imported, a part kept or left out, a loop written out. A
//! line `const ROWS: u32 = 16u;` can be given another value by the host (a *constant*). `enable` lines of imported
//! files come first in the text, where WGSL wants them.
//!
//! With `images`, every `var<storage, read> x: array<vec4<f32>>` becomes a storage texture over the same memory and
//! every `x[i]` a `textureLoad`: on lavapipe a buffer load is a loop over the lanes, an image load is not
//! (`docs/performance.md`). This file has no dependencies: `build.rs` uses it to check all kernels at build time.

use std::collections::HashMap;
use std::fmt;

use super::annotations::{Annotation, Variant};

/// Texels in one row of an image laid over a buffer: 64 KiB of `vec4<f32>`.
pub const IMAGE_WIDTH: u32 = 4096;

/// A line, what it asks for and where it stands in `shaders/`.
#[derive(Clone, Debug)]
pub struct Line {
    /// Without the line break.
    pub text: String,
    /// What it asks of the preprocessor, if it is a `//@` line.
    pub annotation: Option<Annotation>,
    /// Path below `shaders/`, or the file's name.
    pub file: String,
    /// Counted from 1.
    pub number: usize,
}

/// Expanded WGSL with the origin of every line.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// What the driver is given.
    pub text: String,
    /// File and line, counted from 1, of each line of the text.
    pub origin: Vec<(String, usize)>,
}

impl Expanded {
    /// `file:line` of a line (counted from 1) of the expanded text.
    pub fn locate(&self, line: usize) -> String {
        match self.origin.get(line.saturating_sub(1)) {
            Some((file, number)) => format!("shaders/{file}:{number}"),
            None => "shaders".to_string(),
        }
    }
}

/// What is wrong with an annotation, and where.
#[derive(Debug)]
pub struct TextError {
    /// Path below `shaders/`, or the file's name.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shaders/{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for TextError {}

/// Expands `name`, reading files through `read`, with the given values for its constants.
pub fn expand(
    name: &str,
    read: &dyn Fn(&str) -> Option<String>,
    constants: &[(&str, u32)],
    images: bool,
) -> Result<Expanded, TextError> {
    let mut choice = Choice { read, constants, known: HashMap::new(), done: vec![], lines: vec![] };
    choice.take(name, (name, 0))?;
    if let Some((missing, _)) = constants.iter().find(|(n, _)| !choice.known.contains_key(*n)) {
        return Err(TextError { file: name.into(), line: 1, message: format!("has no constant `{missing}`") });
    }
    let mut lines = unroll(&choice.lines, &choice.known)?;
    if images {
        lines = as_images(lines)?;
    }
    let (mut first, rest): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|l| l.text.starts_with("enable "));
    first.extend(rest);
    let lines = first;
    let mut expanded = Expanded { text: String::new(), origin: Vec::with_capacity(lines.len()) };
    for line in lines {
        expanded.text.push_str(&line.text);
        expanded.text.push('\n');
        expanded.origin.push((line.file, line.number));
    }
    Ok(expanded)
}

/// The lines of `name` and of what it imports, before any part is chosen.
pub fn lines(name: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Line>, TextError> {
    let mut out = Vec::new();
    import(name, (name, 0), read, &mut Vec::new(), &mut out)?;
    Ok(out)
}

/// The variants that a kernel declares, in order.
pub fn variants(name: &str, text: &str) -> Result<Vec<Variant>, TextError> {
    let mut all: Vec<Variant> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let error = |message: String| TextError { file: name.into(), line: i + 1, message };
        if let Some(Annotation::Variants(declared)) = Annotation::read(line).map_err(error)? {
            for variant in declared {
                let same = |other: &&Variant| sorted(other) == sorted(&variant);
                if all.iter().any(|other| same(&other)) {
                    return Err(error(format!("the variant `{variant}` is there already")));
                }
                all.push(variant);
            }
        }
    }
    Ok(all)
}

fn sorted(variant: &Variant) -> Vec<&(String, u32)> {
    let mut constants: Vec<_> = variant.constants.iter().collect();
    constants.sort();
    constants
}

fn import(
    name: &str,
    from: (&str, usize),
    read: &dyn Fn(&str) -> Option<String>,
    done: &mut Vec<String>,
    out: &mut Vec<Line>,
) -> Result<(), TextError> {
    if done.iter().any(|d| d == name) {
        return Ok(());
    }
    done.push(name.to_string());
    for line in file(name, from, read, done[0] == name)? {
        match &line.annotation {
            Some(Annotation::Import(other)) => import(other, (name, line.number), read, done, out)?,
            _ => out.push(line),
        }
    }
    Ok(())
}

/// The lines of one file that `from` imports; variants stand in the kernel's `own`.
fn file(
    name: &str,
    from: (&str, usize),
    read: &dyn Fn(&str) -> Option<String>,
    own: bool,
) -> Result<Vec<Line>, TextError> {
    let text = read(name).ok_or_else(|| TextError {
        file: from.0.into(),
        line: from.1,
        message: format!("imports `{name}`, which is not in shaders/"),
    })?;
    let mut lines = Vec::new();
    for (i, text) in text.lines().enumerate() {
        let error = |message: String| TextError { file: name.into(), line: i + 1, message };
        let annotation = Annotation::read(text).map_err(error)?;
        if matches!(annotation, Some(Annotation::Variants(_))) && !own {
            return Err(error("variants are declared in the kernel's own file, not in one that it imports".into()));
        }
        lines.push(Line { text: text.to_string(), annotation, file: name.to_string(), number: i + 1 });
    }
    Ok(lines)
}

/// `const NAME: u32 = EXPRESSION;` at the start of a line.
pub fn constant_of(text: &str) -> Option<(String, String)> {
    let rest = text.strip_prefix("const ")?;
    let (name, rest) = rest.split_once(':')?;
    let rest = rest.trim_start().strip_prefix("u32")?.trim_start().strip_prefix('=')?;
    let (expression, _) = rest.split_once(';')?;
    Some((name.trim().to_string(), expression.trim().to_string()))
}

/// The lines of a kernel whose `//@if` holds, with the values of its constants.
struct Choice<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    /// The values that the host gives.
    constants: &'a [(&'a str, u32)],
    known: HashMap<String, u32>,
    /// Files that are there; one in a part that is left out is not.
    done: Vec<String>,
    lines: Vec<Line>,
}

impl Choice<'_> {
    /// Takes what holds of a file that `from` imports.
    fn take(&mut self, name: &str, from: (&str, usize)) -> Result<(), TextError> {
        if self.done.iter().any(|d| d == name) {
            return Ok(());
        }
        self.done.push(name.to_string());
        let mut stack: Vec<(bool, usize)> = Vec::new();
        for line in file(name, from, self.read, self.done[0] == name)? {
            let number = line.number;
            let error = |message: String| TextError { file: name.into(), line: number, message };
            let kept = stack.iter().all(|(keep, _)| *keep);
            match &line.annotation {
                // Inside a part that is left out the constant may be unknown.
                Some(Annotation::If(_)) if !kept => stack.push((false, number)),
                Some(Annotation::If(constant)) => {
                    let known = self.known.get(constant);
                    let value = known.ok_or_else(|| error(format!("unknown constant `{constant}`")))?;
                    stack.push((*value != 0, number));
                }
                Some(Annotation::Else) => {
                    let last = stack.last_mut().ok_or_else(|| error("//@else without //@if".into()))?;
                    last.0 = !last.0;
                }
                Some(Annotation::End) => {
                    stack.pop().ok_or_else(|| error("//@end without //@if".into()))?;
                }
                Some(Annotation::Import(other)) if kept => self.take(other, (name, number))?,
                _ if kept => self.keep(line),
                _ => {}
            }
        }
        match stack.last() {
            Some((_, line)) => {
                Err(TextError { file: name.into(), line: *line, message: "//@if without //@end".into() })
            }
            None => Ok(()),
        }
    }

    /// Adds a line, a constant with its value.
    fn keep(&mut self, mut line: Line) {
        if let Some((constant, expression)) = constant_of(&line.text) {
            if let Some((_, value)) = self.constants.iter().find(|(n, _)| *n == constant) {
                line.text = format!("const {constant}: u32 = {value}u;");
                self.known.insert(constant, *value);
            } else if let Some(value) = evaluate(&expression, &self.known) {
                self.known.insert(constant, value);
            }
        }
        self.lines.push(line);
    }
}

fn unroll(lines: &[Line], known: &HashMap<String, u32>) -> Result<Vec<Line>, TextError> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        if lines[i].annotation != Some(Annotation::Unroll) {
            out.push(lines[i].clone());
            i += 1;
            continue;
        }
        let head = lines.get(i + 1).unwrap_or(&lines[i]);
        let error = |message: String| TextError { file: head.file.clone(), line: head.number, message };
        let (variable, from, to) = loop_head(&head.text)
            .ok_or_else(|| error("//@unroll wants `for (var i = 0u; i < N; i++) {` on the next line".into()))?;
        let from = evaluate(&from, known).ok_or_else(|| error(format!("`{from}` is not a known constant")))?;
        let to = evaluate(&to, known).ok_or_else(|| error(format!("`{to}` is not a known constant")))?;
        let mut depth = 1i32;
        let mut end = i + 2;
        while end < lines.len() {
            depth += braces(&lines[end].text);
            if depth == 0 {
                break;
            }
            end += 1;
        }
        if end == lines.len() || lines[end].text.trim() != "}" {
            return Err(error("the unrolled loop wants its closing brace on a line of its own".into()));
        }
        for value in from..to {
            let mut inner = known.clone();
            inner.insert(variable.clone(), value);
            out.push(Line { text: format!("{{ const {variable} = {value}u;"), ..head.clone() });
            out.extend(unroll(&lines[i + 2..end], &inner)?);
            out.push(Line { text: "}".into(), ..lines[end].clone() });
        }
        i = end + 1;
    }
    Ok(out)
}

fn braces(text: &str) -> i32 {
    let code = text.split("//").next().unwrap_or("");
    code.chars().map(|c| i32::from(c == '{') - i32::from(c == '}')).sum()
}

/// `for (var i = A; i < B; i++) {` as (`i`, `A`, `B`).
fn loop_head(text: &str) -> Option<(String, String, String)> {
    let inner = text.trim().strip_prefix("for (var ")?.strip_suffix("{")?.trim_end().strip_suffix(')')?;
    let mut parts = inner.split(';');
    let (name, from) = parts.next()?.split_once('=')?;
    let (left, to) = parts.next()?.split_once('<')?;
    let step = parts.next()?.trim();
    let name = name.trim().to_string();
    (left.trim() == name && step == format!("{name}++")).then(|| (name, from.trim().to_string(), to.trim().to_string()))
}

/// Value of an expression of u32 literals, known names, `+ - * / %` and parentheses.
pub fn evaluate(expression: &str, known: &HashMap<String, u32>) -> Option<u32> {
    let chars: Vec<char> = expression.chars().filter(|c| !c.is_whitespace()).collect();
    let mut at = 0;
    let value = sum(&chars, &mut at, known)?;
    (at == chars.len()).then_some(value)
}

fn sum(chars: &[char], at: &mut usize, known: &HashMap<String, u32>) -> Option<u32> {
    let mut value = product(chars, at, known)?;
    while let Some(&c @ ('+' | '-')) = chars.get(*at) {
        *at += 1;
        let right = product(chars, at, known)?;
        value = if c == '+' { value.checked_add(right)? } else { value.checked_sub(right)? };
    }
    Some(value)
}

fn product(chars: &[char], at: &mut usize, known: &HashMap<String, u32>) -> Option<u32> {
    let mut value = atom(chars, at, known)?;
    while let Some(&c @ ('*' | '/' | '%')) = chars.get(*at) {
        *at += 1;
        let right = atom(chars, at, known)?;
        value = match c {
            '*' => value.checked_mul(right)?,
            '/' => value.checked_div(right)?,
            _ => value.checked_rem(right)?,
        };
    }
    Some(value)
}

fn atom(chars: &[char], at: &mut usize, known: &HashMap<String, u32>) -> Option<u32> {
    if chars.get(*at) == Some(&'(') {
        *at += 1;
        let value = sum(chars, at, known)?;
        (chars.get(*at) == Some(&')')).then_some(())?;
        *at += 1;
        return Some(value);
    }
    let start = *at;
    while chars.get(*at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        *at += 1;
    }
    let word: String = chars[start..*at].iter().collect();
    match word.trim_end_matches('u').parse() {
        Ok(value) => Some(value),
        Err(_) => known.get(&word).copied(),
    }
}

/// Rewrites read-only `vec4<f32>` buffers as storage textures over the same memory.
fn as_images(lines: Vec<Line>) -> Result<Vec<Line>, TextError> {
    const DECLARATION: &str = "var<storage, read> ";
    const TYPE: &str = ": array<vec4<f32>>;";
    let name_of = |text: &str| {
        let (_, rest) = text.split_once(DECLARATION)?;
        rest.strip_suffix(TYPE).map(str::to_string)
    };
    let names: Vec<String> = lines.iter().filter_map(|l| name_of(l.text.trim_end())).collect();
    lines
        .into_iter()
        .map(|mut line| {
            if let Some(name) = name_of(line.text.trim_end()) {
                let head = line.text.split(DECLARATION).next().unwrap_or("").to_string();
                line.text = format!("{head}var {name}: texture_storage_2d<rgba32float, read>;");
                return Ok(line);
            }
            for name in &names {
                line.text = index_as_load(&line.text, name).ok_or_else(|| TextError {
                    file: line.file.clone(),
                    line: line.number,
                    message: format!("`{name}[` wants its closing bracket on the same line"),
                })?;
            }
            Ok(line)
        })
        .collect()
}

fn index_as_load(text: &str, name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let pattern = format!("{name}[");
    while let Some(found) = rest.find(&pattern) {
        let boundary = rest[..found].chars().next_back().or_else(|| out.chars().next_back());
        if boundary.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') {
            out.push_str(&rest[..found + pattern.len()]);
            rest = &rest[found + pattern.len()..];
            continue;
        }
        let inside = &rest[found + pattern.len()..];
        let mut depth = 1;
        let close = inside.char_indices().find_map(|(i, c)| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            (depth == 0).then_some(i)
        })?;
        let index = index_as_load(&inside[..close], name)?;
        out.push_str(&rest[..found]);
        let shift = IMAGE_WIDTH.trailing_zeros();
        out.push_str(&format!(
            "textureLoad({name}, vec2<u32>(({index}) & {}u, ({index}) >> {shift}u))",
            IMAGE_WIDTH - 1
        ));
        rest = &inside[close + 1..];
    }
    out.push_str(rest);
    Some(out)
}
