//! The trace of an enlarged model from the small model's trace by tensor: no measurement of the large one.
//!
//! It holds of every trace that is a sum of squared gradients: of the Fisher matrix (equal to Gauss-Newton's), of the
//! empirical Fisher matrix and of the gradients' covariance. It does not hold of the Hessian, whose part beyond
//! Gauss-Newton's has second derivatives along single copies in it.
//!
//! **Derivation.** A number that has c copies gets from the loss the same adjoint at each copy, and their sum is the
//! small model's: each is 1 / c of it. The gradient of a weight is the adjoint of its output times its input, the
//! latter the small model's, so that with c_o copies of each output and c_i of each input the squared gradients of the
//! c_o c_i copies add up to c_i / c_o times the small model's; of what is added to an output (a bias, a norm's scale
//! and shift) to 1 / c_o. So:
//!
//! - a matrix from width to width, or to feed-forward units where these grow as the width does: as it is;
//! - a bias or a norm: divided by r; the bias over words, of which there are no more: as it is;
//! - queries and keys of heads m times as wide, which carry m^(-1/4): times √m more;
//! - tables times s under a norm that removes it, and before the tied head, whose input carries 1 / (r s): either way a
//!   row's gradient is 1 / (r s) of the small model's in r copies, in all 1 / (r s²);
//! - the norm before a tied head: r copies whose adjoints went through tables times s, in all r s²;
//! - layers of zeros behind a pre-layer-norm encoder: the two biases that are added to the residual stream get the
//!   adjoint of the last layer's; everything else in them has no gradient.
//!
//! With E, G and R the parts of tables, of the norm before the tied head and of the rest, each with its factor at s =
//! 1, the trace is E / s² + G s² + R, least at s⁴ = E / G with 2 √(E G) + R. E G does not depend on r.

use super::config::ModelConfig;
use super::encoder::Encoder;
use super::enlarge::{EnlargeError, Enlargement, Growth, Size, Width, axes};
use super::role::{Norm, Part, Role};

/// Why the trace of an enlarged model does not follow from the small one's by tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unlawful {
    /// There is no model of these sizes.
    #[error(transparent)]
    Sizes(#[from] EnlargeError),
    /// New layers with norms behind the residual sums: their norms have gradients that no tensor's trace tells.
    #[error("the trace of new layers behind whose sums a norm stands does not follow from the small model's by tensor")]
    Depth,
    /// A decoder of its own: the trace falls with the tables' scale without end.
    #[error("the head is not tied: the trace falls as the tables grow, and no scale of theirs is the flattest")]
    Untied,
    /// Tables or the norm before the head without a trace.
    #[error("tables have the trace {tables} and the norm before the head {norm}: no scale is the flattest")]
    Nothing {
        /// Trace over all tables.
        tables: f64,
        /// Trace over scale and shift of the norm before the head.
        norm: f64,
    },
}

/// The three sums of which an enlarged model's trace is made, at s = 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Of all tables: E / r.
    pub tables: f64,
    /// Of scale and shift of the norm before a tied head: r G.
    pub norm: f64,
    /// Of all other parameters, R.
    pub rest: f64,
}

/// How a small model's trace by tensor becomes the trace of the large one in which it is embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    /// Of each parameter of the small model, the factor on its trace at s = 1.
    factors: Vec<f64>,
    /// Of each parameter, the power of s in its factor: -2, 0 or 2.
    powers: Vec<i32>,
    width: f64,
    tied: bool,
}

impl Law {
    /// The law of a small model in a larger architecture. `method` says whether new units are copies or zeros; the
    /// scale of the tables is left open.
    ///
    /// # Errors
    /// Sizes that cannot hold the model, and new layers with post-layer-norm.
    pub fn new(small: &Encoder, size: Size, method: Enlargement) -> Result<Law, Unlawful> {
        let large = size.config(&small.config);
        let plan = Growth { small: &small.config, large: &large, method };
        plan.check()?;
        let deeper = large.num_hidden_layers - small.config.num_hidden_layers;
        if deeper > 0 && plan.closing_norm().is_some() {
            return Err(Unlawful::Depth);
        }
        let mut factors: Vec<f64> = small.parameters.iter().map(|p| factor(&plan, p.role)).collect();
        if deeper > 0 {
            let stream = small.with_role(added_last(&small.config)).expect("a pre-layer-norm encoder has it");
            factors[stream] *= f64::from(1 + 2 * deeper);
        }
        let power = |role: Role| match role.part {
            Part::Table(_) => -2,
            Part::Norm(Norm::Head) if small.config.tie_word_embeddings => 2,
            _ => 0,
        };
        let powers = small.parameters.iter().map(|p| power(p.role)).collect();
        let tied = small.config.tie_word_embeddings;
        Ok(Law { factors, powers, width: plan.multiple(Width::Hidden), tied })
    }

    /// The factor r of the width.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// For the tables, for the norm before a tied head and for the rest, the factors at s = 1 on each parameter's
    /// trace, with 0 for those of the others.
    pub fn factors(&self) -> [Vec<f64>; 3] {
        [-2, 2, 0].map(|power| {
            let of = |(factor, own): (&f64, &i32)| if *own == power { *factor } else { 0.0 };
            self.factors.iter().zip(&self.powers).map(of).collect()
        })
    }

    /// The shares of a trace by tensor, `traces[parameter]` of the small model.
    pub fn shares(&self, traces: &[f64]) -> Shares {
        assert_eq!(traces.len(), self.factors.len(), "a trace for each parameter");
        let [tables, norm, rest] =
            self.factors().map(|factors| factors.iter().zip(traces).map(|(f, t)| f * t).sum::<f64>());
        Shares { tables, norm, rest }
    }

    /// The s of the least trace: (E / G)^(1/4) of these shares.
    ///
    /// # Errors
    /// A head that is not tied; a share that is not above 0.
    pub fn flattest(&self, shares: &Shares) -> Result<f64, Unlawful> {
        let Shares { tables, norm, .. } = *shares;
        if !self.tied {
            return Err(Unlawful::Untied);
        }
        if !(tables > 0.0 && norm > 0.0 && (tables / norm).is_finite()) {
            return Err(Unlawful::Nothing { tables, norm });
        }
        Ok((tables / norm).powf(0.25))
    }
}

impl Shares {
    /// The large model's trace with its tables times s.
    pub fn at(&self, s: f64) -> f64 {
        self.tables / (s * s) + self.norm * s * s + self.rest
    }
}

/// The factor on a parameter's trace with the tables as they are.
fn factor(plan: &Growth<'_>, role: Role) -> f64 {
    let [rows, cols] = axes(role.part).map(|width| plan.multiple(width));
    let wider = f64::from(plan.large.head_size()) / f64::from(plan.small.head_size());
    let within = match role.part {
        Part::Query | Part::Key => wider.sqrt(),
        _ => 1.0,
    };
    match role.part {
        // Rows are words; columns are outputs.
        Part::Table(_) => 1.0 / cols,
        Part::Norm(Norm::Head) if plan.small.tie_word_embeddings => rows,
        Part::Norm(_) => 1.0 / rows,
        _ if role.bias => within / rows,
        _ => within * cols / rows,
    }
}

/// What is added to the residual stream at its end: the bias of the last feed-forward layer, or the shift of the norm
/// behind the embedding where there are no layers.
fn added_last(config: &ModelConfig) -> Role {
    match config.num_hidden_layers.checked_sub(1) {
        Some(last) => Role { part: Part::FeedForwardOutput, bias: true, layer: Some(last) },
        None => Role { part: Part::Norm(Norm::Embedding), bias: true, layer: None },
    }
}
