//! The annotations of `shaders/*.wgsl`: comments that begin with `//@`, each on a line of its own (`docs/shaders.md`).
//!
//! One reader for all: `build.rs`, the preprocessor ([`shader_text`](super::shader_text)) and the tests. A line that
//! begins with `//@` and is none of these is an error, so that a misspelt annotation is never a comment. No
//! dependencies, since `build.rs` compiles this file too.

use std::fmt;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// `//@import common/erf.wgsl`: another file stands here, once in a kernel.
    Import(String),
    /// `//@variants KEY=VALUE|VALUE KEY=VALUE`: the build checks the kernel with each choice of these constants too.
    Variants(Vec<Variant>),
    /// `//@if NAME`: what follows is kept where the constant NAME is not 0.
    If(String),
    /// `//@else`
    Else,
    /// `//@end`
    End,
    /// `//@unroll`: the loop on the next line is written out.
    Unroll,
    /// `//@optional`: a dispatch may leave out the buffer that is declared on the next line.
    Optional,
}

/// A set of constants that a kernel is checked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Values by name; the other constants keep theirs.
    pub constants: Vec<(String, u32)>,
}

impl Annotation {
    /// The annotation of a line, `None` for a line of WGSL.
    ///
    /// # Errors
    /// In words, for what begins with `//@` and cannot be read.
    pub fn read(line: &str) -> Result<Option<Annotation>, String> {
        let Some(at) = line.find("//@") else { return Ok(None) };
        if !line[..at].trim().is_empty() {
            return Err("an annotation stands on a line of its own".into());
        }
        let text = line[at + 3..].trim_end();
        let (word, rest) = text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
        let one = |what: &str| match rest.split_whitespace().count() {
            1 => Ok(rest.to_string()),
            _ => Err(format!("`//@{word}` wants {what}")),
        };
        let annotation = match word {
            "import" => Annotation::Import(one("the name of one file")?),
            "variants" => Annotation::Variants(Variant::product(rest)?),
            "if" => Annotation::If(one("the name of one constant")?),
            "else" | "end" | "unroll" | "optional" if !rest.is_empty() => {
                return Err(format!("`//@{word}` stands alone, but `{rest}` follows it"));
            }
            "else" => Annotation::Else,
            "end" => Annotation::End,
            "unroll" => Annotation::Unroll,
            "optional" => Annotation::Optional,
            _ => {
                return Err(format!(
                    "`//@{word}` is no annotation; these are: import, variants, if, else, end, unroll, optional"
                ));
            }
        };
        Ok(Some(annotation))
    }
}

impl Variant {
    /// Reads `KEY=VALUE|VALUE KEY=VALUE`: a variant for each choice of values, those of the last key next to each
    /// other.
    fn product(text: &str) -> Result<Vec<Variant>, String> {
        if text.is_empty() {
            return Err("`//@variants` wants `KEY=VALUE KEY=VALUE|VALUE ..`".into());
        }
        let mut all = vec![Variant::default()];
        for pair in text.split_whitespace() {
            let wrong = || format!("`{pair}` is not KEY=VALUE or KEY=VALUE|VALUE with whole numbers");
            let (key, list) = pair.split_once('=').ok_or_else(wrong)?;
            let values: Vec<u32> = list.split('|').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
            if key.is_empty() {
                return Err(wrong());
            }
            if all[0].constants.iter().any(|(other, _)| other == key) {
                return Err(format!("a variant sets `{key}` twice"));
            }
            let with = |variant: &Variant, value: u32| {
                let constants = variant.constants.iter().cloned().chain([(key.to_string(), value)]);
                Variant { constants: constants.collect() }
            };
            all = all.iter().flat_map(|variant| values.iter().map(|value| with(variant, *value))).collect();
        }
        Ok(all)
    }

    /// The constants as [`expand`](super::shader_text::expand) takes them.
    pub fn given(&self) -> Vec<(&str, u32)> {
        self.constants.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }
}

/// As it is written: `LANES=8 ADDEND=1`.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&pairs.join(" "))
    }
}
