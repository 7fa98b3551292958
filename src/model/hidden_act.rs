//! Names of activations in `config.json`.

use serde::{Deserialize, Serialize};

use crate::ops::Activation;

/// The function inside a feed-forward layer, under the names of `transformers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HiddenAct {
    /// x Φ(x), by the error function.
    #[default]
    Gelu,
    /// The same as `gelu`.
    GeluPython,
    /// GELU by tanh.
    GeluNew,
    /// The same as `gelu_new`.
    GeluPytorchTanh,
    /// The same as `gelu_new`.
    GeluPythonTanh,
    /// The same as `gelu_new`.
    GeluFast,
    /// The same as `gelu_new`.
    GeluAccurate,
    /// max(x, 0)
    Relu,
    /// x / (1 + e⁻ˣ)
    Silu,
    /// The same as `silu`.
    Swish,
}

impl HiddenAct {
    /// All of them.
    pub const ALL: [HiddenAct; 10] = [
        HiddenAct::Gelu,
        HiddenAct::GeluPython,
        HiddenAct::GeluNew,
        HiddenAct::GeluPytorchTanh,
        HiddenAct::GeluPythonTanh,
        HiddenAct::GeluFast,
        HiddenAct::GeluAccurate,
        HiddenAct::Relu,
        HiddenAct::Silu,
        HiddenAct::Swish,
    ];

    /// `hidden_act` of config.json.
    pub fn name(self) -> &'static str {
        match self {
            HiddenAct::Gelu => "gelu",
            HiddenAct::GeluPython => "gelu_python",
            HiddenAct::GeluNew => "gelu_new",
            HiddenAct::GeluPytorchTanh => "gelu_pytorch_tanh",
            HiddenAct::GeluPythonTanh => "gelu_python_tanh",
            HiddenAct::GeluFast => "gelu_fast",
            HiddenAct::GeluAccurate => "gelu_accurate",
            HiddenAct::Relu => "relu",
            HiddenAct::Silu => "silu",
            HiddenAct::Swish => "swish",
        }
    }

    /// What is computed.
    pub fn activation(self) -> Activation {
        match self {
            HiddenAct::Gelu | HiddenAct::GeluPython => Activation::Gelu,
            HiddenAct::GeluNew
            | HiddenAct::GeluPytorchTanh
            | HiddenAct::GeluPythonTanh
            | HiddenAct::GeluFast
            | HiddenAct::GeluAccurate => Activation::GeluTanh,
            HiddenAct::Relu => Activation::Relu,
            HiddenAct::Silu | HiddenAct::Swish => Activation::Silu,
        }
    }
}
