// The GPU variant of attention.wgsl for long sentences, in FlashAttention-2's form: a workgroup of 8 x 8 invocations
// has ROWS rows of one head and goes over the rows of their sentences, ROWS at a time, through workgroup memory. Of a
// tile of ROWS x ROWS scores an invocation (x, y) has those of its own rows TILE y + r with the other rows x + 8 j; of
// a result ROWS x SIZE4, its own rows and the vec4 x + 8 h. A block may touch several sentences: rows of another one
// count as masked. The masks are written with `&`, which does not branch as `&&` does: unrolled, SwiftShader took 0.2 s
// instead of more than 30 s to compile them.

const ROWS: u32 = 32u;
const TILE: u32 = ROWS / 8u;
const SCORES: u32 = TILE * TILE;
// vec4 of a row's result that an invocation has.
const WIDTH: u32 = (SIZE4 + 7u) / 8u;
const RESULTS: u32 = TILE * WIDTH;
// One more than the rows have, against bank conflicts.
const STRIDE: u32 = SIZE4 + 1u;
const ACROSS: u32 = ROWS + 1u;
const AREA: u32 = ROWS * STRIDE;
const LOADS: u32 = ROWS * SIZE4;
const WEIGHTS: u32 = ROWS * ACROSS;
const PARTIALS: u32 = ROWS * 8u;

const LOWEST: f32 = -3.4e38;

var<workgroup> own: array<vec4<f32>, AREA>;
var<workgroup> own_also: array<vec4<f32>, AREA>;
var<workgroup> other: array<vec4<f32>, AREA>;
var<workgroup> other_also: array<vec4<f32>, AREA>;
// By (other row, own row).
var<workgroup> weights: array<f32, WEIGHTS>;
var<workgroup> pairs: array<vec2<f32>, WEIGHTS>;
// By (own row, x).
var<workgroup> partials: array<f32, PARTIALS>;
// (log Σ exp s, δ) of the rows on the queries' side.
var<workgroup> queries: array<vec2<f32>, ROWS>;

// Rows first to last of one head, which attend to rows begin to end only.
struct Block {
    head: u32,
    first: u32,
    last: u32,
    begin: u32,
    end: u32,
}

fn block_of(number: u32, head: u32) -> Block {
    let first = number * ROWS;
    if first >= step.rows { return Block(0u, 1u, 0u, 0u, 0u); }
    let last = min(first + ROWS, step.rows) - 1u;
    return Block(head, first, last, bitcast<vec4<u32>>(spans[first]).x, bitcast<vec4<u32>>(spans[last]).y);
}

