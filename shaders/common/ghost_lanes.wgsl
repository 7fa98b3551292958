// Inner products of parts of b's rows, as lane_products.wgsl has them of a's.
//@import common/lane_products.wgsl

// The part that begins at vec4 number t with those at s of all lanes.
fn inner_b(t: u32, s: u32) -> array<f32, LANES> {
    var inner: array<f32, LANES>;
    for (var c0 = 0u; c0 < p.b4; c0 += COLUMNS) {
        //@unroll
        for (var u = 0u; u < COLUMNS; u++) {
            let c = min(c0 + u, p.b4 - 1u);
            meet(&inner, b[t + c] * before(c0 + u, p.b4), b[s + c]);
        }
    }
    return inner;
}

// The row of b that begins at vec4 number t with the rows s of a of all lanes, of as many columns.
fn inner_b_a(t: u32, s: u32) -> array<f32, LANES> {
    var inner: array<f32, LANES>;
    for (var c0 = 0u; c0 < p.b4; c0 += COLUMNS) {
        //@unroll
        for (var u = 0u; u < COLUMNS; u++) {
            let c = min(c0 + u, p.b4 - 1u);
            meet(&inner, b[t + c] * before(c0 + u, p.b4), a[s * p.a4 + c]);
        }
    }
    return inner;
}
