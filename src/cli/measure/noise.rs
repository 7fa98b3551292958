//! `lowland measure noise`: per-example gradient norms, the noise covariance, the noise scale; with `--bartlett` how noise
//! and curvature go together.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Number, Session, check_figure, finite, print_report, unless_interrupted, write_figure};
use crate::cli::arguments::{Common, LabelChoice, MeasureNoise, name_of};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{
    CurvatureError, Drawing, Gradients, Gram, GramPass, Hutchinson, Matrix, ModelOperator, Noise, Norms, Operator,
    ProductTrace, Subject, alignment, deviations, hutchinson_by_products, norm, ratio_paired,
};
use crate::interrupt;
use crate::model::{ForwardPass, dims_for};
use crate::ops::batch::Sentence;
use crate::ops::{Labels, LossDraw};
use crate::random::{Purpose, Stream};
use crate::report::{Axis, Figure, Line};
use crate::statistics::{Estimate, Target};

/// What is printed under `--json`. g_i is the gradient of example i's loss, summed over its masked positions; ḡ their mean;
/// Σ their covariance with n - 1.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NoiseReport {
    /// Always `noise_covariance`.
    matrix: String,
    /// Where the labels come from: `data` or `model`.
    labels: String,
    /// ‖g_i‖² of each example.
    per_example_squared_norm: Vec<f64>,
    /// ‖ḡ‖² as it is, with the bias Tr Σ / n of a population's. Null, as all that needs ḡ, where an interrupt came before it.
    mean_gradient_squared_norm: Option<f64>,
    /// Tr Σ.
    trace_covariance: Option<f64>,
    /// Jackknife over examples; null for fewer than 3.
    trace_covariance_standard_error: Option<f64>,
    /// ‖ḡ‖² - Tr Σ / n: without bias, therefore at times negative near an optimum.
    gradient_squared_norm: Option<f64>,
    gradient_squared_norm_standard_error: Option<f64>,
    /// Tr Σ / `gradient_squared_norm`; meaningless where that is not well above its error.
    noise_scale: Option<f64>,
    noise_scale_standard_error: Option<f64>,
    /// Of Σ, largest first, n - 1 of them; null where there are more examples than `--eigenvalues-up-to`, or after an interrupt.
    covariance_eigenvalues: Option<Vec<f64>>,
    /// With `--bartlett`.
    #[serde(skip_serializing_if = "Option::is_none")]
    bartlett: Option<Bartlett>,
    #[serde(flatten)]
    evidence: Evidence,
}

/// Three traces over the same examples, all of an example's summed loss, which agree where the model's conditionals are the
/// data's (Liu et al. 2023, Lemma 4.2), and how Σ and the Hessian lie to each other.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct Bartlett {
    trace_covariance: Number,
    /// By random signs.
    trace_fisher: Number,
    /// By probe vectors.
    trace_hessian: Number,
    covariance_over_fisher: Number,
    covariance_over_hessian: Number,
    hessian_over_fisher: Number,
    /// Tr(Σ H) / (‖Σ‖_F ‖H‖_F), 1 where the two are proportional; null where there are too few examples for ‖Σ‖_F.
    alignment: Option<f64>,
    /// Examples whose (g_i - ḡ)ᵀ H (g_i - ḡ) gave Tr(Σ H).
    alignment_examples: usize,
}

