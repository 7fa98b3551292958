//! The schema of configs, for editors, and the explanation of a key, from the same comments.

use serde_json::Value;

use super::MeasureSection;
use super::run::RunConfig;

/// JSON Schema (draft 7) of a run config.
pub fn schema() -> Value {
    schema_of::<RunConfig>()
}

/// JSON Schema (draft 7) of a type, with its comments as descriptions.
pub(crate) fn schema_of<T: schemars::JsonSchema>() -> Value {
    let settings = schemars::generate::SchemaSettings::draft07();
    let schema = settings.into_generator().into_root_schema_for::<T>();
    serde_json::to_value(schema).expect("a schema is JSON")
}

/// The meaning, type and default of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// As it was asked for, `train.optimizer`.
    pub key: String,
    /// The comment at the key's field in `src/config`, on one line.
    pub description: String,
    /// `section`, the JSON type, or the values that are possible, with ` | ` between them.
    pub kind: String,
    /// The default as JSON; `None` where there is none.
    pub default: Option<String>,
    /// Keys inside, when it is a section.
    pub inside: Vec<String>,
}

/// A key that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown key `{part}` in `{key}`{} (known here: {})", self.hint(), known.join(", "))]
pub struct UnknownKey {
    /// The whole key.
    pub key: String,
    /// Its part that is unknown.
    pub part: String,
    /// The keys that are known in its place, the nearest of which is probably meant.
    pub known: Vec<String>,
}

impl UnknownKey {
    fn hint(&self) -> String {
        let nearness = |known: &&String| strsim::jaro_winkler(known, &self.part);
        let best = self.known.iter().max_by(|a, b| nearness(a).total_cmp(&nearness(b)));
        best.map_or(String::new(), |best| format!("; did you mean `{best}`?"))
    }
}

/// Explains a key such as `train.optimizer`; the whole config for the empty key.
///
/// # Errors
/// The unknown part, with the keys that are known there.
pub fn explain(key: &str) -> Result<Explanation, UnknownKey> {
    let root = schema();
    let mut at = root.clone();
    // What may be left out has defaults of its own, where it is given.
    let given = RunConfig { measure: Some(MeasureSection::whole()), ..RunConfig::default() };
    let mut default = serde_json::to_value(given).ok();
    let mut description = text_of(&at, "description");
    for part in key.split('.').filter(|p| !p.is_empty()) {
        let found = choices(&root, &at).into_iter().find_map(|v| Some((v["properties"].get(part).cloned()?, v)));
        let Some((inner, shape)) = found else {
            return Err(UnknownKey { key: key.into(), part: part.into(), known: keys(&root, &at) });
        };
        default = default.and_then(|d| d.get(part).cloned());
        let own = text_of(&inner, "description");
        // A tag says which of several shapes is meant; the one key of a variant is that variant.
        let tagged = inner.get("const").is_some().then(|| shapes(&root, &at));
        at = follow(&root, &inner);
        description = [own, text_of(&at, "description"), tagged.unwrap_or_default(), text_of(&shape, "description")]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default();
    }
    let kind = kind_of(&root, &at);
    let inside = keys(&root, &at);
    let default = default.filter(|d| !d.is_null()).map(|d| d.to_string());
    Ok(Explanation { key: key.into(), description, kind, default, inside })
}

fn text_of(schema: &Value, field: &str) -> String {
    schema[field].as_str().unwrap_or("").replace('\n', " ")
}

/// The meaning of each value of a section's tag.
fn shapes(root: &Value, schema: &Value) -> String {
    let meanings = choices(root, schema).into_iter().filter_map(|shape| {
        let tag = shape["properties"].as_object()?.values().find_map(|v| v["const"].as_str().map(str::to_string))?;
        Some(format!("{tag}: {}", text_of(&shape, "description").trim_end_matches('.')))
    });
    format!("Which one. {}.", meanings.collect::<Vec<_>>().join("; "))
}

/// Follows `$ref`, `allOf`, and `anyOf` but of several simple values.
fn follow(root: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/definitions/")) {
        return follow(root, &root["definitions"][name]);
    }
    for list in ["allOf", "anyOf"] {
        let given: Vec<&Value> =
            schema[list].as_array().into_iter().flatten().filter(|p| p["type"] != "null").collect();
        match given.as_slice() {
            [] => {}
            // A number or a text, say: one of several without a name of its own.
            [first, _, ..] if list == "anyOf" && first["properties"].is_null() => return schema.clone(),
            [first, ..] => return follow(root, first),
        }
    }
    schema.clone()
}

/// A schema and, for one of several shapes, each of them.
fn choices(root: &Value, schema: &Value) -> Vec<Value> {
    let mut all = vec![schema.clone()];
    for part in schema["oneOf"].as_array().into_iter().flatten() {
        let shape = follow(root, part);
        let mut merged = shape.clone();
        if let (Some(own), Some(extra)) = (merged["properties"].as_object_mut(), part["properties"].as_object()) {
            own.extend(extra.clone());
        }
        all.push(merged);
    }
    all
}

fn keys(root: &Value, schema: &Value) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for shape in choices(root, schema) {
        for key in shape["properties"].as_object().into_iter().flat_map(|p| p.keys()) {
            if !known.contains(key) {
                known.push(key.clone());
            }
        }
    }
    known
}

fn kind_of(root: &Value, schema: &Value) -> String {
    let values: Vec<String> = choices(root, schema)
        .iter()
        .flat_map(|s| s["enum"].as_array().cloned().unwrap_or_default().into_iter().chain(s.get("const").cloned()))
        .map(|v| v.to_string())
        .collect();
    if !values.is_empty() {
        return values.join(" | ");
    }
    let each = schema["anyOf"].as_array().into_iter().flatten().map(|part| kind_of(root, &follow(root, part)));
    let several: Vec<String> = each.collect();
    if !several.is_empty() {
        return several.join(" | ");
    }
    match &schema["type"] {
        Value::String(kind) if kind == "object" => "section".into(),
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            kinds.iter().filter_map(|k| k.as_str()).filter(|k| *k != "null").collect::<Vec<_>>().join(" | ")
        }
        _ if schema.get("oneOf").is_some() => "section".into(),
        _ => "value".into(),
    }
}
