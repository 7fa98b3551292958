//! What the test files share: the adapter under test and the recorded fixtures.
#![allow(dead_code)]

pub mod curvature;
pub mod matrices;
pub mod rules;

use std::path::{Path, PathBuf};

use lowland::gpu::{AdapterChoice, Gpu, Options};

/// The models of `fixtures/make_transformers.py`: each type, tied and untied, each activation. `roberta-N` are of the type
/// `roberta-prelayernorm`, `postnorm-N` of `roberta`.
pub const MODELS: [&str; 16] = [
    "roberta-20",
    "roberta-32",
    "bert-24",
    "bert-18",
    "bert-untied",
    "roberta-tiny",
    "bert-tiny",
    "postnorm-16",
    "postnorm-untied",
    "postnorm-tiny",
    "bert-gelu-new",
    "bert-relu",
    "bert-silu",
    "postnorm-gelu-tanh",
    "roberta-silu",
    "roberta-gelu-python",
];

/// The adapter under test: `LOWLAND_ADAPTER`, else the best.
pub fn gpu() -> Gpu {
    let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("LOWLAND_ADAPTER"));
    Gpu::open(&choice, Options::default()).expect("an adapter; `make test` installs a software one")
}

/// A file or folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Double-precision results beside a fixture model.
pub struct Truth(Vec<u8>);

impl Truth {
    pub fn read(model: &str) -> Truth {
        Truth(std::fs::read(fixture(model).join("truth.safetensors")).expect("recorded fixtures"))
    }

    /// What `fixtures/make_curvature.py` recorded.
    pub fn curvature(model: &str) -> Truth {
        Truth(std::fs::read(fixture(model).join("curvature.safetensors")).expect("recorded fixtures"))
    }

    pub fn names(&self) -> Vec<String> {
        self.file().names().into_iter().map(str::to_string).collect()
    }

    pub fn values(&self, name: &str) -> Vec<f64> {
        let file = self.file();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        match view.dtype() {
            safetensors::Dtype::F64 => {
                view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            safetensors::Dtype::F32 => {
                view.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    fn file(&self) -> safetensors::SafeTensors<'_> {
        safetensors::SafeTensors::deserialize(&self.0).expect("a safetensors file")
    }
}
