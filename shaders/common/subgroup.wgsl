// What an entry point takes whose workgroup is one subgroup; `group` as in entry.wgsl.
//@import common/entry.wgsl

struct Lane {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
}