@compute @workgroup_size(64)
fn forward(here: Place) {
    let l = here.local;
    let group = group_number(here.group);
    let t = block_of(group / p.heads, group % p.heads);
    if t.first > t.last { return; }
    let wide = p.heads * SIZE4;
    let at = t.head * SIZE4;
    let x = l % 8u;
    let y = l / 8u;
    var span: array<vec2<u32>, TILE>;
    var top: array<f32, TILE>;
    var mass: array<f32, TILE>;
    var total: array<vec4<f32>, RESULTS>;
    //@unroll
    for (var r = 0u; r < TILE; r++) {
        span[r] = bitcast<vec4<u32>>(spans[min(t.first + TILE * y + r, t.last)]).xy;
        top[r] = LOWEST;
    }
    for (var i = l; i < LOADS; i += 64u) {
        let row = min(t.first + i / SIZE4, t.last);
        own[(i / SIZE4) * STRIDE + i % SIZE4] = qkv[row * 3u * wide + at + i % SIZE4] * p.scale;
    }
    for (var base = t.begin; base < t.end; base += ROWS) {
        // The values of the tile before have been used, and own rows are there.
        workgroupBarrier();
        for (var i = l; i < LOADS; i += 64u) {
            let row = min(base + i / SIZE4, t.end - 1u);
            other[(i / SIZE4) * STRIDE + i % SIZE4] = qkv[row * 3u * wide + wide + at + i % SIZE4];
        }
        workgroupBarrier();
        var s: array<f32, SCORES>;
        //@unroll
        for (var i = 0u; i < SCORES; i++) {
            s[i] = 0.0;
        }
        for (var c = 0u; c < SIZE4; c++) {
            var k: array<vec4<f32>, TILE>;
            //@unroll
            for (var j = 0u; j < TILE; j++) {
                k[j] = other[(x + 8u * j) * STRIDE + c];
            }
            //@unroll
            for (var r = 0u; r < TILE; r++) {
                let q = own[(TILE * y + r) * STRIDE + c];
                //@unroll
                for (var j = 0u; j < TILE; j++) {
                    s[r * TILE + j] += dot(q, k[j]);
                }
            }
        }
        //@unroll
        for (var r = 0u; r < TILE; r++) {
            var most = LOWEST;
            //@unroll
            for (var j = 0u; j < TILE; j++) {
                let key = base + x + 8u * j;
                s[r * TILE + j] = select(LOWEST, s[r * TILE + j], (key >= span[r].x) & (key < span[r].y));
                most = max(most, s[r * TILE + j]);
            }
            partials[(TILE * y + r) * 8u + x] = most;
        }
        workgroupBarrier();
        //@unroll
        for (var r = 0u; r < TILE; r++) {
            var higher = top[r];
            for (var i = 0u; i < 8u; i++) {
                higher = max(higher, partials[(TILE * y + r) * 8u + i]);
            }
            let shrink = exp(top[r] - higher);
            top[r] = higher;
            mass[r] *= shrink;
            //@unroll
            for (var h = 0u; h < WIDTH; h++) {
                total[r * WIDTH + h] *= shrink;
            }
            //@unroll
            for (var j = 0u; j < TILE; j++) {
                let key = base + x + 8u * j;
                let inside = (key >= span[r].x) & (key < span[r].y);
                let e = select(0.0, exp(s[r * TILE + j] - higher), inside);
                mass[r] += e;
                weights[(x + 8u * j) * ACROSS + TILE * y + r] = e;
            }
        }
        if DROPOUT != 0u {
            // A loop, so that the random generator stands here once.
            for (var i = 0u; i < SCORES; i++) {
                let r = TILE * y + i / TILE;
                let j = x + 8u * (i % TILE);
                weights[j * ACROSS + r] *= kept(t.first + r, base + j, t.head);
            }
        }
        // The keys have been used: values take their place.
        for (var i = l; i < LOADS; i += 64u) {
            let row = min(base + i / SIZE4, t.end - 1u);
            other[(i / SIZE4) * STRIDE + i % SIZE4] = qkv[row * 3u * wide + 2u * wide + at + i % SIZE4];
        }
        workgroupBarrier();
        let count = min(ROWS, t.end - base);
        for (var j = 0u; j < count; j++) {
            //@unroll
            for (var h = 0u; h < WIDTH; h++) {
                let v = other[j * STRIDE + min(x + 8u * h, SIZE4)];
                //@unroll
                for (var r = 0u; r < TILE; r++) {
                    total[r * WIDTH + h] += weights[j * ACROSS + TILE * y + r] * v;
                }
            }
        }
    }
    // The largest scores of the last tile have been read by all: a barrier lies between.
    //@unroll
    for (var r = 0u; r < TILE; r++) {
        partials[(TILE * y + r) * 8u + x] = mass[r];
    }
    workgroupBarrier();
    //@unroll
    for (var r = 0u; r < TILE; r++) {
        let row = t.first + TILE * y + r;
        var whole = 0.0;
        for (var i = 0u; i < 8u; i++) {
            whole += partials[(TILE * y + r) * 8u + i];
        }
        if row <= t.last {
            //@unroll
            for (var h = 0u; h < WIDTH; h++) {
                if x + 8u * h < SIZE4 { out[row * wide + at + x + 8u * h] = total[r * WIDTH + h] * (1.0 / whole); }
            }
            if x == 0u { stat_out[row * p.heads + t.head] = vec4<f32>(top[r] + log(whole), 0.0, 0.0, 0.0); }
        }
    }
}

// (log Σ exp s, δ) of a row as a query.
fn as_query(row: u32, head: u32, layer: u32) -> vec2<f32> {
    let beside = (row * p.heads + head) * SIZE4;
    var deltas = vec4<f32>(0.0);
    for (var c = 0u; c < SIZE4; c++) {
        deltas += o_bar[layer + beside + c] * o[beside + c];
    }
    return vec2<f32>(stat[row * p.heads + head].x, sum4(deltas));
}

