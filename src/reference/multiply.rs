//! Twin of `shaders/multiply.wgsl`.

use super::{Inputs, Twin};
use crate::ops::{Multiply, Rule};

impl Twin for Multiply {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        vec![inputs.of(0).iter().zip(inputs.of(1)).map(|(a, b)| a * b).collect()]
    }
}
