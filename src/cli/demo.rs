//! `lowland demo`: a random grammar, a small model trained down to its entropy floor, a report; whatever adapter there is.

use serde_json::json;

use super::arguments::Demo;
use super::failure::Failure;
use super::{print, train};
use crate::config::Resolved;
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::language::entropy_floor;
use crate::ops::Wishes;
use crate::report;
use crate::train::{Corpus, held_out_seed};

/// The same file that `lowland train configs/quickstart.toml` runs.
const CONFIG: &str = include_str!("../../configs/quickstart.toml");

pub fn run(adapter: &AdapterChoice, wishes: &Wishes, arguments: &Demo) -> Result<(), Failure> {
    let output = arguments.output.clone().unwrap_or_else(|| "runs/demo".into());
    let overrides = vec![format!("output={}", toml::Value::String(output.display().to_string()))];
    let resolved = Resolved::from_text(CONFIG, "demo", &overrides)?.wishing(wishes);
    let gpu = Gpu::open(adapter, Options::default())?;
    let config = &resolved.config;
    let corpus = Corpus::open(&config.language, &config.objective, config.seed)?;
    let floor =
        entropy_floor(corpus.language.as_ref(), held_out_seed(config.seed), u64::from(config.evaluate.sentences));
    print::note(&format!(
        "A random grammar of {} words; nobody can predict a masked word with a loss below {:.4} ± {:.4} nats.",
        corpus.language.vocabulary().len(),
        floor.entropy_floor,
        floor.standard_error
    ));
    let outcome = train::train_here(&gpu, &resolved)?;
    let page = report::write_run(&outcome.folder, None)
        .map_err(|e| Failure { code: e.exit_code(), message: e.to_string() })?;
    let page = std::path::absolute(&page).unwrap_or(page);
    if arguments.json.json {
        let mut value = json!(outcome);
        value["folder"] = json!(outcome.folder);
        value["report"] = json!(page);
        print::json(&value)?;
    } else {
        print::line(&train::outcome_text(&outcome))?;
        print::line(&format!("report {}", page.display()))?;
    }
    Ok(())
}
