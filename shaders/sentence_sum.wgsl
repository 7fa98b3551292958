// Sums of a matrix over the rows of each sentence (its tokens or its masked positions) and all columns:
// out[sentence] = (factor Σ terms, 0, 0, 0) + addend. One invocation a sentence and probe, in the order of the rows.
//@variants ADDEND=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl
//@import common/sentences.wgsl

const ADDEND: u32 = 0u;

struct Params {
    width: u32,
    cols4: u32,
    // 1: rows are masked positions.
    masked: u32,
    factor: f32,
    in_layer: u32,
    out_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> terms: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;
//@optional
@group(0) @binding(2) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let sentence = element(here);
    if sentence >= step.sentences { return; }
    let range = range_of(sentence, p.masked);
    var total = vec4<f32>(0.0);
    for (var row = range.x; row < range.y; row++) {
        for (var c = 0u; c < p.cols4; c++) {
            total += within(terms[here.group.z * p.in_layer + row * p.cols4 + c], c, p.width);
        }
    }
    var sum = vec4<f32>(p.factor * sum4(total), 0.0, 0.0, 0.0);
    if ADDEND != 0u { sum += addend[here.group.z * p.out_layer + sentence]; }
    out[here.group.z * p.out_layer + sentence] = sum;
}
