//! JSON against the schemas of `docs/schema`.

use std::path::PathBuf;

use serde_json::Value;

/// The schema of this name that is checked in.
pub fn recorded_schema(of: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{of}.schema.json"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// What draft 7 says, as far as these schemas use it; a key that a schema does not name is an error.
pub fn conforms(value: &Value, schema: &Value, root: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return conforms(value, &root["definitions"][name.trim_start_matches("#/definitions/")], root, at);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().for_each(|one| conforms(value, one, root, at));
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let chosen = any.iter().find(|one| (one["type"] == "null") == value.is_null());
        return conforms(value, chosen.unwrap_or_else(|| panic!("{at}: {value} fits nothing")), root, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.contains(&kind) || kind == "integer" && types.contains(&"number");
    assert!(types.is_empty() || fits, "{at}: {kind}, the schema says {types:?}");
    match value {
        Value::Array(list) => list.iter().for_each(|v| conforms(v, &schema["items"], root, at)),
        Value::Object(fields) => {
            for (key, field) in fields {
                let named = &schema["properties"][key];
                let own = if named.is_null() { &schema["additionalProperties"] } else { named };
                assert!(own.is_object(), "{at}.{key} is not in the schema");
                conforms(field, own, root, &format!("{at}.{key}"));
            }
            for key in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(key.as_str().unwrap()), "{at}.{key} is missing");
            }
        }
        _ => {}
    }
}
