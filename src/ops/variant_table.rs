//! The table of kernel variants: for every hot operation its named ways to run, and what each needs of an adapter.
//!
//! A row's constants and launch geometry follow from its [`Kind`] in the operation's own file, so that both read the
//! same decision. A new variant is a row here, a `Kind`, an arm in the operation's `lower`, and `//@variants` lines in
//! the shader.

use crate::gpu::Capabilities;

/// Operations whose kernels come in variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// y = x Wᵀ
    LinearNt,
    /// x̄ = ȳ W
    LinearNn,
    /// W̄ = ȳᵀ x
    LinearTn,
    /// Attention of sentences to themselves.
    AttentionForward,
    /// Its reverse rule.
    AttentionVjp,
    /// The tangents of both, and the second-order term.
    TangentAttention,
    /// Norms of per-example gradients.
    GhostNorm,
    /// Layer norm and its reverse rule for x.
    LayerNorm,
    /// Losses of rows of logits and their gradient.
    CrossEntropy,
    /// The recurrence of an LSTM and its rules.
    Lstm,
    /// How long sums over rows are cut: biases, layer norm's scale, embeddings, splits of weight gradients.
    Sums,
}

impl Family {
    /// All, in the order in which they are shown and written.
    pub const ALL: [Family; 11] = [
        Family::LinearNt,
        Family::LinearNn,
        Family::LinearTn,
        Family::AttentionForward,
        Family::AttentionVjp,
        Family::TangentAttention,
        Family::GhostNorm,
        Family::LayerNorm,
        Family::CrossEntropy,
        Family::Lstm,
        Family::Sums,
    ];

    /// Name in what people choose by and in what runs record.
    pub fn name(self) -> &'static str {
        match self {
            Family::LinearNt => "linear_nt",
            Family::LinearNn => "linear_nn",
            Family::LinearTn => "linear_tn",
            Family::AttentionForward => "attention_forward",
            Family::AttentionVjp => "attention_vjp",
            Family::TangentAttention => "tangent_attention",
            Family::GhostNorm => "ghost_norm",
            Family::LayerNorm => "layer_norm",
            Family::CrossEntropy => "cross_entropy",
            Family::Lstm => "lstm",
            Family::Sums => "sums",
        }
    }

    /// Its rows of the table.
    pub fn rows(self) -> &'static [Row] {
        match self {
            Family::LinearNt | Family::LinearNn | Family::LinearTn => LINEAR,
            Family::AttentionForward | Family::AttentionVjp => ATTENTION,
            Family::TangentAttention | Family::GhostNorm => SENTENCES,
            Family::LayerNorm => LAYER_NORM,
            Family::CrossEntropy => ROWS,
            Family::Lstm => LSTM,
            Family::Sums => SUMS,
        }
    }

    /// The operations of a name: one, or those of a family (`linear`, `attention`).
    pub fn named(name: &str) -> Vec<Family> {
        let fits = |o: &Family| {
            o.name() == name || o.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('_') && family(name))
        };
        Family::ALL.into_iter().filter(fits).collect()
    }

    /// Names of rows that go before the preferred ones where much is to be computed: the same numbers, sooner, after a
    /// longer compilation. A weight gradient has long sums and few stores.
    pub(super) fn preferred_for_long(self) -> &'static [&'static str] {
        match self {
            Family::LinearNt | Family::LinearNn | Family::LayerNorm => &["uniform-16", "uniform-8"],
            // At 8 lanes attention gains nothing by it.
            Family::AttentionForward | Family::AttentionVjp => &["uniform-16"],
            _ => &[],
        }
    }

    /// Names of rows, the preferred one first, for software adapters or for GPUs. The last one runs anywhere.
    pub(super) fn preferred(self, software: bool) -> &'static [&'static str] {
        match (self, software) {
            (Family::LinearNt | Family::LinearNn | Family::LinearTn, true) => {
                &["subgroup-16", "subgroup-8", "subgroup-4", "direct"]
            }
            (Family::LinearNt | Family::LinearNn | Family::LinearTn, false) => &["register-64", "tiled", "direct"],
            (Family::AttentionForward | Family::AttentionVjp, true) => {
                &["subgroup-16", "subgroup-8", "subgroup-4", "row"]
            }
            (Family::AttentionForward | Family::AttentionVjp, false) => &["flash", "row"],
            (Family::TangentAttention | Family::GhostNorm, true) => &["subgroup-16", "subgroup-8", "subgroup-4", "row"],
            (Family::TangentAttention | Family::GhostNorm, false) => &["row"],
            // On the processor neighbouring lanes gain nothing from neighbouring addresses.
            (Family::LayerNorm, true) => &["subgroup-16", "subgroup-8", "subgroup-4", "lane"],
            (Family::CrossEntropy, true) => &["lane"],
            (Family::LayerNorm | Family::CrossEntropy, false) => &["lanes-32"],
            (Family::Lstm, true) => &["subgroup-16", "subgroup-8", "subgroup-4", "units"],
            (Family::Lstm, false) => &["units"],
            // Two to sixteen cores, and every workgroup costs 0.2 µs: few workgroups with long sums.
            (Family::Sums, true) => &["long"],
            (Family::Sums, false) => &["short"],
        }
    }
}

