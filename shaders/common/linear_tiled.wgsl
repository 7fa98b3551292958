// The GPU variant of linear.wgsl: 16 x 16 invocations compute 64 x 64 of C, 4 x 4 each, over slices of DEPTH of A and B
// in workgroup memory. Slices are stored by depth, so that both operands are read as vec4: A transposed for NT and NN,
// B for NT.
//@import common/linear_slices.wgsl

const ROWS: u32 = 64u;
const DEPTH: u32 = 16u;

var<workgroup> slice_a: array<vec4<f32>, 256>;
var<workgroup> slice_b: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn forward(here: Place) {
    let l = here.local;
    let t = task(group_number(here.group), ROWS);
    let a0 = here.group.z * p.a_layer + p.a_first;
    let b0 = here.group.z * p.b_layer;
    let x = l % 16u;
    let y = l / 16u;
    let column = t.tile_n * 16u + x;
    var acc: array<vec4<f32>, 4>;
    for (var k = t.k; k < t.k_end; k += DEPTH) {
        // 256 vec4 of each slice, one an invocation: by depth k = l / 16 (a row of A or B there is contiguous), or in
        // blocks of 4 x 4 that are turned on the way (64 invocations).
        if LAYOUT == TN {
            slice_a[l] = column_of_a(a0, t.m / 4u + x, k + y, t);
        } else if l < 64u {
            let m = t.m + 4u * (l % 16u);
            let k4 = k / 4u + l / 16u;
            let r0 = row_of_a(a0, m, k4, t);
            let r1 = row_of_a(a0, m + 1u, k4, t);
            let r2 = row_of_a(a0, m + 2u, k4, t);
            let r3 = row_of_a(a0, m + 3u, k4, t);
            let at = (l / 16u) * 64u + l % 16u;
            slice_a[at] = vec4<f32>(r0.x, r1.x, r2.x, r3.x);
            slice_a[at + 16u] = vec4<f32>(r0.y, r1.y, r2.y, r3.y);
            slice_a[at + 32u] = vec4<f32>(r0.z, r1.z, r2.z, r3.z);
            slice_a[at + 48u] = vec4<f32>(r0.w, r1.w, r2.w, r3.w);
        }
        if LAYOUT == 0u {
            if l >= 64u && l < 128u {
                let local = l - 64u;
                let c = 64u * t.tile_n + 4u * (local % 16u);
                let k4 = k / 4u + local / 16u;
                let r0 = row_of_b(b0, c, k4, t);
                let r1 = row_of_b(b0, c + 1u, k4, t);
                let r2 = row_of_b(b0, c + 2u, k4, t);
                let r3 = row_of_b(b0, c + 3u, k4, t);
                let at = (local / 16u) * 64u + local % 16u;
                slice_b[at] = vec4<f32>(r0.x, r1.x, r2.x, r3.x);
                slice_b[at + 16u] = vec4<f32>(r0.y, r1.y, r2.y, r3.y);
                slice_b[at + 32u] = vec4<f32>(r0.z, r1.z, r2.z, r3.z);
                slice_b[at + 48u] = vec4<f32>(r0.w, r1.w, r2.w, r3.w);
            }
        } else {
            slice_b[l] = column_of_b(b0, column, k + y, t);
        }
        workgroupBarrier();
        //@unroll
        for (var d = 0u; d < DEPTH; d++) {
            let left = slice_a[d * 16u + y];
            let right = slice_b[d * 16u + x];
            acc[0] += left.x * right;
            acc[1] += left.y * right;
            acc[2] += left.z * right;
            acc[3] += left.w * right;
        }
        workgroupBarrier();
    }
    let row = t.m + 4u * y;
    if column >= p.n4 { return; }
    //@unroll
    for (var r = 0u; r < 4u; r++) {
        if row + r < t.rows { finish(t.split * p.m_fixed + row + r, column, here.group.z, acc[r]); }
    }
}
