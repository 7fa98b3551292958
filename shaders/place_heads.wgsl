// Heads side by side without padding (x) at their place among the padded heads of a wider matrix (y), elementwise: one
// invocation a vec4 of what comes out.
//   forward   y = x from head `first` on, zeros elsewhere and behind each head, plus an addend
//   vjp       x̄ = ȳ of these heads
//@variants ADDEND=1
//@import common/entry.wgsl
//@import common/step.wgsl

// Whether `addend` is added to y.
const ADDEND: u32 = 0u;

struct Params {
    code: u32,
    fixed: u32,
    // Numbers of a head, and vec4 of a padded one.
    size: u32,
    size4: u32,
    heads: u32,
    first: u32,
    in_cols4: u32,
    out_cols4: u32,
    in_layer: u32,
    out_layer: u32,
    addend_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
//@optional
@group(0) @binding(1) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * p.out_cols4 { return; }
    let column = i % p.out_cols4;
    // Of heads before `first` the number wraps, and is beyond the last one.
    let head = column / p.size4 - p.first;
    var y = vec4<f32>(0.0);
    if head < p.heads {
        let row = here.group.z * p.in_layer + i / p.out_cols4 * p.in_cols4;
        let offset = 4u * (column % p.size4);
        for (var k = 0u; k < 4u; k++) {
            if offset + k < p.size {
                let at = head * p.size + offset + k;
                y[k] = x[row + at / 4u][at % 4u];
            }
        }
    }
    if ADDEND != 0u { y += addend[here.group.z * p.addend_layer + i]; }
    out[here.group.z * p.out_layer + i] = y;
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * p.out_cols4 { return; }
    let row = here.group.z * p.in_layer + i / p.out_cols4 * p.in_cols4;
    let column = 4u * (i % p.out_cols4);
    var x_bar = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
        let at = column + k;
        if at < p.heads * p.size {
            let source = 4u * (p.first + at / p.size) * p.size4 + at % p.size;
            x_bar[k] = x[row + source / 4u][source % 4u];
        }
    }
    out[here.group.z * p.out_layer + i] = x_bar;
}
