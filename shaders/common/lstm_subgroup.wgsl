// The software variant of lstm.wgsl and lstm_tangent.wgsl: a workgroup is one subgroup of LANES lanes and takes 4 LANES
// sentences through time, four a lane: a vec4 is one number of each. What goes from token to token stays in the lanes:
// h (back: what reaches it) and c of all UNITS. A unit's 4 UNITS numbers of W are loaded across the lanes, vec4 number
// g LANES + l by lane l, and each is handed round by subgroupBroadcast and meets 4 LANES sentences.
//
// An array with an index that is not known is a loop over the lanes on such adapters. So arrays of units turn: the loop
// over units, four at a time, reads the first four of an array and moves the rest up; what it makes goes in behind.
//@import common/subgroup.wgsl

const LANES: u32 = 8u;
const UNITS: u32 = 8u;
const QUADS: u32 = (UNITS + 3u) / 4u;
const PADDED: u32 = 4u * QUADS;
const REST: u32 = PADDED - 4u;
// vec4 of W that a lane has of a unit.
const LOADS: u32 = (4u * QUADS + LANES - 1u) / LANES;
const STATE4: u32 = UNITS + QUADS;

// Of four sentences, where they are.
struct Rows {
    row: vec4<u32>,
    // Of the token before in time.
    earlier: vec4<u32>,
    first: vec4<bool>,
    here: vec4<bool>,
}

// Number j of four.
fn pick(four: Gates, j: u32) -> vec4<f32> {
    return select(select(four.i, four.f, j == 1u), select(four.g, four.o, j == 3u), j >= 2u);
}

// The same with number j replaced.
fn put(four: Gates, j: u32, v: vec4<f32>) -> Gates {
    return Gates(
        select(four.i, v, j == 0u),
        select(four.f, v, j == 1u),
        select(four.g, v, j == 2u),
        select(four.o, v, j == 3u),
    );
}

fn nothing() -> Gates {
    return Gates(vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
}

// The gates of a unit of four sentences.
fn unit_gates(row: vec4<u32>, unit: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(unit);
    return by_gate(state[at.x], state[at.y], state[at.z], state[at.w]);
}

// Four cells of four sentences, by unit; 0 where there is none before.
fn cells(row: vec4<u32>, quad: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(UNITS + quad);
    return by_gate(state[at.x], state[at.y], state[at.z], state[at.w]);
}

fn zero_where(none: vec4<bool>, v: vec4<f32>) -> vec4<f32> {
    return select(v, vec4<f32>(0.0), none);
}

//@if TANGENT
fn unit_gates_dot(row: vec4<u32>, unit: u32, layer: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(layer * p.state_layer + unit);
    return by_gate(state_dot[at.x], state_dot[at.y], state_dot[at.z], state_dot[at.w]);
}

fn cells_dot(row: vec4<u32>, quad: u32, layer: u32) -> Gates {
    let at = row * STATE4 + vec4<u32>(layer * p.state_layer + UNITS + quad);
    return by_gate(state_dot[at.x], state_dot[at.y], state_dot[at.z], state_dot[at.w]);
}

// Part 0 or 1 of `delta`: the adjoints of h or of c.
fn deltas(row: vec4<u32>, quad: u32, part: u32, layer: u32) -> Gates {
    let at = row * 2u * QUADS + vec4<u32>(layer * p.delta_layer + part * QUADS + quad);
    return by_gate(delta_of[at.x], delta_of[at.y], delta_of[at.z], delta_of[at.w]);
}
//@end

//@import common/lstm_subgroup_forth.wgsl
//@import common/lstm_subgroup_back.wgsl
