// The software variant of layer_norm.wgsl: a workgroup is one subgroup. How many vec4 a row has is a constant, so that
// rows stay in registers and are loaded once. Forward has a row a lane (ALONG vec4 each), so that no
// sum goes across lanes; what is longer goes over `block` rows, a row at a time across the lanes, EACH vec4 a lane, and
// so does vjp, whose sums over rows for γ̄ and β̄ (SUMS) then cost no load of their own; those of block number b go to
// row b of `gamma_bar` and `beta_bar`. With UNIFORM (common/uniform_store.wgsl; ALONG too) blocks of vjp are ROWS rows,
// without a loop.
//@import common/subgroup.wgsl

// Lanes of the subgroup: every variant that comes here sets it.
const LANES: u32 = 1u;
const EACH: u32 = 1u;
// vec4 of a row that one lane holds, 0 for rows across the lanes (forward).
const ALONG: u32 = 0u;
// Rows of a block (UNIFORM).
const ROWS: u32 = 16u;
//@import common/lane_sum.wgsl
//@if UNIFORM
//@import common/uniform_store.wgsl
//@end

// The mean that is taken away of a row, from each lane's part of its sum.
fn mean_of(part: f32) -> f32 {
//@if RMS
    return 0.0;
//@else
    return lane_sum(part) / f32(p.width);
//@end
}

//@if ALONG
@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    let l = here.lane;
    let first = group_number(here.group) * LANES;
    let rows = count_of(p.code, p.fixed);
//@if UNIFORM
//@else
    if first >= rows { return; }
//@end
    // Lanes behind the last row do as the last one.
    let last = min(LANES, rows - first) - 1u;
    let base = (first + min(l, last)) * ALONG;
    // Columns go round: lane l holds those of vec4 number l, l + LANES, ..
    var scale: array<vec4<f32>, EACH>;
    var shift: array<vec4<f32>, EACH>;
    //@unroll
    for (var e = 0u; e < EACH; e++) {
        let c = min(e * LANES + l, ALONG - 1u);
        scale[e] = scale_at(c);
//@if SHIFT
        shift[e] = beta[c];
//@end
    }
    var v: array<vec4<f32>, ALONG>;
    var total = vec4<f32>(0.0);
    //@unroll
    for (var c = 0u; c < ALONG; c++) {
        v[c] = x[base + c];
        total += v[c];
    }
//@if RMS
    let mean = 0.0;
//@else
    let mean = sum4(total) / f32(p.width);
//@end
    var squares = vec4<f32>(0.0);
    //@unroll
    for (var c = 0u; c < ALONG; c++) {
        v[c] = (v[c] - mean) * inside(c, p.width);
        squares += v[c] * v[c];
    }
    let r = 1.0 / sqrt(sum4(squares) / f32(p.width) + p.eps);
    //@unroll
    for (var c = 0u; c < ALONG; c++) {
        v[c] = v[c] * r * subgroupBroadcast(scale[c / LANES], c % LANES);
//@if SHIFT
        v[c] += subgroupBroadcast(shift[c / LANES], c % LANES);
//@end
    }
//@if UNIFORM
    let to = uniform_of(first * ALONG);
    let end = uniform_small(last);
    //@unroll
    for (var c = 0u; c < ALONG; c++) {
        let ours = as_stored(v[c]);
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            out[to + min(j, end) * ALONG + c] = subgroupBroadcast(ours, j);
        }
    }
//@else
    if l <= last {
        //@unroll
        for (var c = 0u; c < ALONG; c++) {
            out[base + c] = v[c];
        }
    }
//@end
    if l <= last { stat_out[first + l] = vec4<f32>(mean, r, 0.0, 0.0); }
}
//@else
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
        let r = 1.0 / sqrt(lane_sum(squares) / f32(p.width) + p.eps);
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
//@end

// x̄ of a row, from its statistics.
struct Back {
    x_bar: array<vec4<f32>, EACH>,
    // What it adds to γ̄ and β̄.
    scale_bar: array<vec4<f32>, EACH>,
    shift_bar: array<vec4<f32>, EACH>,
}

fn back(row: u32, l: u32, z: u32, s: vec2<f32>, scale: array<vec4<f32>, EACH>) -> Back {
    let base = row * p.cols4;
    let layer = z * p.y_layer + base;
    var found: Back;
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
        found.scale_bar[e] = y * x_hat[e];
        found.shift_bar[e] = y;
    }
    let mean_h = mean_of(total);
    let mean_product = lane_sum(product) / f32(p.width);
    //@unroll
    for (var e = 0u; e < EACH; e++) {
        let c = e * LANES + l;
        var x_bar = s.y * (h[e] - mean_h - x_hat[e] * mean_product) * inside(c, p.width);
        if ADDEND != 0u { x_bar += addend[layer + min(c, p.cols4 - 1u)]; }
        found.x_bar[e] = x_bar;
    }
    return found;
}

@compute @workgroup_size(LANES)
fn vjp(here: Lane) {
    let l = here.lane;
    let block = group_number(here.group);
//@if UNIFORM
    let first = block * ROWS;
    let last = min(ROWS, count_of(p.code, p.fixed) - first) - 1u;
//@else
    let first = block * p.block;
    let end = min(first + p.block, count_of(p.code, p.fixed) * p.heads);
    if first >= end { return; }
//@end
    var scale: array<vec4<f32>, EACH>;
    var scale_bar: array<vec4<f32>, EACH>;
    var shift_bar: array<vec4<f32>, EACH>;
    //@unroll
    for (var e = 0u; e < EACH; e++) {
        scale[e] = scale_at(min(e * LANES + l, p.cols4 - 1u));
        scale_bar[e] = vec4<f32>(0.0);
        shift_bar[e] = vec4<f32>(0.0);
    }
//@if UNIFORM
    let to = uniform_of(here.group.z * p.y_layer + first * p.cols4);
    let stride = uniform_small(p.cols4);
    let end = uniform_small(last);
    var stats: array<vec2<f32>, ROWS / LANES>;
    //@unroll
    for (var g = 0u; g < ROWS / LANES; g++) {
        stats[g] = stat[first + min(g * LANES + l, last)].xy;
    }
    var stored: array<vec4<f32>, EACH>;
    //@unroll
    for (var r = 0u; r < ROWS; r++) {
        let found = back(first + min(r, last), l, here.group.z, subgroupBroadcast(stats[r / LANES], r % LANES), scale);
        // Behind the last row that is stored again, where it lies.
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            if SUMS != 0u {
                scale_bar[e] += select(vec4<f32>(0.0), found.scale_bar[e], r <= last);
                if SHIFT != 0u { shift_bar[e] += select(vec4<f32>(0.0), found.shift_bar[e], r <= last); }
            }
            stored[e] = select(stored[e], found.x_bar[e], r <= last);
            let ours = as_stored(stored[e]);
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                out[to + min(r, end) * stride + e * LANES + j] = subgroupBroadcast(ours, j);
            }
        }
    }
//@else
    for (var row = first; row < end; row++) {
        let found = back(row, l, here.group.z, stat[row].xy, scale);
        //@unroll
        for (var e = 0u; e < EACH; e++) {
            if SUMS != 0u {
                scale_bar[e] += found.scale_bar[e];
                if SHIFT != 0u { shift_bar[e] += found.shift_bar[e]; }
            }
            let c = e * LANES + l;
            if c < p.cols4 { out[here.group.z * p.y_layer + row * p.cols4 + c] = found.x_bar[e]; }
        }
    }
//@end
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
