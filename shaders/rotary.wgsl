// Rotary positions, elementwise over [layers, rows, cols4]: one invocation a vec4. In the first `heads` heads of a row
// the pair (x_i, x_{i + pairs}), i < pairs, turns by a = position · frequency i; all else stays.
//   forward   y_i = x_i cos a − x_{i + pairs} sin a,  y_{i + pairs} = x_{i + pairs} cos a + x_i sin a
//   BACK      the same with −a: the transpose
// Drivers' sine and cosine may be off by 2⁻¹¹, and an angle in f32 loses a digit for every digit of the position. So
// angles are whole numbers of 2⁻³² of a turn, exact modulo a turn however far the position, and the functions are
// polynomials over an eighth of a turn (error 1e-7).
//@variants BACK=1
//@variants ALIGNED=1 BACK=0|1
//@import common/entry.wgsl
//@import common/step.wgsl

// Whether it turns back.
const BACK: u32 = 0u;
// Whether the number of pairs is a multiple of 4, so that partners lie in one vec4.
const ALIGNED: u32 = 0u;

struct Params {
    // Frequencies: 2⁻³² of a turn per position.
    turns: array<vec4<u32>, 32>,
    code: u32,
    fixed: u32,
    cols4: u32,
    // vec4 in a head.
    size4: u32,
    // Heads that turn.
    heads: u32,
    // Pairs of a head.
    pairs: u32,
    in_layer: u32,
    out_layer: u32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
// Rows of the word, position and segment table of each token, as bits.
@group(0) @binding(1) var<storage, read> ids: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

// (cos, sin) of an angle in 2⁻³² of a turn.
fn circle(angle: u32) -> vec2<f32> {
    let quarter = (angle + 0x20000000u) >> 30u;
    let a = f32(bitcast<i32>(angle - (quarter << 30u))) * 1.4629180792671596e-9;
    let q = a * a;
    let s = a * (1.0 + q * (-0.16666667 + q * (0.008333333 + q * (-0.00019841270 + q * 2.7557319e-6))));
    let c = 1.0 + q * (-0.5 + q * (0.041666668 + q * (-0.0013888889 + q * (2.4801588e-5 - q * 2.7557319e-7))));
    let turned = select(vec2<f32>(c, s), vec2<f32>(-s, c), (quarter & 1u) != 0u);
    return select(turned, -turned, (quarter & 2u) != 0u);
}

// (cos, sin) of pair i at a position.
fn pair(position: u32, i: u32) -> vec2<f32> {
    let turn = circle(position * p.turns[i / 4u][i % 4u]);
    return select(turn, vec2<f32>(turn.x, -turn.y), BACK != 0u);
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * p.cols4 { return; }
    let row = i / p.cols4;
    let column = i % p.cols4;
    let base = here.group.z * p.in_layer + i;
    // First number of this vec4 within its head.
    let first = 4u * (column % p.size4);
    var v = x[base];
    if column >= p.heads * p.size4 || first >= 2u * p.pairs {
        out[here.group.z * p.out_layer + i] = v;
        return;
    }
    let position = bitcast<vec4<u32>>(ids[row]).y;
    if ALIGNED != 0u {
        let upper = first >= p.pairs;
        let number = select(first, first - p.pairs, upper);
        let other = x[select(base + p.pairs / 4u, base - p.pairs / 4u, upper)];
        let sign = select(-1.0, 1.0, upper);
        let a = pair(position, number);
        let b = pair(position, number + 1u);
        let c = pair(position, number + 2u);
        let d = pair(position, number + 3u);
        v = v * vec4<f32>(a.x, b.x, c.x, d.x) + sign * other * vec4<f32>(a.y, b.y, c.y, d.y);
    } else {
        let head = base - first / 4u;
        for (var k = 0u; k < 4u; k++) {
            let at = first + k;
            if at < 2u * p.pairs {
                let upper = at >= p.pairs;
                let partner = select(at + p.pairs, at - p.pairs, upper);
                let turn = pair(position, min(at, partner));
                let other = x[head + partner / 4u][partner % 4u];
                v[k] = v[k] * turn.x + select(-other, other, upper) * turn.y;
            }
        }
    }
    out[here.group.z * p.out_layer + i] = v;
}
