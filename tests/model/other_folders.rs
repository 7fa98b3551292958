//! Folders that others wrote: shards of `transformers`, shards in another order, the hub's cache with its links, files
//! that Git left as pointers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::model::{self, ForwardPass, ModelError, WeightsFile, dims_for, model_folder, read_examples};
use lowland::ops::{Device, Labels};
use safetensors::tensor::{Dtype, TensorView};

fn losses(folder: &Path) -> Vec<f64> {
    let loaded = model::load(folder).unwrap();
    let sentences = read_examples(&fixture("bert-18/examples.jsonl"), &loaded.encoder.config).unwrap();
    let model = loaded.on(&Device::of(&gpu())).unwrap();
    let pass = ForwardPass::new(&model, dims_for(&sentences, 4), Labels::Hard, false).unwrap();
    pass.losses(&sentences).unwrap().iter().map(|row| row.loss).collect()
}

/// What `save_pretrained(max_shard_size="4KB")` wrote, in four files, is the model that it wrote in one.
#[test]
fn shards_that_transformers_wrote_are_the_model() {
    let (shards, whole) = (fixture("shards"), fixture("bert-18"));
    assert_eq!(model::check_weights(&shards).unwrap().len(), 5);
    assert_eq!(model::load(&shards).unwrap().weights, model::load(&whole).unwrap().weights);
    assert_eq!(losses(&shards), losses(&whole));
}

/// Tensors as bytes in any order, which the format leaves open, with metadata of somebody else.
fn written_by_hand(names: &[&String], tensors: &HashMap<String, (Vec<usize>, Vec<f32>)>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({ "format": "pt", "written by": "hand" }));
    let mut data: Vec<u8> = Vec::new();
    for name in names {
        let (shape, values) = &tensors[*name];
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let info = serde_json::json!({ "data_offsets": [begin, data.len()], "shape": shape, "dtype": "F32" });
        header.insert((*name).clone(), info);
    }
    // In the header in yet another order.
    let header: serde_json::Map<String, serde_json::Value> = header.into_iter().rev().collect();
    let text = serde_json::Value::Object(header).to_string();
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &data].concat()
}

#[test]
fn the_order_of_tensors_in_a_file_is_not_fixed() {
    let tensors: HashMap<_, _> =
        WeightsFile::read(&fixture("bert-18/model.safetensors")).unwrap().tensors.into_iter().collect();
    let mut names: Vec<&String> = tensors.keys().collect();
    // Neither the order of names nor that of sizes.
    names.sort_by_key(|name| name.chars().rev().collect::<String>());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("bert-18/config.json"), at("config.json")).unwrap();
    let (first, second) = names.split_at(7);
    let mut map = serde_json::Map::new();
    for (file, own) in [("b.safetensors", first), ("a.safetensors", second)] {
        std::fs::write(at(file), written_by_hand(own, &tensors)).unwrap();
        map.extend(own.iter().map(|name| (name.to_string(), file.into())));
    }
    let index = serde_json::json!({ "weight_map": map });
    std::fs::write(at("model.safetensors.index.json"), index.to_string()).unwrap();
    let wanted = model::load(&fixture("bert-18")).unwrap().weights;
    assert_eq!(model::load(folder.path()).unwrap().weights, wanted);

    // A tensor that is in both files has no meaning.
    std::fs::write(at("a.safetensors"), written_by_hand(&names, &tensors)).unwrap();
    let error = model::load(folder.path()).err().unwrap().to_string();
    assert!(error.contains("is in b.safetensors and in another of the files"), "{error}");
}

