//! Double-precision results beside a fixture model.

use super::fixtures::fixture;

pub struct Truth(Vec<u8>);

impl Truth {
    /// `truth`, which `fixtures/make_transformers.py` recorded, or `curvature`, of `fixtures/make_curvature.py`.
    pub fn read(model: &str, file: &str) -> Truth {
        Truth(std::fs::read(fixture(model).join(format!("{file}.safetensors"))).expect("recorded fixtures"))
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
