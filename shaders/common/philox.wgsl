// Philox 4x32-10 (Salmon et al. 2011), word for word the generator of src/random.rs.

// High and low word of a * b; WGSL has no 64-bit product.
fn multiply_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let carry = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a1 * b1 + (middle >> 16u) + (carry >> 16u), a * b);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let x = multiply_wide(0xD2511F53u, c.x);
        let z = multiply_wide(0xCD9E8D57u, c.z);
        c = vec4<u32>(z.x ^ c.y ^ k.x, z.y, x.x ^ c.w ^ k.y, x.y);
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}
