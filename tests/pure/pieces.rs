//! The ids of Hugging Face's tokenizers, recorded by `fixtures/make_texts.py`.

use crate::common::fixtures::fixture;
use lowland::text::{Pieces, PiecesError};
use serde_json::Value;

fn pieces(model: &str) -> Pieces {
    Pieces::read(&fixture("texts").join(model).join("tokenizer.json")).unwrap()
}

/// splitmix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn of<'l>(&mut self, list: &[&'l str]) -> &'l str {
        list[self.below(list.len())]
    }
}

const RANGES: [[u32; 2]; 33] = [
    [0x61, 0x7A],
    [0x41, 0x5A],
    [0x30, 0x39],
    [0x21, 0x2F],
    [0x5B, 0x60],
    [0x01, 0x1F],
    [0x7F, 0x9F],
    [0xA0, 0xFF],
    [0x100, 0x24F],
    [0x300, 0x36F],
    [0x370, 0x3FF],
    [0x400, 0x4FF],
    [0x590, 0x5FF],
    [0x600, 0x6FF],
    [0x900, 0x97F],
    [0xE00, 0xE7F],
    [0x1100, 0x11FF],
    [0x1E00, 0x1FFF],
    [0x2000, 0x206F],
    [0x20A0, 0x20CF],
    [0x2190, 0x23FF],
    [0x3000, 0x30FF],
    [0x4E00, 0x4FFF],
    [0xAC00, 0xACFF],
    [0xE000, 0xE0FF],
    [0xFB00, 0xFB4F],
    [0xFE00, 0xFE0F],
    [0xFF01, 0xFFEF],
    [0x10330, 0x1034F],
    [0x12000, 0x120FF],
    [0x1D400, 0x1D4FF],
    [0x1F300, 0x1F64F],
    [0x1F900, 0x1F9FF],
];
const CONTRACTIONS: [&str; 12] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "\u{2019}s", "'", "n't"];
const BLANKS: [&str; 11] = [" ", " ", " ", "\t", "\n", "\r\n", "\u{a0}", "\u{3000}", "\u{2009}", "\u{200b}", "\u{85}"];
const WORDS: [&str; 22] = [
    "the",
    "The",
    "film",
    "river",
    "story",
    "1849",
    "3.14",
    "...",
    "--",
    "<s>",
    "</s>",
    "<pad>",
    "<mask>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "<|endoftext|>",
    "\u{e9}",
    "e\u{301}",
];
const EMOJI: [&str; 5] = [
    "\u{1F469}\u{200d}\u{1F467}",
    "\u{1F3F3}\u{fe0f}\u{200d}\u{1F308}",
    "\u{1F44D}\u{1F3FD}",
    "\u{1F1E9}\u{1F1EA}",
    "\u{2764}\u{fe0f}",
];

/// The strings of `fixtures/make_texts.py`.
fn strings(count: usize) -> Vec<String> {
    let mut draws = Draws(7);
    let mut one = || {
        let mut text = String::new();
        for _ in 0..=draws.below(12) {
            match draws.below(6) {
                0 | 1 => {
                    let [low, high] = RANGES[draws.below(RANGES.len())];
                    for _ in 0..=draws.below(8) {
                        text.extend(char::from_u32(low + draws.below((high - low + 1) as usize) as u32));
                    }
                }
                2 => text += draws.of(&CONTRACTIONS),
                3 => text += &draws.of(&BLANKS).repeat(1 + draws.below(4)),
                4 => text += draws.of(&WORDS),
                _ => text += draws.of(&EMOJI),
            }
        }
        text
    };
    (0..count).map(|_| one()).collect()
}

/// The last 32 bits of FNV-1a over little-endian 32-bit numbers.
fn hash(numbers: &[u32]) -> u32 {
    let bytes = numbers.iter().flat_map(|n| n.to_le_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)) as u32
}

fn recorded() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("texts/fuzzed.json")).unwrap()).unwrap()
}

