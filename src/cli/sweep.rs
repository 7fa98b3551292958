//! `lowland sweep plan`: the runs that a sweep file asks for, without running them.

use super::arguments::{Sweep, SweepCommand};
use super::failure::Failure;
use super::print;
use crate::sweep::{self, Plan, SweepError};

pub fn run(arguments: &Sweep) -> Result<(), Failure> {
    let SweepCommand::Plan { sweep, json } = &arguments.command;
    let plan = sweep::plan(sweep)?;
    match json.json {
        true => print::json(&plan)?,
        false => print::line(&text(&plan))?,
    }
    Ok(())
}

fn text(plan: &Plan) -> String {
    let groups: std::collections::BTreeSet<&str> = plan.runs.iter().map(|run| run.group.as_str()).collect();
    let mut out: String = plan.runs.iter().map(|run| format!("{}  {}\n", run.id, run.overrides.join("  "))).collect();
    out += &format!("{}: {} runs of {}", plan.name, plan.runs.len(), plan.base.display());
    if groups.len() < plan.runs.len() {
        out += &format!(", {} but for the seed", groups.len());
    }
    if plan.excluded > 0 {
        out += &format!(", {} excluded", plan.excluded);
    }
    if plan.duplicates > 0 {
        out += &format!(", {} asked for twice", plan.duplicates);
    }
    out
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Failure {
        Failure::usage(error.to_string())
    }
}
