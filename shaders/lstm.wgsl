// The recurrence of an LSTM over each sentence, one direction of it (Hochreiter and Schmidhuber 1997). Rows are the
// tokens of all sentences; the rows of a sentence are gone through from its first to its last or, with REVERSE, from its
// last to its first. u[r] holds for each of H units a vec4, what its gates (i, f, g, o) get from outside; row 4 u + gate
// of W [4H, H] and of b likewise.
//   forward   z = u + b + W h',  i = σ(z_i)  f = σ(z_f)  g = tanh(z_g)  o = σ(z_o),  c = f c' + i g,  h = o tanh(c)
//             h to columns [offset, offset + H) of `out`, h' to `previous`, (i, f, g, o) of every unit and c to `state`
//   vjp       z̄ from h̄, from the last token to the first: h̄ += Wᵀ z̄ of the token that follows
// Variants:
//   units      a workgroup takes 8 sentences through time, its invocations over units; for GPUs
//   subgroup   one subgroup of LANES lanes 4 LANES sentences, h and c of each in registers: no barrier, no memory between
//              two tokens; for software adapters: 43 GFLOP/s forward, 53 back at 64 units and 16 lanes, where `units` has 3
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
const TANGENT: u32 = 0u;

//@import common/lstm_params.wgsl

// [rows, H] vec4: what the gates get from outside.
@group(0) @binding(0) var<storage, read> u: array<vec4<f32>>;
@group(0) @binding(0) var<storage, read> h_bar: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> state: array<vec4<f32>>;
// As in attention.wgsl; behind the sentences the same, the longest first.
@group(0) @binding(3) var<storage, read> spans: array<vec4<f32>>;
//@optional
@group(0) @binding(4) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> z_bar_out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> previous_out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> state_out: array<vec4<f32>>;

//@import common/lstm_walk.wgsl
//@import common/lstm_store.wgsl
//@import common/lstm_cell.wgsl
//@import common/lstm_state.wgsl

// What reaches h of four units from outside.
fn reached(row: u32, next: u32, quad: u32, last: bool, layer: u32) -> vec4<f32> {
    return outside4(row, quad, layer);
}

//@if SUBGROUP
//@import common/lstm_subgroup.wgsl
//@else
//@import common/lstm_units.wgsl
//@end
