// The rows of a sentence, from the importing kernel's `spans`: behind those of the rows stand those of the sentences.

// (first, end) of a sentence's rows, and of its masked positions.
fn spans_of(sentence: u32) -> vec4<u32> {
    return bitcast<vec4<u32>>(spans[step.rows + sentence]);
}

// (first, end) of its rows, or of its masked positions where `masked` is not 0.
fn range_of(sentence: u32, masked: u32) -> vec2<u32> {
    let span = spans_of(sentence);
    return select(span.xy, span.zw, masked != 0u);
}