pub(super) fn run<S>(open: S, arguments: &MeasureNoise) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    check_figure(arguments.out.as_deref())?;
    let session = open(common)?;
    let mut sentences = session.sentences()?;
    if sentences.len() < 2 {
        return Err(Failure::usage("gradient noise needs at least 2 examples; give more (--count)"));
    }
    if arguments.labels == LabelChoice::Model {
        session.gauge.phase("labels");
        sentences = relabelled(&session, &sentences, common)?;
    }
    let subject = session.subject(common, &sentences, common.on.batch)?;
    let n = subject.examples();
    let norms = Norms::measure(&subject, &mut |p| session.watch("gradient norms", "example", p))?;
    let mut cost = norms.gradient_equivalents;
    // Each part is there or was interrupted, and then so is all that follows.
    session.gauge.phase("mean gradient");
    let with_mean = match norms.interrupted {
        true => None,
        false => unless_interrupted(with_mean(&subject))?,
    };
    if !norms.squared.iter().chain(with_mean.iter().flat_map(|w| &w.slopes)).all(|x| x.is_finite()) {
        return Err(CurvatureError::NotFinite("a gradient's norm").into());
    }
    let noise = with_mean.as_ref().map(|w| Noise::of(&norms.squared, &w.slopes));
    cost += with_mean.as_ref().map_or(0.0, |w| w.cost);
    let wanted = n <= arguments.eigenvalues_up_to as usize;
    if !wanted {
        print::note(&format!("no covariance eigenvalues of {n} examples: give --eigenvalues-up-to {n}"));
    }
    session.gauge.phase("inner products");
    let gram = match wanted && with_mean.is_some() {
        true => unless_interrupted(session.subject(common, &sentences, n as u32).and_then(inner_products))?,
        false => None,
    };
    cost += gram.as_ref().map_or(0.0, |(_, cost)| *cost);
    let gram = gram.map(|(gram, _)| gram);
    session.gauge.phase("eigenvalues");
    let eigenvalues = match gram.clone() {
        Some(gram) => interrupt::or_stop(move || gram.covariance_eigenvalues()).ok(),
        None => None,
    };
    let bartlett = match (&with_mean, &noise) {
        (Some(w), Some(noise)) if arguments.bartlett => {
            let known = (norms.squared.as_slice(), w.slopes.as_slice(), w.mean.as_slice());
            unless_interrupted(bartlett(&session, arguments, &subject, known, gram.as_ref(), noise))?
        }
        _ => None,
    };
    cost += bartlett.as_ref().map_or(0.0, |(_, own)| *own);
    let interrupted = noise.is_none() || wanted && eigenvalues.is_none() || arguments.bartlett && bartlett.is_none();
    let of = |f: fn(&Noise) -> Estimate| (noise.as_ref().map(f).map(Number::from)).unwrap_or_default();
    let (covariance, gradient, scale) =
        (of(|n| n.trace_covariance), of(|n| n.gradient_squared_norm), of(|n| n.noise_scale));
    let report = NoiseReport {
        matrix: "noise_covariance".into(),
        labels: name_of(arguments.labels),
        mean_gradient_squared_norm: with_mean.as_ref().map(|w| norm(&w.mean).powi(2)),
        trace_covariance: covariance.value,
        trace_covariance_standard_error: covariance.standard_error,
        gradient_squared_norm: gradient.value,
        gradient_squared_norm_standard_error: gradient.standard_error,
        noise_scale: scale.value,
        noise_scale_standard_error: scale.standard_error,
        covariance_eigenvalues: eigenvalues,
        evidence: session
            .evidence(common, &subject, Target::Population, cost)
            .of_first(&subject, norms.squared.len())
            .ended(interrupted, true),
        per_example_squared_norm: norms.squared,
        bartlett: bartlett.map(|(bartlett, _)| bartlett),
    };
    write_figure(arguments.out.as_deref(), || figure(&report))?;
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

/// ḡ and ⟨g_i, ḡ⟩ of each example.
struct WithMean {
    mean: Vec<f32>,
    slopes: Vec<f64>,
    cost: f64,
}

fn with_mean(subject: &Subject) -> Result<WithMean, CurvatureError> {
    let mean = Gradients::new(subject)?.mean(subject)?;
    // One pass along ḡ.
    let operator = ModelOperator::new(subject, Matrix::Hessian);
    let slopes = operator.forms(std::slice::from_ref(&mean))?.swap_remove(0).slope;
    Ok(WithMean { mean, slopes, cost: 1.0 + operator.form_cost(1) })
}

/// g_i·g_j of examples in one batch, and the cost.
fn inner_products(together: Subject) -> Result<(Gram, f64), CurvatureError> {
    let pass = GramPass::new(&together)?;
    Ok((pass.run(&together)?, pass.cost(&together)))
}

