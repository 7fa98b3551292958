// The plain variants of layer_norm.wgsl: LANES invocations share a row, 64 / LANES rows a workgroup.
//@import common/rows.wgsl

@compute @workgroup_size(64)
fn forward(here: Place) {
    let l = here.local;
    let rows = count_of(p.code, p.fixed) * p.heads;
    let asked = row_at(here);
    let row = min(asked, rows - 1u);
    let base = row * p.cols4;
    let lane = l % LANES;
//@if RMS
    let mean = 0.0;
//@else
    var total = 0.0;
    for (var c = lane; c < p.cols4; c += LANES) {
        total += sum4(x[base + c]);
    }
    let mean = row_sum(vec2<f32>(total, 0.0), l).x / f32(p.width);
//@end
    var squares = 0.0;
    for (var c = lane; c < p.cols4; c += LANES) {
        let d = (x[base + c] - mean) * inside(c, p.width);
        squares += dot(d, d);
    }
    let variance = row_sum(vec2<f32>(squares, 0.0), l).x / f32(p.width);
    let r = 1.0 / sqrt(variance + p.eps);
    if asked >= rows { return; }
    for (var c = lane; c < p.cols4; c += LANES) {
        var y = (x[base + c] - mean) * r * scale_at(c);
//@if SHIFT
        y += beta[c];
//@end
        out[base + c] = y;
    }
    if lane == 0u {
        stat_out[row] = vec4<f32>(mean, r, 0.0, 0.0);
    }
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let rows = count_of(p.code, p.fixed) * p.heads;
    let asked = row_at(here);
    let row = min(asked, rows - 1u);
    let base = row * p.cols4;
    let layer = here.group.z * p.y_layer + base;
    let lane = here.local % LANES;
    let s = stat[row];
    var sums = vec2<f32>(0.0);
    for (var c = lane; c < p.cols4; c += LANES) {
        let h = scale_at(c) * y_bar[layer + c];
        sums += vec2<f32>(mean_part(h), dot(h, (x[base + c] - s.x) * s.y));
    }
    let means = row_sum(sums, here.local) / f32(p.width);
    if asked >= rows { return; }
    for (var c = lane; c < p.cols4; c += LANES) {
        let h = scale_at(c) * y_bar[layer + c];
        let x_hat = (x[base + c] - s.x) * s.y;
        var x_bar = s.y * (h - means.x - x_hat * means.y) * inside(c, p.width);
        if ADDEND != 0u {
            x_bar += addend[layer + c];
        }
        out[layer + c] = x_bar;
    }
}
