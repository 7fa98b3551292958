//! `lowland measure` as scripts see it: numbers against double precision, JSON names, files, exit codes.

use std::path::PathBuf;

use crate::common::fixtures::fixture;
use crate::common::truth::Truth;
use lowland::model::{Encoder, ModelConfig, ModelKind, Weights, save};
use serde_json::Value;

use crate::folder::{Folder, number, signal, text};
use crate::schema::{conforms, recorded_schema};

const RUN: &str = "[train]\nsteps = 30\nbatch_size = 64\n[evaluate]\nsentences = 100\n";

/// A folder with a trained model in `run/model`.
fn trained() -> Folder {
    let f = Folder::new(RUN);
    f.train(&["output=run"], 0);
    f
}

/// What a measurement prints under `--json`, which must be as its schema says.
fn measure(f: &Folder, what: &str, arguments: &[&str]) -> Value {
    let value = f.json(&[&["measure", what], arguments, &["--json"]].concat());
    let schema = recorded_schema(&format!("measure-{what}"));
    conforms(&value, &schema, &schema, what);
    value
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// A fixture's model and examples.
fn given(model: &str) -> [String; 2] {
    let folder = fixture(model);
    [folder.display().to_string(), folder.join("examples.jsonl").display().to_string()]
}

/// Bytes of everything in a model's folder.
fn contents(model: &str) -> Vec<Vec<u8>> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(fixture(model)).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names.iter().map(|n| std::fs::read(n).unwrap()).collect()
}