/// The examples with labels drawn from the model: a function of the seed and an example's number.
fn relabelled(session: &Session, sentences: &[Sentence], common: &Common) -> Result<Vec<Sentence>, Failure> {
    let dims = dims_for(sentences, common.on.batch as usize);
    let pass = ForwardPass::new(&session.model, dims, Labels::Hard, true)?;
    let classes = session.model.encoder.classes() as usize;
    let mut drawn = Vec::with_capacity(sentences.len());
    for chunk in sentences.chunks(common.on.batch as usize) {
        pass.run(chunk)?;
        let logits = pass.logits(chunk.iter().map(|s| s.masked.len()).sum())?;
        let mut rows = logits.chunks_exact(classes);
        for sentence in chunk {
            let mut stream = Stream::new(common.seed(), Purpose::Label, drawn.len() as u64);
            let mut sentence = Sentence { soft: Vec::new(), ..sentence.clone() };
            for ((_, label), row) in sentence.masked.iter_mut().zip(rows.by_ref()) {
                *label = draw(row, stream.uniform());
            }
            drawn.push(sentence);
        }
    }
    Ok(drawn)
}

/// The class at which the cumulative softmax passes u.
fn draw(logits: &[f32], u: f64) -> u32 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - most).exp()).collect();
    let mut left = u * weights.iter().sum::<f64>();
    for (class, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return class as u32;
        }
    }
    // Rounding only: the last class that can be.
    weights.iter().rposition(|w| *w > 0.0).unwrap_or(0) as u32
}

/// Deviations whose quadratic forms give Tr(Σ H), each over all examples.
const DEVIATIONS: usize = 64;

fn bartlett(
    session: &Session,
    arguments: &MeasureNoise,
    subject: &Subject,
    (squares, slopes, mean): (&[f64], &[f64], &[f32]),
    gram: Option<&Gram>,
    noise: &Noise,
) -> Result<(Bartlett, f64), CurvatureError> {
    let n = subject.examples();
    let masked = subject.masked();
    // ‖g_i - ḡ‖² with the n / (n - 1) of the covariance: their mean is Tr Σ.
    let mean_square = norm(mean).powi(2);
    let scale = n as f64 / (n as f64 - 1.0);
    let covariance = deviations(squares, slopes, mean_square);
    let seed = arguments.common.seed();
    let mut drawing = Drawing::new(subject, LossDraw::Signs, seed, 16)?;
    let drawn = drawing.run(subject, Target::Population, None, 0, &mut |p| session.watch("fisher", "example", p))?;
    if drawn.trace.interrupted {
        return Err(CurvatureError::Interrupted);
    }
    let fisher: Vec<f64> = drawing.per_example().iter().map(|(trace, positions)| trace * *positions as f64).collect();
    let operator = ModelOperator::new(subject, Matrix::Hessian);
    let what = Hutchinson {
        samples: arguments.samples as usize,
        seed,
        block: arguments.common.probes as usize,
        target: Target::Population,
        ..Hutchinson::default()
    };
    let ProductTrace { trace, per_example, .. } =
        hutchinson_by_products(&operator, &[], &what, &mut |p| session.watch("hessian", "probe", p))?;
    if trace.interrupted {
        return Err(CurvatureError::Interrupted);
    }
    let hessian: Vec<f64> = per_example.iter().zip(&masked).map(|(t, m)| t * *m as f64).collect();
    // Of the mean over examples of summed losses: the mean loss per position times the mean number of positions.
    let positions = masked.iter().sum::<usize>() as f64 / n as f64;
    let probes = trace.standard_error_probe / trace.estimate.abs();
    let of = |values: &[f64]| Estimate::of_mean(values);
    // The jackknife over examples sees all but the probes, which the examples share.
    let ratio = |a: &[f64], b: &[f64], shared: f64| {
        let r = ratio_paired(a, b);
        Number::from(Estimate { standard_error: r.standard_error.hypot(r.value * shared), ..r })
    };
    let with_probes =
        |e: Estimate, shared: f64| Estimate { standard_error: e.standard_error.hypot(e.value * shared), ..e };
    let mut cost = drawn.trace.gradient_equivalents + trace.gradient_equivalents;
    let deviations = n.min(DEVIATIONS);
    let gradients = Gradients::new(subject)?;
    let mut block = Vec::with_capacity(deviations);
    for example in 0..deviations {
        let mut own = gradients.of_example(subject, example)?;
        own.iter_mut().zip(mean).for_each(|(g, m)| *g -= m);
        block.push(own);
    }
    let weights = operator.weights();
    let forms: Vec<f64> = operator
        .quadratic_forms(&block)?
        .iter()
        .map(|values| positions * values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>())
        .collect();
    cost += operator.form_cost(deviations);
    // Of the first few deviations: the sum over n - 1 is that over them, scaled.
    let forms: Vec<f64> = forms.iter().map(|f| f * scale * (deviations as f64 - 1.0) / deviations as f64).collect();
    let squared = gram.map(|g| g.covariance_squared_norm().1);
    let hessian_square = trace.squared_norm.unwrap_or(f64::NAN) * positions * positions;
    Ok((
        Bartlett {
            trace_covariance: noise.trace_covariance.into(),
            trace_fisher: of(&fisher).into(),
            trace_hessian: with_probes(of(&hessian), probes).into(),
            covariance_over_fisher: ratio(&covariance, &fisher, 0.0),
            covariance_over_hessian: ratio(&covariance, &hessian, probes),
            hessian_over_fisher: ratio(&hessian, &fisher, probes),
            alignment: squared.and_then(|s| finite(alignment(&forms, s, hessian_square))),
            alignment_examples: deviations,
        },
        cost,
    ))
}

