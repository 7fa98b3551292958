//! The annotations of `shaders/*.wgsl`: comments that begin with `//@`, each on a line of its own (`docs/shaders.md`).
//!
//! One reader for all: `build.rs`, the preprocessor ([`shader_text`](super::shader_text)) and the tests. A line that
//! begins with `//@` and is none of these is an error, so that a misspelt annotation is never a comment. No
//! dependencies, since `build.rs` compiles this file too.

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// `//@import common/erf.wgsl`: another file stands here, once in a kernel.
    Import(String),
    /// `//@variant NAME: KEY=VALUE KEY=VALUE`: the build checks the kernel with these constants too.
    Variant(Variant),
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
    /// Name, for people.
    pub name: String,
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
            "variant" => Annotation::Variant(Variant::read(rest)?),
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
                    "`//@{word}` is no annotation; these are: import, variant, if, else, end, unroll, optional"
                ));
            }
        };
        Ok(Some(annotation))
    }
}

impl Variant {
    /// Reads `NAME: KEY=VALUE KEY=VALUE`.
    fn read(text: &str) -> Result<Variant, String> {
        let form = "`//@variant` wants `NAME: KEY=VALUE KEY=VALUE ..`";
        let (name, list) = text.split_once(':').ok_or(form)?;
        let name = name.trim();
        if name.is_empty() || name.contains(' ') || list.trim().is_empty() {
            return Err(form.into());
        }
        let mut constants: Vec<(String, u32)> = Vec::new();
        for pair in list.split_whitespace() {
            let wrong = || format!("`{pair}` in the variant `{name}` is not KEY=VALUE with a whole number");
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            let value = value.parse().map_err(|_| wrong())?;
            if key.is_empty() {
                return Err(wrong());
            }
            if constants.iter().any(|(other, _)| other == key) {
                return Err(format!("the variant `{name}` sets `{key}` twice"));
            }
            constants.push((key.to_string(), value));
        }
        Ok(Variant { name: name.to_string(), constants })
    }

    /// The constants as [`expand`](super::shader_text::expand) takes them.
    pub fn given(&self) -> Vec<(&str, u32)> {
        self.constants.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }
}
