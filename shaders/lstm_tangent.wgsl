// lstm.wgsl along a direction; letters and rows are as there.
//   jvp       ż = v + W ḣ' with v = u̇ + ḃ + Ẇ h',  (ḣ, ċ) of each cell: `out`, `previous` (ḣ') and `state` (ż, ċ)
//   delta     the adjoints of h and c with all that reaches them, from h̄ and z̄ W: what vjp had and did not keep
//   vjp_jvp   the tangent of z̄ from h̄̇ and z̄ Ẇ: h̄̇ += z̄ Ẇ + Wᵀ z̄̇ of the token that follows
//   second    ⟨adjoints, second derivatives⟩ of gates and cells, a number for every four units;
//             2 ⟨z̄, Ẇ ḣ'⟩ is a product
// jvp and vjp_jvp come in the variants of lstm.wgsl.
//@variants ADDEND=1
//@variants REVERSE=1
//@variants REVERSE=1 SHIFT=1
//@variants REVERSE=1 SHIFT=2 ADDEND=1
//@variants REVERSE=1 SHIFT=3
//@variants INVOCATIONS=128 REVERSE=1 ADDEND=1
//@variants INVOCATIONS=128 ITEMS=2
//@variants INVOCATIONS=128 ITEMS=4
//@variants INVOCATIONS=128 ITEMS=8
//@variants SUBGROUP=1
//@variants SUBGROUP=1 LANES=4 UNITS=5 REVERSE=1 SHIFT=1
//@variants SUBGROUP=1 LANES=16 UNITS=32 ADDEND=1
//@variants SUBGROUP=1 UNITS=6 REVERSE=1 SHIFT=2 ADDEND=1
//@variants SUBGROUP=1 LANES=16 UNITS=128 REVERSE=1
//@import common/entry.wgsl
//@import common/step.wgsl

const SUBGROUP: u32 = 0u;
const ADDEND: u32 = 0u;
const TANGENT: u32 = 1u;

//@import common/lstm_params.wgsl

// v: what moves z beside ḣ'.
@group(0) @binding(0) var<storage, read> u: array<vec4<f32>>;
// h̄ of delta, its tangent of vjp_jvp.
@group(0) @binding(0) var<storage, read> h_bar: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> state: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> spans: array<vec4<f32>>;
//@optional
@group(0) @binding(4) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> state_dot: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> z_bar_out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> delta_out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> terms: array<f32>;
@group(0) @binding(6) var<storage, read_write> previous_out: array<vec4<f32>>;
// z̄ W, or z̄ Ẇ, of the token that follows.
@group(0) @binding(6) var<storage, read> back: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> state_out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> delta_of: array<vec4<f32>>;

//@import common/lstm_walk.wgsl
//@import common/lstm_store.wgsl
//@import common/lstm_tangent_cell.wgsl
//@import common/lstm_state.wgsl

// What reaches h of four units from outside, and from the token that follows by another matrix than W.
fn reached(row: u32, next: u32, quad: u32, last: bool, layer: u32) -> vec4<f32> {
    let follows = back[layer * p.back_layer + next * p.quads + quad];
    return outside4(row, quad, layer) + select(follows, vec4<f32>(0.0), last);
}

// Four units of a row with their tangents.
fn moving(row: u32, earlier: u32, first: bool, quad: u32, layer: u32) -> Moving {
    let state4 = p.units + p.quads;
    let own = layer * p.state_layer;
    let cell4 = p.units + quad;
    let last = p.units - 1u;
    let base = own + row * state4;
    let z_dot = by_gate(
        state_dot[base + min(4u * quad, last)],
        state_dot[base + min(4u * quad + 1u, last)],
        state_dot[base + min(4u * quad + 2u, last)],
        state_dot[base + min(4u * quad + 3u, last)],
    );
    return Moving(
        gates_at(row, quad),
        z_dot,
        state[row * state4 + cell4],
        state_dot[base + cell4],
        select(state[earlier * state4 + cell4], vec4<f32>(0.0), first),
        select(state_dot[own + earlier * state4 + cell4], vec4<f32>(0.0), first),
    );
}

// The tangent of z̄ of four units of a row.
fn moved_back(row: u32, earlier: u32, first: bool, quad: u32, layer: u32, bar_dot: Cell) -> Back {
    let delta = layer * p.delta_layer + row * 2u * p.quads + quad;
    let bar = Cell(delta_of[delta], delta_of[delta + p.quads]);
    return cell_vjp_jvp(moving(row, earlier, first, quad, layer), bar, bar_dot);
}

// One invocation four units of a sentence, from its last token to its first.
@compute @workgroup_size(64)
fn delta(here: Place) {
    let i = element(here);
    let quad = i % p.quads;
    let span = sentence(i / p.quads);
    var c_bar = vec4<f32>(0.0);
    let inside = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.units);
    for (var time = span.y - span.x; time > 0u; time--) {
        let row = row_at(span, time - 1u);
        let bar = reached(row, row_at(span, time), quad, time == span.y - span.x, here.group.z);
        let s = gates_at(row, quad);
        let k = tanh4(state[row * (p.units + p.quads) + p.units + quad]);
        c_bar += bar * s.o * (1.0 - k * k);
        let at = here.group.z * p.out_layer + row * 2u * p.quads + quad;
        delta_out[at] = select(vec4<f32>(0.0), bar, inside);
        delta_out[at + p.quads] = select(vec4<f32>(0.0), c_bar, inside);
        c_bar *= s.f;
    }
}

// One invocation four units of a row.
@compute @workgroup_size(64)
fn second(here: Place) {
    let i = element(here);
    let quad = i % p.quads;
    let row = i / p.quads;
    if row >= step.rows { return; }
    let span = bitcast<vec4<u32>>(spans[row]);
    var earlier = max(row, 1u) - 1u;
    var first = row == span.x;
    if REVERSE != 0u {
        earlier = min(row + 1u, span.y - 1u);
        first = row + 1u == span.y;
    }
    let delta = here.group.z * p.delta_layer + row * 2u * p.quads + quad;
    let bar = Cell(delta_of[delta], delta_of[delta + p.quads]);
    let inside = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.units);
    let term = select(vec4<f32>(0.0), cell_second(moving(row, earlier, first, quad, here.group.z), bar), inside);
    terms[4u * (here.group.z * p.out_layer + row * p.wide4) + quad] = (term.x + term.y) + (term.z + term.w);
}

//@if SUBGROUP
//@import common/lstm_subgroup.wgsl
//@else
//@import common/lstm_units.wgsl
//@end
