// Layer norm along a direction (ẋ, γ̇, β̇): tangents of layer_norm.wgsl and layer_norm_scale.wgsl. With x̂ and r as
// there, m = mean(ẋ) (with RMS 0, as mean(h) and mean(ḣ) are) and c = mean(x̂ ẋ) a row; γ and γ̇ stand for what
// multiplies x̂ and its tangent (common/layer_norm.wgsl):
//   jvp      x̂̇ = r (ẋ − m − c x̂),  ẏ = γ x̂̇ + γ̇ x̂ + β̇;  stat_out = (mean, r, m, c)
//   vjp_jvp  tangent of x̄ = r (h − A − x̂ B), h = γ ȳ, A = mean(h), B = mean(h x̂):
//            r (−r c (h − A − x̂ B) + ḣ − Ȧ − x̂̇ B − x̂ Ḃ),  ḣ = γ̇ ȳ + γ ȳ̇
//   scale    tangents of γ̄ = Σ ȳ x̂ and β̄ = Σ ȳ over a block of rows
//   second   ⟨ȳ, D²y[(ẋ, γ̇)²]⟩ of each row: x̂̈ = r² ((3c² − q) x̂ − 2c (ẋ − m)), q = mean((ẋ − m)²); in x of four
//            columns
// Tangents have a layer a probe; ȳ has layers or none. Derivation: differentiate r = (mean((x − mean)²) + ε)^(−1/2).
//@variants LANES=32 SCALE=1 SHIFT=1
//@variants RMS=1 SCALE=0|1
//@variants SCALE=1 ONE_PLUS=1 SHIFT=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/rows.wgsl
//@import common/layer_norm.wgsl

