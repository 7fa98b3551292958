//! Plans of experiments: what is looked for is written down before the first run, and what a report finds is said to be
//! registered where it is that, exploratory where it is anything else.
//!
//! A sweep file names its plan (`plan = "../../docs/plans/size.toml"`), the plan the hash of the sweep file
//! ([`sweep_hash`]). The table carries the plan and what differs from it, so that a report needs no other file.
//!
//! ```toml
//! question = "Does the scale-free trace tell what the excess loss does not?"
//! sweep_hash = "0123456789abcdef"             # lowland sweep register SWEEP
//! seeds = { from = 101, count = 6 }           # all of the sweep's; those under 101 are of pilots
//! exclude = "models above 0.02 nats"          # in words
//! saturated = true                            # and by the program: only saturated models count
//!
//! [[primary]]                                 # Holm's correction is over these
//! outcome = "excess_nats"                     # a column of tables/models; with `task` OUTCOME_TASK
//! task = "task-6 drawn ridge"
//! measure = "scale_free_trace"
//! test = "slope"                              # "slope", "partial"; "difference" of two labels; "spearman", ...
//! given = ["excess_loss"]
//! within = ["train.optimizer"]                # strata: models with the same values of these keys
//! decide = "effect"                           # or "equivalence"
//! smallest_effect = 0.005                     # of the outcome, per doubling of the measure
//! ```

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SweepError;
use super::plan::{MOST, PlannedRun, SweepPlan, short};
use crate::files;
use crate::text::without_mark;

/// The first seed of what is registered.
pub const FIRST_SEED: u64 = 101;

/// A plan as its file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Plan")]
pub struct PlanFile {
    /// What is asked, in a sentence.
    pub question: String,
    /// Hash of the sweep file and the run configs that it names, by `lowland sweep register SWEEP`.
    pub sweep_hash: String,
    /// Seeds of the runs, from 101 on.
    pub seeds: Seeds,
    /// Which models do not count, in words.
    pub exclude: String,
    /// Whether only saturated models count.
    #[serde(default)]
    pub saturated: bool,
    /// What the question is decided by; Holm's correction is over these.
    pub primary: Vec<Hypothesis>,
    /// What is looked at beside, registered and without a correction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<Hypothesis>,
}

/// Seeds, each or as a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Seeds {
    /// Each.
    Each(Vec<u64>),
    /// A range.
    Range(SeedRange),
}

/// `count` seeds from `from` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeedRange {
    /// The first.
    pub from: u64,
    /// How many.
    pub count: u64,
}

/// One test of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hypothesis {
    /// "accuracy", "excess_nats" or "forgetting" of `task`, or any number of `tables/models`.
    pub outcome: String,
    /// The task, by its name in tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Whether the natural logarithm of the outcome is taken.
    #[serde(default, skip_serializing_if = "is_false")]
    pub log: bool,
    /// Any number above 0 of `tables/models`; of "slope" and "partial" its logarithm to base 2, so that an effect is
    /// that of a doubling. Of all tests but "difference".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// How it is tested.
    pub test: Test,
    /// Two labels of the sweep, of "difference": the outcome of the first less that of the second, paired by seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<[String; 2]>,
    /// Covariates, numbers above 0 of `tables/models`, as logarithms; of "slope" and "partial".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
    /// Keys that the sweep sets; models with the same values of all of them are a stratum, and only what differs within
    /// one counts. Of "slope" and "partial". Left out: all models are one stratum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
    /// What the test is to show.
    #[serde(default)]
    pub decide: Decide,
    /// The smallest effect of interest: of "slope" per doubling of the measure, of "difference" of the outcome, of the
    /// others a correlation. The bounds of equivalence, and what the power is of.
    pub smallest_effect: f64,
}

/// How a hypothesis is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// Slope within strata: permutation of residuals, interval by the wild bootstrap over runs.
    Slope,
    /// Correlation within strata, of what they and the covariates leave.
    Partial,
    /// Mean difference of two labels, paired by seed.
    Difference,
    /// Mean over runs, beside 0; of an outcome for which 0 is what a law says.
    Mean,
    /// Pearson's coefficient over all models, interval by the bootstrap over runs.
    Pearson,
    /// Spearman's.
    Spearman,
    /// Kendall's.
    Kendall,
    /// Pearson's given the excess loss.
    PartialPearson,
    /// Spearman's given the excess loss.
    PartialSpearman,
}

