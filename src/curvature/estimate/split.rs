//! The Hessian's trace by signs and residual: of a language to a wanted error, of given examples all of them.

use super::{Estimated, Parted, Stage, TracePlan, Watch};
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    Block, CurvatureError, Drawing, Estimator, Examples, Named, Numbered, Observe, PlanError, ProbeKind, Probes,
    Progress, Refusal, ResidualPass, Scope, Setting, Split, Stopping, Subject, Trace, split_trace,
};
use crate::statistics::{Crossed, Estimate, Parts, Target};

/// Sentences of the pilot, where nothing is said.
const PILOT: usize = 256;

pub(super) fn of_language(
    setting: &Setting<'_>,
    (language, count): (&dyn Numbered, Option<u64>),
    plan: &TracePlan,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    let request = &plan.request;
    let most = count.unwrap_or(plan.pairs() / request.draws.unwrap_or(2) as u64).max(2);
    let stop = Stopping {
        rel_error: request.rel_error,
        minimum: request.minimum.unwrap_or(PILOT),
        most: usize::try_from(most).unwrap_or(usize::MAX),
    };
    let what = Split { seed: request.seed, draws: request.draws, stop };
    let found = split_trace(setting, language, &what, &mut |progress| {
        watch(&Stage::Counted { what: plan.estimator.name(), unit: "sentence", progress })
    })?;
    let first = setting.subject(&found.first)?;
    let scope = Scope {
        examples: found.sentences[0],
        masked: found.sentences[1],
        ..Scope::of(&first, Target::Population, found.trace.gradient_equivalents)
    };
    let parts = Parted {
        fisher: found.fisher,
        residual: found.residual,
        sentences: found.measured,
        frame: Some(found.frame),
        vectors: found.vectors,
    };
    Ok(estimated(found.trace, found.draws, parts, scope))
}

fn estimated(trace: Trace, draws: usize, parts: Parted, scope: Scope) -> Estimated {
    Estimated {
        trace,
        per_tensor: None,
        draws: Some(draws),
        probe: Some(ProbeKind::Rademacher),
        frame: None,
        parts: Some(parts),
        scope,
    }
}

/// Signs and vectors of each example, where nothing is said; to a relative error at first.
const DRAWS: usize = 8;
const VECTORS: usize = 16;
/// Most vectors.
const MOST: usize = 8192;
/// Times that there may be more of both.
const ROUNDS: usize = 8;

/// All of the examples, with the labels of the data: more signs and vectors until what is left by these is small
/// enough. Of a population, they cannot make up for examples.
pub(super) fn of_examples(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    plan: &TracePlan,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    watch(&Stage::Phase("examples"))?;
    let sentences = examples.all()?;
    let subject = setting.subject(&sentences)?;
    let request = &plan.request;
    if request.draws.is_some() && request.samples.is_some() {
        return Err(PlanError::SamplesAndDraws.into());
    }
    let target = examples.target();
    if target == Target::Population && sentences.len() < 2 {
        return Err(Refusal::OneExample.into());
    }
    let most = (plan.pairs() / sentences.len() as u64).max(2) as usize;
    let most = request.draws.unwrap_or(most);
    let mut draws = request.draws.unwrap_or(if request.rel_error.is_some() { most.min(DRAWS) } else { most });
    let mut forms = Forms::new(&subject, request.seed)?;
    let mut vectors = VECTORS;
    let stop = Stopping { rel_error: request.rel_error, ..Stopping::after(most) };
    let mut spent = 0.0;
    // What an interrupt of the next round falls back to.
    let mut before: Option<Estimated> = None;
    // Signs, and how many of each example they are.
    let mut drawn: Option<(usize, Drawing)> = None;
    for round in 1.. {
        let kept = drawn.take().filter(|(of, _)| *of == draws);
        let is_new = kept.is_none();
        let drawing = kept.map_or_else(|| signs_of_all(&subject, plan, draws, watch), |(_, drawing)| Ok(drawing));
        let measured = drawing.and_then(|drawing| {
            forms.until(&subject, vectors, &mut |progress| {
                watch(&Stage::Counted { what: plan.estimator.name(), unit: "probe", progress })
            })?;
            Ok(drawing)
        });
        let Some(drawing) = unless_interrupted(measured)? else {
            let mut found = before.ok_or(CurvatureError::Interrupted)?;
            found.trace = found.trace.cut_short(true);
            return Ok(found);
        };
        let signs = drawing.result(&subject, target).trace;
        if is_new {
            spent += signs.gradient_equivalents;
        }
        drawn = Some((draws, drawing));
        let rest = forms.crossed.parts(target);
        let means = forms.crossed.examples();
        let parts = together(&subject, &signs, &rest, &means, target);
        let trace = Trace::of(Estimator::SignsAndResidual, parts, target, signs.values.clone());
        let trace = Trace {
            samples: sentences.len() * draws,
            reached: stop.satisfied(parts.value, parts.standard_error),
            gradient_equivalents: spent + forms.cost(&subject),
            ..trace
        };
        let value = Some((parts.value, parts.standard_error));
        watch(&Stage::Counted {
            what: plan.estimator.name(),
            unit: "example",
            progress: &Progress { done: sentences.len(), of: sentences.len(), value },
        })?;
        let fisher =
            Estimate { value: signs.estimate, standard_error: signs.standard_error, samples: sentences.len() * draws };
        let residual =
            Estimate { value: rest.value, standard_error: rest.standard_error, samples: forms.crossed.rows().len() };
        let found = Parted { fisher, residual, sentences: sentences.len(), frame: None, vectors };
        let scope = Scope::of(&subject, target, trace.gradient_equivalents);
        // What signs and vectors can still lower must reach what the data part leaves.
        let room = stop.wanted(parts.value).map_or(0.0, |w| (w * w - parts.standard_error_data.powi(2)).max(0.0));
        let full = draws >= most && vectors >= MOST;
        let over = trace.reached || room == 0.0 || full || round == ROUNDS;
        let now = estimated(trace, draws, found, scope);
        if over {
            return Ok(now);
        }
        before = Some(now);
        // Half of what is wanted for each part; where one has less, the other takes what it leaves.
        let own = [signs.standard_error_probe.powi(2), rest.standard_error_probe.powi(2)];
        let share = |i: usize| (own[i] / (room - own[1 - i]).max(room / 2.0) * 1.1).max(1.0);
        draws = ((draws as f64 * share(0)).ceil() as usize).min(most);
        vectors = ((vectors as f64 * share(1)).ceil() as usize).min(MOST);
    }
    unreachable!("the last round returns")
}

