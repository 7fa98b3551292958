// Columns of h, of which this direction has those from `offset` on: four units need not be one vec4 there.

// offset % 4. A constant, since a software adapter runs both sides of every branch.
const SHIFT: u32 = 0u;

// Writes h of four units of a row, zeros behind the last one, with the addend. Where the columns are a vec4, what is
// behind the last unit may be another direction's, which writes later.
fn store4(here: bool, row: u32, quad: u32, layer: u32, value: vec4<f32>) {
    let at = row * p.wide4 + p.offset / 4u + quad;
    if SHIFT == 0u {
        var h = value;
        if ADDEND != 0u { h += addend[layer * p.addend_layer + at]; }
        if here { out[layer * p.out_layer + at] = h; }
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if here && 4u * quad + j < p.units { store(row, 4u * quad + j, layer, value[j]); }
    }
    if here && quad == 0u { store_padding(row, layer); }
}

// Writes h of a row's unit, with the addend.
fn store(row: u32, unit: u32, layer: u32, value: f32) {
    let at = row * p.wide4 + (p.offset + unit) / 4u;
    let c = (p.offset + unit) % 4u;
    var h = value;
    if ADDEND != 0u { h += component(addend[layer * p.addend_layer + at], c); }
    out[layer * p.out_layer + at][c] = h;
}

// Zeros behind the last column.
fn store_padding(row: u32, layer: u32) {
    for (var unit = p.units; unit < p.stored; unit++) {
        out[layer * p.out_layer + row * p.wide4 + (p.offset + unit) / 4u][(p.offset + unit) % 4u] = 0.0;
    }
}

fn component(v: vec4<f32>, c: u32) -> f32 {
    return v[c % 4u];
}

// Four units of h̄; behind the last unit whatever is there.
fn outside4(row: u32, quad: u32, layer: u32) -> vec4<f32> {
    let base = layer * p.in_layer + row * p.wide4;
    let column4 = p.offset / 4u + quad;
    let a = h_bar[base + column4];
    if SHIFT == 0u { return a; }
    let b = h_bar[base + min(column4 + 1u, p.wide4 - 1u)];
    if SHIFT == 1u { return vec4<f32>(a.yzw, b.x); }
    if SHIFT == 2u { return vec4<f32>(a.zw, b.xy); }
    return vec4<f32>(a.w, b.xyz);
}
