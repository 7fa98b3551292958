// Stores to addresses that are the same for all lanes, and that the driver knows to be. llvmpipe of Mesa 22.3 stores
// what lies at an address of each lane's own in a loop over the lanes, at one that is the same for all with plain
// instructions, if no branch and no loop is around it. What it takes for the same are constants, immediates (push
// constants) at whatever index, and what is reckoned from these. So a number that is the same for all is looked up in a
// table of the digits, digit by digit (docs/performance.md). With PAIRS two numbers are handed round and stored as one of
// 64 bits, which at 16 lanes is cheaper, and at 8 dearer; of f64, since subgroups exchange these without a feature more.

struct Digits {
    // 0 to 31, in four columns.
    digits: array<vec4<u32>, 8>,
}
var<immediate> table: Digits;

// A digit at `shift` of a number that is the same for all lanes.
fn uniform_digit(n: u32, shift: u32) -> u32 {
    let digit = (n >> shift) & 31u;
    return table.digits[digit >> 2u][digit & 3u] << shift;
}

// n below 2^10.
fn uniform_small(n: u32) -> u32 {
    return uniform_digit(n, 0u) + uniform_digit(n, 5u);
}

// n below 2^30.
fn uniform_of(n: u32) -> u32 {
    let high = uniform_digit(n, 20u) + uniform_digit(n, 25u);
    return uniform_small(n) + uniform_digit(n, 10u) + uniform_digit(n, 15u) + high;
}

//@if PAIRS
alias Stored = vec2<f64>;
fn as_stored(v: vec4<f32>) -> Stored {
    let bits = bitcast<vec4<u32>>(v);
    return bitcast<vec2<f64>>(
        vec2<u64>(u64(bits.x) | (u64(bits.y) << 32u), u64(bits.z) | (u64(bits.w) << 32u)));
}
//@else
alias Stored = vec4<f32>;
fn as_stored(v: vec4<f32>) -> Stored {
    return v;
}
//@end
