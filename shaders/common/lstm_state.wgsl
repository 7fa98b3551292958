// The gates of four units of a row.
fn gates_at(row: u32, quad: u32) -> Gates {
    let base = row * (p.units + p.quads);
    let last = p.units - 1u;
    return by_gate(
        state[base + min(4u * quad, last)],
        state[base + min(4u * quad + 1u, last)],
        state[base + min(4u * quad + 2u, last)],
        state[base + min(4u * quad + 3u, last)],
    );
}