struct Params {
    code: u32,
    fixed: u32,
    width: u32,
    cols4: u32,
    // vec4 between probes of ẋ, ȳ̇ and what comes out; of ȳ (or 0); of γ̇ and β̇; of stat_dot.
    layer: u32,
    bar_layer: u32,
    vector_layer: u32,
    stat_layer: u32,
    // The frame of `scale` (common/blocks.wgsl).
    groups: u32,
    block: u32,
    out_layer: u32,
    // Parts of a row that are normalised each on its own; width, cols4 and `block` are of these.
    heads: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> x_dot: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gamma_dot: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> beta_dot: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stat_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stat_dot: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> y_bar: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> y_bar_dot: array<vec4<f32>>;

// A row and this invocation's place in it.
struct Row {
    row: u32,
    base: u32,
    lane: u32,
    beyond: bool,
}

fn row_of(here: Place) -> Row {
    let rows = count_of(p.code, p.fixed) * p.heads;
    let asked = row_at(here);
    let row = min(asked, rows - 1u);
    return Row(row, row * p.cols4, here.local % LANES, asked >= rows);
}

// The tangent of `scale_at` at `at` of γ̇.
fn scale_dot_at(at: u32) -> vec4<f32> {
//@if SCALE
    return gamma_dot[at];
//@else
    return vec4<f32>(0.0);
//@end
}

@compute @workgroup_size(64)
fn jvp(here: Place) {
    let at = row_of(here);
    let dot_base = here.group.z * p.layer + at.base;
    let s = stat[at.row];
    var sums = vec2<f32>(0.0);
    for (var c = at.lane; c < p.cols4; c += LANES) {
        let d = x_dot[dot_base + c];
        sums += vec2<f32>(mean_part(d), dot(d, (x[at.base + c] - s.x) * s.y));
    }
    let means = row_sum(sums, here.local) / f32(p.width);
    if at.beyond { return; }
    let vectors = here.group.z * p.vector_layer;
    for (var c = at.lane; c < p.cols4; c += LANES) {
        let x_hat = (x[at.base + c] - s.x) * s.y;
        let x_hat_dot = s.y * (x_dot[dot_base + c] - means.x - means.y * x_hat);
        var y_dot = scale_at(c) * x_hat_dot + scale_dot_at(vectors + c) * x_hat;
//@if SHIFT
        y_dot += beta_dot[vectors + c];
//@end
        out[dot_base + c] = y_dot;
    }
    if at.lane == 0u {
        stat_out[here.group.z * p.stat_layer + at.row] = vec4<f32>(s.x, s.y, means);
    }
}

@compute @workgroup_size(64)
fn vjp_jvp(here: Place) {
    let l = here.local;
    let at = row_of(here);
    let dot_base = here.group.z * p.layer + at.base;
    let bar_base = here.group.z * p.bar_layer + at.base;
    let vectors = here.group.z * p.vector_layer;
    let s = stat_dot[here.group.z * p.stat_layer + at.row];
    // Σ h, Σ h x̂; Σ h ẋ, Σ ḣ; Σ ḣ x̂
    var first = vec2<f32>(0.0);
    var second_sums = vec2<f32>(0.0);
    var third = 0.0;
    for (var c = at.lane; c < p.cols4; c += LANES) {
        let x_hat = (x[at.base + c] - s.x) * s.y;
        let bar = y_bar[bar_base + c];
        let scale = scale_at(c);
        let h = scale * bar;
        let h_dot = scale_dot_at(vectors + c) * bar + scale * y_bar_dot[dot_base + c];
        first += vec2<f32>(mean_part(h), dot(h, x_hat));
        second_sums += vec2<f32>(dot(h, x_dot[dot_base + c]), mean_part(h_dot));
        third += dot(h_dot, x_hat);
    }
    let a = row_sum(first, l) / f32(p.width);
    let b = row_sum(second_sums, l) / f32(p.width);
    let b_dot = row_sum(vec2<f32>(third, 0.0), l).x / f32(p.width) + s.y * (b.x - s.z * a.x - s.w * a.y);
    if at.beyond { return; }
    for (var c = at.lane; c < p.cols4; c += LANES) {
        let x_hat = (x[at.base + c] - s.x) * s.y;
        let x_hat_dot = s.y * (x_dot[dot_base + c] - s.z - s.w * x_hat);
        let bar = y_bar[bar_base + c];
        let h = scale_at(c) * bar;
        let h_dot = scale_dot_at(vectors + c) * bar + scale_at(c) * y_bar_dot[dot_base + c];
        let inner = h_dot - b.y - x_hat_dot * a.y - x_hat * b_dot - s.y * s.w * (h - a.x - x_hat * a.y);
        out[dot_base + c] = s.y * inner * inside(c, p.width);
    }
}

@compute @workgroup_size(64)
fn second(here: Place) {
    let at = row_of(here);
    let dot_base = here.group.z * p.layer + at.base;
    let bar_base = here.group.z * p.bar_layer + at.base;
    let vectors = here.group.z * p.vector_layer;
    let s = stat_dot[here.group.z * p.stat_layer + at.row];
    // Σ (ẋ − m)², Σ γ ȳ x̂; Σ γ ȳ (ẋ − m), Σ γ̇ ȳ x̂̇
    var first = vec2<f32>(0.0);
    var others = vec2<f32>(0.0);
    for (var c = at.lane; c < p.cols4; c += LANES) {
        let x_hat = (x[at.base + c] - s.x) * s.y;
        let centred = (x_dot[dot_base + c] - s.z) * inside(c, p.width);
        let bar = y_bar[bar_base + c];
        let h = scale_at(c) * bar;
        first += vec2<f32>(dot(centred, centred), dot(h, x_hat));
        others += vec2<f32>(dot(h, centred), dot(scale_dot_at(vectors + c) * bar, s.y * (centred - s.w * x_hat)));
    }
    let a = row_sum(first, here.local);
    let b = row_sum(others, here.local);
    if at.beyond || at.lane != 0u { return; }
    let q = a.x / f32(p.width);
    let bend = s.y * s.y * ((3.0 * s.w * s.w - q) * a.y - 2.0 * s.w * b.x);
    out[here.group.z * p.out_layer + at.row] = vec4<f32>(bend + 2.0 * b.y, 0.0, 0.0, 0.0);
}

@group(0) @binding(6) var<storage, read_write> gamma_bar: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> beta_bar: array<vec4<f32>>;

@compute @workgroup_size(8)
fn scale(here: Place) {
    let group = group_number(here.group);
    let block = group / p.groups;
    let column = (group % p.groups) * 8u + here.local;
    let rows = count_of(p.code, p.fixed) * p.heads;
    let end = min((block + 1u) * p.block, rows);
    if column >= p.cols4 || block * p.block >= rows { return; }
    var scales = vec4<f32>(0.0);
    var shifts = vec4<f32>(0.0);
    for (var row = block * p.block; row < end; row++) {
        let s = stat_dot[here.group.z * p.stat_layer + row];
        let at = row * p.cols4 + column;
        let x_hat = (x[at] - s.x) * s.y;
        let x_hat_dot = s.y * (x_dot[here.group.z * p.layer + at] - s.z - s.w * x_hat);
        let bar_dot = y_bar_dot[here.group.z * p.layer + at];
        scales += bar_dot * x_hat + y_bar[here.group.z * p.bar_layer + at] * x_hat_dot;
        if SHIFT != 0u { shifts += bar_dot; }
    }
    let to = here.group.z * p.out_layer + block * p.cols4 + column;
    gamma_bar[to] = scales;
//@if SHIFT
    beta_bar[to] = shifts;
//@end
}