#[test]
fn schemas_checked_in_are_the_codes() {
    let f = Folder::new(RUN);
    for of in [
        "eval",
        "measure-trace",
        "measure-hvp",
        "measure-spectrum",
        "measure-noise",
        "measure-sharpness",
        "measure-flatness",
        "measure-perturb",
        "measure-llc",
    ] {
        let output = f.lowland(&["config", "schema", of]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let now: Value = serde_json::from_slice(&output.stdout).unwrap();
        let write = format!("write it anew: lowland config schema {of} > docs/schema/{of}.schema.json");
        assert_eq!(recorded_schema(of), now, "{write}");
    }
    let [model, examples] = given("roberta-20");
    for more in [&[][..], &["--per-example"]] {
        let output = f.lowland(&[&["eval", &model, &examples, "--json"], more].concat());
        conforms(
            &serde_json::from_slice(&output.stdout).unwrap(),
            &recorded_schema("eval"),
            &recorded_schema("eval"),
            "eval",
        );
    }
}

#[test]
fn traces_without_probes_are_those_of_double_precision() {
    let f = Folder::new(RUN);
    for name in ["roberta-20", "bert-24"] {
        let truth = Truth::read(name, "curvature");
        let before = contents(name);
        let [model, examples] = given(name);
        let want = truth.values("fisher_trace")[0];
        let exact = measure(&f, "trace", &[&model, &examples, "--estimator", "exact-labels", "--batch", "3"]);
        assert_eq!((&exact["matrix"], &exact["estimator"]), (&"fisher".into(), &"exact-labels".into()));
        assert!((number(&exact, "trace") / want - 1.0).abs() <= 1e-5, "{name}: {}", exact["trace"]);
        assert_eq!(number(&exact, "standard_error"), 0.0);
        let mut sum = 0.0;
        for (tensor, value) in exact["per_tensor"].as_object().unwrap() {
            let own = truth.values(&format!("fisher_trace.{tensor}"))[0];
            let got = value.as_f64().unwrap();
            assert!((got - own).abs() <= 1e-5 * own + 1e-6 * want, "{name} {tensor}: {got} against {own}");
            sum += got;
        }
        assert!((sum / want - 1.0).abs() <= 1e-5);
        for estimator in ["sampled-labels", "random-signs"] {
            let drawn = measure(&f, "trace", &[&model, &examples, "--estimator", estimator, "--samples", "2000"]);
            let z = (number(&drawn, "trace") - want) / number(&drawn, "standard_error");
            assert!(z.abs() < 4.0, "{name} {estimator}: z = {z}");
            let n = number(&drawn, "count");
            assert_eq!(number(&drawn, "samples"), (2000.0 / n).floor() * n, "{name}: pairs of example and draw");
            assert_eq!(number(&drawn, "standard_error_data"), 0.0);
        }
        let data = measure(&f, "trace", &[&model, &examples, "--matrix", "empirical_fisher"]);
        let norms = truth.values("squared_norm");
        let mean = norms.iter().sum::<f64>() / norms.len() as f64;
        assert!((number(&data, "trace") / mean - 1.0).abs() <= 1e-5, "{name}: {}", data["trace"]);
        assert!(contents(name) == before, "{name}: measuring changed the model's folder");
    }
}

#[test]
fn traces_with_probes_agree_with_the_dense_hessian_and_with_each_other() {
    let f = Folder::new(RUN);
    let truth = Truth::read("roberta-tiny", "curvature");
    let [model, examples] = given("roberta-tiny");
    for (matrix, want) in [("hessian", "hessian_trace"), ("ggn", "ggn_trace")] {
        let want = truth.values(want)[0];
        for estimator in ["hutchinson", "quadratic-form", "hutch++", "xtrace"] {
            let got = measure(
                &f,
                "trace",
                &[&model, &examples, "--estimator", estimator, "--matrix", matrix, "--samples", "96", "--seed", "5"],
            );
            let z = (number(&got, "trace") - want) / number(&got, "standard_error");
            assert!(z.abs() < 4.0, "{matrix} {estimator}: {} against {want}, z = {z}", got["trace"]);
            assert_eq!(got["matrix"], matrix);
            assert_eq!(got["per_tensor"].is_object(), estimator == "hutchinson");
            assert!(number(&got, "samples") <= 96.0 && number(&got, "gradient_equivalents") > 40.0);
        }
    }
    let square = truth.values("hessian_squared_norm")[0];
    let trace = |more: &[&str]| measure(&f, "trace", &[&[model.as_str(), &examples, "--samples", "48"], more].concat());
    let products = trace(&["--estimator", "hutchinson"]);
    let forms = trace(&["--estimator", "quadratic-form", "--batch", "2", "--probes", "3"]);
    let (a, b) = (number(&products, "trace"), number(&forms, "trace"));
    let scale = number(&products, "standard_error");
    assert!((a - b).abs() < 1e-3 * scale, "the same probes, {a} by products and {b} by forms");
    let norms = number(&products, "squared_norm");
    assert!((norms / square - 1.0).abs() < 0.5, "‖H‖_F² {norms} against {square}");
    assert!((number(&products, "r_eff") - a * a / norms).abs() < 1e-9 * a * a / norms);
    let sum: f64 = products["per_tensor"].as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
    let layers: f64 = products["per_layer"].as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
    assert!((sum - a).abs() < 1e-3 * scale && (layers - sum).abs() < 1e-6 * scale);
    // Held still: the rest's own trace and size.
    let only = trace(&["--estimator", "hutchinson", "--only", "*.layer.0.*"]);
    assert!(number(&only, "parameters") < number(&products, "parameters"));
    assert!(!only["left_out"].as_array().unwrap().is_empty());
    assert_eq!(only["per_layer"].as_object().unwrap().keys().collect::<Vec<_>>(), ["layer 0"]);
}

#[test]
fn moments_of_gradients_have_products_traces_and_eigenvalues_that_agree() {
    let f = Folder::new(RUN);
    for name in ["roberta-20", "bert-24"] {
        let truth = Truth::read(name, "curvature");
        let [model, examples] = given(name);
        let norms = truth.values("squared_norm");
        let mean = norms.iter().sum::<f64>() / norms.len() as f64;
        for (matrix, want) in [("empirical_fisher", mean), ("noise_covariance", truth.values("trace_covariance")[0])] {
            let exact = measure(&f, "trace", &[&model, &examples, "--matrix", matrix]);
            assert_eq!((&exact["matrix"], &exact["estimator"]), (&matrix.into(), &"data-labels".into()));
            assert!((number(&exact, "trace") / want - 1.0).abs() <= 1e-5, "{name} {matrix}: {}", exact["trace"]);
            let sum: f64 = exact["per_tensor"].as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
            assert!((sum / want - 1.0).abs() <= 1e-5, "{name} {matrix}: {sum} over the tensors");
            let sample = measure(&f, "trace", &[&model, &examples, "--matrix", matrix, "--as-sample"]);
            assert!(number(&sample, "standard_error_data") > 0.0 && sample["trace"] == exact["trace"]);
            for estimator in ["quadratic-form", "hutchinson", "hutch++", "xtrace"] {
                let common = [&model, &examples, "--matrix", matrix, "--estimator", estimator];
                let got = measure(&f, "trace", &[&common[..], &["--rel-error", "0.1"]].concat());
                let (error, trace) = (number(&got, "standard_error"), number(&got, "trace"));
                assert!(got["reached"] == true && error <= 0.1 * trace, "{matrix} {estimator}: {trace} ± {error}");
                // Where a sketch spans the whole range only the rounding of f32 is left.
                assert!(
                    (trace - want).abs() <= 4.0 * error + 1e-4 * want,
                    "{matrix} {estimator}: {trace} ± {error}, {want}"
                );
            }
        }
        let spectrum = measure(&f, "spectrum", &[&model, &examples, "--matrix", "noise_covariance", "--top", "3"]);
        let noise = measure(&f, "noise", &[&model, &examples]);
        let want = numbers(&noise["covariance_eigenvalues"]);
        for (got, want) in numbers(&spectrum["eigenvalues"]).iter().zip(&want) {
            assert!((got / want - 1.0).abs() <= 1e-3, "{name}: {got} against {want}");
        }
        write(&f.path("v.safetensors"), &recorded(name, "curvature", "probe", &[3]));
        let products = [&model, &examples, "--vector", "v.safetensors", "--out", "fv.safetensors", "--matrix"];
        let fisher = measure(&f, "hvp", &[&products[..], &["empirical_fisher"]].concat());
        assert_eq!(fisher["matrix"], "empirical_fisher");
        assert!(numbers(&fisher["quadratic_forms"]).iter().all(|q| *q > 0.0));
        assert_eq!(read(&f.path("fv.safetensors")).len(), recorded(name, "curvature", "probe", &[3]).len());
    }
}

/// Writes tensors of f32.
fn write(path: &std::path::Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let views = tensors.iter().map(|(name, shape, values)| {
        let bytes = bytemuck::cast_slice(values);
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn read(path: &std::path::Path) -> Vec<(String, Vec<usize>, Vec<f64>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(data).into_iter().map(f64::from).collect();
    let mut all: Vec<_> = file.tensors().into_iter().map(|(n, v)| (n, v.shape().to_vec(), values(v.data()))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What a file of a fixture recorded by parameter under a prefix, with a leading axis.
fn recorded(model: &str, file: &str, prefix: &str, leading: &[usize]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = |name: &str| std::fs::read(fixture(model).join(format!("{name}.safetensors"))).unwrap();
    let (shapes, recorded) = (bytes("model"), bytes(file));
    let shapes = safetensors::SafeTensors::deserialize(&shapes).unwrap();
    let recorded = safetensors::SafeTensors::deserialize(&recorded).unwrap();
    let truth = Truth::read(model, file);
    let own = recorded.names().into_iter().filter_map(|n| n.strip_prefix(&format!("{prefix}.")).map(String::from));
    own.map(|name| {
        let shape = [leading, shapes.tensor(&name).unwrap().shape()].concat();
        let values = truth.values(&format!("{prefix}.{name}")).iter().map(|x| *x as f32).collect();
        (name, shape, values)
    })
    .collect()
}

#[test]
fn products_are_those_of_double_precision() {
    let f = Folder::new(RUN);
    for name in ["roberta-20", "bert-untied"] {
        let [model, examples] = given(name);
        let probes = recorded(name, "curvature", "probe", &[3]);
        write(&f.path("v.safetensors"), &probes);
        for matrix in ["hessian", "ggn"] {
            let report = measure(
                &f,
                "hvp",
                &[
                    &model,
                    &examples,
                    "--vector",
                    "v.safetensors",
                    "--out",
                    "hv.safetensors",
                    "--matrix",
                    matrix,
                    "--probes",
                    "2",
                ],
            );
            assert_eq!((number(&report, "vectors"), &report["matrix"]), (3.0, &matrix.into()));
            let products = read(&f.path("hv.safetensors"));
            let wanted = recorded(name, "curvature", &format!("{matrix}_product"), &[3]);
            assert_eq!(products.len(), wanted.len());
            for k in 0..3 {
                let (mut off, mut whole, mut form) = (0.0, 0.0, 0.0);
                for (tensor, shape, want) in &wanted {
                    let got = products.iter().find(|p| p.0 == *tensor).unwrap();
                    assert_eq!(got.1, *shape);
                    let size = want.len() / 3;
                    let v = &probes.iter().find(|p| p.0 == *tensor).unwrap().2;
                    for i in k * size..(k + 1) * size {
                        off += (got.2[i] - f64::from(want[i])).powi(2);
                        whole += f64::from(want[i]).powi(2);
                        form += f64::from(v[i]) * got.2[i];
                    }
                }
                assert!(off.sqrt() <= 2e-4 * whole.sqrt(), "{name} {matrix}: {:.1e}", (off / whole).sqrt());
                let said = numbers(&report["quadratic_forms"])[k];
                assert!((said - form).abs() <= 1e-6 * whole.sqrt() * numbers(&report["vector_norms"])[k]);
            }
        }
    }
}

#[test]
fn vectors_that_do_not_fit_are_refused_by_tensor() {
    let f = Folder::new(RUN);
    let [model, examples] = given("roberta-tiny");
    let probes = recorded("roberta-tiny", "curvature", "probe", &[3]);
    let hvp = |tensors: &[(String, Vec<usize>, Vec<f32>)], more: &[&str]| {
        write(&f.path("v.safetensors"), tensors);
        let common = ["measure", "hvp", &model, &examples, "--vector", "v.safetensors", "--out", "hv.safetensors"];
        f.lowland(&[&common[..], more].concat())
    };
    let mut missing = probes.clone();
    let gone = missing.pop().unwrap().0;
    let mut extra = probes.clone();
    extra.push(("lm_head.decoder.weight".into(), vec![1], vec![0.0]));
    let mut flat = probes.clone();
    flat[0].1 = vec![flat[0].2.len()];
    let mut fewer = probes.clone();
    let one = fewer[0].2.len() / 3;
    fewer[0].1[0] = 1;
    fewer[0].2.truncate(one);
    let mut infinite = probes.clone();
    infinite[0].2[0] = f32::INFINITY;
    let cases = [
        (missing, format!("`{gone}` is missing")),
        (extra, "`lm_head.decoder.weight` is no parameter".into()),
        (flat, "has shape".into()),
        (fewer, "1 vectors".into()),
        (infinite, "inf".into()),
    ];
    for (tensors, wanted) in &cases {
        let output = hvp(tensors, &[]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wanted}: {error}");
        assert!(error.contains(wanted), "`{wanted}` is not in: {error}");
        assert!(!f.path("hv.safetensors").exists());
    }
    let held = hvp(&probes, &["--only", "*.layer.0.*"]);
    assert_eq!(held.status.code(), Some(2));
    assert!(text(&held.stderr).contains("--only"), "{}", text(&held.stderr));
    // A single vector needs no leading axis.
    let single: Vec<_> =
        probes.iter().map(|(n, s, v)| (n.clone(), s[1..].to_vec(), v[..v.len() / 3].to_vec())).collect();
    assert_eq!(hvp(&single, &[]).status.code(), Some(0));
    let alone = read(&f.path("hv.safetensors"));
    assert_eq!(hvp(&probes, &[]).status.code(), Some(0));
    for (one, three) in alone.iter().zip(read(&f.path("hv.safetensors"))) {
        assert_eq!((one.1.as_slice(), &three.2[..one.2.len()]), (&three.1[1..], one.2.as_slice()));
    }
}

#[test]
fn spectra_are_those_of_double_precision() {
    let f = Folder::new(RUN);
    let truth = Truth::read("roberta-tiny", "curvature");
    let [model, examples] = given("roberta-tiny");
    let report = measure(
        &f,
        "spectrum",
        &[&model, &examples, "--top", "5", "--density", "--density-probes", "6", "--steps", "40", "--out", "d.svg"],
    );
    let mut want = truth.values("hessian_eigenvalues");
    want.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    let got = numbers(&report["eigenvalues"]);
    assert_eq!(got.len(), 5);
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g / w - 1.0).abs() <= 1e-3 && report["converged"][i] == true, "{g} against {w}");
        assert!(numbers(&report["residuals"])[i] <= 1e-3 * g.abs());
    }
    let (grid, density) = (numbers(&report["grid"]), numbers(&report["density"]));
    let mass: f64 = density.iter().sum::<f64>() * (grid[1] - grid[0]);
    assert!((mass - 1.0).abs() < 1e-2, "a density of mass {mass}");
    let mean = want.iter().sum::<f64>() / want.len() as f64;
    let said = &report["mean_eigenvalue"];
    assert!((number(said, "value") - mean).abs() < 4.0 * number(said, "standard_error"));
    // 40 steps cannot tell how much is zero; enough to exhaust the Krylov spaces can.
    assert!(report["near_zero"].is_null(), "{}", report["near_zero"]);
    let floor = number(&report, "floor");
    let share = want.iter().filter(|w| w.abs() < floor).count() as f64 / want.len() as f64;
    let most = &report["near_zero_at_most"];
    assert!(share > 0.05 && number(most, "value") > share - 4.0 * number(most, "standard_error"), "{share}: {most}");
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("cannot be told") && note.contains("--steps"), "{note}");
    // Positions 0, 1, 10 and 11 of 12, six numbers each, and the biases of six keys, of 547 parameters.
    assert_eq!(report["untouched_parameters"], 4 * 6 + 6);
    assert!((number(&report, "untouched_share") - 30.0 / 547.0).abs() < 1e-12);
    let whole = measure(
        &f,
        "spectrum",
        &[&model, &examples, "--top", "1", "--density", "--density-probes", "6", "--steps", "547"],
    );
    let told = &whole["near_zero"];
    assert!((number(told, "value") - share).abs() < 4.0 * number(told, "standard_error"), "{share}: {told}");
    assert!(whole["notes"].as_array().unwrap().is_empty());
    let figure = std::fs::read_to_string(f.path("d.svg")).unwrap();
    assert!(figure.starts_with("<svg") && !figure.contains("var(") && figure.contains("spectral density"));
    let plain = measure(&f, "spectrum", &[&model, &examples, "--top", "1", "--matrix", "ggn"]);
    assert!(plain.get("density").is_none());
    let largest = truth.values("ggn_eigenvalues")[0];
    assert!((numbers(&plain["eigenvalues"])[0] / largest - 1.0).abs() <= 1e-3);
}

#[test]
fn gradient_noise_is_that_of_double_precision() {
    let f = Folder::new(RUN);
    for name in ["roberta-20", "bert-18"] {
        let truth = Truth::read(name, "curvature");
        let [model, examples] = given(name);
        let report = measure(&f, "noise", &[&model, &examples, "--out", "n.svg", "--bartlett", "--samples", "400"]);
        let squares = truth.values("squared_norm");
        let close = |got: f64, want: f64, bound: f64, what: &str| {
            assert!((got - want).abs() <= bound * want.abs(), "{name} {what}: {got} against {want}");
        };
        for (g, w) in numbers(&report["per_example_squared_norm"]).iter().zip(&squares) {
            close(*g, *w, 1e-5, "a squared norm");
        }
        let (mean, trace) = (truth.values("mean_gradient_squared_norm")[0], truth.values("trace_covariance")[0]);
        let n = squares.len() as f64;
        close(number(&report, "mean_gradient_squared_norm"), mean, 1e-5, "‖ḡ‖²");
        close(number(&report, "trace_covariance"), trace, 2e-5, "Tr Σ");
        let signal = mean - trace / n;
        assert!((number(&report, "gradient_squared_norm") - signal).abs() <= 1e-4 * mean, "{name}");
        close(number(&report, "noise_scale"), trace / signal, 1e-4 * mean / signal.abs(), "noise scale");
        let eigenvalues = numbers(&report["covariance_eigenvalues"]);
        let wanted = truth.values("covariance_eigenvalues");
        assert_eq!(eigenvalues.len(), wanted.len());
        for (g, w) in eigenvalues.iter().zip(&wanted) {
            assert!((g - w).abs() <= 1e-5 * wanted[0], "{name}: {g} against {w}");
        }
        // Tr(Σ H) / (‖Σ‖ ‖H‖) with the recorded Tr(Σ H); the rest of it from the report's own ingredients.
        let bartlett = &report["bartlett"];
        let positions = number(&report, "masked_positions") / n;
        let fisher = number(&bartlett["trace_fisher"], "value");
        let summed = truth.values("fisher_trace")[0] * positions;
        let probe = 0.2;
        close(fisher, summed, probe, "Tr F");
        let ratio = number(&bartlett["covariance_over_fisher"], "value");
        close(ratio, trace / fisher, 1e-4, "Tr Σ / Tr F");
        let hessian = number(&bartlett["trace_hessian"], "value");
        close(number(&bartlett["covariance_over_hessian"], "value"), trace / hessian, 1e-3, "Tr Σ / Tr H");
        let sign = truth.values("trace_covariance_hessian")[0].signum();
        let alignment = bartlett["alignment"].as_f64();
        assert!(alignment.is_none_or(|a| a.signum() == sign), "{name}: {alignment:?}");
        assert!(std::fs::read_to_string(f.path("n.svg")).unwrap().contains("<svg"));
        // Batches, and labels that come from the model.
        let few = measure(&f, "noise", &[&model, &examples, "--batch", "2", "--eigenvalues-up-to", "2"]);
        assert!(few["covariance_eigenvalues"].is_null());
        close(number(&few, "trace_covariance"), number(&report, "trace_covariance"), 2e-6, "in batches");
        let model_labels = measure(&f, "noise", &[&model, &examples, "--labels", "model", "--seed", "4"]);
        assert_eq!(model_labels["labels"], "model");
        assert_ne!(model_labels["per_example_squared_norm"], report["per_example_squared_norm"]);
    }
}

#[test]
fn sharpness_is_curvature_along_the_gradient_and_the_loss_rises_as_it_says() {
    let f = Folder::new(RUN);
    let name = "roberta-20";
    let before = contents(name);
    let [model, examples] = given(name);
    // The recorded gradient as a vector: gᵀHg / ‖g‖² by a product.
    let gradient = recorded(name, "truth", "gradient", &[]);
    write(&f.path("g.safetensors"), &gradient);
    let hvp = measure(&f, "hvp", &[&model, &examples, "--vector", "g.safetensors", "--out", "hg.safetensors"]);
    let length = numbers(&hvp["vector_norms"])[0];
    let along = numbers(&hvp["quadratic_forms"])[0] / (length * length);
    let report =
        measure(&f, "sharpness", &[&model, &examples, "--sharpness-batch", "7", "--rho", "1e-3", "--out", "s.svg"]);
    let sharp = number(&report["batch_sharpness"], "value");
    assert!((sharp / along - 1.0).abs() < 1e-4, "{sharp} against {along}");
    assert!(report["batch_sharpness"]["standard_error"].is_null(), "one batch has no standard error");
    assert!((number(&report["gradient_norm"], "value") / length - 1.0).abs() < 1e-5);
    let rise = number(&report["ascent_loss"], "value");
    let expected = 1e-3 * length + 0.5e-6 * sharp;
    assert!((rise / expected - 1.0).abs() < 1e-2, "{rise} against {expected}");
    let want = Truth::read(name, "curvature").values("top_eigenvalues").into_iter().fold(f64::NEG_INFINITY, f64::max);
    assert!((number(&report, "largest_eigenvalue") / want - 1.0).abs() <= 1e-3);
    let batches = measure(&f, "sharpness", &[&model, &examples, "--sharpness-batch", "2"]);
    assert_eq!((number(&batches, "batches"), numbers(&batches["batch_sharpness_values"]).len()), (3.0, 3));
    assert!(number(&batches["batch_sharpness"], "standard_error") > 0.0);
    assert!(std::fs::read_to_string(f.path("s.svg")).unwrap().contains("largest eigenvalue"));
    assert!(contents(name) == before, "measuring changed the model's folder");
}

#[test]
fn a_language_is_a_population_and_is_drawn_until_the_error_is_small_enough() {
    let f = trained();
    let trace = |more: &[&str]| measure(&f, "trace", &[&["run/model", "run.toml"], more].concat());
    let signs = trace(&["--estimator", "random-signs", "--samples", "400"]);
    assert_eq!(
        (&signs["target"], number(&signs, "count"), number(&signs, "draws")),
        (&"population".into(), 200.0, 2.0)
    );
    let parts = number(&signs, "standard_error_probe").hypot(number(&signs, "standard_error_data"));
    assert!((parts / number(&signs, "standard_error") - 1.0).abs() < 1e-9);
    assert!(number(&signs, "standard_error_probe") > 0.0 && number(&signs, "standard_error_data") > 0.0);
    // In rounds: the error is reached with fewer sentences than there could be, and batches change nothing.
    let rounds = ["--matrix", "fisher", "--rel-error", "0.03", "--minimum", "64"];
    let reached = trace(&[&rounds[..], &["--batch", "64"]].concat());
    let relative = number(&reached, "standard_error") / number(&reached, "trace");
    assert!(reached["reached"] == true && relative <= 0.03, "{relative}");
    let sentences = number(&reached, "count");
    assert!(sentences < 5e5 && number(&reached, "samples") == 2.0 * sentences);
    let count = sentences.to_string();
    let whole = trace(&["--matrix", "fisher", "--count", &count]);
    let (a, b) = (number(&whole, "trace"), number(&reached, "trace"));
    assert!((a / b - 1.0).abs() < 1e-6, "{a} at once, {b} in rounds");
    let z = (number(&signs, "trace") - b) / number(&signs, "standard_error");
    assert!(z.abs() < 4.0, "z = {z}");
    // The Hessian, by as many sentences and probes as it takes.
    let forms = trace(&["--rel-error", "0.1"]);
    assert_eq!((&forms["matrix"], &forms["estimator"]), (&"hessian".into(), &"quadratic-form".into()));
    assert!(forms["reached"] == true && number(&forms, "standard_error") <= 0.1 * number(&forms, "trace").abs());
    // Sentences by design: the same number, from fewer that are measured.
    for design in ["importance", "stratified"] {
        let designed = trace(&["--matrix", "fisher", "--sentences", design, "--samples", "1024", "--minimum", "128"]);
        assert_eq!((&designed["sentences"], &designed["per_tensor"]), (&design.into(), &Value::Null));
        assert!(
            number(&designed, "frame") >= 128.0 && number(&designed, "samples") == 2.0 * number(&designed, "count")
        );
        let error = number(&designed, "standard_error").hypot(number(&reached, "standard_error"));
        assert!((number(&designed, "trace") - b).abs() < 4.0 * error, "{design}: {}", designed["trace"]);
    }
    // Too few sentences: said, not hidden.
    let few = f.lowland(&["measure", "trace", "run/model", "run.toml", "--count", "8", "--rel-error", "0.001"]);
    assert!(few.status.success() && text(&few.stderr).contains("was not reached"), "{}", text(&few.stderr));
    let table = text(&few.stdout);
    assert!(table.contains("trace") && table.contains('±') && table.contains("8 examples"), "{table}");
    // Products know the data part too, and the same numbers come out for another seed of probes within their errors.
    let products = trace(&["--estimator", "hutchinson", "--samples", "8", "--count", "64"]);
    assert!(number(&products, "standard_error_data") > 0.0 && number(&products, "standard_error_probe") > 0.0);
    let other = trace(&["--estimator", "hutchinson", "--samples", "8", "--count", "64", "--probe-seed", "9"]);
    assert_eq!((&other["seed"], &other["sentences_seed"]), (&9.into(), &products["sentences_seed"]));
    assert_ne!(other["trace"], products["trace"]);
    let noise = measure(&f, "noise", &["run/model", "run.toml", "--count", "40"]);
    assert_eq!(numbers(&noise["covariance_eigenvalues"]).len(), 39);
}

#[test]
fn wrong_input_gets_a_message_and_exit_code_2() {
    let f = Folder::new(RUN);
    let [model, examples] = given("roberta-20");
    let cases: &[(&[&str], u8, &str)] = &[
        (&["trace", "--estimator", "sampled-labels", "--matrix", "hessian"], 2, "quadratic-form"),
        (&["trace", "--estimator", "random-signs", "--matrix", "noise_covariance"], 2, "quadratic-form"),
        (&["trace", "--estimator", "data-labels", "--matrix", "ggn"], 2, "empirical_fisher"),
        (&["trace", "--estimator", "xtrace", "--probe", "rademacher"], 2, "gaussian"),
        (&["trace", "--estimator", "xtrace", "--rel-error", "0.1", "--samples", "40"], 2, "288 samples"),
        (&["trace", "--estimator", "xtrace", "--as-sample"], 2, "--as-sample"),
        (&["trace", "--estimator", "exact-labels", "--samples", "9"], 2, "--count"),
        (&["trace", "--estimator", "quadratic-form", "--draws", "2"], 2, "--draws"),
        (&["trace", "--estimator", "random-signs", "--probe", "gaussian"], 2, "--probe"),
        (&["trace", "--estimator", "random-signs", "--draws", "2", "--samples", "9"], 2, "--draws"),
        (&["trace", "--rel-error", "2"], 2, "0.01"),
        (&["trace", "--matrix", "fisher", "--sentences", "importance"], 2, "draws from a language"),
        (&["trace", "--sentences", "stratified"], 2, "random-signs"),
        (&["trace", "--samples", "1"], 2, "at least 2 probes"),
        (&["trace", "--estimator", "best"], 2, "quadratic-form"),
        (&["trace", "--only", "nothing.like.it"], 2, "nothing.like.it"),
        (&["trace", "--out", "figure.png"], 2, "SVG"),
        (&["trace", "--out", "nowhere/figure.svg"], 5, "nowhere"),
        (&["trace", "train.steps=5"], 2, "run config"),
        (&["hvp", "--vector", "missing.safetensors", "--out", "o.safetensors"], 5, "missing.safetensors"),
        (&["spectrum", "--matrix", "noise_covariance", "--count", "1"], 2, "at least 2 examples"),
        (&["spectrum", "--top", "9000"], 2, "9000"),
        (&["spectrum", "--steps", "9"], 2, "--density"),
        (&["noise", "--count", "1"], 2, "at least 2 examples"),
        (&["sharpness", "--rho", "0"], 2, "positive"),
    ];
    for (arguments, code, wanted) in cases {
        let all = [&["measure", arguments[0], &model, &examples], &arguments[1..]].concat();
        let output = f.lowland(&all);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(*code)), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty() && !error.contains("panicked"), "{arguments:?}: {error}");
        assert!(error.contains(wanted), "{arguments:?}: `{wanted}` is not in: {error}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130_and_prints_what_was_measured() {
    let f = Folder::new(RUN);
    let [model, examples] = given("roberta-32");
    let arguments =
        ["measure", "trace", &model, &examples, "--samples", "100000000", "--probes", "1", "--out", "t.svg", "--json"];
    let child = f.start(&mut f.command(&arguments));
    std::thread::sleep(std::time::Duration::from_secs(8));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["interrupted"] == true && report["reached"] == false, "{report}");
    assert!(number(&report, "samples") > 2.0 && number(&report, "standard_error") > 0.0, "{report}");
    assert!(f.path("t.svg").exists());
}

/// The library's answers and the command's are those of one procedure.
#[test]
fn a_program_gets_the_numbers_that_the_command_prints() {
    use lowland::curvature::{
        CurvatureMatrix, Design, Estimator, Examples, Measure, Sampling, Setting, Trace, TraceRequest, estimate, unseen,
    };
    use lowland::model::Model;
    use lowland::ops::{Device, LossDraw};
    let f = Folder::new(RUN);
    let [folder, examples] = given("roberta-20");
    let model = Model::load(&Device::from_env().unwrap(), &folder).unwrap();
    let sentences = model.read_examples(&examples).unwrap();
    let loss = model.over(&sentences).unwrap();
    let command = |more: &[&str]| {
        let all = [&["measure", "trace", &folder, &examples, "--probe-seed", "5", "--json"], more].concat();
        let output = f.lowland(&all);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)))
    };
    let same = |what: &str, value: &Value, trace: &Trace| {
        let number = |name: &str| value[name].as_f64().unwrap();
        // The command may run a software driver with other lanes, which add up in another order.
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
        assert!(close(number("trace"), trace.estimate), "{what}: {} {}", number("trace"), trace.estimate);
        assert!(close(number("standard_error"), trace.standard_error), "{what}: {}", trace.standard_error);
        assert_eq!(value["samples"], trace.samples, "{what}");
        assert_eq!(value["reached"], trace.reached, "{what}");
    };
    // An operator is asked: examples as the target, as a sample, by other estimators.
    let (hessian, ggn) = (loss.hessian(), loss.gauss_newton());
    let goal = ["--rel-error", "0.2"];
    let printed = command(&[&goal[..], &["--matrix", "ggn"]].concat());
    same("ggn", &printed, &ggn.trace().seed(5).relative_error(0.2).unwrap());
    let printed = command(&[&goal[..], &["--matrix", "ggn", "--as-sample"]].concat());
    same("as a sample", &printed, &ggn.trace().seed(5).of_population().relative_error(0.2).unwrap());
    let printed = command(&["--samples", "12", "--probe", "gaussian"]);
    same("hessian", &printed, &hessian.trace().seed(5).gaussian().probes(12).unwrap());
    let printed = command(&["--estimator", "hutch++", "--samples", "12"]);
    same("hutch++", &printed, &hessian.trace().seed(5).by(Estimator::HutchPlusPlus).probes(12).unwrap());
    let refused = hessian.trace().by(Estimator::DataLabels).probes(12).unwrap_err();
    assert!(refused.to_string().contains("has no probe vectors"), "{refused}");
    // A model and its examples are asked.
    let setting = Setting::of(&model);
    let asked = TraceRequest { seed: 5, ..TraceRequest::default() };
    let signs = Some(Estimator::Drawn(LossDraw::Signs));
    let given = |sample: bool| match sample {
        true => Examples::SampleOf((&sentences[..]).into()),
        false => Examples::These((&sentences[..]).into()),
    };
    let requests = [
        (TraceRequest { estimator: signs, rel_error: Some(0.1), ..asked.clone() }, false),
        (TraceRequest { matrix: Some(CurvatureMatrix::NoiseCovariance), ..asked.clone() }, true),
        (TraceRequest { rel_error: Some(0.3), ..asked.clone() }, true),
    ];
    let flags = [
        &["--estimator", "random-signs", "--rel-error", "0.1"][..],
        &["--matrix", "noise_covariance", "--as-sample"],
        &["--rel-error", "0.3", "--as-sample"],
    ];
    for ((request, sample), flags) in requests.into_iter().zip(flags) {
        let plan = request.plan().unwrap();
        let found = estimate(&setting, &given(sample), &plan, &mut unseen).unwrap();
        let printed = command(flags);
        same(&flags.join(" "), &printed, &found.trace);
        assert_eq!(printed["count"], found.scope.examples);
        assert_eq!(printed["gradient_equivalents"], found.scope.gradient_equivalents);
    }
    // What does not suit the examples is refused in both.
    let designed = TraceRequest { estimator: signs, sentences: Sampling::Designed(Design::Importance), ..asked };
    let refused = estimate(&setting, &given(false), &designed.plan().unwrap(), &mut unseen).unwrap_err();
    assert_eq!(refused.to_string(), "importance sentences are drawn from a language, not from given examples");
}

/// The last of its memory to be given up is a table that no image lies over.
#[test]
fn a_model_whose_last_table_is_larger_than_a_binding_ends_well() {
    let f = Folder::empty().set("LOWLAND_BINDING_BYTES", "4096");
    let config = ModelConfig {
        kind: ModelKind::GptNeox,
        vocab_size: 201,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 24,
        max_position_embeddings: 10,
        tie_word_embeddings: false,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let last = encoder.matrices.last().expect("matrices");
    assert!(4 * last.padded_len() > 4096, "`{}` fits a binding", last.name);
    save(&f.path("model"), &encoder, &Weights::initial(&encoder.parameters, 0.1, 1), None).unwrap();
    f.write("one.jsonl", "{\"input_ids\": [5, 6, 7]}\n");
    f.json(&["eval", "model", "one.jsonl", "--json"]);
}
