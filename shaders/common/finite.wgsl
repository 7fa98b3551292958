// Whether a number is infinite or none, by bits: WGSL lets a compiler assume that there are no such numbers.
fn not_finite(v: vec4<f32>) -> bool {
    return any((bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u));
}
