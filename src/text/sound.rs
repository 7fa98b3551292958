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

/// Spelling and id of what the post-processor of a `tokenizer.json` puts around texts.
pub(super) fn around(bytes: &[u8]) -> Vec<(String, u32)> {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut found = Vec::new();
    of_processor(&json["post_processor"], &mut found);
    found
}

fn of_processor(processor: &Value, found: &mut Vec<(String, u32)>) {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    for one in processor["processors"].as_array().into_iter().flatten() {
        of_processor(one, found);
    }
    // Of BERT's and RoBERTa's: a spelling and an id.
    for end in ["cls", "sep"] {
        found.extend(processor[end][0].as_str().map(str::to_string).zip(id(&processor[end][1])));
    }
    for piece in ["single", "pair"].iter().flat_map(|template| processor[*template].as_array().into_iter().flatten()) {
        let Some(name) = piece["SpecialToken"]["id"].as_str() else { continue };
        let special = &processor["special_tokens"][name];
        let ids = special["ids"].as_array().into_iter().flatten().filter_map(id);
        found.extend(ids.enumerate().map(|(i, id)| (special["tokens"][i].as_str().unwrap_or(name).to_string(), id)));
    }
}

#[cfg(test)]
mod tests {
    use super::{around, check};

    #[test]
    fn what_is_put_around_texts_is_listed() {
        let template = r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}}],"pair":[],
            "special_tokens":{"<s>":{"id":"<s>","ids":[7,8],"tokens":["<a>","<b>"]},
            "<x>":{"ids":[9],"tokens":["<x>"]}}}"#;
        let bert = r#"{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]}"#;
        let json = format!(r#"{{"post_processor":{{"type":"Sequence","processors":[{template},{bert}]}}}}"#);
        let found: Vec<String> =
            around(json.as_bytes()).into_iter().map(|(token, id)| format!("{token} {id}")).collect();
        assert_eq!(found, ["<a> 7", "<b> 8", "[CLS] 2", "[SEP] 3"], "and not what no template names");
        assert!(around(br#"{"post_processor":null}"#).is_empty());
    }

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