// Even workgroups take their rows as queries, over the other rows as keys, for q̄; odd ones as keys, over the others as
// queries, for k̄ and v̄. In both, with (q scale, ō) or (k scale, v) of the own rows and (k, v) or (q, ō) of the others,
//   s = own·other,  u = own_also·other_also,  p = exp(s − norm),  t = scale p (d u − δ),
// q̄ or k̄ = Σ t other, and v̄ = Σ p d other_also.
@compute @workgroup_size(64)
fn vjp(here: Place) {
    let l = here.local;
    let group = group_number(here.group);
    let keys = group % 2u;
    let t = block_of(group / (2u * p.heads), (group / 2u) % p.heads);
    if t.first > t.last { return; }
    let wide = p.heads * SIZE4;
    let at = t.head * SIZE4;
    let layer = here.group.z * p.in_layer;
    let x = l % 8u;
    let y = l / 8u;
    var span: array<vec2<u32>, TILE>;
    var result: array<vec4<f32>, RESULTS>;
    var result_also: array<vec4<f32>, RESULTS>;
    //@unroll
    for (var r = 0u; r < TILE; r++) {
        span[r] = bitcast<vec4<u32>>(spans[min(t.first + TILE * y + r, t.last)]).xy;
    }
    for (var i = l; i < LOADS; i += 64u) {
        let row = min(t.first + i / SIZE4, t.last);
        let c = at + i % SIZE4;
        let to = (i / SIZE4) * STRIDE + i % SIZE4;
        own[to] = qkv[row * 3u * wide + keys * wide + c] * p.scale;
        if keys == 1u {
            own_also[to] = qkv[row * 3u * wide + 2u * wide + c];
        } else {
            own_also[to] = o_bar[layer + row * wide + c];
        }
    }
    if keys == 0u && l < ROWS { queries[l] = as_query(min(t.first + l, t.last), t.head, layer); }
    for (var base = t.begin; base < t.end; base += ROWS) {
        workgroupBarrier();
        for (var i = l; i < LOADS; i += 64u) {
            let row = min(base + i / SIZE4, t.end - 1u);
            let c = at + i % SIZE4;
            let to = (i / SIZE4) * STRIDE + i % SIZE4;
            other[to] = qkv[row * 3u * wide + (1u - keys) * wide + c];
            if keys == 1u {
                other_also[to] = o_bar[layer + row * wide + c];
            } else {
                other_also[to] = qkv[row * 3u * wide + 2u * wide + c];
            }
        }
        if keys == 1u && l < ROWS { queries[l] = as_query(min(base + l, t.end - 1u), t.head, layer); }
        workgroupBarrier();
        var s: array<f32, SCORES>;
        var u: array<f32, SCORES>;
        //@unroll
        for (var i = 0u; i < SCORES; i++) {
            s[i] = 0.0;
            u[i] = 0.0;
        }
        for (var c = 0u; c < SIZE4; c++) {
            var theirs: array<vec4<f32>, TILE>;
            var theirs_also: array<vec4<f32>, TILE>;
            //@unroll
            for (var j = 0u; j < TILE; j++) {
                theirs[j] = other[(x + 8u * j) * STRIDE + c];
                theirs_also[j] = other_also[(x + 8u * j) * STRIDE + c];
            }
            //@unroll
            for (var r = 0u; r < TILE; r++) {
                let mine = own[(TILE * y + r) * STRIDE + c];
                let mine_also = own_also[(TILE * y + r) * STRIDE + c];
                //@unroll
                for (var j = 0u; j < TILE; j++) {
                    s[r * TILE + j] += dot(mine, theirs[j]);
                    u[r * TILE + j] += dot(mine_also, theirs_also[j]);
                }
            }
        }
        //@unroll
        for (var r = 0u; r < TILE; r++) {
            //@unroll
            for (var j = 0u; j < TILE; j++) {
                let there = base + x + 8u * j;
                let inside = (there >= span[r].x) & (there < span[r].y);
                let norm = queries[select(TILE * y + r, x + 8u * j, keys == 1u)].x;
                let weight = select(0.0, exp(s[r * TILE + j] - norm), inside);
                pairs[(x + 8u * j) * ACROSS + TILE * y + r] = vec2<f32>(weight, u[r * TILE + j]);
            }
        }
        // (p, u) to (t, p d), each invocation its own; a loop, so that the random generator stands here once.
        for (var i = 0u; i < SCORES; i++) {
            let r = TILE * y + i / TILE;
            let j = x + 8u * (i % TILE);
            let row = t.first + r;
            let there = base + j;
            let before = pairs[j * ACROSS + r];
            let delta = queries[select(r, j, keys == 1u)].y;
            let drop = kept(select(row, there, keys == 1u), select(there, row, keys == 1u), t.head);
            pairs[j * ACROSS + r] = vec2<f32>(before.x * (drop * before.y - delta) * p.scale, before.x * drop);
        }
        workgroupBarrier();
        let count = min(ROWS, t.end - base);
        for (var j = 0u; j < count; j++) {
            //@unroll
            for (var h = 0u; h < WIDTH; h++) {
                let v = other[j * STRIDE + min(x + 8u * h, SIZE4)];
                let g = other_also[j * STRIDE + min(x + 8u * h, SIZE4)];
                //@unroll
                for (var r = 0u; r < TILE; r++) {
                    let both = pairs[j * ACROSS + TILE * y + r];
                    result[r * WIDTH + h] += both.x * v;
                    if keys == 1u { result_also[r * WIDTH + h] += both.y * g; }
                }
            }
        }
    }
    //@unroll
    for (var r = 0u; r < TILE; r++) {
        let row = t.first + TILE * y + r;
        //@unroll
        for (var h = 0u; h < WIDTH; h++) {
            if row <= t.last && x + 8u * h < SIZE4 {
                let to = here.group.z * p.out_layer + row * 3u * wide + at + x + 8u * h;
                out[to + keys * wide] = result[r * WIDTH + h];
                if keys == 1u { out[to + 2u * wide] = result_also[r * WIDTH + h]; }
            }
        }
    }
}