fn hashes(of: &Value) -> Vec<u32> {
    let text = of.as_str().unwrap();
    (0..text.len() / 8).map(|i| u32::from_str_radix(&text[8 * i..8 * i + 8], 16).unwrap()).collect()
}

#[test]
fn fuzzed_strings_have_hugging_faces_ids() {
    let (recorded, strings) = (recorded(), strings(1000));
    assert!(strings.iter().map(|s| s.chars().count()).max() > Some(60), "long ones too");
    for model in ["bert", "roberta"] {
        let pieces = pieces(model);
        let wanted = hashes(&recorded["singles"][model]);
        assert_eq!(wanted.len(), strings.len());
        for (text, wanted) in strings.iter().zip(wanted) {
            let ids = pieces.ids(text).unwrap();
            assert_eq!(hash(&ids), wanted, "{model}: {text:?} has {ids:?}");
        }
    }
}

#[test]
fn pairs_are_framed_and_cut_as_hugging_face_does() {
    let (recorded, strings) = (recorded(), strings(1000));
    for model in ["bert", "roberta", "gpt2", "llama"] {
        let framing = pieces(model).framing(24).unwrap();
        let wanted = hashes(&recorded["pairs"][model]);
        let (mut cut, mut whole) = (0, 0);
        for (pair, wanted) in strings.chunks(2).zip(wanted) {
            let framed = framing.frame(&pair[0], Some(&pair[1])).unwrap();
            assert_eq!(hash(&[framed.ids.clone(), framed.segments].concat()), wanted, "{model}: {pair:?}");
            if framed.truncated {
                assert_eq!(framed.ids.len(), 24, "{model}: {pair:?}");
                cut += 1;
            } else {
                whole += 1;
            }
        }
        assert!(cut > 50 && whole > 3, "{model}: {cut} cut, {whole} not");
    }
}

#[test]
fn what_is_unknown_and_what_is_cut_is_counted() {
    let framing = pieces("bert").framing(6).unwrap();
    let framed = framing.frame("film 電 the 影", None).unwrap();
    let unknown = pieces("bert").unknown().unwrap();
    assert_eq!((framed.pieces, framed.unknown, framed.truncated), (4, 2, false));
    assert_eq!(framed.ids.iter().filter(|id| **id == unknown).count(), 2);
    let cut = framing.frame("film 電 the 影 the", None).unwrap();
    assert_eq!((cut.ids, cut.unknown, cut.truncated), (framed.ids, 2, true));
    assert!(framing.parts_pairs());
    let gpt2 = pieces("gpt2").framing(6).unwrap();
    assert!(!gpt2.parts_pairs());
    assert_eq!(gpt2.frame("電", None).unwrap().unknown, 0, "bytes are never unknown");
    let short = PiecesError::Short { path: pieces("bert").path().into(), most: 2, added: 2 };
    assert_eq!(pieces("bert").framing(2).unwrap_err(), short);
    let error = pieces("bert").framing(3).unwrap().frame("film", Some("film")).unwrap_err();
    assert!(error.to_string().contains("3 tokens leave no room"), "{error}");
}

/// A tokenizer of texts/ in a folder with another file beside it.
fn beside(model: &str, file: &str, text: &str) -> (tempfile::TempDir, Pieces) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::copy(fixture("texts").join(model).join("tokenizer.json"), &path).unwrap();
    std::fs::write(folder.path().join(file), text).unwrap();
    let pieces = Pieces::read(&path).unwrap();
    (folder, pieces)
}

