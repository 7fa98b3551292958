//! `report.md`: the report as tables for `docs/performance-adapters.md` or an issue.

use super::content::{Comparison, Mixed, Products, PublishedCase, Rate, Roofline, SelftestReport, Step};
use crate::selftest::Limit;

/// The whole page.
pub fn text(report: &SelftestReport) -> String {
    let mut out = format!("### {}\n\n", about(report, "name").unwrap_or_else(|| "no adapter".into()));
    out += &head(report);
    if let Some(comparison) = &report.comparison {
        out += &correctness(comparison);
    }
    if let Some(rates) = &report.rates {
        out += &speeds(rates);
    }
    if let Some(roofline) = &report.roofline {
        out += &under_the_roof(roofline);
    }
    if let Some(step) = &report.step {
        out += &a_step(step);
    }
    if let Some(products) = &report.products {
        out += &hessian(products);
    }
    if let Some(mixed) = &report.mixed {
        out += &of_mixed(mixed);
    }
    if let Some(case) = &report.published {
        out += &of_published(case);
    }
    if !report.left_out.is_empty() {
        out += "\nLeft out for want of time:\n\n";
        report.left_out.iter().for_each(|what| out += &format!("- {what}\n"));
    }
    out
}

/// What doctor says of the chosen adapter.
fn about(report: &SelftestReport, key: &str) -> Option<String> {
    report.doctor.as_ref()?["chosen"][key].as_str().filter(|text| !text.is_empty()).map(String::from)
}

/// Text in a cell: one line without bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.iter().map(|c| cell(c)).collect::<Vec<_>>().join(" | "))
}

