// The mixed-precision variant of linear.wgsl: 4 subgroups of 32 lanes compute 64 x 64 of C, 32 x 32 each, by the
// adapter's own products of small matrices (tensor cores): A and B rounded to f16, sums in f32. Only where a config
// asks for it. C goes through workgroup memory, since which lane holds which of a matrix's numbers is the adapter's
// business.

enable f16;
enable wgpu_cooperative_matrix;

// Rows, columns and depth of one small product: 16, or 8.
const SMALL: u32 = 16u;
const EIGHT: u32 = 16u / SMALL - 1u;
const BLOCK: u32 = 64u;
const DEPTH: u32 = 32u;
const INVOCATIONS: u32 = 128u;
// Small matrices along a side of a subgroup's 32 x 32.
const SIDE: u32 = 32u / SMALL;
const TILES: u32 = SIDE * SIDE;
const STEPS: u32 = DEPTH / SMALL;
const SLICE: u32 = BLOCK * DEPTH;
const AREA: u32 = BLOCK * BLOCK;

//@if EIGHT
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
//@else
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
//@end

// By (row, depth), by (depth, column), by (row, column).
var<workgroup> slice_a: array<f16, SLICE>;
var<workgroup> slice_b: array<f16, SLICE>;
var<workgroup> block_c: array<f32, AREA>;

fn rounded(value: vec4<f32>, keep: bool) -> vec4<f16> {
    return vec4<f16>(select(vec4<f32>(0.0), value, keep));
}

@compute @workgroup_size(INVOCATIONS)
fn forward(here: Place, @builtin(subgroup_id) quarter: u32) {
    let t = task(group_number(here.group), BLOCK);
    let a0 = here.group.z * p.a_layer + p.a_first;
    let b0 = here.group.z * p.b_layer;
    // Corner of this subgroup's quarter.
    let top = 32u * (quarter / 2u);
    let left = 32u * (quarter % 2u);
    var acc: array<Sum, TILES>;
    for (var k = t.k; k < t.k_end; k += DEPTH) {
        for (var i = here.local; i < SLICE / 4u; i += INVOCATIONS) {
            if LAYOUT == TN {
                let d = i / (BLOCK / 4u);
                let m4 = i % (BLOCK / 4u);
                let keep = (k + d < t.k_end) & (t.m + 4u * m4 < p.m_fixed);
                let v = rounded(a[a0 + min(k + d, t.k_end - 1u) * p.a4 + min(t.m / 4u + m4, (p.m_fixed - 1u) / 4u)], keep);
                //@unroll
                for (var j = 0u; j < 4u; j++) {
                    slice_a[(4u * m4 + j) * DEPTH + d] = v[j];
                }
            } else {
                let m = i / (DEPTH / 4u);
                let d4 = i % (DEPTH / 4u);
                let keep = (t.m + m < t.rows) & (k + 4u * d4 < t.k_end);
                let v = rounded(a[a0 + min(t.m + m, t.rows - 1u) * p.a4 + min(k / 4u + d4, t.k_end / 4u - 1u)], keep);
                //@unroll
                for (var j = 0u; j < 4u; j++) {
                    slice_a[m * DEPTH + 4u * d4 + j] = v[j];
                }
            }
            if LAYOUT == 0u {
                let c = i / (DEPTH / 4u);
                let d4 = i % (DEPTH / 4u);
                let column = t.tile_n * BLOCK + c;
                let keep = (column < 4u * p.n4) & (k + 4u * d4 < t.k_end);
                let v = rounded(b[b0 + min(column, 4u * p.n4 - 1u) * p.b4 + min(k / 4u + d4, p.b4 - 1u)], keep);
                //@unroll
                for (var j = 0u; j < 4u; j++) {
                    slice_b[(4u * d4 + j) * BLOCK + c] = v[j];
                }
            } else {
                let d = i / (BLOCK / 4u);
                let c4 = i % (BLOCK / 4u);
                let column = t.tile_n * (BLOCK / 4u) + c4;
                let keep = (k + d < t.k_end) & (column < p.n4);
                let v = rounded(b[b0 + min(k + d, t.k_end - 1u) * p.b4 + min(column, p.n4 - 1u)], keep);
                //@unroll
                for (var j = 0u; j < 4u; j++) {
                    slice_b[d * BLOCK + 4u * c4 + j] = v[j];
                }
            }
        }
        workgroupBarrier();
        //@unroll
        for (var s = 0u; s < STEPS; s++) {
            //@unroll
            for (var r = 0u; r < SIDE; r++) {
                let rows = coopLoadT<Left>(&slice_a[(top + r * SMALL) * DEPTH + s * SMALL], DEPTH);
                //@unroll
                for (var c = 0u; c < SIDE; c++) {
                    let columns = coopLoadT<Right>(&slice_b[s * SMALL * BLOCK + left + c * SMALL], BLOCK);
                    acc[r * SIDE + c] = coopMultiplyAdd(rows, columns, acc[r * SIDE + c]);
                }
            }
        }
        workgroupBarrier();
    }
    //@unroll
    for (var r = 0u; r < SIDE; r++) {
        //@unroll
        for (var c = 0u; c < SIDE; c++) {
            coopStoreT(acc[r * SIDE + c], &block_c[(top + r * SMALL) * BLOCK + left + c * SMALL], BLOCK);
        }
    }
    workgroupBarrier();
    for (var i = here.local; i < AREA / 4u; i += INVOCATIONS) {
        let row = t.m + i / (BLOCK / 4u);
        let column = t.tile_n * (BLOCK / 4u) + i % (BLOCK / 4u);
        let sum = vec4<f32>(block_c[4u * i], block_c[4u * i + 1u], block_c[4u * i + 2u], block_c[4u * i + 3u]);
        if row < t.rows && column < p.n4 { finish(t.split * p.m_fixed + row, column, here.group.z, sum); }
    }
}
