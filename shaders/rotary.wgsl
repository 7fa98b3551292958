// Rotary positions, elementwise over [layers, rows, cols4]: one invocation a vec4. In the first `heads` heads of a row
// the pair (x_i, x_{i + pairs}), i < pairs, turns by a = position · frequency i; all else stays.
//   forward   y_i = x_i cos a − x_{i + pairs} sin a,  y_{i + pairs} = x_{i + pairs} cos a + x_i sin a
//   BACK      the same with −a: the transpose
// With EACH what is turned are QUERIES heads of queries and QUERIES / EACH of keys and of values, and every head of
// queries is given the keys and values of its group on the way (see repeat_heads.wgsl); BACK adds them up before it
// turns.
// Drivers' sine and cosine may be off by 2⁻¹¹, and an angle in f32 loses a digit for every digit of the position. So
// angles are whole numbers of 2⁻³² of a turn, exact modulo a turn however far the position, and the functions are
// polynomials over an eighth of a turn (error 1e-7).
//@variants PAIRS=3|4 BACK=0|1 HEADS=4 IN4=12 OUT4=12 SIZE4=2
//@variants PAIRS=3|4 HEADS=6 IN4=16 OUT4=24 SIZE4=2 QUERIES=4 EACH=2
//@variants PAIRS=3|4 BACK=1 HEADS=6 IN4=24 OUT4=16 SIZE4=2 QUERIES=4 EACH=2
//@import common/entry.wgsl
//@import common/step.wgsl

// Whether it turns back.
const BACK: u32 = 0u;
// Heads that turn, and pairs of a head.
const HEADS: u32 = 1u;
const PAIRS: u32 = 1u;
// Where the number of pairs is a multiple of 4, partners lie in one vec4.
const ALIGNED: bool = PAIRS % 4u == 0u;
// vec4 in a row of what goes in and of what comes out, and in a head. Constants, since a software adapter divides lane
// by lane by what is none.
const IN4: u32 = 1u;
const OUT4: u32 = 1u;
const SIZE4: u32 = 1u;
// Heads of queries, and those of a group; 0 where each has keys and values of its own.
const QUERIES: u32 = 1u;
const EACH: u32 = 0u;
const GROUPS: u32 = QUERIES / max(EACH, 1u);

struct Params {
    // Frequencies: 2⁻³² of a turn per position.
    turns: array<vec4<u32>, 32>,
    code: u32,
    fixed: u32,
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

// Where a head of what comes out begins among those that go in; BACK, where the first of `each` that are added up does.
struct Source {
    head: u32,
    each: u32,
}
fn source_of(head: u32) -> Source {
    if EACH == 0u || head < QUERIES { return Source(head, 1u); }
    let number = head - QUERIES;
    if BACK != 0u {
        return Source((1u + number / GROUPS) * QUERIES + number % GROUPS * EACH, EACH);
    }
    return Source(QUERIES + number / QUERIES * GROUPS + number % QUERIES / max(EACH, 1u), 1u);
}

fn added_up(at: u32, each: u32) -> vec4<f32> {
    var sum = x[at];
    if EACH != 0u && BACK != 0u {
        for (var k = 1u; k < each; k++) { sum += x[at + k * SIZE4]; }
    }
    return sum;
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= count_of(p.code, p.fixed) * OUT4 { return; }
    let row = i / OUT4;
    let column = i % OUT4;
    let head = column / SIZE4;
    let place = column % SIZE4;
    let source = source_of(head);
    // Where this vec4 lies, and its head.
    let start = here.group.z * p.in_layer + row * IN4 + source.head * SIZE4;
    let at = start + place;
    // First number of this vec4 within its head.
    let first = 4u * place;
    var v = added_up(at, source.each);
    // Of the fewer heads, those that turn come first.
    if select(source.head, head, BACK != 0u) >= HEADS || first >= 2u * PAIRS {
        out[here.group.z * p.out_layer + i] = v;
        return;
    }
    let position = bitcast<vec4<u32>>(ids[row]).y;
    if ALIGNED {
        let upper = first >= PAIRS;
        let number = select(first, first - PAIRS, upper);
        let other = added_up(select(at + PAIRS / 4u, at - PAIRS / 4u, upper), source.each);
        let sign = select(-1.0, 1.0, upper);
        let a = pair(position, number);
        let b = pair(position, number + 1u);
        let c = pair(position, number + 2u);
        let d = pair(position, number + 3u);
        v = v * vec4<f32>(a.x, b.x, c.x, d.x) + sign * other * vec4<f32>(a.y, b.y, c.y, d.y);
    } else {
        for (var k = 0u; k < 4u; k++) {
            let number = first + k;
            if number < 2u * PAIRS {
                let upper = number >= PAIRS;
                let partner = select(number + PAIRS, number - PAIRS, upper);
                let turn = pair(position, min(number, partner));
                let other = added_up(start + partner / 4u, source.each)[partner % 4u];
                v[k] = v[k] * turn.x + select(-other, other, upper) * turn.y;
            }
        }
    }
    out[here.group.z * p.out_layer + i] = v;
}