/// A table; columns behind the first are numbers where `numbers`.
fn table(head: &[&str], rows: &[Vec<String>], numbers: bool) -> String {
    let rule = |i: usize| if numbers && i > 0 { "---:" } else { "---" };
    let mut out = row(&head.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    out += &row(&(0..head.len()).map(|i| rule(i).to_string()).collect::<Vec<_>>());
    out + &rows.iter().map(|r| row(r)).collect::<String>()
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

fn head(report: &SelftestReport) -> String {
    let m = &report.machine;
    let features = report.doctor.as_ref().map(|d| &d["features"]);
    let result = match (report.finished, report.passed, &report.running) {
        (true, Some(true), _) => "every part is right".to_string(),
        (true, _, _) => "SOMETHING IS WRONG".to_string(),
        (false, _, Some(running)) => format!("NOT FINISHED; running when this was written: {running}"),
        (false, _, None) => "NOT FINISHED".to_string(),
    };
    let join = |keys: &[&str]| keys.iter().filter_map(|k| about(report, k)).collect::<Vec<_>>().join(", ");
    let processor = format!(
        "{}{}, {} {}",
        m.processor.as_deref().unwrap_or("a processor without a name"),
        m.threads.map_or(String::new(), |n| format!(", {n} threads")),
        m.system,
        m.architecture
    );
    let subgroup = features.map_or(String::new(), |f| {
        format!(
            "{} numbers ({} to {}), f16 {}, timestamps {}, images {}",
            f["subgroup_size"], f["subgroup_sizes"][0], f["subgroup_sizes"][1], f["f16"], f["timestamps"], f["images"]
        )
    });
    let facts = [
        ("driver", join(&["driver", "driver_info"])),
        ("kind", join(&["backend", "device_type"])),
        ("processor", processor),
        ("subgroups", subgroup),
        ("lowland", report.lowland.clone()),
        ("result", result),
        ("took", format!("{:.0} s, planned for {:.0} s", report.seconds, report.budget_seconds)),
    ];
    let facts: Vec<Vec<String>> = facts.into_iter().map(|(k, v)| vec![k.into(), v]).collect();
    let parts: Vec<Vec<String>> = report
        .parts
        .iter()
        .map(|p| {
            let seconds = p.seconds.map_or(String::new(), |s| format!("{s:.1} s"));
            vec![p.name.clone(), p.status.text().into(), seconds, p.message.clone().unwrap_or_default()]
        })
        .collect();
    table(&["", ""], &facts, false) + "\n" + &table(&["part", "status", "took", "message"], &parts, false)
}

fn correctness(c: &Comparison) -> String {
    let mut out = format!(
        "\n{} of {} comparisons with f64 ({} cases, {} sets of variants): {} wrong.",
        c.ran,
        c.cases * c.variants,
        c.cases,
        c.variants,
        c.wrong
    );
    if let Some(most) = c.worst.iter().max_by(|a, b| a.share().total_cmp(&b.share())) {
        out += &format!(
            " The largest error is {:.2} of what is allowed ({}, `{}`).",
            most.share(),
            most.case,
            most.tensor
        );
    }
    out += "\n";
    let wrong: Vec<Vec<String>> = c
        .worst
        .iter()
        .filter(|w| !w.passed)
        .map(|w| {
            let error = w.error.map_or("not finite".into(), |e| format!("{e:.1e}"));
            vec![w.case.clone(), w.variants.clone(), w.tensor.clone(), error, format!("{:.1e}", w.bound)]
        })
        .collect();
    if !wrong.is_empty() {
        out += "\n";
        out += &table(&["wrong case", "variants", "tensor", "error", "allowed"], &wrong, false);
    }
    out
}

fn rate(r: &Rate) -> String {
    r.gflops.map_or_else(|| format!("{:.2} GB/s", r.gbytes), |g| format!("{g:.1} GFLOP/s"))
}

/// The form of `docs/performance-adapters.md`, with one line per variant.
fn speeds(rates: &[Rate]) -> String {
    let mut names: Vec<&str> = rates.iter().map(|r| r.operation.as_str()).collect();
    names.dedup();
    let short: Vec<Vec<String>> = names
        .iter()
        .filter_map(|name| {
            let own = || rates.iter().filter(|r| r.operation == *name);
            // Products of mixed precision are not what f32 could be instead.
            let f32s = || own().filter(|r| r.used || r.variant.as_ref().is_none_or(|v| !v.starts_with("cooperative")));
            let used = own().find(|r| r.used)?;
            let best = f32s().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
            let named = |r: &Rate| r.variant.as_ref().map_or(String::new(), |v| format!("`{v}`"));
            let ratio = match used.variant {
                Some(_) => format!("{:.2}", best.seconds / used.seconds),
                None => String::new(),
            };
            let chosen = format!("{} {}", named(used), rate(used));
            Some(vec![name.to_string(), used.shape.clone(), chosen, named(best), ratio])
        })
        .collect();
    let all: Vec<Vec<String>> = rates
        .iter()
        .map(|r| {
            let mark = if r.used { " *" } else { "" };
            let variant = r.variant.as_ref().map_or("the only one".into(), |v| format!("`{v}`{mark}"));
            vec![r.operation.clone(), variant, milliseconds(r.seconds), rate(r)]
        })
        .collect();
    "\n".to_string()
        + &table(&["operation", "shape", "chosen, rate", "its best", "chosen / best"], &short, false)
        + "\nEvery variant, `*` the chosen one:\n\n"
        + &table(&["operation", "variant", "time", "rate"], &all, false)
}

fn a_step(s: &Step) -> String {
    let cells = vec![
        format!("{} ({} parameters)", s.shape, s.parameters),
        milliseconds(s.gradient_seconds),
        milliseconds(s.step_seconds),
        format!("{:.2}", s.step_in_gradients),
        format!("{:.0}", s.sentences_per_second),
        format!("{:.1}", s.gflops),
        format!("{:.1} s", s.first_seconds),
    ];
    let head = [
        "width/layers/tokens/sentences",
        "gradient",
        "AdamW step",
        "step in gradients",
        "sentences/s",
        "GFLOP/s",
        "first step after",
    ];
    format!("\nA training step, median of {}:\n\n{}", s.repeats, table(&head, &[cells], true))
}

fn hessian(p: &Products) -> String {
    let cells = vec![
        p.shape.clone(),
        milliseconds(p.gradient_seconds),
        milliseconds(p.first_seconds),
        format!("{:.2}", p.first_in_gradients),
        milliseconds(p.block_seconds),
        p.further_in_gradients.map_or(String::new(), |f| format!("{f:.2}")),
    ];
    let block = format!("Hv of {} vectors", p.vectors);
    let head = ["shape", "gradient", "Hv of one vector", "in gradients", &block, "each further one in gradients"];
    format!("\nHessian-vector products, median of {}:\n\n{}", p.repeats, table(&head, &[cells], true))
}

fn of_mixed(m: &Mixed) -> String {
    let cells = vec![
        m.shape.clone(),
        milliseconds(m.gradient_seconds),
        milliseconds(m.step_seconds),
        m.faster.map_or(String::new(), |f| format!("{f:.2}")),
        format!("{:.1e}", m.gradient_difference),
    ];
    let head = ["shape", "gradient", "AdamW step", "times as fast as f32", "gradient differs by, of its norm"];
    format!("\nMixed precision ({}), median of {}:\n\n{}", m.variants, m.repeats, table(&head, &[cells], true))
}

fn of_published(c: &PublishedCase) -> String {
    let cells = vec![
        format!("{} ({} parameters, {} tokens)", c.name, c.parameters, c.tokens),
        milliseconds(c.forward_seconds),
        milliseconds(c.gradient_seconds),
        format!("{:.1}", c.gflops),
        format!("{:.1} s", c.first_seconds),
    ];
    let head = ["case", "forward", "forward and backward", "GFLOP/s", "first of both after"];
    format!(
        "\nA case that others publish (github.com/kvark/inferena), f32, median of {}:\n\n{}",
        c.repeats,
        table(&head, &[cells], true)
    )
}

fn under_the_roof(r: &Roofline) -> String {
    let peaks = format!("{:.0} GFLOP/s and {:.0} GB/s", r.gflops, r.gbytes);
    let head = match (&r.gpu, &r.source) {
        (Some(gpu), Some(source)) => format!("Predicted for {gpu} by its peaks, {peaks} ({source})"),
        _ => format!("What each operation could take at the best rates of this report, {peaks}"),
    };
    let rows: Vec<Vec<String>> = r
        .operations
        .iter()
        .map(|o| {
            let bound = match o.bound {
                Limit::Arithmetic => "arithmetic",
                Limit::Memory => "memory",
            };
            vec![
                o.operation.clone(),
                format!("{:.1}", o.intensity),
                bound.into(),
                format!("{:.3} ms", o.predicted_seconds * 1e3),
                format!("{:.3} ms", o.measured_seconds * 1e3),
                format!("{:.2}", o.share),
            ]
        })
        .collect();
    let columns = ["operation", "FLOP a byte", "bound by", "predicted", "measured", "predicted / measured"];
    format!("\n{head}:\n\n{}", table(&columns, &rows, false))
}
