// Matrix products C = op(A) op(B) (+ bias) (+ addend), with an activation or its slope applied to the
// result.
//   NT  C[m,n] = Σ_k A[m,k] B[n,k]    y = x Wᵀ
//   NN  C[m,n] = Σ_k A[m,k] B[k,n]    x̄ = ȳ W
//   TN  C[m,n] = Σ_k A[k,m] B[k,n]    W̄ = ȳᵀ x, the sum over rows cut into splits
//
// Variants, slowest first (rates for 512³ on two cores of lavapipe are in docs/performance.md):
//   direct       an invocation computes 4 x 4 of C straight from memory; needs nothing, used where subgroups are
//                missing
//   tiled        16 x 16 invocations share tiles of A and B in workgroup memory; for GPUs
//   register     8 x 8 of C an invocation, blocks of 64 or 128; for GPUs
//   cooperative  f16 operands and f32 sums by the adapter's small-matrix products; only where a config asks for mixed
//                precision
//   subgroup     one subgroup of LANES lanes a workgroup, 4 or 8 LANES rows: each lane loads other rows of A and
//                subgroupBroadcast hands them round, each lane owns 4 columns; no workgroup memory, no barrier; for
//                software adapters. TN can sum A's columns up on the way (SUMS), the gradient of a bias. With UNIFORM a
//                lane's results are stored after another's (common/uniform_store.wgsl; NT, NN)
//@variants LAYOUT=1|2
//@variants EPILOGUE=1 ACTIVATION=0|1|2|3|4
//@variants LAYOUT=1 EPILOGUE=2 ACTIVATION=0|1|2|3|4
//@variants LAYOUT=1 EPILOGUE=4
//@variants EPILOGUE=5 ACTIVATION=0|1|2|3|4
//@variants LAYOUT=1 EPILOGUE=6 ACTIVATION=0|1|2|3|4
//@variants EPILOGUE=3
//@variants TILED=1 LAYOUT=0|1|2
//@variants TILED=1 EPILOGUE=1|3
//@variants TILED=1 LAYOUT=1 EPILOGUE=2
//@variants REGISTER=1 BLOCK=64|128 LAYOUT=0|1|2
//@variants REGISTER=1 BLOCK=64|128 EPILOGUE=1
//@variants REGISTER=1 BLOCK=64|128 LAYOUT=1 EPILOGUE=2|6
//@variants REGISTER=1 EPILOGUE=5
//@variants COOPERATIVE=1 LAYOUT=0|1|2
//@variants COOPERATIVE=1 EPILOGUE=1
//@variants COOPERATIVE=1 LAYOUT=1 EPILOGUE=2
//@variants COOPERATIVE=1 SMALL=8
//@variants LAYOUT=1 ONTO=1
//@variants SUBGROUP=1 BIAS=1
//@variants SUBGROUP=1 EPILOGUE=3
//@variants SUBGROUP=1 LAYOUT=1 ADDEND=1
//@variants SUBGROUP=1 LANES=8|16 LAYOUT=1 ONTO=1
//@variants SUBGROUP=1 LANES=4|16 BIAS=1 ADDEND=1
//@variants SUBGROUP=1 LANES=8|16 BIAS=1 EPILOGUE=1
//@variants SUBGROUP=1 LANES=8|16 LAYOUT=1 EPILOGUE=2|6
//@variants SUBGROUP=1 LANES=8|16 EPILOGUE=5
//@variants SUBGROUP=1 LANES=16 LAYOUT=1 EPILOGUE=0|4
//@variants SUBGROUP=1 LANES=4|8|16 LAYOUT=2 SUMS=1
//@variants SUBGROUP=1 LANES=8 TALL=1 BIAS=1 ADDEND=1
//@variants SUBGROUP=1 LANES=8 TALL=1 EPILOGUE=1|3
//@variants SUBGROUP=1 LANES=8 TALL=1 LAYOUT=1 EPILOGUE=2|4|6
//@variants SUBGROUP=1 UNIFORM=1 LANES=8 BIAS=1 ADDEND=0|1
//@variants SUBGROUP=1 UNIFORM=1 LANES=8 BIAS=1 EPILOGUE=1
//@variants SUBGROUP=1 UNIFORM=1 LANES=8 EPILOGUE=5
//@variants SUBGROUP=1 UNIFORM=1 LANES=8 LAYOUT=1 EPILOGUE=0|2|4|6
//@variants SUBGROUP=1 UNIFORM=1 PAIRS=1 LANES=16 BIAS=1 ADDEND=0|1
//@variants SUBGROUP=1 UNIFORM=1 PAIRS=1 LANES=16 BIAS=1 EPILOGUE=1
//@variants SUBGROUP=1 UNIFORM=1 PAIRS=1 LANES=16 EPILOGUE=5
//@variants SUBGROUP=1 UNIFORM=1 PAIRS=1 LANES=16 LAYOUT=1 EPILOGUE=0|2|4|6
//@variants SUBGROUP=1 UNIFORM=1 LANES=8 TALL=1 BIAS=1 ADDEND=0|1
//@variants SUBGROUP=1 UNIFORM=1 LANES=8 TALL=1 LAYOUT=1 EPILOGUE=0|2|6
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/activation.wgsl

