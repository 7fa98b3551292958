//! What is measured ([`Subject`]: a model and examples), and the passes over it: products, quadratic forms, squared
//! norms and inner products of per-example gradients, mean gradients, predictions. [`ModelOperator`] and
//! [`GradientOperator`] are operators made of them.

mod along;
mod axes;
mod drawn_gradients;
mod flatness;
mod forms;
mod gradient_operator;
mod gradients;
mod layout;
mod loops;
mod model_operator;
mod norms;
mod pass;
mod predictions;
mod products;
mod residual;
mod subject;
mod summands;
mod untouched;
mod vectors;
mod weighted;

pub use drawn_gradients::DrawnGradients;
pub use flatness::{DrawnRows, FlatnessPass, Term};
pub(in crate::curvature) use flatness::{by_row, is_layer};
pub use forms::{FormPass, Forms};
pub use gradient_operator::{GradientOperator, Moment};
pub use gradients::Gradients;
pub use layout::VectorLayout;
pub use model_operator::ModelOperator;
pub use norms::{Cotangent, GramPass, NormPass};
pub use predictions::{divergence, uncertainty};
pub use products::{Matrix, ProductPass};
pub use residual::ResidualPass;
pub use subject::{Chunks, Subject};
pub(in crate::curvature) use vectors::{ProbeVectors, add};
pub use weighted::WeightedPass;
