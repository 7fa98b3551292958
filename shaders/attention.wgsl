// Multi-head self-attention within each sentence; rows are the tokens of all sentences one after another, so that there
// is no padding. CAUSAL: a row sees itself and those before it. qkv[r] = (q, k, v), each HEADS heads of SIZE4 vec4 (zeros behind the head size).
//   forward   s = scale q·k,  p = softmax(s),  o = Σ drop(p) v;  stat[r, head] = log Σ exp s
//   vjp       FlashAttention-2's form (Dao 2023): p is computed again from stat; with d = drop, δ = o·ō
//             v̄_j = Σ_i d p_ij ō_i,  t_ij = p_ij (d ō_i·v_j − δ_i)
//             q̄_i = scale Σ_j t_ij k_j,  k̄_j = scale Σ_i t_ij q_i
// T x T numbers are never stored. Variants:
//   row        one invocation a (row, head): it goes over the sentence once
//   flash      a workgroup a block of rows and head, tiles of the sentence in workgroup memory; for GPUs
//   subgroup   one subgroup a (sentence, head), a lane a row: the other rows are loaded once for all lanes and handed
//              round by subgroupBroadcast; for software adapters. With SPLIT, of short sentences: one or two heads a
//              subgroup, with UNIFORM a lane's results stored after another's
//@variants CAUSAL=1
//@variants SIZE4=8 DROPOUT=1 CAUSAL=0|1
//@variants FLASH=1 SIZE4=4|8|16 CAUSAL=0|1
//@variants FLASH=1 SIZE4=16 ROWS=16 CAUSAL=0|1
//@variants FLASH=1 SIZE4=32 ROWS=8|16 CAUSAL=0|1
//@variants SUBGROUP=1 DROPOUT=1 CAUSAL=0|1
//@variants SUBGROUP=1 LANES=4|8 SIZE4=8 KEYS=1 CAUSAL=0|1
//@variants SUBGROUP=1 LANES=16 KEYS=4 CAUSAL=0|1
//@variants SUBGROUP=1 LANES=16 SIZE4=8 KEYS=2 CAUSAL=0|1
//@variants SUBGROUP=1 SPLIT=1 LANES=8 SIZE4=8 KEYS=1 TOKENS=8 DROPOUT=0|1 CAUSAL=0|1
//@variants SUBGROUP=1 SPLIT=2 LANES=16 KEYS=4 TOKENS=7 CAUSAL=0|1
//@variants SUBGROUP=1 SPLIT=1 UNIFORM=1 PAIRS=1 LANES=16 KEYS=4 TOKENS=10 CAUSAL=0|1
//@variants SUBGROUP=1 SPLIT=2 UNIFORM=1 PAIRS=1 LANES=16 KEYS=4 TOKENS=8 CAUSAL=0|1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/columns.wgsl
//@import common/attention_mask.wgsl
//@import common/attention_dropout.wgsl

const SUBGROUP: u32 = 0u;
const FLASH: u32 = 0u;
const SIZE4: u32 = 4u;
// Heads that a subgroup has at once, 1 or 2, where sentences are short; 0 for sentences of any length.
const SPLIT: u32 = 0u;
// Tokens of a sentence at most (SPLIT).
const TOKENS: u32 = 1u;
// Stores a lane after another, and these two numbers as one of 64 bits (SPLIT).
const UNIFORM: u32 = 0u;
const PAIRS: u32 = 0u;

struct Params {
    heads: u32,
    scale: f32,
    out_layer: u32,
    in_layer: u32,
    stream: u32,
    threshold: u32,
    keep: f32,
}
@group(0) @binding(8) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
// (first row, end row) of a row's sentence, its position in it and the sentence's number, as bits; behind the rows the
// same of every sentence's first row.
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> o_bar: array<vec4<f32>>;
//@if PAIRS
@group(0) @binding(5) var<storage, read_write> out: array<vec2<f64>>;
//@else
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
//@end
@group(0) @binding(6) var<storage, read_write> stat_out: array<vec4<f32>>;

//@if SUBGROUP
//@if SPLIT
//@import common/attention_short.wgsl
//@else
//@import common/attention_subgroup.wgsl
//@end
//@else
//@if FLASH
//@import common/attention_flash.wgsl
//@else
//@import common/attention_row.wgsl
//@end
//@end
