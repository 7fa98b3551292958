// The frame of attention's subgroup variants: a workgroup is one subgroup of LANES lanes and has one head of one
// sentence, LANES rows at a time, a lane a row. The rows on the other side come KEYS at a time: their KEYS SIZE4 vec4
// are loaded across the lanes, number g LANES + l by lane l, and handed round by subgroupBroadcast.
//@import common/subgroup.wgsl
//@import common/sentences.wgsl

const LANES: u32 = 8u;
const KEYS: u32 = 2u;
const LOADS: u32 = (KEYS * SIZE4 + LANES - 1u) / LANES;

// A head of a sentence: rows [first, end).
struct Task {
    head: u32,
    first: u32,
    end: u32,
}

fn task(here: Lane) -> Task {
    let group = group_number(here.group);
    let sentence = group / p.heads;
    if sentence >= step.sentences { return Task(0u, 0u, 0u); }
    let span = spans_of(sentence);
    return Task(group % p.heads, span.x, span.y);
}