fn family(name: &str) -> bool {
    matches!(name, "linear" | "attention")
}

/// One way to run an operation.
#[derive(Debug)]
pub struct Row {
    /// As people write it: `tiled` of `linear=tiled`.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// What an adapter must have for it.
    pub needs: &'static [Need],
    /// What it is to the operation.
    pub kind: Kind,
}

impl Row {
    /// Whether its results are those of mixed precision: it runs only where a config asks for that.
    pub fn mixed(&self) -> bool {
        matches!(self.kind, Kind::Linear(LinearVariant::Cooperative(_)))
    }

    /// Lanes of the subgroup that it runs on, if it needs so many.
    pub(super) fn lanes(&self) -> Option<u32> {
        self.needs.iter().find_map(|need| match need {
            Need::Lanes(lanes) => Some(*lanes),
            _ => None,
        })
    }

    /// What an adapter lacks for it.
    pub fn missing(&self, caps: &Capabilities) -> Option<Lack> {
        self.needs.iter().find_map(|need| need.missing(caps))
    }
}

/// What a variant needs of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Invocations in a workgroup.
    Invocations(u32),
    /// Bytes of workgroup memory.
    WorkgroupBytes(u32),
    /// Products of square matrices of this size by a subgroup, from f16 operands with f32 sums.
    Cooperative(u32),
    /// Subgroups of exactly this number of lanes, whatever the kernel.
    Lanes(u32),
    /// A driver whose stores are quick only where it knows the address to be the same for all lanes.
    UniformStores,
}

impl Need {
    fn missing(self, caps: &Capabilities) -> Option<Lack> {
        match self {
            Need::Invocations(needed) => {
                let has = caps.workgroup_invocations;
                (has < needed).then_some(Lack::Invocations { needed, has })
            }
            Need::WorkgroupBytes(needed) => {
                let has = caps.workgroup_bytes;
                (has < needed).then_some(Lack::WorkgroupBytes { needed, has })
            }
            Need::UniformStores => (!caps.uniform_stores).then_some(Lack::UniformStores),
            Need::Cooperative(n) => (!caps.cooperative.contains(&n)).then_some(Lack::Cooperative(n)),
            Need::Lanes(n) => (caps.subgroup_size != n).then_some(match (caps.subgroup_min, caps.subgroup_max) {
                (_, 0) => Lack::Subgroups(n),
                (least, most) if least == most => Lack::Lanes { needed: n, has: least },
                (least, most) => Lack::ExactLanes { needed: n, least, most },
            }),
        }
    }
}

