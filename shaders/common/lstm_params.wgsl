struct Params {
    // Units of this direction, and vec4 that hold them.
    units: u32,
    quads: u32,
    // vec4 in a row of h of all directions, this one's first column there, and columns from there on that it writes.
    wide4: u32,
    offset: u32,
    stored: u32,
    // vec4 between layers.
    in_layer: u32,
    addend_layer: u32,
    out_layer: u32,
    previous_layer: u32,
    state_layer: u32,
    back_layer: u32,
    delta_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;