const SUBGROUP: u32 = 0u;
const TILED: u32 = 0u;
const REGISTER: u32 = 0u;
const COOPERATIVE: u32 = 0u;
const LAYOUT: u32 = 0u;
const NN: u32 = 1u;
const TN: u32 = 2u;
// 0 none, 1 activation f (C to `out`, f(C) to `act`), 2 slope (C f'(z) to `out`), 3 dot (⟨C, z⟩ of each vec4, a number
// each, to `terms`), 4 times (C z to `out`), 5 gate (C to `out`, C f(z) to `act`), 6 the gate's reverse rule (C f(z) to
// `out`, C u f'(z) to `act`, u in the place of `bias`).
const EPILOGUE: u32 = 0u;
// What is added. Constants and no parameters, since a software adapter runs both sides of every branch.
const BIAS: u32 = 0u;
const ADDEND: u32 = 0u;
// Whether C is added to what is there.
const ONTO: u32 = 0u;
// Sums of A's columns over the rows of a split to `act` (TN, subgroup).
const SUMS: u32 = 0u;
// Stores a lane after another, where all columns of a tile are there (NT, NN, subgroup).
const UNIFORM: u32 = 0u;
// These stores two numbers as one of 64 bits.
const PAIRS: u32 = 0u;

struct Params {
    // Rows of C: counted for NT and NN, fixed for TN.
    m_code: u32,
    m_fixed: u32,
    // Depth in elements: fixed for NT and NN, counted rows for TN.
    k_code: u32,
    k_fixed: u32,
    // Rows of the depth that one split sums (TN).
    split: u32,
    // vec4 from row to row of A, B and C.
    a4: u32,
    b4: u32,
    c4: u32,
    // vec4 of C's columns that are computed, those from c_first on: with a window of B's rows (NT) not all.
    n4: u32,
    c_first: u32,
    // First vec4 of A's columns: of the depth in a window of B's rows (NN), of a window of C's rows (TN).
    a_first: u32,
    // Tiles along n and along m (TN).
    tiles_n: u32,
    tiles_m: u32,
    // vec4 between layers; 0 shares the operand.
    a_layer: u32,
    b_layer: u32,
    c_layer: u32,
    bias_layer: u32,
    z_layer: u32,
    // Numbers in a row of `terms`.
    terms_stride: u32,
    // vec4 of the sums of A's columns of a split.
    sums4: u32,
    sums_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
//@optional
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
//@optional
@group(0) @binding(3) var<storage, read> addend: array<vec4<f32>>;
//@optional
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;
//@if PAIRS
//@optional
@group(0) @binding(5) var<storage, read_write> out: array<vec2<f64>>;
//@optional
@group(0) @binding(6) var<storage, read_write> act: array<vec2<f64>>;
//@else
//@optional
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
//@optional
@group(0) @binding(6) var<storage, read_write> act: array<vec4<f32>>;
//@end
//@optional
@group(0) @binding(7) var<storage, read_write> terms: array<f32>;

// What a workgroup computes: rows from m, tile number n of columns, depth [k, k_end), into layer `layer` of C.
struct Task {
    m: u32,
    tile_n: u32,
    k: u32,
    k_end: u32,
    rows: u32,
    split: u32,
}

fn task(group: u32, unit: u32) -> Task {
    let tile_n = group % p.tiles_n;
    let depth = count_of(p.k_code, p.k_fixed);
    if LAYOUT == TN {
        let rest = group / p.tiles_n;
        let split = rest / p.tiles_m;
        let m = (rest % p.tiles_m) * unit;
        let k = split * p.split;
        return Task(m, tile_n, k, min(k + p.split, depth), select(0u, p.m_fixed, k < depth), split);
    }
    return Task((group / p.tiles_n) * unit, tile_n, 0u, depth, count_of(p.m_code, p.m_fixed), 0u);
}

// What of C is stored, and the second result where there is one.
struct Results {
    out: vec4<f32>,
    act: vec4<f32>,
}

// Addend and epilogue of vec4 number i of C, without EPILOGUE 3.
fn results(i: u32, layer: u32, sum: vec4<f32>) -> Results {
    var c = sum;
    if ADDEND != 0u { c += addend[layer * p.c_layer + i]; }
    if EPILOGUE == 1u { return Results(c, activate4(c)); }
    if EPILOGUE == 2u { return Results(c * slope4(z[layer * p.z_layer + i]), vec4<f32>(0.0)); }
    if EPILOGUE == 4u { return Results(c * z[layer * p.z_layer + i], vec4<f32>(0.0)); }
    if EPILOGUE == 5u { return Results(c, c * activate4(z[layer * p.z_layer + i])); }
    if EPILOGUE == 6u {
        let gate = z[layer * p.z_layer + i];
        return Results(c * activate4(gate), c * bias[layer * p.bias_layer + i] * slope4(gate));
    }
    return Results(c, vec4<f32>(0.0));
}

//@if UNIFORM
//@else
// Bias, addend and epilogue of vec4 (row, column) of what is computed of C.
fn finish(row: u32, column: u32, layer: u32, sum: vec4<f32>) {
    var c = sum;
    if BIAS != 0u { c += bias[layer * p.bias_layer + p.c_first + column]; }
    finish_biased(row, column, layer, c);
}

fn finish_biased(row: u32, computed: u32, layer: u32, sum: vec4<f32>) {
    let column = p.c_first + computed;
    let i = row * p.c4 + column;
    var c = sum;
    if ONTO != 0u { c += out[layer * p.c_layer + i]; }
    if EPILOGUE == 3u {
        if ADDEND != 0u { c += addend[layer * p.c_layer + i]; }
        terms[4u * layer * p.c_layer + row * p.terms_stride + column] = dot(c, z[layer * p.z_layer + i]);
        return;
    }
    let found = results(i, layer, c);
    out[layer * p.c_layer + i] = found.out;
    if EPILOGUE == 1u || EPILOGUE == 5u || EPILOGUE == 6u { act[layer * p.c_layer + i] = found.act; }
}
//@end

//@if SUBGROUP
//@import common/linear_subgroup.wgsl
//@else
//@if TILED
//@import common/linear_tiled.wgsl
//@else
//@if REGISTER
//@import common/linear_register.wgsl
//@else
//@if COOPERATIVE
//@import common/linear_cooperative.wgsl
//@else
//@import common/linear_direct.wgsl
//@end
//@end
//@end
//@end
