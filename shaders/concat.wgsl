// The rows of a whole sentence side by side for each of its masked positions, zeros behind a shorter sentence:
//   forward   y[m, t] = x[first + t], where row first + t belongs to the sentence of masked position m
//   vjp       x̄[first + t] = Σ ȳ[m, t] over the sentence's masked positions m
// y has `places` blocks of cols4 a row.
//@variants ADDEND=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl
//@import common/sentences.wgsl

// Whether `addend` is added to x̄.
const ADDEND: u32 = 0u;

struct Params {
    // Columns of x.
    width: u32,
    cols4: u32,
    places: u32,
    in_layer: u32,
    out_layer: u32,
    addend_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
//@optional
@group(0) @binding(1) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    let row = p.places * p.cols4;
    if i >= step.masked * row { return; }
    let span = bitcast<vec4<u32>>(spans[index[i / row]]);
    let source = span.x + i % row / p.cols4;
    var v = vec4<f32>(0.0);
    if source < span.y {
        v = within(x[here.group.z * p.in_layer + source * p.cols4 + i % p.cols4], i % p.cols4, p.width);
    }
    out[here.group.z * p.out_layer + i] = v;
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let i = element(here);
    if i >= step.rows * p.cols4 { return; }
    let place = bitcast<vec4<u32>>(spans[i / p.cols4]);
    let range = spans_of(place.w);
    var sum = vec4<f32>(0.0);
    if place.z < p.places {
        for (var m = range.z; m < range.w; m++) {
            sum += x[here.group.z * p.in_layer + (m * p.places + place.z) * p.cols4 + i % p.cols4];
        }
    }
    sum = within(sum, i % p.cols4, p.width);
    if ADDEND != 0u { sum += addend[here.group.z * p.addend_layer + i]; }
    out[here.group.z * p.out_layer + i] = sum;
}
