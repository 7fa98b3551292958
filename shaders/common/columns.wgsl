// Rows as vec4: the columns that one holds, what of it lies before the end of the row, and its sum.

// Columns of vec4 number c.
fn columns(c: u32) -> vec4<u32> {
    return vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u);
}

// 1 for the columns of vec4 number c that lie before `width`, 0 behind.
fn inside(c: u32, width: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), columns(c) < vec4<u32>(width));
}

// v, vec4 number c, with 0 in place of what lies behind `width`, which may never have been written.
fn within(v: vec4<f32>, c: u32, width: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), v, columns(c) < vec4<u32>(width));
}

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
