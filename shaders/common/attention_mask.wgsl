// Which rows of a sentence see which. CAUSAL: a row, as a query, sees no row behind it as a key.

const CAUSAL: u32 = 0u;

// Whether row i, as a query, sees row j, as a key.
fn sees(i: u32, j: u32) -> bool {
//@if CAUSAL
    return j <= i;
//@else
    return true;
//@end
}

// The end of the keys that rows up to `last` see, of those before `end`.
fn keys_end(end: u32, last: u32) -> u32 {
//@if CAUSAL
    return min(end, last + 1u);
//@else
    return end;
//@end
}

// The first query that sees rows from `row` on, of those from `first` on.
fn queries_first(first: u32, row: u32) -> u32 {
//@if CAUSAL
    return max(first, row);
//@else
    return first;
//@end
}