/// What a test is to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decide {
    /// That there is an effect.
    #[default]
    Effect,
    /// That there is none as large as the smallest of interest: two one-sided tests.
    Equivalence,
}

/// A plan in a table, and what the sweep has otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Registration {
    /// The plan's file, as the sweep file names it.
    pub file: String,
    /// Hash of that file.
    pub plan_hash: String,
    /// What it says.
    pub plan: PlanFile,
    /// Why nothing of the table is registered; empty where it is.
    pub differs: Vec<String>,
}

/// What is known of the plan when the first run begins; `registration.json` in the sweep's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Frozen {
    pub plan_hash: String,
    pub sweep_hash: String,
}

/// The name of [`Frozen`]'s file.
pub(super) const FROZEN: &str = "registration.json";

pub(super) fn is_false(value: &bool) -> bool {
    !value
}

impl Seeds {
    /// All of them, in order.
    pub fn list(&self) -> Vec<u64> {
        let mut all = match self {
            Seeds::Each(seeds) => seeds.clone(),
            Seeds::Range(range) => (0..range.count).map(|i| range.from.saturating_add(i)).collect(),
        };
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Test {
    /// As files name it.
    pub fn name(self) -> &'static str {
        match self {
            Test::Slope => "slope",
            Test::Partial => "partial",
            Test::Difference => "difference",
            Test::Mean => "mean",
            Test::Pearson => "pearson",
            Test::Spearman => "spearman",
            Test::Kendall => "kendall",
            Test::PartialPearson => "partial-pearson",
            Test::PartialSpearman => "partial-spearman",
        }
    }

    /// Whether its effect is no correlation.
    fn has_a_unit(self) -> bool {
        matches!(self, Test::Slope | Test::Difference | Test::Mean)
    }

    /// Whether it is one within strata.
    fn is_within(self) -> bool {
        matches!(self, Test::Slope | Test::Partial)
    }
}

impl Hypothesis {
    /// The outcome's column of `tables/models`.
    pub fn column(&self) -> String {
        match &self.task {
            Some(task) => format!("{}_{task}", self.outcome),
            None => self.outcome.clone(),
        }
    }

    /// What cannot be: the key and the reason with a remedy.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let of_task = ["accuracy", "excess_nats", "forgetting"].contains(&self.outcome.as_str());
        let name = self.test.name();
        match (of_task, &self.task) {
            (true, None) => {
                return Err(("task", format!("`{}` is of a task; name it as the table does", self.outcome)));
            }
            (false, Some(_)) => {
                let message = format!("`{}` is of no task; leave it out", self.outcome);
                return Err(("task", message));
            }
            _ => {}
        }
        match (self.test, &self.measure, &self.between) {
            (Test::Difference, Some(_), _) => {
                return Err(("measure", "a difference has none; `between` names its two labels".into()));
            }
            (Test::Mean, Some(_), _) => return Err(("measure", "a mean is over nothing; leave it out".into())),
            (Test::Mean, None, Some(_)) => return Err(("between", "belongs to `test = \"difference\"`".into())),
            (Test::Mean, None, None) => {}
            (Test::Difference, None, None) => {
                return Err(("between", "is missing: the two labels whose difference is taken".into()));
            }
            (Test::Difference, None, Some([a, b])) if a == b => {
                return Err(("between", format!("`{a}` twice; two labels of the sweep are needed")));
            }
            (Test::Difference, ..) => {}
            (_, None, _) => return Err(("measure", format!("is missing: what `{name}` is over"))),
            (_, _, Some(_)) => return Err(("between", "belongs to `test = \"difference\"`".into())),
            _ => {}
        }
        let alone = self.given.is_empty() && self.within.is_empty();
        if !(alone || self.test.is_within()) {
            let key = if self.given.is_empty() { "within" } else { "given" };
            return Err((key, "belongs to `test = \"slope\"` and \"partial\"".into()));
        }
        if self.decide == Decide::Equivalence && !self.test.has_a_unit() {
            let message = "equivalence is tested of \"slope\", \"difference\" and \"mean\", whose effects have a unit";
            return Err(("decide", message.into()));
        }
        let most = if self.test.has_a_unit() { f64::INFINITY } else { 1.0 };
        match self.smallest_effect > 0.0 && self.smallest_effect < most {
            true => Ok(()),
            false => Err(("smallest_effect", format!("{} must be above 0 and below {most}", self.smallest_effect))),
        }
    }
}