/// What an adapter lacks for a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Its workgroups are too small.
    #[error("it needs {needed} invocations a workgroup, this adapter has {has}")]
    Invocations {
        /// By the variant.
        needed: u32,
        /// At most on the adapter.
        has: u32,
    },
    /// Its workgroups have too little memory.
    #[error("it needs {needed} bytes of workgroup memory, this adapter has {has}")]
    WorkgroupBytes {
        /// By the variant.
        needed: u32,
        /// At most on the adapter.
        has: u32,
    },
    /// It has no products of square matrices of this size by a subgroup.
    #[error("it needs cooperative {0} x {0} matrices of f16 with f32 sums, which this adapter lacks")]
    Cooperative(u32),
    /// It gains nothing by them, or lacks what they need.
    #[error(
        "it is for drivers that store in loops over the lanes (llvmpipe before Mesa 23), with immediates, u64 and f64, \
         and without bounds checks"
    )]
    UniformStores,
    /// It has no subgroups, of which the variant needs those with this number of lanes.
    #[error("it needs subgroups of {0} lanes, this adapter has no subgroups")]
    Subgroups(u32),
    /// Its subgroups all have another number of lanes.
    #[error("it needs subgroups of {needed} lanes, this adapter has {has}")]
    Lanes {
        /// By the variant.
        needed: u32,
        /// On the adapter.
        has: u32,
    },
    /// Its subgroups may have another number of lanes.
    #[error("it needs subgroups of exactly {needed} lanes, this adapter has {least} to {most}")]
    ExactLanes {
        /// By the variant.
        needed: u32,
        /// The fewest that a subgroup of the adapter may have.
        least: u32,
        /// The most that a subgroup of the adapter may have.
        most: u32,
    },
}

/// What a row means to the operation's `lower`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A way to compute a product.
    Linear(LinearVariant),
    /// A way to compute attention, its tangents, or norms per example.
    Attention(AttentionVariant),
    /// Invocations that share a row.
    RowLanes(u32),
    /// Lanes of a subgroup that goes over a block of rows.
    RowSubgroup(u32),
    /// The same, and a lane's results are stored after another's.
    RowUniform(u32),
    /// A recurrence.
    Lstm(LstmVariant),
    /// How long sums are cut.
    Sums(Sums),
}

/// How matrix products run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearVariant {
    /// 4 x 4 numbers per invocation, straight from memory.
    Direct,
    /// 64 x 64 numbers per workgroup, through workgroup memory.
    Tiled,
    /// 64 x 64 numbers per workgroup of 4 subgroups, by the adapter's products of matrices of this size, f16 operands
    /// and f32 sums.
    Cooperative(u32),
    /// This number of rows and columns per workgroup, through workgroup memory; 8 x 8 numbers per invocation.
    Register(u32),
    /// One subgroup, of this number of lanes, per four times as many rows, by broadcast.
    Subgroup(u32),
    /// The same (NT, NN), whose results are stored a lane after another where there are many.
    Uniform(u32),
}

impl LinearVariant {
    /// Lanes of the subgroup that is a workgroup.
    pub fn lanes(self) -> Option<u32> {
        match self {
            LinearVariant::Subgroup(lanes) | LinearVariant::Uniform(lanes) => Some(lanes),
            _ => None,
        }
    }
}

/// Whether what stores a lane after another hands two numbers round as one of 64 bits, with subgroups of so many lanes:
/// cheaper with 16, dearer with 8 (`docs/performance.md`).
pub(crate) const fn stores_pairs(lanes: u32) -> bool {
    lanes == 16
}

/// How attention runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionVariant {
    /// One invocation per row and head, straight from memory.
    Row,
    /// One workgroup per block of rows and head, over tiles of the sentence in workgroup memory.
    Flash,
    /// One subgroup, of this number of lanes, per sentence and head, by broadcast.
    Subgroup(u32),
    /// The same, whose results are stored a lane after another where there are many and sentences are short.
    Uniform(u32),
}

/// How an LSTM goes through time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LstmVariant {
    /// A workgroup a block of sentences, its invocations over units.
    Units,
    /// A subgroup of so many lanes four times as many sentences, the weight handed round by broadcast.
    Subgroup(u32),
}

