//! Says what a comparison over sizes cannot decide. A small model embedded in a larger architecture leaves open how the
//! scale of a tied head is split between the tables and the norm before it: (tables · a, norm / a) is the same function
//! for every a, while with E the tables' part of the trace, G that norm's, M that of the matrices inside and b the
//! rest, in r times the width `enlarge` makes M + (E + b) / r + r G of it, and the paper's released script M + r E + (G
//! + b) / r.

use super::section::{Model, Section};

/// The name, in tables of sweeps, of the parametrisation that leaves the choice open.
const EMBEDDED: &str = "by duplication";

/// The note on size, for a paragraph or a caption.
pub const WORDS: &str = "On size: the sign of the traces' change over sizes is a convention and decides nothing. \
    Embedding a small model in the largest architecture leaves open how the scale of a tied head is split between its \
    tables and the norm before it, and no split changes the function. In r times the width the tables' part of the \
    trace is divided by r as enlarge embeds a model, which is done here, and multiplied by r as the script released \
    with the paper does: where most of the trace lies in the tables, the same models rise with size in the one and \
    fall in the other.";

/// The note in one sentence, for a verdict, a correlation or a table that [`WORDS`] stand near.
pub const BRIEFLY: &str = "These are models of several sizes, so that the traces' order, and with it a coefficient's \
    sign, depends on the convention by which the smaller ones were embedded: see the note on size.";

/// Whether these models have traces over one architecture in which some of them are embedded.
pub fn decides(models: &[Model<'_>]) -> bool {
    let mut sizes = models
        .iter()
        .filter(|m| m.row.curvature.is_some())
        .filter(|m| m.row.parametrisation.contains(EMBEDDED))
        .map(|m| m.row.parameters);
    let Some(first) = sizes.next() else { return false };
    sizes.any(|size| size != first)
}

/// [`decides`] of a section's models in its own parametrisation.
pub fn decides_in(section: &Section) -> bool {
    let Some(own) = section.parametrisation() else { return false };
    let models: Vec<Model<'_>> = section.trained().into_iter().filter(|m| m.row.parametrisation == own).collect();
    decides(&models)
}