fn rows(report: &NoiseReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let known =
        |value: Option<f64>, error| value.map_or("unknown".to_string(), |value| print::with_error(value, error));
    let scale =
        report.noise_scale.map_or("undefined".into(), |s| print::with_error(s, report.noise_scale_standard_error));
    let mut rows = vec![
        row("Tr Σ", known(report.trace_covariance, report.trace_covariance_standard_error)),
        row("‖ḡ‖²", known(report.mean_gradient_squared_norm, None)),
        row("‖ḡ‖² - Tr Σ / n", known(report.gradient_squared_norm, report.gradient_squared_norm_standard_error)),
        row("noise scale", scale),
    ];
    if let Some(values) = &report.covariance_eigenvalues {
        let first: Vec<String> = values.iter().take(5).map(|v| print::short(*v)).collect();
        rows.push(row("eigenvalues of Σ", first.join(", ") + if values.len() > 5 { ", ..." } else { "" }));
    }
    if let Some(b) = &report.bartlett {
        rows.push(row("Tr F", b.trace_fisher.text()));
        rows.push(row("Tr H", b.trace_hessian.text()));
        rows.push(row("Tr Σ / Tr F", b.covariance_over_fisher.text()));
        rows.push(row("Tr Σ / Tr H", b.covariance_over_hessian.text()));
        rows.push(row("Tr H / Tr F", b.hessian_over_fisher.text()));
        rows.push(row("alignment of Σ, H", b.alignment.map_or("unknown".into(), print::short)));
    }
    rows.extend(report.evidence.rows(&format!("covariance of gradients, labels of the {}", report.labels)));
    rows
}

fn figure(report: &NoiseReport) -> Figure {
    let (name, mut values) = match &report.covariance_eigenvalues {
        Some(values) => ("eigenvalue of Σ", values.clone()),
        None => ("‖g_i‖²", report.per_example_squared_norm.clone()),
    };
    values.sort_by(|a, b| b.total_cmp(a));
    let points = values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect();
    Figure {
        title: format!("gradient noise, labels of the {}", report.labels),
        x: "rank".into(),
        y: name.into(),
        axis: Axis::Log,
        lines: vec![Line::new(name, points)],
        level: None,
    }
}
