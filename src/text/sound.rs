//! What makes Hugging Face's `tokenizers` panic in a file where it should answer with an error.

use serde_json::Value;

/// Refuses a `tokenizer.json` that is no JSON, and templates of a post-processor that name a special token that is not
/// among theirs, or a second text where there is one.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let json: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    templates(&json["post_processor"])
}

fn templates(processor: &Value) -> Result<(), String> {
    for one in processor["processors"].as_array().into_iter().flatten() {
        templates(one)?;
    }
    for template in ["single", "pair"] {
        for piece in processor[template].as_array().into_iter().flatten() {
            let special = piece["SpecialToken"]["id"].as_str();
            if let Some(name) = special.filter(|name| processor["special_tokens"].get(name).is_none()) {
                return Err(format!(
                    "`{template}` of its post-processor has `{name}`, which is none of its special tokens"
                ));
            }
            if template == "single" && piece["Sequence"]["id"] == "B" {
                return Err("`single` of its post-processor has a second text".into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn templates_name_what_is_there() {
        let of = |single: &str, pair: &str| {
            let template = format!(
                r#"{{"type":"TemplateProcessing","single":[{single}],"pair":[{pair}],"special_tokens":{{"<s>":{{}}}}}}"#
            );
            let alone = check(format!(r#"{{"post_processor":{template}}}"#).as_bytes());
            let nested = format!(r#"{{"post_processor":{{"type":"Sequence","processors":[{template}]}}}}"#);
            assert_eq!(check(nested.as_bytes()), alone);
            alone
        };
        let token = |name: &str| format!(r#"{{"SpecialToken":{{"id":"{name}","type_id":0}}}}"#);
        let second = r#"{"Sequence":{"id":"B","type_id":0}}"#;
        assert_eq!(of(&token("<s>"), &format!("{},{second}", token("<s>"))), Ok(()));
        assert!(of(&token("<s>"), &token("</s>")).unwrap_err().contains("`pair` of its post-processor has `</s>`"));
        assert!(of(second, "").unwrap_err().contains("second text"));
        assert!(check(b"{\"decoder\":{").unwrap_err().contains("EOF"));
        assert_eq!(check(br#"{"post_processor":null}"#), Ok(()));
    }
}
