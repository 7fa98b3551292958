// The frame of attention's plain variants: an invocation a (row, head).

// A row and head with the span of the row's sentence; none where head is p.heads or more.
struct Query {
    row: u32,
    head: u32,
    span: vec4<u32>,
}

fn query(here: Place) -> Query {
    let i = element(here);
    let row = i % step.rows;
    return Query(row, i / step.rows, bitcast<vec4<u32>>(spans[row]));
}
