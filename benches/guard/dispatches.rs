//! Lists of dispatches as lines without names: of every case of the self-test with every set of variants, and of the
//! programs that a command makes.
//!
//! A line is a hash of the kernel's SPIR-V, count and workgroups, the binding numbers and sizes of its buffers, and its
//! parameters as words. Behind `#` stands what it is called, for people; it is not compared.

use std::collections::HashMap;
use std::path::Path;

use lowland::gpu::{self, Description, Gpu};
use lowland::ops::Variants;
use lowland::selftest;
use naga::back::spv;
use naga::compact::{KeepUnused, compact};
use naga::valid::{Capabilities, ValidationFlags, Validator};

use super::{Record, hash};

/// The lists of all cases, with every set of variants that there is, whether or not this adapter could run them.
pub fn of_cases(gpu: &Gpu, all: &mut Record) {
    let mut kernels = Kernels::default();
    for variants in Variants::every(gpu.capabilities()) {
        for case in selftest::cases() {
            let list = selftest::dispatches(gpu, &variants, &case).expect("a list of dispatches");
            let made = gpu::describe(&list, false).expect("names that fit");
            let lines = made.dispatches.iter().map(|d| kernels.line(d, |hash| made.texts[hash].clone()));
            all.insert(format!("case {} | {variants}", case.name), lines.collect());
        }
    }
}

/// What the programs that were made while a log was written into a folder run, and which buffers they share.
pub fn of_log(folder: &Path) -> (Vec<String>, Vec<String>) {
    let mut kernels = Kernels::default();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("the log of dispatches");
    let list = read("dispatches");
    let list: Vec<Description> = list.lines().map(|l| serde_json::from_str(l).expect("a dispatch")).collect();
    let run = list.iter().map(|d| kernels.line(d, |hash| read(&format!("{hash}.wgsl")))).collect();
    let place = |d: &Description| d.buffers.iter().map(|b| b.place.to_string()).collect::<Vec<_>>().join(" ");
    let shared = list.iter().map(|d| format!("{} # {}", place(d), d.label)).collect();
    (run, shared)
}

/// Hashes of kernels by the hash of their text and the entry point; each is made once.
#[derive(Default)]
struct Kernels(HashMap<(String, String), String>);

impl Kernels {
    fn line(&mut self, d: &Description, text: impl FnOnce(&str) -> String) -> String {
        let key = (d.text.clone(), d.entry.clone());
        let kernel = self.0.entry(key).or_insert_with(|| spirv(&text(&d.text), &d.entry));
        let buffers: Vec<String> = d.buffers.iter().map(|b| format!("{}:{}", b.binding, b.bytes)).collect();
        format!("{kernel} grid {:?} buffers {} params {:?} # {}", d.grid, buffers.join(" "), d.params, d.label)
    }
}

/// Hash of the SPIR-V of one entry point, without names and what it does not use.
fn spirv(text: &str, entry: &str) -> String {
    let mut module = naga::front::wgsl::parse_str(text).expect("checked by build.rs");
    module.entry_points.retain(|e| e.name == entry);
    module.entry_points[0].name = "main".into();
    compact(&mut module, KeepUnused::No);
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).expect("a valid kernel");
    let options = spv::Options { lang_version: (1, 6), flags: spv::WriterFlags::empty(), ..spv::Options::default() };
    let words = spv::write_vec(&module, &info, &options, None).expect("SPIR-V");
    hash(bytemuck::cast_slice(&words))
}
