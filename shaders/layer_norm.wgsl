// Layer norm over rows of D numbers: x̂ = (x - mean) / √(var + ε), y = γ x̂ + β. Ba et al. 2016.
//   forward      y and stat = (mean, 1/√(var + ε), 0, 0) a row
//   vjp          x̄ = r (h - mean(h) - x̂ mean(h x̂)) + addend,  h = γ ȳ,  r = 1/√(var + ε)
// With RMS nothing is taken away, x̂ = x / √(mean(x²) + ε): mean and mean(h) are 0 in all of this (Zhang & Sennrich
// 2019). γ may be 1 + γ or nothing, β nothing (common/layer_norm.wgsl). Rows of ȳ, addend and x̄ have layers
// (cotangents); x, γ and stat have none. Where a row falls into `heads` equal parts that are normalised each on its
// own, each is a row of its own to all of this. The sums γ̄, β̄ over rows are in layer_norm_scale.wgsl. Variants:
//   lane, lanes   LANES invocations a row
//   subgroup      one subgroup a block of rows; for software adapters. With SUMS it sums γ̄, β̄ up on the way, with
//                 UNIFORM it stores a lane's results after another's (common/uniform_store.wgsl)
//@variants LANES=32 ADDEND=1 SCALE=1 SHIFT=1
//@variants LANES=32 RMS=1 SCALE=0|1
//@variants SUBGROUP=1 LANES=8 SUMS=1 SCALE=1 SHIFT=1
//@variants SUBGROUP=1 LANES=4 EACH=8 ADDEND=1 SUMS=1 SCALE=1 SHIFT=1
//@variants SUBGROUP=1 LANES=16 EACH=2 ADDEND=1 SUMS=1 SCALE=1 SHIFT=1
//@variants SUBGROUP=1 LANES=16 EACH=2 ADDEND=1 SUMS=1 RMS=0|1 SCALE=1 ONE_PLUS=0|1
//@variants SUBGROUP=1 LANES=8 EACH=2 RMS=0|1
//@variants SUBGROUP=1 LANES=8 EACH=2 ALONG=15 SCALE=1 SHIFT=1
//@variants SUBGROUP=1 LANES=16 ALONG=16 RMS=0|1 SCALE=1
//@variants SUBGROUP=1 LANES=8 EACH=2 ALONG=16 UNIFORM=1 ADDEND=0|1 SUMS=0|1 SCALE=1 SHIFT=1
//@variants SUBGROUP=1 LANES=16 ALONG=16 UNIFORM=1 PAIRS=1 ADDEND=1 SUMS=1 SCALE=1 SHIFT=0|1
//@variants SUBGROUP=1 LANES=16 ALONG=16 UNIFORM=1 PAIRS=1 RMS=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/layer_norm.wgsl

const SUBGROUP: u32 = 0u;
// Constants and no parameters, since a software adapter runs both sides of every branch.
const ADDEND: u32 = 0u;
const SUMS: u32 = 0u;
// Stores a lane after another.
const UNIFORM: u32 = 0u;
// These stores two numbers as one of 64 bits.
const PAIRS: u32 = 0u;

struct Params {
    code: u32,
    fixed: u32,
    width: u32,
    cols4: u32,
    eps: f32,
    y_layer: u32,
    // Rows a workgroup and vec4 between layers of its sums (subgroup).
    block: u32,
    sums_layer: u32,
    // Parts of a row that are normalised each on its own; width, cols4 and `block` are of these.
    heads: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> y_bar: array<vec4<f32>>;
//@optional
@group(0) @binding(5) var<storage, read> addend: array<vec4<f32>>;
//@if PAIRS
@group(0) @binding(6) var<storage, read_write> out: array<vec2<f64>>;
//@else
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
//@end
@group(0) @binding(7) var<storage, read_write> stat_out: array<vec4<f32>>;
//@optional
@group(0) @binding(2) var<storage, read_write> gamma_bar: array<vec4<f32>>;
//@optional
@group(0) @binding(7) var<storage, read_write> beta_bar: array<vec4<f32>>;

//@if SUBGROUP
//@import common/layer_norm_subgroup.wgsl
//@else
//@import common/layer_norm_rows.wgsl
//@end
