// What an entry point takes: where its invocation stands in the grid.

// `group` numbers the workgroups along x and y; its z is the layer, one of the cotangents, probes or draws.
struct Place {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
}

// Workgroups along x before a grid goes on along y, since one dimension ends at 65,535: FOLD of src/gpu/program.rs. A
// constant, so that no kernel needs @builtin(num_workgroups), which naga's HLSL loses in a struct that is handed on.
const FOLD: u32 = 32768u;

// Number of a workgroup in its layer.
fn group_number(group: vec3<u32>) -> u32 {
    return group.x + group.y * FOLD;
}

// Number of an invocation in its layer, in workgroups of 64.
fn element(here: Place) -> u32 {
    return group_number(here.group) * 64u + here.local;
}