/// Rows that one invocation or workgroup sums before partial sums are added up, and other sizes by which work is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Of a column sum.
    pub block: u32,
    /// Of one split of a weight gradient.
    pub split: u32,
    /// Of one segment in the gradient of an embedding.
    pub segment: u32,
    /// vec4 of results from which on variants that store a lane after another do so: as many as make up for the half of
    /// a second that such a kernel takes longer to be there.
    pub apart: u64,
}

const fn linear(name: &'static str, about: &'static str, needs: &'static [Need], variant: LinearVariant) -> Row {
    Row { name, about, needs, kind: Kind::Linear(variant) }
}

const fn attention(name: &'static str, about: &'static str, needs: &'static [Need], variant: AttentionVariant) -> Row {
    Row { name, about, needs, kind: Kind::Attention(variant) }
}

const BROADCAST: &str = "a subgroup a workgroup, operands handed round by broadcast; for software adapters";

const ONE_BY_ONE: &str = "the same; large results are stored a lane after another, which old Mesas do quicker";

const MIXED: &str = "64 x 64 a workgroup by the adapter's small-matrix products, f16 operands; for mixed precision";

static LINEAR: &[Row] = &[
    linear("direct", "4 x 4 an invocation, straight from memory", &[], LinearVariant::Direct),
    linear(
        "tiled",
        "64 x 64 a workgroup through workgroup memory, 4 x 4 an invocation",
        &[Need::Invocations(256), Need::WorkgroupBytes(8192)],
        LinearVariant::Tiled,
    ),
    linear(
        "register-64",
        "64 x 64 a workgroup through workgroup memory, 8 x 8 an invocation",
        &[Need::Invocations(64), Need::WorkgroupBytes(8704)],
        LinearVariant::Register(64),
    ),
    linear(
        "register-128",
        "128 x 128 a workgroup through workgroup memory, 8 x 8 an invocation",
        &[Need::Invocations(256), Need::WorkgroupBytes(16896)],
        LinearVariant::Register(128),
    ),
    linear(
        "cooperative-16",
        MIXED,
        &[Need::Cooperative(16), Need::Lanes(32), Need::Invocations(128), Need::WorkgroupBytes(24576)],
        LinearVariant::Cooperative(16),
    ),
    linear(
        "cooperative-8",
        MIXED,
        &[Need::Cooperative(8), Need::Lanes(32), Need::Invocations(128), Need::WorkgroupBytes(24576)],
        LinearVariant::Cooperative(8),
    ),
    linear("subgroup-4", BROADCAST, &[Need::Lanes(4)], LinearVariant::Subgroup(4)),
    linear("subgroup-8", BROADCAST, &[Need::Lanes(8)], LinearVariant::Subgroup(8)),
    linear("subgroup-16", BROADCAST, &[Need::Lanes(16)], LinearVariant::Subgroup(16)),
    linear("uniform-8", ONE_BY_ONE, &[Need::Lanes(8), Need::UniformStores], LinearVariant::Uniform(8)),
    linear("uniform-16", ONE_BY_ONE, &[Need::Lanes(16), Need::UniformStores], LinearVariant::Uniform(16)),
];

static ATTENTION: &[Row] = &[
    attention("row", "an invocation a row and head, straight from memory", &[], AttentionVariant::Row),
    attention(
        "flash",
        "FlashAttention-2: tiles of the sentence in workgroup memory; heads wider than 128 take the rows' kernel",
        &[Need::Invocations(64), Need::WorkgroupBytes(27136)],
        AttentionVariant::Flash,
    ),
    attention("subgroup-4", BROADCAST, &[Need::Lanes(4)], AttentionVariant::Subgroup(4)),
    attention("subgroup-8", BROADCAST, &[Need::Lanes(8)], AttentionVariant::Subgroup(8)),
    attention("subgroup-16", BROADCAST, &[Need::Lanes(16)], AttentionVariant::Subgroup(16)),
    attention("uniform-16", ONE_BY_ONE, &[Need::Lanes(16), Need::UniformStores], AttentionVariant::Uniform(16)),
];

