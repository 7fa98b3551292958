// The plain variant of ghost_norm.wgsl: 64 invocations share the pairs of rows of a sentence, straight from memory.
//@import common/workgroup_sum.wgsl

const WIDTH: u32 = 64u;
alias Summed = vec4<f32>;

fn inner_b(layer: u32, t: u32, s: u32, part: u32) -> f32 {
    let first = layer + p.b_first + part * p.b4;
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < p.b4; c++) {
        sum += b[first + t * p.b_row + c] * b[first + s * p.b_row + c];
    }
    return sum4(sum);
}

@compute @workgroup_size(64)
fn product(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let range = range_of(min(sentence, step.sentences - 1u), p.masked);
    let length = range.y - range.x;
    var total = vec4<f32>(0.0);
    for (var pair = l; pair < length * length; pair += 64u) {
        let t = range.x + pair / length;
        let s = range.x + pair % length;
        // The pair (s, t) is the same.
        if s > t { continue; }
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < p.a4; c++) {
            sum += a[t * p.a4 + c] * a[s * p.a4 + c];
        }
        let weight = select(2.0, 1.0, s == t) * sum4(sum);
        for (var part = 0u; part < PARTS; part++) {
            total[part] += weight * inner_b(here.group.z * p.b_layer, t, s, part);
        }
    }
    let all = add_up(total, l);
    if l == 0u && sentence < step.sentences { store(here.group.z * p.out_layer + sentence, all); }
}

@compute @workgroup_size(64)
fn tables(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let range = range_of(min(sentence, step.sentences - 1u), p.masked);
    let length = range.y - range.x;
    var total = vec4<f32>(0.0);
    for (var pair = l; pair < length * length; pair += 64u) {
        let t = range.x + pair / length;
        let s = range.x + pair % length;
        if s > t { continue; }
        let same = bitcast<vec4<u32>>(ids[t]) == bitcast<vec4<u32>>(ids[s]);
        let inner = select(2.0, 1.0, s == t) * inner_b(here.group.z * p.b_layer, t, s, 0u);
        total += select(vec4<f32>(0.0), vec4<f32>(inner), same);
    }
    let all = add_up(total, l);
    if l == 0u && sentence < step.sentences { out[here.group.z * p.out_layer + sentence] = vec4<f32>(all.xyz, 0.0); }
}

@compute @workgroup_size(64)
fn tied(here: Place) {
    let l = here.local;
    let sentence = group_number(here.group);
    let span = spans_of(min(sentence, step.sentences - 1u));
    let e0 = here.group.z * p.e_layer;
    let length = span.y - span.x;
    var total = 0.0;
    for (var pair = l; pair < length * (span.w - span.z); pair += 64u) {
        let t = span.x + pair % length;
        let m = span.z + pair / length;
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < p.b4; c++) {
            sum += b[here.group.z * p.b_layer + t * p.b4 + c] * a[m * p.a4 + c];
        }
        let word = bitcast<vec4<u32>>(ids[t]).x;
        total += sum4(sum) * adjoint_of(e0 + m * p.e4, word);
    }
    let all = add_up(vec4<f32>(2.0 * total, 0.0, 0.0, 0.0), l);
    if l == 0u && sentence < step.sentences { out[here.group.z * p.out_layer + sentence] = all; }
}
