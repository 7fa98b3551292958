//! `lowland measure hvp`: products of a matrix with vectors from a file.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Session, check_folder, print_report, unless_interrupted};
use crate::cli::arguments::{Common, MeasureHvp};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{Progress, Scope, Subject, dot, norm};
use crate::interrupt::{self, Interrupted};
use crate::model::{WeightsFile, save_tensors};

/// What is printed under `--json`; the products are in the file.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HvpReport {
    matrix: String,
    /// Vectors that were multiplied: those of the file, or the first of them until an interrupt.
    vectors: usize,
    /// vᵀ A v of each.
    quadratic_forms: Vec<f64>,
    /// ‖v‖ of each.
    vector_norms: Vec<f64>,
    /// ‖A v‖ of each.
    product_norms: Vec<f64>,
    /// Where the products are.
    out: String,
    #[serde(flatten)]
    evidence: Evidence,
}

pub(super) fn run<S>(open: S, arguments: &MeasureHvp) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    check_folder(&arguments.out)?;
    let session = open(common)?;
    let subject = session.setting(common).subject(&session.sentences()?)?;
    let (mut vectors, stacked) = read(&arguments.vector, &subject)?;
    let operator = arguments.matrix.operator(&subject)?;
    let (mut products, mut cost) = (Vec::new(), 0.0);
    session.gauge.phase("products");
    for block in vectors.chunks(common.probes as usize) {
        let Some(images) = unless_interrupted(operator.apply(block))? else { break };
        products.extend(images);
        cost += operator.product_cost(block.len());
        let done = Progress { done: products.len(), of: vectors.len(), value: None };
        if unless_interrupted(session.watch("products", "vector", &done))?.is_none() {
            break;
        }
    }
    if products.is_empty() {
        return Err(Interrupted.into());
    }
    let interrupted = products.len() < vectors.len();
    vectors.truncate(products.len());
    if !products.iter().all(|p| dot(p, p).is_finite()) {
        return Err(crate::curvature::CurvatureError::NotFinite("a product").into());
    }
    write(&arguments.out, &subject, &products, stacked)?;
    let scope = Scope::of(&subject, session.target(), cost).of_sums(arguments.matrix.of_sums());
    let report = HvpReport {
        matrix: arguments.matrix.to_string(),
        vectors: vectors.len(),
        quadratic_forms: vectors.iter().zip(&products).map(|(v, p)| dot(v, p)).collect(),
        vector_norms: vectors.iter().map(|v| norm(v)).collect(),
        product_norms: products.iter().map(|v| norm(v)).collect(),
        out: arguments.out.display().to_string(),
        evidence: session.evidence(common, scope).ended(interrupted, true),
    };
    let mut rows = report.evidence.rows(&report.matrix);
    for (i, form) in report.quadratic_forms.iter().enumerate() {
        let value = format!("‖Av‖ {}, vᵀAv {}", print::short(report.product_norms[i]), print::short(*form));
        rows.push((format!("vector {}", i + 1), value));
    }
    rows.push(("products".into(), report.out.clone()));
    print_report(common.json.json, &report, &rows, &report.evidence)
}

/// The vectors of a file, and whether they stand along a leading axis.
fn read(path: &Path, subject: &Subject) -> Result<(Vec<Vec<f32>>, bool), Failure> {
    let own = path.to_path_buf();
    let WeightsFile { tensors: mut file, rounded } = interrupt::or_stop(move || WeightsFile::read(&own))??;
    if !rounded.is_empty() {
        print::note(&format!("{}: rounded from double to single precision", path.display()));
    }
    let error = |message: String| Failure::usage(format!("{}: {message}", path.display()));
    let parameters: BTreeMap<&str, &[usize]> =
        subject.encoder().parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let mut vectors: Vec<Vec<f32>> = Vec::new();
    let mut first: Option<(String, Option<usize>)> = None;
    for (name, _) in subject.vectors().parts(subject.encoder()) {
        interrupt::check()?;
        let wanted = parameters[name];
        let Some((shape, values)) = file.remove(name) else {
            return Err(error(format!(
                "tensor `{name}` is missing (shape {wanted:?}, or that behind an axis of vectors)"
            )));
        };
        let count = match shape.split_first() {
            _ if shape == wanted => None,
            Some((count, rest)) if rest == wanted && *count > 0 => Some(*count),
            _ => {
                return Err(error(format!(
                    "tensor `{name}` has shape {shape:?}; the model's is {wanted:?}, with or without a leading axis of \
                    vectors"
                )));
            }
        };
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(error(format!("tensor `{name}` holds {} at place {i}", values[i])));
        }
        let (other, before) = first.get_or_insert_with(|| (name.to_string(), count));
        if *before != count {
            let said =
                |c: Option<usize>| c.map_or("one vector without a leading axis".into(), |c| format!("{c} vectors"));
            return Err(error(format!("`{other}` holds {}, `{name}` {}", said(*before), said(count))));
        }
        vectors.resize(count.unwrap_or(1), Vec::new());
        let size = values.len() / vectors.len();
        vectors.iter_mut().zip(values.chunks_exact(size)).for_each(|(v, own)| v.extend(own));
    }
    if let Some(name) = file.keys().next() {
        let held = subject.vectors().left_out().contains(&name.as_str());
        return Err(error(match held {
            true => format!("tensor `{name}` is held still by --only; leave it out"),
            false => format!(
                "tensor `{name}` is no parameter of this model (a tied table stands under the embedding's name)"
            ),
        }));
    }
    Ok((vectors, first.is_some_and(|(_, count)| count.is_some())))
}

/// The products under the names of the parameters, in the form of the vectors.
fn write(path: &Path, subject: &Subject, products: &[Vec<f32>], stacked: bool) -> Result<(), Failure> {
    let encoder = subject.encoder();
    let shapes: BTreeMap<&str, &[usize]> =
        encoder.parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let tensors: Vec<(&str, Vec<usize>, Vec<f32>)> = subject
        .vectors()
        .parts(encoder)
        .map(|(name, range)| {
            let lead = stacked.then_some(products.len());
            let shape = lead.into_iter().chain(shapes[name].iter().copied()).collect();
            (name, shape, products.iter().flat_map(|p| p[range.clone()].iter().copied()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, values)| (*name, shape.as_slice(), values.as_slice()));
    save_tensors(path, views).map_err(|e| Failure::io(path, &e))
}