#[test]
fn texts_and_pairs_are_shortened_as_transformers_does_from_either_side() {
    let text = std::fs::read_to_string(fixture("texts/truncation.json")).unwrap();
    let cases: Vec<Vec<Value>> = serde_json::from_str(&text).unwrap();
    let numbers = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
    let (mut cut, mut pairs) = (0, 0);
    for case in &cases {
        let (model, side, most) = (case[0].as_str().unwrap(), &case[1], case[2].as_u64().unwrap());
        let config = format!("{{\"truncation_side\": {side}}}");
        let (_folder, pieces) = beside(model, "tokenizer_config.json", &config);
        let texts: Vec<&str> = case[3..case.len() - 3].iter().map(|text| text.as_str().unwrap()).collect();
        let framed = pieces.framing(most as usize).unwrap().frame(texts[0], texts.get(1).copied()).unwrap();
        let [ids, types, truncated] = &case[case.len() - 3..] else { unreachable!("a slice of three") };
        assert_eq!((framed.ids, framed.segments), (numbers(ids), numbers(types)), "{case:?}");
        assert_eq!(framed.truncated, truncated.as_bool().unwrap(), "{case:?}");
        cut += usize::from(framed.truncated);
        pairs += usize::from(texts.len() == 2);
    }
    assert!(cut > cases.len() / 2 && cut < cases.len() && pairs > cases.len() / 2, "{cut} {pairs} {}", cases.len());
}

#[test]
fn what_is_truncated_is_counted_at_every_limit() {
    let pieces = pieces("gpt2");
    let text = "the film is charming and often slow";
    let whole = pieces.ids(text).unwrap().len();
    for most in 1..whole + 3 {
        let framed = pieces.framing(most).unwrap().frame(text, None).unwrap();
        assert_eq!((framed.ids.len(), framed.truncated), (whole.min(most), whole > most), "{most} of {whole}");
        let pair = pieces.framing(most).unwrap().frame(text, Some(text)).unwrap();
        assert_eq!((pair.ids.len(), pair.truncated), (most, true), "{most} of {}", 2 * whole);
    }
}

#[test]
fn the_side_that_is_cut_is_the_tokenizers() {
    let ids = |pieces: &Pieces| pieces.framing(3).unwrap().frame("film the", None).unwrap().ids;
    let (folder, right) = beside("bert", "tokenizer_config.json", "{\"truncation_side\": null}");
    let own = [right.id("film").unwrap(), right.id("the").unwrap()];
    assert_eq!(ids(&right), [2, own[0], 3]);
    // Its own truncation counts where the config says nothing.
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    json["truncation"] =
        serde_json::json!({ "direction": "Left", "max_length": 5, "strategy": "OnlyFirst", "stride": 2 });
    std::fs::write(&path, json.to_string()).unwrap();
    let left = Pieces::read(&path).unwrap();
    assert_eq!(ids(&left), [2, own[1], 3]);
    std::fs::write(folder.path().join("tokenizer_config.json"), "{\"truncation_side\": \"right\"}").unwrap();
    assert_eq!(ids(&left), [2, own[0], 3]);
    std::fs::write(folder.path().join("tokenizer_config.json"), "{\"truncation_side\": 5}").unwrap();
    let error = left.framing(3).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json: `truncation_side` is 5; write \"right\" or \"left\""), "{error}");
}

#[test]
fn ids_that_no_vocabulary_has_are_refused_by_name() {
    let read = |change: &dyn Fn(&mut Value)| {
        let text = std::fs::read_to_string(fixture("texts/bert/tokenizer.json")).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        change(&mut json);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Pieces::read(&path).map(|pieces| pieces.size()).map_err(|error| error.to_string())
    };
    let size = read(&|_| {}).unwrap();
    let far = |id: u32| read(&|json| json["post_processor"]["special_tokens"]["[SEP]"]["ids"] = vec![id].into());
    assert!(far(4).is_ok(), "another token's");
    for id in [size, 65_539, 99_999] {
        let error = far(id).unwrap_err();
        let said = format!("tokenizer.json: its post-processor puts `[SEP]` around texts with the id {id}, which no");
        assert!(error.contains(&said), "{error}");
    }
    let top = |id: u32| read(&|json| json["model"]["vocab"]["top"] = id.into());
    assert_eq!(top((1 << 24) - 1), Ok(1 << 24));
    for id in [1 << 24, u32::MAX - 1, u32::MAX] {
        let error = top(id).unwrap_err();
        assert!(error.contains(&format!("gives `top` the id {id}; ids below 16777216 are read")), "{error}");
    }
}
