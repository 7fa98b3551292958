//! `lowland doctor`: what there is, what was chosen and why, and whether it computes.

use serde_json::{Value, json};

use super::arguments::Json;
use super::failure::{Failure, NO_ADAPTER};
use super::{advice, print};
use crate::gpu::{AdapterChoice, Capabilities, Gpu, Options, UNMEASURED, lanes_reason, list};
use crate::ops::{Device, KernelChoice};
use crate::selftest;

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Json) -> Result<(), Failure> {
    let gpu = match Gpu::open(adapter, Options::default()) {
        Ok(gpu) => gpu,
        Err(error) => {
            if arguments.json {
                print::json(&json!({ "adapters": adapters(), "chosen": null, "error": advice::of_gpu(&error) }))?;
            }
            return Err(error.into());
        }
    };
    let (report, verdict) = examine(&gpu, kernel_choice)?;
    match arguments.json {
        true => print::json(&report)?,
        false => print::line(text(&report).trim_end())?,
    }
    verdict
}

fn adapters() -> Vec<Value> {
    list().iter().enumerate().map(|(i, a)| describe(i, &a.get_info())).collect()
}

/// What is printed of an adapter, and whether it computes right numbers.
pub fn examine(gpu: &Gpu, kernel_choice: &KernelChoice) -> Result<(Value, Result<(), Failure>), Failure> {
    let variants = Device::choosing(gpu, kernel_choice)?.variants;
    let outcome = selftest::run(gpu, &variants, &selftest::quick())?;
    let info = gpu.info();
    let Capabilities { subgroup_size, subgroup_min, subgroup_max, workgroup_bytes, workgroup_invocations, .. } =
        *gpu.capabilities();
    let caps = gpu.capabilities();
    let report = json!({
        "lowland": env!("CARGO_PKG_VERSION"),
        "adapters": adapters(),
        "chosen": {
            "name": info.name,
            "backend": format!("{:?}", info.backend),
            "device_type": format!("{:?}", info.device_type),
            "driver": info.driver,
            "driver_info": info.driver_info,
            "pci": info.device_pci_bus_id,
            "reason": gpu.reason(),
        },
        "limits": {
            "largest_buffer": caps.largest_buffer,
            "largest_binding": caps.largest_binding,
            "storage_buffers_a_kernel": gpu.limits().max_storage_buffers_per_shader_stage,
            "workgroups_a_dimension": gpu.limits().max_compute_workgroups_per_dimension,
            "workgroup_invocations": workgroup_invocations,
            "workgroup_bytes": workgroup_bytes,
        },
        "features": {
            "software": caps.software,
            "subgroup_size": if subgroup_size > 0 { json!(subgroup_size) } else { Value::Null },
            "subgroup_sizes": [subgroup_min, subgroup_max],
            "lanes_because": lanes_because(gpu),
            "f16": caps.f16,
            "timestamps": caps.timestamps,
            "images": caps.images,
            "bounds_checks": gpu.checks(),
        },
        "variants": variants,
        "kernel": { "case": outcome.case, "error": outcome.error, "bound": outcome.bound, "passed": outcome.passed },
    });
    let verdict = match outcome.passed {
        true => Ok(()),
        false => Err(Failure {
            code: NO_ADAPTER,
            message: format!(
                "{} computes wrong numbers ({} differs by {:.1e}, at most {:.1e} is allowed). Update its driver, \
                 choose another adapter, and see `lowland selftest`.",
                info.name, outcome.tensor, outcome.error, outcome.bound
            ),
        }),
    };
    Ok((report, verdict))
}

/// Why a software adapter has the lanes it has, where this program had a say.
fn lanes_because(gpu: &Gpu) -> Option<String> {
    let reason = lanes_reason().filter(|_| gpu.info().name.contains("llvmpipe"))?;
    let who = if reason == UNMEASURED { " (`lowland doctor` does)" } else { "" };
    Some(format!("{reason}{who}"))
}

fn describe(index: usize, info: &wgpu::AdapterInfo) -> Value {
    json!({
        "index": index,
        "name": info.name,
        "backend": format!("{:?}", info.backend),
        "device_type": format!("{:?}", info.device_type),
        "driver": format!("{} {}", info.driver, info.driver_info).trim(),
        "pci": info.device_pci_bus_id,
    })
}

fn text(report: &Value) -> String {
    let plain = |v: &Value| match v {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut out = format!("lowland {}\n\nadapters\n", plain(&report["lowland"]));
    for a in report["adapters"].as_array().into_iter().flatten() {
        let pci = plain(&a["pci"]);
        let pci = if pci.is_empty() { String::new() } else { format!(", pci:{pci}") };
        out += &format!(
            "  index:{} {} ({}, {}{pci}) {}\n",
            a["index"],
            plain(&a["name"]),
            plain(&a["backend"]),
            plain(&a["device_type"]),
            plain(&a["driver"])
        );
    }
    let chosen = &report["chosen"];
    out += &format!("\nchosen: {} ({})\n", plain(&chosen["name"]), plain(&chosen["reason"]));
    for section in ["limits", "features", "variants"] {
        out += &format!("\n{section}\n");
        for (key, value) in report[section].as_object().into_iter().flatten() {
            if key == "lanes_because" && value.is_null() {
                continue;
            }
            let bytes = matches!(key.as_str(), "largest_buffer" | "largest_binding" | "workgroup_bytes");
            let value = if bytes { print::bytes(value.as_u64().unwrap_or(0)) } else { plain(value) };
            out += &format!("  {:<28}{value}\n", key.replace('_', " "));
        }
    }
    let kernel = &report["kernel"];
    let verdict = if kernel["passed"] == true { "right" } else { "WRONG" };
    out + &format!(
        "\nkernels run: {}, largest error {:.1e} of {:.1e} allowed: {verdict}\n",
        plain(&kernel["case"]),
        kernel["error"].as_f64().unwrap_or(f64::NAN),
        kernel["bound"].as_f64().unwrap_or(f64::NAN)
    )
}
