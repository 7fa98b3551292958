// How kernels of an LSTM go through sentences, the longest first.

// Whether this direction goes from the last token to the first.
const REVERSE: u32 = 0u;

// Rows [first, end) of sentence number i by length; none behind the last.
fn sentence(i: u32) -> vec2<u32> {
    let span = bitcast<vec4<u32>>(spans[step.rows + step.sentences + min(i, step.sentences - 1u)]);
    return select(vec2<u32>(span.x), span.xy, i < step.sentences);
}

// The row of a sentence that this direction comes to at a time from 0; one of its rows at any time.
fn row_at(span: vec2<u32>, time: u32) -> u32 {
    let i = min(time, max(span.y - span.x, 1u) - 1u);
    if REVERSE != 0u { return max(span.y, 1u) - 1u - i; }
    return span.x + i;
}
