//! `lowland demo`: a random grammar, a small model trained down to its entropy floor, its curvature along the way, a
//! linear probe at the end, a report; whatever adapter there is.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::arguments::Demo;
use super::failure::Failure;
use super::{print, task, train};
use crate::config::Resolved;
use crate::downstream::{Features, LinearProbe, Outcome, Pooling, SetFits, Sizes, TaskData, probe};
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::interrupt;
use crate::language::{Task, Words, entropy_floor};
use crate::model;
use crate::ops::{Device, KernelChoice};
use crate::report;
use crate::train::{Corpus, held_out_seed};

/// The same file that `lowland train configs/quickstart.toml` runs.
const CONFIG: &str = include_str!("../../configs/quickstart.toml");

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Demo) -> Result<(), Failure> {
    // The run goes on from its checkpoint, and what comes behind it is done again.
    demo(adapter, kernel_choice, arguments).map_err(Failure::resumable)
}

fn demo(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Demo) -> Result<(), Failure> {
    let output = arguments.output.clone().unwrap_or_else(|| "runs/demo".into());
    let mut resolved = Resolved::from_text(CONFIG, "demo", &[])?.with_kernels(kernel_choice);
    resolved.config.output = Some(output);
    let gpu = Gpu::open(adapter, Options::default())?;
    let config = &resolved.config;
    let corpus = Corpus::open(&config.language, &config.objective, config.seed)?;
    print::notes(&corpus);
    let (own, seed, count) = (corpus.clone(), config.seed, u64::from(config.evaluate.sentences));
    let floor = interrupt::or_stop(move || own.truth().map(|truth| entropy_floor(truth, held_out_seed(seed), count)))?
        .map_err(Failure::usage)?;
    print::note(&format!(
        "A random grammar of {} words; nobody can predict a masked word with a loss below {:.4} ± {:.4} nats.",
        corpus.language.vocabulary().len(),
        floor.entropy_floor,
        floor.standard_error
    ));
    let outcome = train::train_here(&gpu, &resolved)?;
    let probe = probe_of(&Device::choosing(&gpu, kernel_choice)?, &corpus, &outcome.folder)?;
    let path = outcome.folder.join("probe.json");
    let text = serde_json::to_string_pretty(&probe).expect("plain values") + "\n";
    model::write_synced(&path, text.as_bytes()).map_err(|e| Failure::io(&path, &e))?;
    let page = report::write_run(&outcome.folder, None)?;
    let page = std::path::absolute(&page).unwrap_or(page);
    if arguments.json.json {
        let mut value = json!(outcome);
        value["folder"] = print::path(&outcome.folder);
        value["probe"] = json!(probe);
        value["report"] = print::path(&page);
        print::json(&value)?;
    } else {
        print::line(&train::outcome_text(&outcome))?;
        task::report(&probe, false)?;
        print::line(&format!("report {}", page.display()))?;
    }
    Ok(())
}

/// The paper's probe in small: which symbol most likely yields the first 4 words, from the token representations of the
/// last layer.
fn probe_of(device: &Device, corpus: &Corpus, folder: &Path) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let sizes = Sizes { train: 1000, validation: 500, test: 2000 };
    let own = corpus.clone();
    let draw = move || {
        let truth = own.truth().map_err(Failure::usage)?;
        TaskData::of_language(truth, Task::B, false, own.seed, sizes).map_err(Failure::usage)
    };
    let data = interrupt::or_stop(draw)??;
    let loaded = model::load(&folder.join("model"))?;
    let layer = loaded.encoder.hidden.len() - 1;
    let sentences: Vec<Words> = data.parts().into_iter().flat_map(|part| part.sentences.clone()).collect();
    let (tokens, longest) = (&corpus.tokens, data.longest);
    let model = loaded.on(device)?;
    let features = Features::of_model(&model, tokens, layer, Pooling::Concat, &sentences, longest)?;
    let options = LinearProbe { epochs: 30, ..LinearProbe::default() };
    let labels = data.parts().map(|part| part.labels.as_slice());
    let fits = probe(device, &options, &features, labels, data.classes.len() as u32, &[0, 1, 2])?;
    let method = format!("AdamW {}, {} epochs, the epoch chosen by validation accuracy", options.lr, options.epochs);
    let outcome =
        Outcome::new(&data, &SetFits::of_one(fits), format!("concat of layer {layer}"), features.width, method);
    Ok(Outcome { seconds: start.elapsed().as_secs_f64(), ..outcome })
}
