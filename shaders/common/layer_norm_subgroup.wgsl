// The software variant of layer_norm.wgsl: a workgroup is one subgroup and goes over `block` rows, a row at a time
// across its lanes, EACH vec4 a lane. γ, β and the row stay in registers, so that a row is loaded once, and the sums
// over rows for γ̄ and β̄ (SUMS) cost no load of their own; those of block number b go to row b of `gamma_bar` and
// `beta_bar`.
//@import common/subgroup.wgsl

// Lanes of the subgroup: every variant that comes here sets it.
const LANES: u32 = 1u;
const EACH: u32 = 1u;

// The mean that is taken away of a row, from each lane's part of its sum.
fn mean_of(part: f32) -> f32 {
//@if RMS
    return 0.0;
//@else
    return subgroupAdd(part) / f32(p.width);
//@end
}

@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    let l = here.lane;
    let first = group_number(here.group) * p.block;
    let end = min(first + p.block, count_of(p.code, p.fixed) * p.heads);
    var scale: array<vec4<f32>, EACH>;
    var shift: array<vec4<f32>, EACH>;
    //@unroll
    for (var e = 0u; e < EACH; e++) {
        let c = min(e * LANES + l, p.cols4 - 1u);
        scale[e] = scale_at(c);
//@if SHIFT
        shift[e] = beta[c];
//@end
    }
    for (var row = first; row < end; row++) {
        let base = row * p.cols4;
        var v: array<vec4<f32>, EACH>;
        var total = 0.0;
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            let c = e * LANES + l;
            v[e] = select(vec4<f32>(0.0), x[base + min(c, p.cols4 - 1u)], c < p.cols4);
            total += mean_part(v[e]);
        }
        let mean = mean_of(total);
        var squares = 0.0;
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            v[e] = (v[e] - mean) * inside(e * LANES + l, p.width);
            squares += dot(v[e], v[e]);
        }
        let r = 1.0 / sqrt(subgroupAdd(squares) / f32(p.width) + p.eps);
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            let c = e * LANES + l;
            var y = v[e] * r * scale[e];
//@if SHIFT
            y += shift[e];
//@end
            if c < p.cols4 { out[base + c] = y; }
        }
        if l == 0u { stat_out[row] = vec4<f32>(mean, r, 0.0, 0.0); }
    }
}

@compute @workgroup_size(LANES)
fn vjp(here: Lane) {
    let l = here.lane;
    let block = group_number(here.group);
    let first = block * p.block;
    let end = min(first + p.block, count_of(p.code, p.fixed) * p.heads);
    if first >= end { return; }
    var scale: array<vec4<f32>, EACH>;
    var scale_bar: array<vec4<f32>, EACH>;
    var shift_bar: array<vec4<f32>, EACH>;
    //@unroll
    for (var e = 0u; e < EACH; e++) {
        scale[e] = scale_at(min(e * LANES + l, p.cols4 - 1u));
        scale_bar[e] = vec4<f32>(0.0);
        shift_bar[e] = vec4<f32>(0.0);
    }
    for (var row = first; row < end; row++) {
        let base = row * p.cols4;
        let layer = here.group.z * p.y_layer + base;
        let s = stat[row];
        var h: array<vec4<f32>, EACH>;
        var x_hat: array<vec4<f32>, EACH>;
        var total = 0.0;
        var product = 0.0;
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            let c = e * LANES + l;
            let at = min(c, p.cols4 - 1u);
            let y = select(vec4<f32>(0.0), y_bar[layer + at], c < p.cols4);
            x_hat[e] = (x[base + at] - s.x) * s.y;
            h[e] = scale[e] * y;
            total += mean_part(h[e]);
            product += dot(h[e], x_hat[e]);
            if SUMS != 0u {
                scale_bar[e] += y * x_hat[e];
                if SHIFT != 0u { shift_bar[e] += y; }
            }
        }
        let mean_h = mean_of(total);
        let mean_product = subgroupAdd(product) / f32(p.width);
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            let c = e * LANES + l;
            var x_bar = s.y * (h[e] - mean_h - x_hat[e] * mean_product) * inside(c, p.width);
            if ADDEND != 0u { x_bar += addend[layer + min(c, p.cols4 - 1u)]; }
            if c < p.cols4 { out[layer + c] = x_bar; }
        }
    }
    if SUMS != 0u {
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            let c = e * LANES + l;
            if c < p.cols4 {
                gamma_bar[here.group.z * p.sums_layer + block * p.cols4 + c] = scale_bar[e];
//@if SHIFT
                beta_bar[here.group.z * p.sums_layer + block * p.cols4 + c] = shift_bar[e];
//@end
            }
        }
    }
}
