//! Model folders: what loads, what is left aside with a note, what is refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::model::{
    self, ForwardPass, HiddenAct, Loaded, Model, ModelError, WeightsFile, dims_for, read_examples, weight_files,
};
use lowland::ops::{Activation, Device, Labels};
use safetensors::tensor::{Dtype, TensorView};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(folder: &Path) -> Tensors {
    WeightsFile::read(&folder.join("model.safetensors")).unwrap().tensors
}

/// A copy of a fixture model whose tensors were changed, written as `dtype`.
fn changed(name: &str, dtype: Dtype, change: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(name).join("config.json"), folder.path().join("config.json")).unwrap();
    let mut all = tensors(&fixture(name));
    change(&mut all);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = all
        .into_iter()
        .map(|(name, (shape, values))| {
            let bytes = match dtype {
                Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
                Dtype::F64 => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
                Dtype::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            };
            (name, shape, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(n, shape, b)| (n.as_str(), TensorView::new(dtype, shape.clone(), b).unwrap()));
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

fn load(folder: &tempfile::TempDir) -> Result<Loaded, ModelError> {
    model::load(folder.path())
}

fn refused(folder: &tempfile::TempDir) -> String {
    match load(folder) {
        Ok(_) => panic!("a damaged model was loaded"),
        Err(error) => error.to_string(),
    }
}

const QUERY: &str = "bert.encoder.layer.0.attention.self.query.weight";

#[test]
fn a_missing_tensor_is_named() {
    let error = refused(&changed("bert-24", Dtype::F32, |t| drop(t.remove(QUERY))));
    assert!(error.contains(QUERY) && error.contains("model.safetensors"), "{error}");
}

#[test]
fn an_unknown_tensor_is_named() {
    let error = refused(&changed("bert-24", Dtype::F32, |t| {
        t.insert("bert.encoder.layer.0.adapter.weight".into(), (vec![1], vec![0.0]));
    }));
    assert!(error.contains("bert.encoder.layer.0.adapter.weight"), "{error}");
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let error = refused(&changed("bert-24", Dtype::F32, |t| {
        t.insert(QUERY.into(), (vec![24, 23], vec![0.0; 24 * 23]));
    }));
    assert!(error.contains(QUERY) && error.contains("23") && error.contains("[24, 24]"), "{error}");
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = changed("bert-24", Dtype::F32, |_| ());
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 4, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        assert!(refused(&folder).contains("model.safetensors"));
    }
}

#[test]
fn old_names_of_layer_norms_load_as_the_new_ones() {
    let folder = changed("bert-24", Dtype::F32, |all| {
        let old: Vec<String> = all.keys().filter(|n| n.contains("LayerNorm.")).cloned().collect();
        assert!(!old.is_empty());
        for name in old {
            let value = all.remove(&name).unwrap();
            all.insert(
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
                value,
            );
        }
    });
    assert_eq!(load(&folder).unwrap().weights.0, model::load(&fixture("bert-24")).unwrap().weights.0);
}

#[test]
fn half_precision_files_load_rounded_to_their_format() {
    for name in ["roberta-20", "lstm-20"] {
        let numbers = |loaded: Loaded| loaded.weights.0.concat();
        let exact = numbers(model::load(&fixture(name)).unwrap());
        let halves = numbers(load(&changed(name, Dtype::F16, |_| ())).unwrap());
        let brains = numbers(load(&changed(name, Dtype::BF16, |_| ())).unwrap());
        for ((e, h), b) in exact.iter().zip(&halves).zip(&brains) {
            assert_eq!(*h, half::f16::from_f32(*e).to_f32());
            assert_eq!(*b, half::bf16::from_f32(*e).to_f32());
        }
    }
}

#[test]
fn what_belongs_to_other_heads_is_left_aside_with_a_note() {
    let folder = changed("bert-24", Dtype::F32, |t| {
        t.insert("bert.pooler.dense.weight".into(), (vec![24, 24], vec![0.0; 576]));
        t.insert("bert.pooler.dense.bias".into(), (vec![24], vec![0.0; 24]));
        t.insert("cls.seq_relationship.weight".into(), (vec![2, 24], vec![0.0; 48]));
        t.insert("cls.seq_relationship.bias".into(), (vec![2], vec![0.0; 2]));
    });
    let loaded = load(&folder).unwrap();
    let notes = loaded.notes.join("\n");
    assert!(notes.contains("pooler") && notes.contains("seq_relationship"), "{notes}");
    assert_eq!(loaded.weights.0, model::load(&fixture("bert-24")).unwrap().weights.0);
}

#[test]
fn what_is_saved_loads_as_it_was() {
    let transformers = ["bert-18", "bert-untied", "roberta-32", "postnorm-16", "bert-relu", "postnorm-gelu-tanh"];
    for name in transformers.into_iter().chain(["lstm-20", "lstm-untied", "lstm-plain", "lstm-silu"]) {
        let loaded = model::load(&fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        model::save(folder.path(), &loaded.encoder, &loaded.weights, None).unwrap();
        let again = model::load(folder.path()).unwrap();
        assert_eq!(again.weights.0, loaded.weights.0, "{name}");
        assert_eq!(again.encoder.config, loaded.encoder.config, "{name}");
    }
}

/// The mean loss of a model over the examples of a fixture.
fn loss(loaded: &Loaded, name: &str) -> f64 {
    let gpu = gpu();
    let sentences = read_examples(&fixture(name).join("examples.jsonl"), &loaded.encoder.config).unwrap();
    let model = Model::new(&Device::of(&gpu), &loaded.encoder, &loaded.weights).unwrap();
    let dims = dims_for(&sentences, sentences.len());
    let pass = ForwardPass::new(&model, dims, Labels::Hard, false).unwrap();
    let losses = pass.run(&sentences).unwrap();
    losses.iter().map(|l| l.loss).sum::<f64>() / losses.len() as f64
}

fn set_config(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

/// Every case of `fixtures/make_heads.py`: what the file holds of table, decoder and biases decides, as in transformers
/// 5.
#[test]
fn heads_are_tied_as_transformers_5_ties_them() {
    let text = std::fs::read_to_string(fixture("heads.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, prefix, head) in [
        ("bert-18", "bert", "cls.predictions"),
        ("postnorm-16", "roberta", "lm_head"),
        ("roberta-20", "roberta_prelayernorm", "lm_head"),
    ] {
        let (table, bias) = (format!("{prefix}.embeddings.word_embeddings.weight"), format!("{head}.bias"));
        let usual = model::load(&fixture(name)).unwrap();
        for (case, wanted) in truth[name].as_object().unwrap() {
            let times = |t: &Tensors, of: &str, factor: f32| {
                let (shape, values) = &t[of];
                (shape.clone(), values.iter().map(|v| factor * v).collect::<Vec<f32>>())
            };
            let folder = changed(name, Dtype::F32, |t| {
                for word in case.split_whitespace() {
                    match word {
                        "decoder=table" => drop(t.insert(format!("{head}.decoder.weight"), times(t, &table, 1.0))),
                        "decoder=1.5" => drop(t.insert(format!("{head}.decoder.weight"), times(t, &table, 1.5))),
                        "decoder-bias=own" => drop(t.insert(format!("{head}.decoder.bias"), times(t, &bias, 1.0))),
                        "decoder-bias=2" => drop(t.insert(format!("{head}.decoder.bias"), times(t, &bias, 2.0))),
                        "no-table" => drop(t.remove(&table)),
                        "no-bias" => drop(t.remove(&bias)),
                        "untied" => {}
                        other => panic!("{other}"),
                    }
                }
            });
            if case.contains("untied") {
                set_config(folder.path(), "tie_word_embeddings", false.into());
            }
            let loaded = load(&folder).unwrap_or_else(|e| panic!("{name}, {case}: {e}"));
            let tied = wanted["tied"].as_bool().unwrap();
            assert_eq!(loaded.encoder.config.tie_word_embeddings, tied, "{name}, {case}");
            let extra = if tied { 0 } else { usual.weights.0[0].len() };
            assert_eq!(loaded.encoder.parameter_count(), usual.encoder.parameter_count() + extra, "{name}, {case}");
            let (got, want) = (loss(&loaded, name), wanted["loss"].as_f64().unwrap());
            assert!((got / want - 1.0).abs() < 1e-6, "{name}, {case}: loss {got} against {want}");
            // What differs from what config.json says is told.
            let told = case.is_empty() || case == "decoder-bias=own" || !loaded.notes.is_empty();
            assert!(told || case == "decoder-bias=2 no-bias", "{name}, {case}: no note");
            // And what is written is that very model.
            let written = tempfile::tempdir().unwrap();
            model::save(written.path(), &loaded.encoder, &loaded.weights, None).unwrap();
            let again = load(&written).unwrap();
            assert_eq!(again.encoder.config, loaded.encoder.config, "{name}, {case}");
            assert_eq!((again.weights, again.notes), (loaded.weights, vec![]), "{name}, {case}");
            compared += 1;
        }
    }
    assert_eq!(compared, 33);
}

#[test]
fn an_untied_head_with_one_bias_says_what_transformers_5_would_do() {
    let folder = changed("bert-untied", Dtype::F32, |t| {
        let bias = t.remove("cls.predictions.decoder.bias").unwrap();
        t.insert("cls.predictions.bias".into(), bias);
    });
    let loaded = load(&folder).unwrap();
    assert_eq!(loaded.weights, model::load(&fixture("bert-untied")).unwrap().weights);
    assert!(loaded.notes.iter().any(|n| n.contains("5 would begin with zeros")), "{:?}", loaded.notes);
}

/// Splits the tensors of a folder into files with an index, and returns the names of the files.
fn shard(folder: &Path, count: usize) -> Vec<String> {
    let whole = folder.join("model.safetensors");
    let all = WeightsFile::read(&whole).unwrap().tensors;
    std::fs::remove_file(whole).unwrap();
    let files: Vec<String> = (1..=count).map(|i| format!("model-{i:05}-of-{count:05}.safetensors")).collect();
    let mut map = serde_json::Map::new();
    for (f, file) in files.iter().enumerate() {
        let own = all.iter().enumerate().filter(|(i, _)| i % count == f).map(|(_, one)| one);
        let views: Vec<_> = own
            .map(|(name, (shape, values))| {
                map.insert(name.clone(), file.clone().into());
                (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
            })
            .collect();
        std::fs::write(folder.join(file), safetensors::serialize(views, None).unwrap()).unwrap();
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    files
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = changed("postnorm-16", Dtype::F32, |_| ());
    let files = shard(folder.path(), 3);
    let loaded = load(&folder).unwrap();
    assert_eq!(loaded.weights, model::load(&fixture("postnorm-16")).unwrap().weights);
    let named: Vec<String> = weight_files(folder.path())
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(named[0], "model.safetensors.index.json");
    assert_eq!(named[1..], files);

    std::fs::remove_file(folder.path().join(&files[1])).unwrap();
    let error = load(&folder).err().unwrap();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("1 of its 3 files") && message.contains(&files[1]), "{message}");
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused_by_name() {
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let folder = changed("bert-18", Dtype::F32, |_| ());
        shard(folder.path(), 2);
        let path = folder.path().join("model.safetensors.index.json");
        let mut index: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut index);
        std::fs::write(path, index.to_string()).unwrap();
        refused(&folder)
    };
    let error = with(&|index| index["weight_map"]["bert.extra"] = "model-00001-of-00002.safetensors".into());
    assert!(error.contains("`bert.extra`") && error.contains("does not hold it"), "{error}");
    let error = with(&|index| index["weight_map"]["bert.extra"] = "../model.safetensors".into());
    assert!(error.contains("not the name of a file beside it"), "{error}");
    assert!(with(&|index| index["weight_map"] = serde_json::json!({})).contains("empty"));
    assert!(with(&|index| index["weight_map"] = 5.into()).contains("weight_map"));
}

#[test]
fn pickles_are_refused_with_how_to_convert_them() {
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let folder = changed("bert-18", Dtype::F32, |_| ());
        let to = folder.path().join(pickle);
        std::fs::rename(folder.path().join("model.safetensors"), to).unwrap();
        let error = load(&folder).err().unwrap();
        assert!(matches!(error, ModelError::Format { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(pickle) && message.contains("save_pretrained"), "{message}");
        assert!(message.contains("from transformers import AutoModelForMaskedLM as M"), "{message}");
    }
    for (name, class) in [
        ("gpt2-20", "from transformers import AutoModelForCausalLM as M"),
        ("olmo2-18", "from transformers import AutoModelForCausalLM as M"),
        ("lstm-16", "from lstm_mlm import RNNLMHeadModel as M"),
    ] {
        let folder = changed(name, Dtype::F32, |_| ());
        std::fs::rename(folder.path().join("model.safetensors"), folder.path().join("pytorch_model.bin")).unwrap();
        let message = load(&folder).err().unwrap().to_string();
        assert!(message.contains(class), "{name}: {message}");
    }
    let folder = changed("bert-18", Dtype::F32, |_| ());
    std::fs::rename(folder.path().join("model.safetensors"), folder.path().join("weights.safetensors")).unwrap();
    let error = load(&folder).err().unwrap();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    assert!(error.to_string().contains("weights.safetensors, which is not read"), "{error}");
}

#[test]
fn double_precision_is_rounded_with_a_note_and_what_it_cannot_hold_is_refused() {
    let folder = changed("bert-24", Dtype::F64, |_| ());
    let loaded = load(&folder).unwrap();
    assert_eq!(loaded.weights, model::load(&fixture("bert-24")).unwrap().weights);
    assert!(loaded.notes.iter().any(|n| n.contains("double precision")), "{:?}", loaded.notes);
    for (value, wanted) in [(1.0 + 2f64.powi(-40), Ok(1.0f32)), (1e300, Err("1e300")), (f64::INFINITY, Err("inf"))] {
        let one = [value.to_le_bytes(), 0.5f64.to_le_bytes()].concat();
        let view = TensorView::new(Dtype::F64, vec![2], &one).unwrap();
        let file = safetensors::serialize([("x", view)], None).unwrap();
        match (WeightsFile::parse(&file, Path::new("x.safetensors")), wanted) {
            (Ok(read), Ok(single)) => assert_eq!(read.tensors["x"].1, [single, 0.5]),
            // An infinity is kept, for whoever asks to name.
            (Ok(read), Err("inf")) => assert_eq!(read.tensors["x"].1[0], f32::INFINITY),
            (Err(error), Err(text)) => {
                let message = error.to_string();
                assert!(message.contains(text) && message.contains("`x`") && message.contains("place 0"), "{message}");
            }
            (got, _) => panic!("{value}: {got:?}"),
        }
    }
}

#[test]
fn wrappers_are_taken_off_names_with_a_note() {
    for wrapper in ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."] {
        let folder = changed("roberta-20", Dtype::F32, |all| {
            *all = std::mem::take(all).into_iter().map(|(name, t)| (format!("{wrapper}{name}"), t)).collect();
        });
        let loaded = load(&folder).unwrap();
        assert_eq!(loaded.weights, model::load(&fixture("roberta-20")).unwrap().weights, "{wrapper}");
        for part in wrapper.split_terminator('.') {
            assert!(loaded.notes.iter().any(|n| n.contains(&format!("`{part}.`"))), "{wrapper}: {:?}", loaded.notes);
        }
    }
    let folder = changed("bert-24", Dtype::F32, |t| {
        let own = t[QUERY].clone();
        t.insert(format!("module.{QUERY}"), own);
    });
    assert!(refused(&folder).contains("twice"));
}

#[test]
fn a_missing_tensor_is_told_with_what_is_there_instead() {
    let folder = changed("bert-24", Dtype::F32, |t| {
        let own = t.remove(QUERY).unwrap();
        t.insert(QUERY.replace("query", "q_proj"), own);
    });
    let error = refused(&folder);
    let there = "bert.encoder.layer.0.attention.self.q_proj.weight` [24, 24]";
    assert!(error.contains(QUERY) && error.contains(there), "{error}");

    let folder = changed("bert-24", Dtype::F32, |t| {
        let bare = |name: String| name.strip_prefix("bert.").map(str::to_string);
        *t = std::mem::take(t).into_iter().filter_map(|(name, tensor)| Some((bare(name)?, tensor))).collect();
    });
    let error = refused(&folder);
    assert!(error.contains("no language model's head") && error.contains("BertForMaskedLM"), "{error}");

    let folder = changed("postnorm-16", Dtype::F32, |t| {
        t.retain(|name, _| !name.starts_with("lm_head"));
        t.insert("classifier.dense.weight".into(), (vec![16, 16], vec![0.0; 256]));
    });
    let error = refused(&folder);
    assert!(error.contains("no language model's head") && error.contains("`classifier.dense.weight`"), "{error}");
}

#[test]
fn a_folder_around_a_model_is_told_where_the_model_is() {
    let root = tempfile::tempdir().unwrap();
    let copy = |to: &str| {
        let to = root.path().join(to);
        std::fs::create_dir_all(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture("bert-18").join(file), to.join(file)).unwrap();
        }
    };
    let says = |folder: &str| match model::load(&root.path().join(folder)).err().unwrap() {
        ModelError::Format { message, .. } => message,
        other => panic!("{other}"),
    };
    let meant = |path: &str| format!("did you mean {}?", root.path().join(path).display());
    copy("run/checkpoints/step-9");
    copy("run/checkpoints/step-10");
    assert!(says("run").contains(&meant("run/checkpoints/step-10")), "{}", says("run"));
    assert!(says("run/checkpoints").contains(&meant("run/checkpoints/step-10")));
    copy("run/model");
    assert!(says("run").contains(&meant("run/model")), "{}", says("run"));
    assert!(says("run/model/config.json").contains("a file of a model's folder"));
    let error = model::load(&root.path().join("nowhere")).err().unwrap();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
}

#[test]
fn every_name_of_an_activation_is_read_and_written_and_others_are_refused_with_the_list() {
    use HiddenAct::*;
    for (act, activation) in HiddenAct::ALL.into_iter().map(|act| (act, act.activation())) {
        let folder = changed("postnorm-16", Dtype::F32, |_| ());
        set_config(folder.path(), "hidden_act", act.name().into());
        let loaded = load(&folder).unwrap();
        let written = serde_json::to_value(loaded.encoder.config.hidden_act).unwrap();
        assert_eq!(written, act.name());
        let wanted = match act {
            Gelu | GeluPython => Activation::Gelu,
            GeluNew | GeluPytorchTanh | GeluPythonTanh | GeluFast | GeluAccurate => Activation::GeluTanh,
            Relu => Activation::Relu,
            Silu | Swish => Activation::Silu,
        };
        assert_eq!(activation, wanted);
        // RoBERTa's head does not follow.
        assert_eq!(loaded.encoder.config.head_activation(), Activation::Gelu);
    }
    let folder = changed("bert-18", Dtype::F32, |_| ());
    set_config(folder.path(), "hidden_act", "mish".into());
    let error = refused(&folder);
    assert!(error.contains("mish") && error.contains("\"gelu_new\"") && error.contains("\"silu\""), "{error}");
}

#[test]
fn keys_that_config_json_leaves_out_have_the_values_of_transformers() {
    for (kind, words) in [("bert", 30522), ("roberta", 50265), ("roberta-prelayernorm", 50265)] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), format!("{{\"model_type\": \"{kind}\"}}")).unwrap();
        let tiny = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let file = safetensors::serialize([("x", tiny)], None).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
        let error = refused(&folder);
        assert!(error.contains(&format!("[{words}, 768]")), "{kind}: {error}");
    }
}
