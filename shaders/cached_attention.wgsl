// Causal attention of the rows of a batch to rows that were computed before, in `cache`, and to themselves: what a
// decoder does when it goes on with a sentence. Both matrices hold rows (q, k, v), each HEADS heads of SIZE4 vec4.
//   forward   s = scale q·k,  p = softmax(s),  o = Σ p v
// over the keys of the row's run of the cache, rows first, first + stride, .., and of its own sentence up to itself. A
// run may belong to many sentences: candidates for a word share the words before it.
// One invocation a (row, head). The rows are few beside the products of a layer, so that there is no other variant.
//@variants SIZE4=8
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl

const SIZE4: u32 = 4u;

struct Params {
    heads: u32,
    scale: f32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> cache: array<vec4<f32>>;
// First row of the cache, number of rows and their stride, of each row of the batch, as whole f32.
@group(0) @binding(2) var<storage, read> runs: array<vec4<f32>>;
// First row of a row's sentence, as bits.
@group(0) @binding(3) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    let row = i % step.rows;
    let head = i / step.rows;
    if head >= p.heads { return; }
    let wide = p.heads * SIZE4;
    let own = row * 3u * wide + head * SIZE4;
    let first = bitcast<vec4<u32>>(spans[row]).x;
    let run = vec4<u32>(runs[row]);
    var q: array<vec4<f32>, SIZE4>;
    var total: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        q[c] = qkv[own + c] * p.scale;
    }
    var top = -3.4e38;
    var mass = 0.0;
    for (var n = 0u; n < run.y + row + 1u - first; n++) {
        let before = n < run.y;
        let other = select(first + n - run.y, run.x + n * run.z, before);
        let key = other * 3u * wide + wide + head * SIZE4;
        var dots = vec4<f32>(0.0);
        var value: array<vec4<f32>, SIZE4>;
        if before {
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                dots += q[c] * cache[key + c];
                value[c] = cache[key + wide + c];
            }
        } else {
            //@unroll
            for (var c = 0u; c < SIZE4; c++) {
                dots += q[c] * qkv[key + c];
                value[c] = qkv[key + wide + c];
            }
        }
        let s = sum4(dots);
        let higher = max(top, s);
        let shrink = exp(top - higher);
        let e = exp(s - higher);
        mass = mass * shrink + e;
        top = higher;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            total[c] = total[c] * shrink + e * value[c];
        }
    }
    let r = 1.0 / mass;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        out[row * wide + head * SIZE4 + c] = total[c] * r;
    }
}