/// Signs of all examples.
fn signs_of_all(
    subject: &Subject,
    plan: &TracePlan,
    draws: usize,
    watch: Watch<'_>,
) -> Result<Drawing, CurvatureError> {
    let mut drawing = Drawing::along_axes(subject, plan.request.seed, draws)?;
    let mut seen = |progress: &Progress| watch(&Stage::Counted { what: plan.estimator.name(), unit: "draw", progress });
    while drawing.watched(subject, &mut seen)? {}
    Ok(drawing)
}

/// Both parts of the same examples, whose data parts belong together.
fn together(subject: &Subject, signs: &Trace, rest: &Parts, means: &[f64], target: Target) -> Parts {
    let value = signs.estimate + rest.value;
    let probe = signs.standard_error_probe.powi(2) + rest.standard_error_probe.powi(2);
    let n = means.len() as f64;
    let along: f64 = subject
        .weights()
        .iter()
        .zip(signs.values.iter().zip(means))
        .map(|(w, (f, r))| w * w * (f - signs.estimate) * (r - rest.value))
        .sum();
    let data = match target {
        Target::TheseExamples => 0.0,
        Target::Population => {
            let own = signs.standard_error_data.powi(2) + rest.standard_error_data.powi(2);
            (own + 2.0 * along * n / (n - 1.0)).max(0.0)
        }
    };
    Parts {
        value,
        standard_error: (probe + data).sqrt(),
        standard_error_probe: probe.sqrt(),
        standard_error_data: data.sqrt(),
    }
}

/// Quadratic forms of the residual over all examples.
struct Forms {
    pass: ResidualPass,
    crossed: Crossed,
    seed: u64,
}

impl Forms {
    fn new(subject: &Subject, seed: u64) -> Result<Forms, CurvatureError> {
        Ok(Forms { pass: ResidualPass::new(subject)?, crossed: Crossed::new(subject.weights()), seed })
    }

    /// Until there are so many vectors.
    fn until(&mut self, subject: &Subject, vectors: usize, observe: Observe<'_>) -> Result<(), CurvatureError> {
        let masked = subject.masked();
        loop {
            let done = self.crossed.rows().len();
            if done >= vectors {
                return Ok(());
            }
            let numbers = done..vectors.min(done + self.pass.width());
            let probes = Probes { kind: ProbeKind::Rademacher, seed: self.seed, numbers, size: subject.size() };
            let mut rows: Vec<Vec<f64>> = vec![vec![]; probes.numbers.len()];
            for batch in 0..subject.batches.len() {
                let forms = self.pass.run(subject, batch, Block::Probes(probes.clone()))?;
                rows.iter_mut().zip(forms).for_each(|(row, own)| row.extend(own));
            }
            for row in rows {
                let each: Vec<f64> = row.iter().zip(&masked).map(|(v, m)| v / *m as f64).collect();
                self.crossed.push(&each);
            }
            observe(&Progress { done: self.crossed.rows().len(), of: vectors, value: None })?;
        }
    }

    /// In gradients over the same examples.
    fn cost(&self, subject: &Subject) -> f64 {
        let (flops, vectors) = (self.pass.flops(), self.crossed.rows().len());
        let blocks = if subject.batches.len() == 1 { 1 } else { vectors.div_ceil(self.pass.width()) };
        (flops[0] * blocks as f64 + flops[1] * vectors as f64) / subject.gradient_flops()
    }
}
