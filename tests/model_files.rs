//! Model folders: what loads, what is left aside with a note, what is refused by name.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::fixture;
use lowland::model::{self, Loaded, ModelError, WeightsFile};
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
    let exact = model::load(&fixture("roberta-20")).unwrap();
    let halves = load(&changed("roberta-20", Dtype::F16, |_| ())).unwrap();
    let brains = load(&changed("roberta-20", Dtype::BF16, |_| ())).unwrap();
    for ((e, h), b) in
        exact.weights.0.iter().flatten().zip(halves.weights.0.iter().flatten()).zip(brains.weights.0.iter().flatten())
    {
        assert_eq!(*h, half::f16::from_f32(*e).to_f32());
        assert_eq!(*b, half::bf16::from_f32(*e).to_f32());
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
    for name in ["bert-18", "bert-untied", "roberta-32"] {
        let loaded = model::load(&fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        model::save(folder.path(), &loaded.encoder, &loaded.weights, None).unwrap();
        let again = model::load(folder.path()).unwrap();
        assert_eq!(again.weights.0, loaded.weights.0, "{name}");
        assert_eq!(again.encoder.config, loaded.encoder.config, "{name}");
    }
}
