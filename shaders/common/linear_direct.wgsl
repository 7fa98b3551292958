// The plain variant of linear.wgsl: 64 invocations, each 4 rows x 1 vec4 of columns; 8 x 8 of them make 32 rows x 32
// columns.

const ROWS: u32 = 32u;

// vec4 along the depth of row m of op(A), at depth k4 (NT, NN).
fn load_row(base: u32, m: u32, k4: u32, rows: u32) -> vec4<f32> {
    return a[base + min(m, rows - 1u) * p.a4 + k4];
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let t = task(group_number(here.group), ROWS);
    let row = t.m + (here.local / 8u) * 4u;
    let asked = t.tile_n * 8u + here.local % 8u;
    if row >= t.rows || asked >= p.n4 { return; }
    let a0 = here.group.z * p.a_layer + p.a_first;
    let b0 = here.group.z * p.b_layer;
    var acc: array<vec4<f32>, 4>;
    if LAYOUT == TN {
        for (var k = t.k; k < t.k_end; k++) {
            let left = a[a0 + k * p.a4 + row / 4u];
            let right = b[b0 + k * p.b4 + asked];
            acc[0] += left.x * right;
            acc[1] += left.y * right;
            acc[2] += left.z * right;
            acc[3] += left.w * right;
        }
    } else {
        for (var k4 = 0u; k4 < t.k_end / 4u; k4++) {
            var right: array<vec4<f32>, 4>;
            if LAYOUT == NN {
                //@unroll
                for (var j = 0u; j < 4u; j++) {
                    right[j] = b[b0 + (4u * k4 + j) * p.b4 + asked];
                }
            } else {
                let r0 = b[b0 + (4u * asked + 0u) * p.b4 + k4];
                let r1 = b[b0 + (4u * asked + 1u) * p.b4 + k4];
                let r2 = b[b0 + (4u * asked + 2u) * p.b4 + k4];
                let r3 = b[b0 + (4u * asked + 3u) * p.b4 + k4];
                //@unroll
                for (var j = 0u; j < 4u; j++) {
                    right[j] = vec4<f32>(r0[j], r1[j], r2[j], r3[j]);
                }
            }
            //@unroll
            for (var r = 0u; r < 4u; r++) {
                let left = load_row(a0, row + r, k4, t.rows);
                acc[r] += left.x * right[0] + left.y * right[1] + left.z * right[2] + left.w * right[3];
            }
        }
    }
    //@unroll
    for (var r = 0u; r < 4u; r++) {
        if row + r < t.rows { finish(t.split * p.m_fixed + row + r, asked, here.group.z, acc[r]); }
    }
}
