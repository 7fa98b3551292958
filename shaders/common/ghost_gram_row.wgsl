// The plain variant of ghost_gram.wgsl: 64 invocations share the pairs of rows of two sentences, straight from memory.
//@import common/workgroup_sum.wgsl

alias Summed = f32;

// Inner products of the parts of b's rows that take part.
fn inner_b(t: u32, s: u32) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var part = 0u; part < PARTS; part++) {
        if ((p.mask >> part) & 1u) == 0u { continue; }
        for (var c = part * p.b4; c < (part + 1u) * p.b4; c++) {
            sum += b[t * p.b_row + p.b_first + c] * b[s * p.b_row + p.b_first + c];
        }
    }
    return sum4(sum);
}

@compute @workgroup_size(64)
fn product(here: Place) {
    let l = here.local;
    let pair = pair_of(group_number(here.group));
    let wide = pair.other.y - pair.other.x;
    let size = select(0u, (pair.own.y - pair.own.x) * wide, pair.inside);
    var total = 0.0;
    for (var k = l; k < size; k += 64u) {
        let t = pair.own.x + k / wide;
        let s = pair.other.x + k % wide;
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < p.a4; c++) { sum += a[t * p.a4 + c] * a[s * p.a4 + c]; }
        total += (sum4(sum) + p.bias) * inner_b(t, s);
    }
    let all = add_up(total, l);
    if l == 0u && pair.inside { keep(pair, all); }
}

@compute @workgroup_size(64)
fn sums(here: Place) {
    let l = here.local;
    let pair = pair_of(group_number(here.group));
    let wide = pair.other.y - pair.other.x;
    let size = select(0u, (pair.own.y - pair.own.x) * wide, pair.inside);
    var total = 0.0;
    for (var k = l; k < size; k += 64u) {
        total += inner_b(pair.own.x + k / wide, pair.other.x + k % wide);
    }
    let all = add_up(total, l);
    if l == 0u && pair.inside { keep(pair, all); }
}

@compute @workgroup_size(64)
fn scale(here: Place) {
    let l = here.local;
    let pair = pair_of_heads(group_number(here.group));
    let wide = pair.other.y - pair.other.x;
    let size = select(0u, (pair.own.y - pair.own.x) * wide, pair.inside);
    let scales = f32(p.mask & 1u);
    let shifts = f32((p.mask >> 1u) & 1u);
    var total = 0.0;
    for (var k = l; k < size; k += 64u) {
        let t = pair.own.x + k / wide;
        let s = pair.other.x + k % wide;
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < p.b4; c++) {
            sum += scales * scaled(t, c) * scaled(s, c) + shifts * b[t * p.b4 + c] * b[s * p.b4 + c];
        }
        total += sum4(sum);
    }
    let all = add_up(total, l);
    if l == 0u && pair.inside { keep(pair, all); }
}

@compute @workgroup_size(64)
fn tables(here: Place) {
    let l = here.local;
    let pair = pair_of(group_number(here.group));
    let wide = pair.other.y - pair.other.x;
    let size = select(0u, (pair.own.y - pair.own.x) * wide, pair.inside);
    var total = 0.0;
    for (var k = l; k < size; k += 64u) {
        let t = pair.own.x + k / wide;
        let s = pair.other.x + k % wide;
        let shared_count = shared_rows(bitcast<vec4<u32>>(ids[t]), bitcast<vec4<u32>>(ids[s]));
        if shared_count == 0.0 { continue; }
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < p.b4; c++) { sum += b[t * p.b4 + c] * b[s * p.b4 + c]; }
        total += shared_count * sum4(sum);
    }
    let all = add_up(total, l);
    if l == 0u && pair.inside { keep(pair, all); }
}

// Tokens of one sentence with the masked positions of the other.
fn crossed(tokens: vec2<u32>, positions: vec2<u32>, l: u32) -> f32 {
    let wide = tokens.y - tokens.x;
    var total = 0.0;
    for (var k = l; k < wide * (positions.y - positions.x); k += 64u) {
        let t = tokens.x + k % wide;
        let m = positions.x + k / wide;
        var sum = vec4<f32>(0.0);
        for (var c = 0u; c < p.b4; c++) { sum += b[t * p.b4 + c] * a[m * p.a4 + c]; }
        total += sum4(sum) * adjoint_of(m * p.e4, bitcast<vec4<u32>>(ids[t]).x);
    }
    return total;
}

@compute @workgroup_size(64)
fn tied(here: Place) {
    let l = here.local;
    let pair = pair_of(group_number(here.group));
    var total = 0.0;
    if pair.inside { total = crossed(pair.own.xy, pair.other.zw, l) + crossed(pair.other.xy, pair.own.zw, l); }
    let all = add_up(total, l);
    if l == 0u && pair.inside { keep(pair, all); }
}
