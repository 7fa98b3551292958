// The software variant of linear.wgsl: a workgroup is one subgroup of LANES lanes and computes ROWS x 4 LANES of C.
// A load costs the same whatever the lanes ask for, a broadcast next to nothing: so the lanes load ROWS rows x 4 of A (a
// row each time and lane for NT and NN, a vec4 of columns for TN), and everybody gets them by
// subgroupBroadcast; each lane owns 4 columns. Rows are the outermost loop: a row's sums stay in registers over 4 steps
// along the depth, which pays for their way to memory and back.
//@import common/subgroup.wgsl
//@if UNIFORM
//@import common/uniform_store.wgsl
//@end

const LANES: u32 = 8u;
// Twice as many rows, so that a load of B serves twice as many: for large products of 8 lanes (NT, NN).
const TALL: u32 = 0u;
// Rows of A that a lane loads (NT, NN).
const OWN: u32 = 4u + 4u * TALL;
const ROWS: u32 = OWN * LANES;

@compute @workgroup_size(LANES)
fn forward(here: Lane) {
    let l = here.lane;
    let t = task(group_number(here.group), ROWS);
    // With UNIFORM no branch may be around what follows; a grid has no workgroups behind the last row of NT and NN.
    //@if UNIFORM
    //@else
    if t.m >= t.rows { return; }
    //@end
    let asked = t.tile_n * LANES + l;
    let column = min(asked, p.n4 - 1u);
    let a0 = here.group.z * p.a_layer + p.a_first;
    let b0 = here.group.z * p.b_layer;
    var acc: array<vec4<f32>, ROWS>;
    var column_sum = vec4<f32>(0.0);
    for (var k = t.k; k < t.k_end; k += 4u) {
        var left: array<vec4<f32>, OWN>;
        var right: array<vec4<f32>, 4>;
        //@unroll
        for (var g = 0u; g < OWN; g++) {
            if LAYOUT == TN {
                // Lane l has the vec4 number l of C's rows at depth k + g, zero behind the depth's end.
                let value = a[a0 + min(k + g, t.k_end - 1u) * p.a4 + min(t.m / 4u + l, (p.m_fixed - 1u) / 4u)];
                left[g] = select(vec4<f32>(0.0), value, k + g < t.k_end);
                if SUMS != 0u { column_sum += left[g]; }
            } else {
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
                // Behind the depth's end A is zero; B is read again from its last row, whose numbers are finite if any
                // are.
                var at = k + j;
                if LAYOUT == TN { at = min(at, t.k_end - 1u); }
                right[j] = b[b0 + at * p.b4 + column];
            }
        }
        //@unroll
        for (var r = 0u; r < ROWS; r++) {
            var four: vec4<f32>;
            if LAYOUT == TN {
                const X = r % 4u;
                four.x = subgroupBroadcast(left[0][X], r / 4u);
                four.y = subgroupBroadcast(left[1][X], r / 4u);
                four.z = subgroupBroadcast(left[2][X], r / 4u);
                four.w = subgroupBroadcast(left[3][X], r / 4u);
            } else {
                four = subgroupBroadcast(left[r / LANES], r % LANES);
            }
            acc[r] = fma(vec4<f32>(four.x), right[0], acc[r]);
            acc[r] = fma(vec4<f32>(four.y), right[1], acc[r]);
            acc[r] = fma(vec4<f32>(four.z), right[2], acc[r]);
            acc[r] = fma(vec4<f32>(four.w), right[3], acc[r]);
        }
    }
    //@if SUMS
    if t.tile_n == 0u && 4u * l + t.m < p.m_fixed {
        act[here.group.z * p.sums_layer + t.split * p.sums4 + p.a_first + t.m / 4u + l] = column_sum;
    }
    //@end
    //@if UNIFORM
    //@else
    if asked >= p.n4 { return; }
    //@end
    var first = vec4<f32>(0.0);
    if BIAS != 0u { first = bias[here.group.z * p.bias_layer + p.c_first + asked]; }
    //@if UNIFORM
    // All rows are stored: those behind the last one as the last one, where it lies.
    let last = min(ROWS, t.rows - t.m) - 1u;
    let start = t.m * p.c4 + p.c_first + t.tile_n * LANES;
    let base = uniform_of(here.group.z * p.c_layer + start);
    let stride = uniform_of(p.c4);
    let end = uniform_small(last);
    var found: Results;
    //@unroll
    for (var r = 0u; r < ROWS; r++) {
        let next = results(start + min(r, last) * p.c4 + l, here.group.z, first + acc[r]);
        found.out = select(next.out, found.out, r > last);
        found.act = select(next.act, found.act, r > last);
        let row = base + min(r, end) * stride;
        let ours = as_stored(found.out);
        let also = as_stored(found.act);
        //@unroll
        for (var j = 0u; j < LANES; j++) {
            out[row + j] = subgroupBroadcast(ours, j);
        }
        if EPILOGUE == 1u || EPILOGUE == 5u || EPILOGUE == 6u {
            //@unroll
            for (var j = 0u; j < LANES; j++) {
                act[row + j] = subgroupBroadcast(also, j);
            }
        }
    }
    //@else
    //@unroll
    for (var r = 0u; r < ROWS; r++) {
        if t.m + r < t.rows { finish_biased(t.split * p.m_fixed + t.m + r, asked, here.group.z, first + acc[r]); }
    }
    //@end
}