#[test]
fn a_tensor_longer_than_what_is_read_at_once_is_whole() {
    // 2.5 MiB of numbers that say where they stand.
    let values: Vec<f32> = (0..655_360).map(|i| i as f32).collect();
    let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(&values)).unwrap();
    let single = safetensors::serialize([("x", view)], None).unwrap();
    assert_eq!(WeightsFile::parse(&single, "x".as_ref()).unwrap().tensors["x"].1, values);
    let doubles: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F64, vec![values.len()], &doubles).unwrap();
    let double = safetensors::serialize([("x", view)], None).unwrap();
    assert_eq!(WeightsFile::parse(&double, "x".as_ref()).unwrap().tensors["x"].1, values);
    let too_large = [&doubles[..doubles.len() - 8], &1e300f64.to_le_bytes()].concat();
    let view = TensorView::new(Dtype::F64, vec![values.len()], &too_large).unwrap();
    let error = WeightsFile::parse(&safetensors::serialize([("x", view)], None).unwrap(), "x".as_ref()).unwrap_err();
    assert!(error.to_string().contains("place 655359"), "{error}");
    let longer = [single, vec![0; 3]].concat();
    let error = WeightsFile::parse(&longer, "x".as_ref()).unwrap_err();
    assert!(error.to_string().contains("3 bytes behind the last tensor"), "{error}");
}

#[test]
fn a_pointer_of_git_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("bert-18/config.json"), folder.path().join("config.json")).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 16564\n";
    std::fs::write(folder.path().join("model.safetensors"), pointer).unwrap();
    let error = model::load(folder.path()).err().unwrap();
    assert!(matches!(error, ModelError::Format { .. }), "{error}");
    assert!(error.to_string().contains("a pointer of Git LFS"), "{error}");
}

/// The hub's cache of a model with the files of a fixture under each revision.
#[cfg(unix)]
fn cache(root: &Path, revisions: &[&str]) -> PathBuf {
    let folder = root.join("models--somebody--small");
    std::fs::create_dir_all(folder.join("blobs")).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    for entry in std::fs::read_dir(fixture("shards")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let blob = blake3::hash(name.as_bytes()).to_hex().to_string();
        std::fs::copy(&path, folder.join("blobs").join(&blob)).unwrap();
        for revision in revisions {
            let snapshot = folder.join("snapshots").join(revision);
            std::fs::create_dir_all(&snapshot).unwrap();
            std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(&name)).unwrap();
        }
    }
    folder
}

#[cfg(unix)]
#[test]
fn the_hubs_cache_is_read_through_its_links() {
    let root = tempfile::tempdir().unwrap();
    let folder = cache(root.path(), &["aaaa", "bbbb"]);
    let refused = || model::load(&folder).err().unwrap().to_string();
    std::fs::write(folder.join("refs/step1000"), "bbbb").unwrap();
    let error = refused();
    assert!(error.contains("has several snapshots and no refs/main"), "{error}");
    assert!(error.contains("snapshots/aaaa\n") && error.contains("snapshots/bbbb (step1000)"), "{error}");
    // A snapshot can be named by itself.
    let wanted = model::load(&fixture("bert-18")).unwrap().weights;
    assert_eq!(model::load(&folder.join("snapshots/aaaa")).unwrap().weights, wanted);
    std::fs::write(folder.join("refs/main"), "bbbb\n").unwrap();
    assert_eq!(model_folder(&folder).unwrap(), folder.join("snapshots/bbbb"));
    let loaded = model::load(&folder).unwrap();
    assert_eq!((loaded.weights, loaded.folder), (wanted, folder.join("snapshots/bbbb")));
    std::fs::write(folder.join("refs/main"), "cccc").unwrap();
    assert!(refused().contains("refs/main is cccc, which is not there"), "{}", refused());
    // A download that was broken off: the link is there, what it leads to is not.
    std::fs::write(folder.join("refs/main"), "aaaa").unwrap();
    let blob = blake3::hash(b"model-00002-of-00004.safetensors").to_hex().to_string();
    std::fs::remove_file(folder.join("blobs").join(&blob)).unwrap();
    let error = refused();
    assert!(error.contains("1 of its 4 files are missing: model-00002-of-00004.safetensors (a link to"), "{error}");

    let one = cache(&root.path().join("alone"), &["dddd"]);
    assert!(model::load(&one).is_ok(), "the only snapshot needs no name");
    std::fs::remove_dir_all(one.join("snapshots/dddd")).unwrap();
    assert!(model::load(&one).err().unwrap().to_string().contains("holds no snapshot"));
}
