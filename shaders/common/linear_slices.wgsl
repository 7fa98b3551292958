// Pieces of A and B for slices in workgroup memory, zero outside (linear_tiled.wgsl, linear_register.wgsl).

// vec4 along the depth of row m of A (NT, NN).
fn row_of_a(base: u32, m: u32, k4: u32, t: Task) -> vec4<f32> {
    if m >= t.rows || 4u * k4 >= t.k_end { return vec4<f32>(0.0); }
    return a[base + m * p.a4 + k4];
}

// vec4 along the rows of op(A) at depth k (TN).
fn column_of_a(base: u32, m4: u32, k: u32, t: Task) -> vec4<f32> {
    if 4u * m4 >= p.m_fixed || k >= t.k_end { return vec4<f32>(0.0); }
    return a[base + k * p.a4 + m4];
}

// vec4 along the depth of column n (NT).
fn row_of_b(base: u32, n: u32, k4: u32, t: Task) -> vec4<f32> {
    if n >= 4u * p.n4 || 4u * k4 >= t.k_end { return vec4<f32>(0.0); }
    return b[base + n * p.b4 + k4];
}

// vec4 along the columns at depth k (NN, TN).
fn column_of_b(base: u32, n4: u32, k: u32, t: Task) -> vec4<f32> {
    if n4 >= p.n4 || k >= t.k_end { return vec4<f32>(0.0); }
    return b[base + k * p.b4 + n4];
}
