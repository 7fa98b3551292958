//! What holds of decoders beside the fixtures: they read the past alone, which parameters have no curvature, files in
//! other spellings, what is refused, configs.

use std::path::Path;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::config::RunConfig;
use lowland::curvature::{Chunks, Matrix, ModelOperator, Operator, Subject};
use lowland::model::{
    self, Encoder, Enlargement, ForwardPass, HiddenAct, Loaded, Model, ModelConfig, ModelKind, Size, Weights,
    WeightsFile, dims_for, enlarge, load, read_examples, save,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use serde_json::{Value, json};

const DECODERS: [&str; 8] =
    ["gpt2-20", "opt-18", "gpt_neox-20", "llama-24", "qwen2-16", "mistral-16", "olmo-16", "olmo2-18"];

fn logits(encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<f32> {
    let model = Model::new(&Device::of(&gpu()), encoder, weights).unwrap();
    let pass = ForwardPass::new(&model, dims_for(sentences, sentences.len()), Labels::Hard, true).unwrap();
    let rows = pass.run(sentences).unwrap().len();
    pass.logits(rows).unwrap()
}

/// A fixture's model with other keys in its config.json; null takes a key away.
fn with_keys(name: &str, keys: Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture(name).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(fixture(name).join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

/// A fixture's tensors under other names.
fn with_names(name: &str, rename: impl Fn(&str) -> String) -> tempfile::TempDir {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = with_keys(name, json!({}));
    let path = folder.path().join("model.safetensors");
    let tensors = WeightsFile::read(&path).unwrap().tensors;
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(n, (shape, v))| (rename(&n), shape, v.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(n, s, b)| (n.as_str(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    folder
}

fn refused(folder: &Path) -> String {
    load(folder).err().expect("a refusal").to_string()
}

#[test]
fn a_row_hangs_on_its_own_token_and_those_before_it() {
    for name in DECODERS {
        let Loaded { encoder, weights, .. } = load(&fixture(name)).unwrap();
        let sentence = |ids: &[u32]| Sentence { ids: ids.to_vec(), masked: vec![(2, 4)], ..Sentence::default() };
        let whole = logits(&encoder, &weights, &[sentence(&[0, 5, 4, 6, 7])]);
        for (ids, same) in [(&[0, 5, 4][..], true), (&[0, 5, 4, 9, 9], true), (&[0, 6, 4, 6, 7], false)] {
            let other = logits(&encoder, &weights, &[sentence(ids)]);
            let apart = whole.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(apart <= 2e-5, same, "{name} {ids:?}: {apart:.1e}");
        }
    }
}

/// What is saved is what was read, and its config.json says the same under the type's own names.
#[test]
fn what_is_saved_loads_as_it_was() {
    for name in DECODERS {
        let read = load(&fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &read.encoder, &read.weights, None).unwrap();
        let again = load(folder.path()).unwrap();
        assert_eq!((&again.encoder.config, &again.weights), (&read.encoder.config, &read.weights), "{name}");
        let of = |folder: &Path| -> Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
        };
        let (theirs, ours) = (of(&fixture(name)), of(folder.path()));
        // What says nothing of the function of an evaluated model, and of spellings of version 4 the value.
        for (key, value) in ours.as_object().unwrap() {
            match key.as_str() {
                "torch_dtype" => {}
                "rope_theta" | "rotary_emb_base" => {
                    assert_eq!(value, &theirs["rope_parameters"]["rope_theta"], "{name}")
                }
                "rotary_pct" => assert_eq!(value, &theirs["rope_parameters"]["partial_rotary_factor"], "{name}"),
                "head_dim" => assert_eq!(value.as_u64().unwrap() as u32, read.encoder.config.head_size()),
                _ => assert_eq!(value, &theirs[key], "{name}: {key}"),
            }
        }
    }
}

#[test]
fn older_spellings_are_the_same_model() {
    let same = |folder: &tempfile::TempDir, name: &str| {
        let (changed, own) = (load(folder.path()).unwrap(), load(&fixture(name)).unwrap());
        assert_eq!((&changed.encoder.config, &changed.weights), (&own.encoder.config, &own.weights), "{name}");
        changed.notes
    };
    // As the files of GPT-2 are called, with a mask of what comes later that nothing reads.
    let bare = with_names("gpt2-20", |n| n.strip_prefix("transformer.").unwrap_or(n).into());
    assert!(same(&bare, "gpt2-20")[0].contains("`transformer.`"));
    same(&with_names("gpt_neox-20", |n| n.replace("lm_head", "embed_out")), "gpt_neox-20");
    same(
        &with_keys("gpt2-20", json!({ "n_embd": null, "hidden_size": 20, "n_layer": null, "num_hidden_layers": 2 })),
        "gpt2-20",
    );
    let version_4 = json!({ "rope_parameters": null, "rotary_pct": 0.4, "rotary_emb_base": 10000 });
    same(&with_keys("gpt_neox-20", version_4), "gpt_neox-20");
    same(
        &with_keys("olmo-16", json!({ "rope_parameters": null, "rope_theta": 500.0, "rope_scaling": null })),
        "olmo-16",
    );
    same(&with_keys("mistral-16", json!({ "sliding_window": 12 })), "mistral-16");
    same(&with_keys("gpt2-20", json!({ "reorder_and_upcast_attn": true })), "gpt2-20");
}

#[test]
fn keys_that_would_make_another_function_are_refused_by_name() {
    for (name, keys, words) in [
        ("gpt2-20", json!({ "scale_attn_by_inverse_layer_idx": true }), "scale_attn_by_inverse_layer_idx is true"),
        ("gpt2-20", json!({ "scale_attn_weights": false }), "scale_attn_weights is false"),
        ("gpt2-20", json!({ "add_cross_attention": true }), "add_cross_attention is true"),
        ("gpt2-20", json!({ "quantization_config": { "load_in_8bit": true } }), "quantization_config: "),
        ("gpt2-20", json!({ "activation_function": "mish" }), "activation_function is \"mish\""),
        ("opt-18", json!({ "_remove_final_layer_norm": true }), "_remove_final_layer_norm is true"),
        ("opt-18", json!({ "do_layer_norm_before": false }), "unknown tensor `model.decoder.final_layer_norm"),
        ("opt-18", json!({ "word_embed_proj_dim": 9 }), "`lm_head.weight`"),
        ("opt-18", json!({ "word_embed_proj_dim": 9, "tie_word_embeddings": false }), "tie_word_embeddings is false"),
        ("llama-24", json!({ "rope_scaling": { "type": "linear", "factor": 2.0 } }), "rope_type \"linear\""),
        ("llama-24", json!({ "rope_parameters": { "rope_type": "llama3", "factor": 8.0 } }), "rope_type \"llama3\""),
        ("llama-24", json!({ "num_key_value_heads": 3 }), "not a multiple of num_key_value_heads = 3"),
        ("mistral-16", json!({ "sliding_window": 8 }), "sliding_window is 8"),
        ("mistral-16", json!({ "sliding_window": null, "max_position_embeddings": 5000 }), "sliding_window is 4096"),
        ("qwen2-16", json!({ "use_sliding_window": true, "sliding_window": 4 }), "sliding_window is 4"),
        ("olmo-16", json!({ "clip_qkv": 8.0 }), "clip_qkv is 8.0"),
        ("gpt_neox-20", json!({ "rope_parameters": null, "rotary_pct": 1.2 }), "12 numbers of a head of 10"),
    ] {
        let error = refused(with_keys(name, keys).path());
        assert!(error.contains(words), "{name}: {error}");
    }
    let Loaded { encoder, weights, .. } = load(&fixture("gpt2-20")).unwrap();
    let wider = Size { hidden: Some(40), ..Size::default() };
    let error = enlarge(&encoder, &weights, wider, Enlargement::Duplicate).unwrap_err().to_string();
    assert!(error.contains("\"gpt2\" is not enlarged"), "{error}");
}

/// The sizes that `transformers` has where config.json says nothing.
#[test]
fn keys_that_config_json_leaves_out_have_the_values_of_transformers() {
    use safetensors::tensor::{Dtype, TensorView};
    for (kind, words, width) in [
        ("gpt2", 50257, 768),
        ("opt", 50272, 768),
        ("gpt_neox", 50432, 6144),
        ("llama", 32000, 4096),
        ("qwen2", 151_936, 4096),
        ("olmo", 50304, 4096),
        ("olmo2", 50304, 4096),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), format!("{{\"model_type\": \"{kind}\"}}")).unwrap();
        let tiny = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize([("x", tiny)], None).unwrap())
            .unwrap();
        let error = refused(folder.path());
        assert!(error.contains(&format!("[{words}, {width}]")), "{kind}: {error}");
    }
}

/// Parameters on which no loss depends, against the diagonal of the Gauss-Newton matrix by unit vectors: rows of words
/// and positions, biases of keys that do not turn, and of examples that are read at their first token alone queries and
/// keys.
#[test]
fn untouched_parameters_are_those_without_curvature() {
    let gpu = gpu();
    let kinds = [
        ModelKind::Gpt2,
        ModelKind::Opt,
        ModelKind::GptNeox,
        ModelKind::Llama,
        ModelKind::Qwen2,
        ModelKind::Mistral,
        ModelKind::Olmo,
        ModelKind::Olmo2,
    ];
    for (kind, number) in kinds.into_iter().zip(0..) {
        let config = ModelConfig {
            vocab_size: 9,
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: (number % 2 == 1).then_some(1),
            intermediate_size: 6,
            max_position_embeddings: 7,
            attention_bias: true,
            // A unit of ReLU may be 0 at all of a few tokens.
            hidden_act: HiddenAct::Gelu,
            partial_rotary_factor: if kind == ModelKind::GptNeox { 0.5 } else { 1.0 },
            tie_word_embeddings: number % 2 == 0,
            ..ModelConfig::small(kind)
        };
        let encoder = Encoder::new(&config).unwrap();
        let mut weights = Weights::initial(&encoder.parameters, 0.5, number);
        // Biases that begin with zeros would hide what hangs on them.
        let more = Weights::initial(&encoder.parameters.iter().map(spread).collect::<Vec<_>>(), 0.3, 100 + number);
        weights.0.iter_mut().zip(more.0).for_each(|(w, m)| w.iter_mut().zip(m).for_each(|(w, m)| *w += m));
        let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
        let sentence = |ids: &[u32], at: &[u32]| Sentence {
            ids: ids.to_vec(),
            masked: at.iter().map(|t| (*t, 4)).collect(),
            ..Sentence::default()
        };
        let usual = vec![sentence(&[0, 5, 6, 7, 2], &[1, 3]), sentence(&[0, 4, 6, 5], &[0, 2])];
        let first = vec![sentence(&[0, 5, 6], &[0]), sentence(&[3], &[0])];
        for sentences in [usual, first] {
            let subject = Subject::new(&model, &sentences, &[], &Chunks { batch: 8, probes: 32 }).unwrap();
            let mut flags = vec![false; subject.size()];
            subject.untouched().into_iter().flatten().for_each(|i| flags[i] = true);
            let operator = ModelOperator::new(&subject, Matrix::Ggn);
            let places: Vec<usize> = (0..subject.size()).collect();
            let unit = |i: &usize| (0..subject.size()).map(|j| f32::from(*i == j)).collect::<Vec<f32>>();
            let mut diagonal = Vec::new();
            for block in places.chunks(32) {
                let images = operator.apply(&block.iter().map(unit).collect::<Vec<_>>()).unwrap();
                diagonal.extend(block.iter().zip(images).map(|(i, image)| f64::from(image[*i])));
            }
            let largest = diagonal.iter().copied().fold(0.0, f64::max);
            for (parameter, range) in subject.vectors().parts(subject.encoder()) {
                for i in range.clone() {
                    let (entry, place) = (diagonal[i], i - range.start);
                    assert_eq!(
                        flags[i],
                        entry < 1e-11 * largest,
                        "{kind:?}, {parameter}, number {place}: {entry:.1e} of {largest:.1e}"
                    );
                }
            }
        }
    }
}

/// The same parameter with normal numbers to begin with.
fn spread(parameter: &model::Parameter) -> model::Parameter {
    let mut parameter = parameter.clone();
    parameter.initialise = model::Initialise::Normal;
    parameter
}

#[test]
fn a_config_has_the_keys_of_its_type() {
    let parse = |text: &str| RunConfig::parse(text, "run.toml");
    let gpt2 = parse("[model]\ntype = \"gpt2\"\nn_embd = 32\nn_head = 2\n").unwrap();
    let written = gpt2.to_toml();
    assert!(written.contains("activation_function = \"gelu_new\"") && !written.contains("hidden_size"), "{written}");
    assert_eq!(parse(&written).unwrap(), gpt2);
    let json = gpt2.model.model_config(12, 10).to_json();
    assert_eq!((&json["n_inner"], &json["n_positions"], &json["vocab_size"]), (&128.into(), &10.into(), &12.into()));
    assert!(json.get("hidden_size").is_none() && json.get("type_vocab_size").is_none());
    let opt = parse("[model]\ntype = \"opt\"\nffn_dim = 64\n").unwrap().model.model_config(12, 10);
    assert_eq!((opt.intermediate_size, opt.longest(), opt.first_position()), (64, 10, 2));
    let llama = "[model]\ntype = \"llama\"\nnum_key_value_heads = 2\nrope_theta = 500\n";
    let llama = parse(llama).unwrap().model.model_config(12, 10);
    assert_eq!((llama.groups(), llama.rope_theta, llama.tie_word_embeddings), (2, 500.0, false));
    for (text, key) in [
        ("[model]\ntype = \"gpt2\"\nhidden_size = 32\n", "no such key; it has `n_embd`"),
        ("[model]\ntype = \"llama\"\ntype_vocab_size = 2\n", "model.type_vocab_size"),
        ("[model]\ntype = \"bert\"\nn_embd = 32\n", "model.n_embd"),
        ("[model]\ntype = \"bert\"\ntie_word_embeddings = false\n", "model.tie_word_embeddings"),
        ("[model]\ntype = \"mistral\"\nattention_bias = true\n", "model.attention_bias"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.place, "run.toml:3", "{error}");
        assert!(error.message.contains(key), "{error}");
    }
    let error = parse("[model]\ntype = \"llama\"\nnum_key_value_heads = 3\n").unwrap_err().to_string();
    assert!(error.contains("num_attention_heads = 4 is not a multiple of num_key_value_heads = 3"), "{error}");
}

/// Initial weights of GPT-2's projections into the residual are narrower by the root of twice the layers; the
/// parameters are as many as `transformers` counts.
#[test]
fn parameters_are_those_of_transformers() {
    let config = ModelConfig { vocab_size: 30, num_hidden_layers: 8, ..ModelConfig::small(ModelKind::Gpt2) };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.02, 3);
    let deviation = |name: &str| {
        let values = &weights.0[encoder.find(name).unwrap()];
        (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    for (name, wanted) in [("attn.c_attn", 0.02), ("attn.c_proj", 0.005), ("mlp.c_fc", 0.02), ("mlp.c_proj", 0.005)] {
        let got = deviation(&format!("transformer.h.3.{name}.weight"));
        assert!((got / wanted - 1.0).abs() < 0.05, "{name}: {got} against {wanted}");
    }
    for name in DECODERS {
        let read = load(&fixture(name)).unwrap();
        let file = WeightsFile::read(&fixture(name).join("model.safetensors")).unwrap();
        let numbers: usize = file.tensors.values().map(|(_, values)| values.len()).sum();
        assert_eq!(read.encoder.parameter_count(), numbers, "{name}");
        let sentences = read_examples(&fixture(name).join("examples.jsonl"), &read.encoder.config).unwrap();
        let (rows, masked): (u64, u64) = (sentences.iter().map(|s| s.ids.len() as u64).sum(), sentences.len() as u64);
        // Two for each weight of a product and row.
        let products = read.encoder.parameters.iter().filter(|p| p.shape.len() == 2 && p.role.layer.is_some());
        let layers: u64 = products.map(|p| p.len() as u64).sum();
        let head = u64::from(read.encoder.config.vocab_size) * u64::from(read.encoder.config.hidden_size);
        assert_eq!(read.encoder.forward_flops(rows, masked, 0), 2 * (rows * layers + masked * head), "{name}");
    }
}
