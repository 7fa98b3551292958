// The software variant of linear.wgsl: a workgroup is one subgroup of LANES lanes and computes ROWS rows x 4 LANES columns.
// A load costs the same whatever the lanes ask for, a broadcast next to nothing: so lane l loads row l of A (NT, NN) or
// its vec4 of columns at depth l / 4 (TN), and everybody gets it by subgroupBroadcast.

const LANES: u32 = 8u;
const ROWS: u32 = 16u;
// Loads of A for 4 steps along the depth.
const A_LOADS: u32 = ROWS / LANES;
const ROWS4: u32 = ROWS / 4u;

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) w: vec3<u32>,
    @builtin(num_workgroups) n: vec3<u32>,
    @builtin(subgroup_invocation_id) l: u32,
) {
    let t = task(w.x + w.y * n.x, ROWS);
    if t.m >= t.rows { return; }
    let asked = t.tile_n * LANES + l;
    let column = min(asked, p.c4 - 1u);
    let a0 = w.z * p.a_layer;
    let b0 = w.z * p.b_layer;
    var acc: array<vec4<f32>, ROWS>;
    for (var k = t.k; k < t.k_end; k += 4u) {
        var left: array<vec4<f32>, A_LOADS>;
        var right: array<vec4<f32>, 4>;
        if LAYOUT == TN {
            // Number g LANES + l: depth number / ROWS4, vec4 of rows of C number % ROWS4.
            //@unroll
            for (var g = 0u; g < A_LOADS; g++) {
                let number = g * LANES + l;
                let at = k + number / ROWS4;
                let value = a[a0 + at * p.a4 + min(t.m / 4u + number % ROWS4, p.a4 - 1u)];
                left[g] = select(vec4<f32>(0.0), value, at < t.k_end);
            }
        } else {
            //@unroll
            for (var g = 0u; g < A_LOADS; g++) {
                left[g] = a[a0 + min(t.m + g * LANES + l, t.rows - 1u) * p.a4 + k / 4u];
            }
        }
        if LAYOUT == 0u {
            let r0 = b[b0 + (4u * column + 0u) * p.b4 + k / 4u];
            let r1 = b[b0 + (4u * column + 1u) * p.b4 + k / 4u];
            let r2 = b[b0 + (4u * column + 2u) * p.b4 + k / 4u];
            let r3 = b[b0 + (4u * column + 3u) * p.b4 + k / 4u];
            //@unroll
            for (var j = 0u; j < 4u; j++) {
                right[j] = vec4<f32>(r0[j], r1[j], r2[j], r3[j]);
            }
        } else {
            //@unroll
            for (var j = 0u; j < 4u; j++) {
                // Behind the depth's end A is zero; B is read again from its last row, whose numbers are finite if any are.
                var at = k + j;
                if LAYOUT == TN { at = min(at, t.k_end - 1u); }
                right[j] = b[b0 + at * p.b4 + column];
            }
        }
        if LAYOUT == TN {
            //@unroll
            for (var j = 0u; j < 4u; j++) {
                //@unroll
                for (var r = 0u; r < ROWS4; r++) {
                    let four = subgroupBroadcast(left[(j * ROWS4 + r) / LANES], (j * ROWS4 + r) % LANES);
                    acc[4u * r] = fma(vec4<f32>(four.x), right[j], acc[4u * r]);
                    acc[4u * r + 1u] = fma(vec4<f32>(four.y), right[j], acc[4u * r + 1u]);
                    acc[4u * r + 2u] = fma(vec4<f32>(four.z), right[j], acc[4u * r + 2u]);
                    acc[4u * r + 3u] = fma(vec4<f32>(four.w), right[j], acc[4u * r + 3u]);
                }
            }
        } else {
            //@unroll
            for (var r = 0u; r < ROWS; r++) {
                let four = subgroupBroadcast(left[r / LANES], r % LANES);
                acc[r] = fma(vec4<f32>(four.x), right[0], acc[r]);
                acc[r] = fma(vec4<f32>(four.y), right[1], acc[r]);
                acc[r] = fma(vec4<f32>(four.z), right[2], acc[r]);
                acc[r] = fma(vec4<f32>(four.w), right[3], acc[r]);
            }
        }
    }
    if asked >= p.c4 { return; }
    //@unroll
    for (var r = 0u; r < ROWS; r++) {
        if t.m + r < t.rows { finish(t.out_row + t.m + r, asked, w.z, acc[r]); }
    }
}
