// Sums of a matrix over the rows of each sentence (its tokens or its masked positions) and all columns:
// out[sentence] = (factor Σ terms, 0, 0, 0) + addend. One invocation a sentence and probe, in the order of the rows.
//@import common/entry.wgsl
//@import common/step.wgsl

struct Params {
    width: u32,
    cols4: u32,
    // 1: rows are masked positions.
    masked: u32,
    factor: f32,
    in_layer: u32,
    out_layer: u32,
    add: u32,
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
    let span = bitcast<vec4<u32>>(spans[step.rows + sentence]);
    let range = select(span.xy, span.zw, p.masked != 0u);
    var total = vec4<f32>(0.0);
    for (var row = range.x; row < range.y; row++) {
        for (var c = 0u; c < p.cols4; c++) {
            // What lies behind the last column was never written.
            let at = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u);
            let term = terms[here.group.z * p.in_layer + row * p.cols4 + c];
            total += select(vec4<f32>(0.0), term, at < vec4<u32>(p.width));
        }
    }
    var sum = vec4<f32>(p.factor * ((total.x + total.y) + (total.z + total.w)), 0.0, 0.0, 0.0);
    if p.add != 0u { sum += addend[here.group.z * p.out_layer + sentence]; }
    out[here.group.z * p.out_layer + sentence] = sum;
}
