// Columns of h, of which this direction has those from `offset` on: four units need not be one vec4 there.

// Writes h of a row's unit, with the addend.
fn store(row: u32, unit: u32, layer: u32, value: f32) {
    let column = p.offset + unit;
    var h = value;
    if ADDEND != 0u { h += addend[layer * p.addend_layer + row * p.wide4 + column / 4u][column % 4u]; }
    out[4u * (layer * p.out_layer + row * p.wide4) + column] = h;
}

// Zeros behind the last column.
fn store_padding(row: u32, layer: u32) {
    for (var unit = p.units; unit < p.stored; unit++) {
        out[4u * (layer * p.out_layer + row * p.wide4) + p.offset + unit] = 0.0;
    }
}

// Four units of h̄; behind the last unit whatever is there.
fn outside4(row: u32, quad: u32, layer: u32) -> vec4<f32> {
    let base = layer * p.in_layer + row * p.wide4;
    let column = p.offset + 4u * quad;
    let a = h_bar[base + column / 4u];
    let b = h_bar[base + min(column / 4u + 1u, p.wide4 - 1u)];
    let shift = column % 4u;
    if shift == 1u { return vec4<f32>(a.yzw, b.x); }
    if shift == 2u { return vec4<f32>(a.zw, b.xy); }
    if shift == 3u { return vec4<f32>(a.w, b.xyz); }
    return a;
}
