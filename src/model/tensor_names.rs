//! Names of tensors in files that others wrote: old spellings, wrappers, parts of other heads, and what to say when one
//! is missing.

use super::config::ModelKind;
use super::parameters::Parameter;

/// Parts of other heads and old buffers.
pub(super) fn is_aside(name: &str) -> bool {
    name.ends_with("position_ids")
        || name.ends_with("token_type_ids")
        || name.contains(".pooler.")
        || name.contains("seq_relationship")
}

/// Today's name of a tensor of an old file.
pub(super) fn modern(name: &str) -> String {
    match name.strip_suffix("LayerNorm.gamma").or_else(|| name.strip_suffix("layer_norm.gamma")) {
        Some(_) => name.replace(".gamma", ".weight"),
        None if name.ends_with("LayerNorm.beta") || name.ends_with("layer_norm.beta") => name.replace(".beta", ".bias"),
        None => name.to_string(),
    }
}

/// What `torch.compile` and `DistributedDataParallel` put into the names of the modules that they wrap.
pub(super) const WRAPPERS: [&str; 2] = ["_orig_mod", "module"];

/// A name without the wrappers' parts.
pub(super) fn unwrapped(name: &str) -> String {
    name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".")
}

/// Names shown of those that are near.
const SHOWN: usize = 3;

/// What to say of parameters that a file lacks, given its tensors that no parameter asked for.
pub(super) fn missing(kind: ModelKind, lacking: &[&Parameter], left: &[(&str, &[usize])]) -> String {
    let first = lacking[0];
    let more = match lacking.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more are missing"),
    };
    let what = match lacking.len() {
        1 => format!("tensor `{}` is missing (shape {:?})", first.name, first.shape),
        _ => format!("tensor `{}` (shape {:?}){more}", first.name, first.shape),
    };
    let encoder = format!("{}.", kind.prefix());
    if first.name.strip_prefix(&encoder).is_some_and(|bare| left.iter().any(|(name, _)| *name == bare)) {
        return format!(
            "{what}: the names in the file lack `{encoder}`, as those of an encoder without a language model's head \
             do; save {} instead",
            kind.architecture()
        );
    }
    if first.role.is_head() && !left.iter().any(|(name, _)| name.starts_with(kind.head())) {
        return format!(
            "{what}: the file holds no language model's head{}; save {} instead",
            listed(", but ", near(&first.name, left)),
            kind.architecture()
        );
    }
    match left.is_empty() {
        true => format!("{what}; the file holds no other tensor"),
        false => format!("{what}{}", listed("; in its place the file has ", near(&first.name, left))),
    }
}

/// The tensors whose names are most like this one.
fn near<'n>(name: &str, left: &'n [(&'n str, &'n [usize])]) -> Vec<&'n (&'n str, &'n [usize])> {
    let mut ranked: Vec<(f64, &(&str, &[usize]))> =
        left.iter().map(|one| (strsim::normalized_levenshtein(name, one.0), one)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().take(SHOWN).map(|(_, one)| one).collect()
}

fn listed(before: &str, names: Vec<&(&str, &[usize])>) -> String {
    let all: Vec<String> = names.into_iter().map(|(name, shape)| format!("`{name}` {shape:?}")).collect();
    if all.is_empty() { String::new() } else { format!("{before}{}", all.join(", ")) }
}
