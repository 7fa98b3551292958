//! A language's trace from sentences that a design draws out of a frame.

use super::trace::{Measured, Plan};
use super::trace_drawn::{MOST_PAIRS, PAIRS};
use super::{Evidence, Session};
use crate::cli::arguments::{Common, SentencesChoice, name_of};
use crate::cli::examples::Source;
use crate::cli::failure::Failure;
use crate::curvature::{Chunks, Designed, Named, Population, Sampling, Subject, designed_trace};
use crate::ops::LossDraw;
use crate::statistics::Target;

/// Sentences of the pilot, where --minimum says nothing.
const PILOT: usize = 512;

pub(super) fn measure(session: &Session, common: &Common, plan: &Plan) -> Result<(Measured, Evidence), Failure> {
    let name = name_of(plan.sentences);
    let Source::Language(held_out) = &session.source else {
        return Err(Failure::usage(format!(
            "--sentences {name} draws from a language; of a file every example is measured, leave it out"
        )));
    };
    let draws = plan.draws.unwrap_or(2);
    if draws < 2 {
        return Err(Failure::usage(format!(
            "--sentences {name} needs at least 2 draws a sentence, which tell the error's parts apart"
        )));
    }
    let pairs = plan.samples.unwrap_or(if plan.rel_error.is_some() { MOST_PAIRS } else { PAIRS });
    let frame = common.on.count.map(|count| count as usize);
    let what = Designed {
        sampling: if plan.sentences == SentencesChoice::Importance {
            Sampling::Importance
        } else {
            Sampling::Stratified
        },
        kind: plan.estimator.draw().unwrap_or(LossDraw::Signs),
        seed: common.seed(),
        draws,
        most: (pairs as usize / draws).max(2),
        rel_error: plan.rel_error,
        frame,
        pilot: plan.minimum.unwrap_or(PILOT.min(frame.unwrap_or(PILOT))),
    };
    let chunks = Chunks { batch: common.on.batch as usize, probes: common.probes };
    let from = Population {
        sentences: &|numbers| Ok(held_out.sentences(numbers)?),
        subject: &|sentences| Subject::new(&session.model, sentences, &common.only, &chunks),
        longest: held_out.longest(),
    };
    let designed = designed_trace(&from, &what, &mut |p| session.watch(plan.estimator.name(), "sentence", p))?;
    let one = session.subject(common, &designed.first, common.on.batch)?;
    let cost = designed.trace.gradient_equivalents;
    let mut evidence = session.evidence(common, &one, Target::Population, cost);
    (evidence.count, evidence.masked_positions) = (designed.measured, designed.measured);
    let measured = Measured {
        trace: designed.trace,
        per_tensor: None,
        draws: Some(draws),
        probe: None,
        frame: Some(designed.frame),
    };
    Ok((measured, evidence))
}
