//! The kernels for GPUs without a GPU: of each operation that is timed, with each variant, its arithmetic, bytes and
//! workgroup memory, the least it takes on some GPUs, and what a public compiler makes of its kernels.
//!
//!     cargo bench --bench registers -- [FOLDER] [--family NAME ..]
//!
//! SPIR-V and a list of it go to FOLDER (`target/registers`). `benches/registers/radv.py` then has Mesa's driver for
//! AMD's GPUs compile them for the families named (`navi21` unless others are; names as in `RADV_FORCE_FAMILY`), which
//! needs that driver (Debian's mesa-vulkan-drivers) and no GPU.

use std::path::{Path, PathBuf};
use std::process::Command;

use lowland::gpu::{Dispatch, Gpu, describe};
use lowland::selftest::{KNOWN_GPUS, TimedOperation, timed_for_gpus};
use naga::back::spv;
use naga::compact::{KeepUnused, compact};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

/// An entry point alone, as SPIR-V, with its workgroup memory and the numbers of its bindings.
struct Compiled {
    words: Vec<u32>,
    workgroup_bytes: u32,
    invocations: u32,
    bindings: Vec<u32>,
}

fn compiled(text: &str, entry: &str) -> Result<Compiled, Error> {
    let mut module = naga::front::wgsl::parse_str(text)?;
    module.entry_points.retain(|e| e.name == entry);
    module.entry_points[0].name = "main".into();
    compact(&mut module, KeepUnused::No);
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module)?;
    let options = spv::Options { lang_version: (1, 3), flags: spv::WriterFlags::empty(), ..spv::Options::default() };
    let words = spv::write_vec(&module, &info, &options, None)?;
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx())?;
    let globals = || module.global_variables.iter().map(|(_, global)| global);
    let workgroup = globals().filter(|g| g.space == naga::AddressSpace::WorkGroup);
    Ok(Compiled {
        words,
        workgroup_bytes: workgroup.map(|g| layouter[g.ty].size).sum(),
        invocations: module.entry_points[0].workgroup_size.iter().product(),
        bindings: globals().filter_map(|g| g.binding.as_ref()).map(|b| b.binding).collect(),
    })
}

/// Writes the kernels of an operation and gives their lines for the list, and the most workgroup memory of one.
fn write(folder: &Path, number: usize, timed: &TimedOperation) -> Result<(Vec<Value>, u32), Error> {
    let made = describe(&timed.dispatches, false)?;
    let (mut lines, mut most) = (Vec::new(), 0);
    for (i, dispatch) in made.dispatches.iter().enumerate() {
        let kernel = compiled(&made.texts[&dispatch.text], &dispatch.entry)?;
        let file = format!("{number:02}-{i}.spv");
        std::fs::write(folder.join(&file), bytemuck::cast_slice::<u32, u8>(&kernel.words))?;
        let Dispatch { file: shader, entry, .. } = &timed.dispatches[i];
        most = most.max(kernel.workgroup_bytes);
        lines.push(json!({
            "file": file, "operation": timed.operation, "variant": timed.variant, "used": timed.used,
            "kernel": format!("{}:{entry}", shader.name), "bindings": kernel.bindings,
            "workgroup_bytes": kernel.workgroup_bytes, "invocations": kernel.invocations,
        }));
    }
    Ok((lines, most))
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let mut families: Vec<String> = Vec::new();
    let mut folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/registers"));
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--family" => families.push(rest.next().ok_or("--family wants a name, as navi21")?),
            _ => folder = argument.into(),
        }
    }
    if families.is_empty() {
        families.push("navi21".into());
    }
    std::fs::create_dir_all(&folder)?;
    lowland::gpu::prepare_process(None);
    let gpu = Gpu::open(&std::env::var("LOWLAND_ADAPTER").unwrap_or("best".into()).parse()?, Default::default())?;
    let names: Vec<&str> = KNOWN_GPUS.iter().map(|gpu| gpu.name).collect();
    println!("| operation | shape | variant | GFLOP | MB | FLOP a byte | workgroup memory | {} |", names.join(" | "));
    println!("| --- | --- | --- {}|", "| ---: ".repeat(4 + names.len()));
    let mut list = Vec::new();
    for (number, timed) in timed_for_gpus(&gpu)?.iter().enumerate() {
        let (lines, workgroup_bytes) = write(&folder, number, timed)?;
        list.extend(lines);
        let cost = &timed.cost;
        let least = KNOWN_GPUS.iter().map(|gpu| format!("{:.3} ms", cost.least(&gpu.peaks).0 * 1e3));
        println!(
            "| {} | {} | {}{} | {:.2} | {:.1} | {:.1} | {workgroup_bytes} B | {} |",
            timed.operation,
            timed.shape,
            timed.variant.unwrap_or("the only one"),
            if timed.used { " *" } else { "" },
            cost.flops / 1e9,
            cost.bytes / 1e6,
            cost.intensity(),
            least.collect::<Vec<_>>().join(" | ")
        );
    }
    std::fs::write(folder.join("list.json"), serde_json::to_string_pretty(&list)? + "\n")?;
    for family in families {
        println!("\n{family}, compiled by Mesa's RADV:\n");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/registers/radv.py");
        let status = Command::new("python3").arg(script).arg(&folder).arg(&family).status();
        if !status.as_ref().is_ok_and(|s| s.success()) {
            println!("left out: {script} did not run ({status:?})");
        }
    }
    Ok(())
}
