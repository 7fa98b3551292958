//! How far runs of different seeds move alike: the part of a displacement that the noise of one run does not make.
//!
//! Theorem 4.3's flow says d Tr / dt = -4 ‖dθ / dt‖² with t = Σ η² / B. A run's displacement between two models is that
//! of the flow and noise; the noise of two seeds is independent, so that ⟨Δ_s, Δ_s'⟩ of two runs has the flow's squared
//! length as its mean.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::RunFailure;
use super::plan::{PlannedRun, SweepPlan};
use super::table::Row;
use crate::model;

/// A run's displacement since its model before, beside those of the same settings' other seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Displacement {
    /// Steps of the model before.
    pub since: u64,
    /// ‖Δ‖² of this run.
    pub squared: f64,
    /// Mean over the other seeds of ⟨Δ, Δ'⟩.
    pub inner: f64,
    /// Mean over the other seeds of ‖θ - θ'‖².
    pub between_seeds: f64,
    /// Other seeds.
    pub others: usize,
}

/// A run with the models of its rows, in order of steps.
struct Course {
    run: String,
    steps: Vec<(u64, PathBuf)>,
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn less(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn parameters(folder: &std::path::Path) -> Result<Vec<f32>, RunFailure> {
    Ok(model::load(folder)?.weights.0.concat())
}

impl SweepPlan {
    /// Puts [`Displacement`]s into the rows of a table.
    ///
    /// # Errors
    /// A model that cannot be read.
    pub(super) fn displacements(&self, rows: &mut [Row]) -> Result<(), RunFailure> {
        let mut groups: Vec<(&str, Vec<Course>)> = Vec::new();
        for run in self.runs.iter().filter(|run| run.given.is_none()) {
            let course = self.course(run, rows);
            match groups.iter_mut().find(|(group, _)| *group == run.group) {
                Some((_, courses)) => courses.push(course),
                None => groups.push((&run.group, vec![course])),
            }
        }
        for (_, courses) in &groups {
            for at in 1..courses.iter().map(|course| course.steps.len()).max().unwrap_or(0) {
                // Those that were examined at the same two steps.
                let steps = |course: &Course| Some((course.steps.get(at - 1)?.0, course.steps.get(at)?.0));
                let Some(between) = courses.iter().find_map(steps) else { continue };
                let alike: Vec<&Course> = courses.iter().filter(|course| steps(course) == Some(between)).collect();
                if alike.len() > 1 {
                    self.between(&alike, at, between, rows)?;
                }
            }
        }
        Ok(())
    }

    fn course(&self, run: &PlannedRun, rows: &[Row]) -> Course {
        let known = |step: u64| rows.iter().any(|row| row.run == run.id && row.step == step);
        let models = self.models(run).into_iter().filter(|at| at.gauge.is_none() && known(at.step));
        Course { run: run.id.clone(), steps: models.map(|at| (at.step, at.model)).collect() }
    }

    fn between(
        &self,
        courses: &[&Course],
        at: usize,
        (since, step): (u64, u64),
        rows: &mut [Row],
    ) -> Result<(), RunFailure> {
        let ends: Vec<Vec<f32>> = courses.iter().map(|c| parameters(&c.steps[at].1)).collect::<Result<_, _>>()?;
        let starts = courses.iter().map(|c| parameters(&c.steps[at - 1].1)).collect::<Result<Vec<_>, _>>()?;
        let moved: Vec<Vec<f32>> = ends.iter().zip(&starts).map(|(end, start)| less(end, start)).collect();
        let others = courses.len() - 1;
        for (s, course) in courses.iter().enumerate() {
            let apart = (0..courses.len()).filter(|other| *other != s);
            let mean = |of: &dyn Fn(usize) -> f64| apart.clone().map(of).sum::<f64>() / others as f64;
            let found = Displacement {
                since,
                squared: dot(&moved[s], &moved[s]),
                inner: mean(&|other| dot(&moved[s], &moved[other])),
                between_seeds: mean(&|other| {
                    let apart = less(&ends[s], &ends[other]);
                    dot(&apart, &apart)
                }),
                others,
            };
            let own = rows.iter_mut().filter(|row| row.run == course.run && row.step == step);
            own.for_each(|row| row.displacement = Some(found.clone()));
        }
        Ok(())
    }
}
