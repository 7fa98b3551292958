//! What a step counts, by the three counts of [`gpu`](crate::gpu) that vary from one batch to the next.

use crate::gpu::{Count, Slot};

/// Tokens of the batch, padding left out.
pub const ROWS: Count = Count::Varying(Slot::First);
/// Masked positions of the batch.
pub const MASKED: Count = Count::Varying(Slot::Second);
/// Sentences of the batch.
pub const SENTENCES: Count = Count::Varying(Slot::Third);