/// Line of a key in a text, from 1; of the `n`-th table of that name where one is given.
fn line_of(text: &str, table: Option<(&str, usize)>, key: &str) -> usize {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let start = table.map_or(0, |(name, n)| {
        let heads = lines.iter().enumerate().filter(|(_, line)| **line == format!("[[{name}]]"));
        heads.map(|(i, _)| i).nth(n).unwrap_or(0)
    });
    let inside = lines[start..].iter().skip(1).take_while(|line| table.is_none() || !line.starts_with('['));
    let own = lines[start..].iter().take(1).chain(inside);
    let has = |line: &&str| line.split('=').next().is_some_and(|left| left.trim() == key);
    start + own.clone().position(has).unwrap_or(0) + 1
}

impl PlanFile {
    /// Reads and checks a plan's file; gives its hash beside it.
    ///
    /// # Errors
    /// A file that cannot be read; a field that is missing, unknown or cannot be, with its line.
    pub fn read(path: &Path) -> Result<(PlanFile, String), SweepError> {
        let place = path.display().to_string();
        let error = |message: String| SweepError::new(place.clone(), message);
        let bytes = files::read_any(path, files::SMALL).map_err(|e| error(format!("cannot be read: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|_| error("is not UTF-8 text".into()))?;
        // Places in it are counted from behind the mark.
        let text = without_mark(&text);
        let plan: PlanFile = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let message = e.message().trim_end();
            SweepError::new(format!("{place}:{line}"), format!("{message}; {FIELDS}"))
        })?;
        let wrong = |line: usize, message: String| SweepError::new(format!("{place}:{line}"), message);
        if let Some(key) = crate::config::not_finite(text) {
            return Err(error(format!("`{key}` must be a finite number")));
        }
        for (key, value) in [("question", &plan.question), ("exclude", &plan.exclude)] {
            if value.trim().is_empty() {
                let message = format!("`{key}` is empty; say it in a sentence, \"none\" where nothing is left out");
                return Err(wrong(line_of(text, None, key), message));
            }
        }
        if let Seeds::Range(SeedRange { from, count }) = &plan.seeds
            && (*count > MOST as u64 || from.checked_add(*count).is_none())
        {
            let message = format!("`seeds`: {count} from {from} on; a sweep has at most {MOST} runs");
            return Err(wrong(line_of(text, None, "seeds"), message));
        }
        let seeds = plan.seeds.list();
        match seeds.first() {
            None => return Err(wrong(line_of(text, None, "seeds"), "`seeds` has none".into())),
            Some(low) if *low < FIRST_SEED => {
                let message = format!(
                    "`seeds`: {low} is under {FIRST_SEED}, and those are of pilots; register runs that nobody has \
                     looked at, from {FIRST_SEED} on"
                );
                return Err(wrong(line_of(text, None, "seeds"), message));
            }
            Some(_) => {}
        }
        if plan.primary.is_empty() {
            return Err(error("has no [[primary]]: the question is decided by at least one test".into()));
        }
        for (table, all) in [("primary", &plan.primary), ("secondary", &plan.secondary)] {
            for (i, hypothesis) in all.iter().enumerate() {
                hypothesis.check().map_err(|(key, message)| {
                    let line = line_of(text, Some((table, i)), key);
                    wrong(line, format!("[[{table}]] number {}, `{key}`: {message}", i + 1))
                })?;
            }
        }
        Ok((plan, short(text)))
    }

    /// All tests, with whether they are primary.
    pub fn hypotheses(&self) -> impl Iterator<Item = (&Hypothesis, bool)> {
        self.primary.iter().map(|h| (h, true)).chain(self.secondary.iter().map(|h| (h, false)))
    }
}

const FIELDS: &str = "a plan has `question`, `sweep_hash`, `seeds`, `exclude` and [[primary]] with `outcome`, `test` \
                      and `smallest_effect`, and of the test `measure` or `between`";

/// Hash of a sweep file and of the files that it names, byte for byte: a plan speaks of this sweep and no other.
///
/// # Errors
/// A file that cannot be read.
pub fn sweep_hash(sweep: &Path, named: &[PathBuf]) -> Result<String, SweepError> {
    let mut hasher = blake3::Hasher::new();
    for path in std::iter::once(sweep).chain(named.iter().map(PathBuf::as_path)) {
        let bytes = files::read_any(path, files::SMALL)
            .map_err(|e| SweepError::new(path.display().to_string(), format!("cannot be read: {e}")))?;
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}

/// What the sweep has otherwise than its plan says.
fn differences(plan: &PlanFile, sweep: &SweepPlan, hash: &str) -> Vec<String> {
    let mut all = Vec::new();
    if plan.sweep_hash != hash {
        all.push(format!("the plan is of a sweep with the hash {}, and this one has {hash}", plan.sweep_hash));
    }
    let planned = plan.seeds.list();
    let mut own: Vec<u64> = sweep.runs.iter().map(|run: &PlannedRun| run.seed).collect();
    own.sort_unstable();
    own.dedup();
    if own != planned {
        all.push(format!("the plan has the seeds {planned:?}, and the sweep {own:?}"));
    }
    let labels: Vec<String> = sweep.all_labels();
    for (hypothesis, _) in plan.hypotheses() {
        if let Some(task) = &hypothesis.task
            && sweep.examine.probe.iter().all(|probe| probe.name(&probe.task) != *task)
        {
            let has: Vec<String> = sweep.examine.probe.iter().map(|probe| probe.name(&probe.task)).collect();
            all.push(format!("the plan asks about the task `{task}`, and the sweep has {has:?}"));
        }
        for label in hypothesis.between.iter().flatten() {
            if !labels.contains(label) {
                all.push(format!("the plan compares `{label}`, and the sweep has the labels {labels:?}"));
            }
        }
        for key in &hypothesis.within {
            let gauge = key.strip_prefix("gauge.").is_some() && !sweep.gauges.is_empty();
            let level = key == "matched.excess" && sweep.examine.matched.is_some();
            let sets = |run: &PlannedRun| gauge || level || key == "label" || run.values.contains_key(key);
            if !sweep.runs.iter().any(sets) {
                all.push(format!("the plan has strata by `{key}`, which the sweep does not set"));
            }
        }
    }
    all.dedup();
    all
}

impl SweepPlan {
    /// The hash that a plan of this sweep has.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self) -> Result<String, SweepError> {
        sweep_hash(&self.file, &self.named)
    }

    /// The plan that the sweep file names, or another, with what differs from it; `None` where none is named.
    ///
    /// # Errors
    /// A plan that cannot be read, or is none.
    pub fn registration(&self, other: Option<&Path>) -> Result<Option<Registration>, SweepError> {
        let beside = self.file.parent().unwrap_or(Path::new(""));
        let named = match (other, &self.registered) {
            (Some(other), _) => other.to_path_buf(),
            (None, Some(named)) => beside.join(named),
            (None, None) => return Ok(None),
        };
        let (plan, plan_hash) = PlanFile::read(&named)?;
        let hash = self.hash()?;
        let mut differs = differences(&plan, self, &hash);
        let frozen = std::fs::read_to_string(self.output.join(FROZEN));
        if let Some(frozen) = frozen.ok().and_then(|text| serde_json::from_str::<Frozen>(&text).ok())
            && frozen.plan_hash != plan_hash
        {
            differs.push("the plan was changed after the first run had begun".into());
        }
        let file = self.registered.as_deref().unwrap_or(&named).display().to_string();
        Ok(Some(Registration { file, plan_hash, plan, differs }))
    }

    /// Keeps the plan's hash when the first run begins; later ones leave it as it is.
    ///
    /// # Errors
    /// As [`registration`](Self::registration); a folder that cannot be written.
    pub(super) fn freeze(&self) -> Result<(), super::RunFailure> {
        let path = self.output.join(FROZEN);
        if path.exists() {
            return Ok(());
        }
        let Some(found) = self.registration(None)? else { return Ok(()) };
        let sweep_hash = self.hash()?;
        super::folder::write(&path, &Frozen { plan_hash: found.plan_hash, sweep_hash })
    }
}

/// The JSON schema of plans.
pub fn plan_schema() -> serde_json::Value {
    crate::config::schema_of::<PlanFile>()
}
