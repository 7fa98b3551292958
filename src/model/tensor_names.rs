//! Names of tensors in files that others wrote: old spellings, wrappers, parts of other heads, and what to say when one
//! is missing.

use std::collections::BTreeMap;

use super::kind::ModelKind;
use super::parameters::Parameter;
use super::weights_file::Tensors;

/// Ends of the names of old buffers: positions, masks of what comes later, frequencies of rotary positions.
const BUFFERS: [&str; 7] = [
    "position_ids",
    "token_type_ids",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    "rotary_emb.inv_freq",
];

/// Parts of other heads and old buffers.
pub(super) fn is_aside(name: &str) -> bool {
    BUFFERS.iter().any(|end| name.ends_with(end)) || name.contains(".pooler.") || name.contains("seq_relationship")
}

/// What the names of classifiers begin with: of sentences, of tokens, of places of an answer.
const CLASSIFIERS: [&str; 3] = ["classifier.", "score.", "qa_outputs."];

/// Parts of a classifier, which stands behind a body that may be asked for without a head.
pub(super) fn is_of_classifier(name: &str) -> bool {
    CLASSIFIERS.iter().any(|first| name.starts_with(first))
}

/// Today's name of a tensor of an old file.
fn modern(name: &str) -> String {
    match name.strip_suffix("LayerNorm.gamma").or_else(|| name.strip_suffix("layer_norm.gamma")) {
        Some(_) => name.replace(".gamma", ".weight"),
        None if name.ends_with("LayerNorm.beta") || name.ends_with("layer_norm.beta") => name.replace(".beta", ".bias"),
        None => name.to_string(),
    }
}

/// Under today's names, without wrappers.
pub(super) fn renamed(kind: ModelKind, tensors: Tensors, notes: &mut Vec<String>) -> Result<Tensors, String> {
    let total = tensors.len();
    let mut wrapped: BTreeMap<&str, usize> = BTreeMap::new();
    let body = format!("{}.", kind.prefix());
    // Files may hold the body's names alone, as those of GPT-2 and of models without a head do.
    let table = kind.family().decoder(kind).table;
    let has = |wanted: &dyn Fn(&str) -> bool| tensors.keys().any(|name| wanted(&unwrapped(name)));
    let bare = !has(&|name| name.starts_with(&body))
        && (kind.is_causal() || has(&|name| Some(name) == table.strip_prefix(&body)));
    let mut out = Tensors::new();
    for (name, tensor) in tensors {
        for wrapper in WRAPPERS.into_iter().filter(|w| name.split('.').any(|part| part == *w)) {
            *wrapped.entry(wrapper).or_insert(0) += 1;
        }
        let mut plain = modern(&unwrapped(&name));
        let heads = CLASSIFIERS.into_iter().chain([kind.head(), NEOX_HEAD, "cls."]);
        if bare && !heads.into_iter().any(|head| plain.starts_with(head)) {
            plain = format!("{}.{plain}", kind.prefix());
        }
        if kind == ModelKind::GptNeox && plain.starts_with(NEOX_HEAD) {
            plain = plain.replacen(NEOX_HEAD, kind.head(), 1);
        }
        if out.insert(plain.clone(), tensor).is_some() {
            return Err(format!("tensor `{plain}` is there twice, once as `{name}`"));
        }
    }
    if bare {
        notes.push(format!("`{body}` put before the names of tensors: the file has those of the body alone"));
    }
    for (wrapper, count) in wrapped {
        notes.push(format!(
            "`{wrapper}.` taken off the names of {count} of {total} tensors: it is a wrapper's, not the model's"
        ));
    }
    Ok(out)
}

/// What GPT-NeoX's head was called up to version 4 of `transformers`.
const NEOX_HEAD: &str = "embed_out";

/// What `torch.compile` and `DistributedDataParallel` put into the names of the modules that they wrap.
const WRAPPERS: [&str; 2] = ["_orig_mod", "module"];

/// A name without the wrappers' parts.
fn unwrapped(name: &str) -> String {
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
