//! The label dial, and learning rate and head by width.

use serde_json::Value;

use crate::RUN;
use crate::folder::{Folder, SMALL, number};

fn mix(between: f64, within: f64) -> String {
    format!("objective.labels={{mix={{between={between:?}, within={within:?}, groups=2}}}}")
}

#[test]
fn the_label_dial_goes_from_expected_to_sampled_labels() {
    let sizes = "hidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\nintermediate_size = 32\n";
    let decoder = "type = \"gpt2\"\nn_embd = 16\nn_layer = 1\nn_head = 2\n[objective]\nkind = \"causal\"\n";
    let masked = format!("{SMALL}{RUN}");
    let causal = masked.replace(sizes, decoder).replace("hidden_dropout_prob = 0.1", "");
    for config in [masked, causal] {
        let f = Folder::empty();
        f.write("run.toml", &config);
        let train = |output: &str, labels: &str| f.train(&[&format!("output={output}"), labels], 0);
        train("sampled", "objective.labels=sampled");
        train("expected", "objective.labels=expected");
        train("none", &mix(0.0, 0.0));
        train("all", &mix(1.0, 1.0));
        train("between", &mix(1.0, 0.0));
        train("within", &mix(0.0, 1.0));
        assert!(f.weights("none") == f.weights("expected"), "without noise the conditionals, to the bit");
        let excess = |run: &str| number(&f.value(&format!("{run}/result.json")), "excess_loss");
        let loss = |run: &str| number(&f.value(&format!("{run}/result.json")), "training_loss");
        assert!((excess("all") / excess("sampled") - 1.0).abs() < 1e-3, "{} {}", excess("all"), excess("sampled"));
        assert!((loss("all") - loss("sampled")).abs() < 1e-4);
        for run in ["between", "within"] {
            assert!(f.weights(run) != f.weights("all") && f.weights(run) != f.weights("none"));
            assert!((loss(run) - loss("none")).abs() < 0.3, "{run}: {} {}", loss(run), loss("none"));
        }
    }
}

#[test]
fn the_label_dial_is_resumed_to_the_bit_and_refused_where_it_is_not_defined() {
    let f = Folder::new(RUN);
    let run = [&mix(1.0, 0.25), "train.steps=400", "train.checkpoint_every=50"];
    f.train(&[&["output=straight"], &run[..]].concat(), 0);
    f.train_killed("r", &run, 130);
    assert!(f.train(&[&["output=r"], &run[..]].concat(), 0).contains("resumed at step"));
    assert!(f.weights("r") == f.weights("straight") && f.result("r") == f.result("straight"));
    let said = f.train(&["output=s", &mix(1.0, 0.5), "objective.mask={bernoulli=0.2}"], 2);
    assert!(said.contains("objective.labels") && said.contains("one masked word"), "{said}");
}

#[test]
fn learning_rate_and_head_go_by_the_width() {
    let f = Folder::new(RUN);
    // The model is 16 wide: a ratio of 1 / 2.
    f.train(&["output=half", "train.width={base=8, head=0.0}"], 0);
    f.train(&["output=plain", "train.optimizer.lr=1e-3"], 0);
    assert!(f.weights("half") == f.weights("plain"));
    let rate = |run: &str| {
        let first: Value = f
            .read(&format!("{run}/metrics.jsonl"))
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .find(|l: &Value| l["loss"].is_number())
            .unwrap();
        number(&first, "learning_rate")
    };
    assert_eq!(rate("half"), 1e-3);
    f.train(&["output=same", "train.width={base=16}"], 0);
    f.train(&["output=none"], 0);
    assert!(f.weights("same") == f.weights("none"), "at its base nothing is changed");
    // Standing still, the model is the one that it began with.
    f.train(&["output=new", "train.width={base=4}", "train.optimizer.lr=0.0", "train.steps=1"], 0);
    f.train(&["output=old", "train.optimizer.lr=0.0", "train.steps=1"], 0);
    let read = |run: &str| {
        lowland::model::WeightsFile::read(&f.path(format!("{run}/model/model.safetensors"))).unwrap().tensors
    };
    let (new, old) = (read("new"), read("old"));
    for (name, (_, values)) in &new {
        match name.as_str() {
            "lm_head.layer_norm.weight" => assert!(values.iter().all(|w| *w == 0.5), "{name}: {values:?}"),
            _ => assert_eq!(*values, old[name].1, "{name}"),
        }
    }
}
