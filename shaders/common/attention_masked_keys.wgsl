// The reverse rule of attention_masked.wgsl for keys and values: an invocation a (row, head). With UNIFORM a workgroup is
// one subgroup and has LANES rows of a head, whose results it stores a lane after another's (uniform_store.wgsl): lanes
// behind the last row make that one again, and it is stored again where it lies.

//@if UNIFORM
@compute @workgroup_size(LANES)
fn vjp_keys(here: Lane) {
    let group = group_number(here.group);
    let head = group % p.heads;
    let last_row = step.rows - 1u;
    // Behind the last row that one again: no branch may be around the stores.
    let first = min(group / p.heads * LANES, last_row);
    let row = min(first + here.lane, last_row);
//@else
@compute @workgroup_size(64)
fn vjp_keys(here: Place) {
    let i = element(here);
    let row = i % step.rows;
    let head = i / step.rows;
    if head >= p.heads { return; }
//@end
    let span = bitcast<vec4<u32>>(spans[row]);
    let positions = spans_of(span.w).zw;
    let wide = p.heads * SIZE4;
    let own = row * 3u * wide + head * SIZE4;
    let layer = here.group.z * p.in_layer;
    var k: array<vec4<f32>, SIZE4>;
    var v: array<vec4<f32>, SIZE4>;
    var k_bar: array<vec4<f32>, SIZE4>;
    var v_bar: array<vec4<f32>, SIZE4>;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        k[c] = qkv[own + wide + c] * p.scale;
        v[c] = qkv[own + 2u * wide + c];
    }
    let last = max(step.masked, 1u) - 1u;
    // With UNIFORM, which is for adapters where a loop that ends in front is gone through once more for nothing, it ends
    // behind its first position where that is the only one, or where there is none. SwiftShader ends such a loop for all
    // lanes with the first.
    //@if UNIFORM
    var at = positions.x;
    loop {
    //@else
    for (var at = positions.x; at < positions.y; at++) {
    //@end
        let m = min(at, last);
        let theirs = index_of(m) * 3u * wide + head * SIZE4;
        let beside = m * wide + head * SIZE4;
        var dots = vec4<f32>(0.0);
        var to_value = vec4<f32>(0.0);
        var deltas = vec4<f32>(0.0);
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            let g = o_bar[layer + beside + c];
            dots += k[c] * qkv[theirs + c];
            to_value += g * v[c];
            deltas += g * o[beside + c];
        }
        // No row sees those behind the end of its keys.
        let seen = (at < positions.y) & (row < span.y) & sees(index_of(m), row);
        let weight = select(0.0, exp(sum4(dots) - stat[m * p.heads + head].x), seen);
        let drop = kept(index_of(m), row, head);
        let t_in = weight * (drop * sum4(to_value) - sum4(deltas)) * p.scale;
        //@unroll
        for (var c = 0u; c < SIZE4; c++) {
            k_bar[c] += t_in * qkv[theirs + c];
            v_bar[c] += (weight * drop) * o_bar[layer + beside + c];
        }
    //@if UNIFORM
        at++;
        if at >= positions.y { break; }
    //@end
    }
    //@if UNIFORM
    let base = uniform_of(here.group.z * p.out_layer + first * 3u * wide + head * SIZE4);
    let behind = uniform_small(min(LANES - 1u, last_row - first));
    let stride = uniform_of(wide);
    let none = as_stored(vec4<f32>(0.0));
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        let of_k = as_stored(k_bar[c]);
        let of_v = as_stored(v_bar[c]);
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            let there = base + min(j, behind) * 3u * stride + c;
            qkv_bar[there] = none;
            qkv_bar[there + stride] = subgroupBroadcast(of_k, j);
            qkv_bar[there + 2u * stride] = subgroupBroadcast(of_v, j);
        }
    }
    //@else
    let to = here.group.z * p.out_layer + own;
    //@unroll
    for (var c = 0u; c < SIZE4; c++) {
        qkv_bar[to + c] = vec4<f32>(0.0);
        qkv_bar[to + wide + c] = k_bar[c];
        qkv_bar[to + 2u * wide + c] = v_bar[c];
    }
    //@end
}
