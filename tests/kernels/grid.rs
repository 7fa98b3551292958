//! Grids of more workgroups than one dimension has.

use crate::common::adapter::gpu;
use lowland::gpu::{Binding, Count, Entry, Grid, Kernel, KernelFile, Launch, Program, Step};

/// Counts how often each workgroup of a grid is met.
static MEET: KernelFile = KernelFile {
    name: "meet",
    text: "//@import common/entry.wgsl
struct Params { count: u32, layer: u32 }
@group(0) @binding(8) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> met: array<u32>;

@compute @workgroup_size(1)
fn forward(here: Place) {
    let i = group_number(here.group);
    if i < p.count { met[here.group.z * p.layer + i] += 1u; }
}
",
    entries: &[Entry { name: "forward", bindings: &[Binding { index: 0, name: "met", write: true, vec4: false }] }],
    params_size: 8,
};

/// The host folds a grid where `shaders/common/entry.wgsl` unfolds it.
#[test]
fn a_folded_grid_meets_every_workgroup_once() {
    const COUNT: u32 = 70_001;
    let gpu = gpu();
    let met = gpu.buffer("met", u64::from(8 * COUNT)).unwrap();
    gpu.write(&met, &vec![0u32; 2 * COUNT as usize]);
    let launch = Launch { file: &MEET, entry: "forward", buffers: vec![met.clone()], params: vec![COUNT, COUNT] };
    let grid = Grid { count: Count::Fixed(COUNT), unit: 1, columns: 1, layers: 2 };
    let step = Step { probes: 2, ..Step::default() };
    let [x, y, z] = grid.workgroups(&step);
    assert!(x < COUNT && y > 1 && z == 2, "{x} x {y} x {z} workgroups are not folded");
    Program::new(&gpu, vec![launch.dispatch("meet".into(), grid)]).unwrap().run(&gpu, &step).unwrap();
    let times: Vec<u32> = gpu.read(&met, 2 * COUNT as usize).unwrap();
    let wrong = times.iter().enumerate().find(|(_, times)| **times != 1);
    assert_eq!(wrong, None, "workgroup and how often it was met");
}
