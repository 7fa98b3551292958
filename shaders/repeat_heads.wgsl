// Grouped keys and values, elementwise: one invocation a vec4 of what comes out. A row has `heads` heads of queries and
// as many of keys and of values as there are groups (x), or as queries (y); a group serves heads / groups heads of
// queries that follow one another.
//   forward   y = x with each head of keys and values as often as its group has queries
//   vjp       x̄ = ȳ with the heads of a group added up
//@import common/entry.wgsl
//@import common/step.wgsl

struct Params {
    code: u32,
    fixed: u32,
    // vec4 in a head.
    size4: u32,
    heads: u32,
    groups: u32,
    in_cols4: u32,
    out_cols4: u32,
    in_layer: u32,
    out_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * p.out_cols4 { return; }
    let column = i % p.out_cols4;
    var head = column / p.size4;
    if head >= p.heads {
        // 0 of keys, 1 of values.
        let part = head / p.heads - 1u;
        head = p.heads + part * p.groups + head % p.heads / (p.heads / p.groups);
    }
    let at = i / p.out_cols4 * p.in_cols4 + head * p.size4 + column % p.size4;
    out[here.group.z * p.out_layer + i] = x[here.group.z * p.in_layer + at];
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * p.out_cols4 { return; }
    let column = i % p.out_cols4;
    let head = column / p.size4;
    var first = head;
    var each = 1u;
    if head >= p.heads {
        let number = head - p.heads;
        each = p.heads / p.groups;
        first = (1u + number / p.groups) * p.heads + number % p.groups * each;
    }
    let at = here.group.z * p.in_layer + i / p.out_cols4 * p.in_cols4 + column % p.size4;
    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < each; k++) {
        sum += x[at + (first + k) * p.size4];
    }
    out[here.group.z * p.out_layer + i] = sum;
}