/// What else works on a sentence at a time.
static SENTENCES: &[Row] = &[
    attention("row", "an invocation a row or pair of rows, straight from memory", &[], AttentionVariant::Row),
    attention("subgroup-4", BROADCAST, &[Need::Lanes(4)], AttentionVariant::Subgroup(4)),
    attention("subgroup-8", BROADCAST, &[Need::Lanes(8)], AttentionVariant::Subgroup(8)),
    attention("subgroup-16", BROADCAST, &[Need::Lanes(16)], AttentionVariant::Subgroup(16)),
];

static ROWS: &[Row] = &[
    Row { name: "lane", about: "an invocation a row", needs: &[], kind: Kind::RowLanes(1) },
    Row { name: "lanes-32", about: "32 invocations a row", needs: &[], kind: Kind::RowLanes(32) },
];

const ACROSS: &str = "a subgroup over a block of rows, a row a lane or across its lanes; for software adapters";

static LAYER_NORM: &[Row] = &[
    Row { name: "lane", about: "an invocation a row", needs: &[], kind: Kind::RowLanes(1) },
    Row { name: "lanes-32", about: "32 invocations a row", needs: &[], kind: Kind::RowLanes(32) },
    Row { name: "subgroup-4", about: ACROSS, needs: &[Need::Lanes(4)], kind: Kind::RowSubgroup(4) },
    Row { name: "subgroup-8", about: ACROSS, needs: &[Need::Lanes(8)], kind: Kind::RowSubgroup(8) },
    Row { name: "subgroup-16", about: ACROSS, needs: &[Need::Lanes(16)], kind: Kind::RowSubgroup(16) },
    Row {
        name: "uniform-8",
        about: ONE_BY_ONE,
        needs: &[Need::Lanes(8), Need::UniformStores],
        kind: Kind::RowUniform(8),
    },
    Row {
        name: "uniform-16",
        about: ONE_BY_ONE,
        needs: &[Need::Lanes(16), Need::UniformStores],
        kind: Kind::RowUniform(16),
    },
];

const ACROSS_SENTENCES: &str = "a subgroup a workgroup, four sentences a lane, W handed round by broadcast; for \
    software adapters; more than 128 units take the kernel over units";

const fn lstm(name: &'static str, about: &'static str, needs: &'static [Need], variant: LstmVariant) -> Row {
    Row { name, about, needs, kind: Kind::Lstm(variant) }
}

static LSTM: &[Row] = &[
    lstm("units", "a workgroup 8 sentences, its invocations over units", &[], LstmVariant::Units),
    lstm("subgroup-4", ACROSS_SENTENCES, &[Need::Lanes(4)], LstmVariant::Subgroup(4)),
    lstm("subgroup-8", ACROSS_SENTENCES, &[Need::Lanes(8)], LstmVariant::Subgroup(8)),
    lstm("subgroup-16", ACROSS_SENTENCES, &[Need::Lanes(16)], LstmVariant::Subgroup(16)),
];

static SUMS: &[Row] = &[
    Row {
        name: "long",
        about: "about 1024 rows a partial sum, up to 4096 in a weight gradient, 16 in layer norm",
        needs: &[],
        kind: Kind::Sums(Sums { block: 1024, split: 4096, segment: 512, apart: 1 << 15 }),
    },
    Row {
        name: "short",
        about: "about 64 rows a partial sum",
        needs: &[],
        kind: Kind::Sums(Sums { block: 64, split: 512, segment: 32, apart: 1 << 15 }),
    },
    Row {
        name: "tiny",
        about: "about 16 rows a partial sum, so that small tests see many of them",
        needs: &[],
        kind: Kind::Sums(Sums { block: 16, split: 32, segment: 8, apart: 0 }),
    },
];
