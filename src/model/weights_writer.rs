//! Writes tensors as a safetensors file, one after another: the file is never in memory as a whole.

use std::collections::HashMap;
use std::io::{BufWriter, Error, Result, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::files::write_synced_by;

/// Writes f32 tensors in the order of their names, with the metadata that `transformers` wants. The file is complete on
/// disk when this returns.
pub(crate) fn save_tensors<'t>(
    path: &Path,
    tensors: impl Iterator<Item = (&'t str, &'t [usize], &'t [f32])>,
) -> Result<()> {
    let mut tensors: Vec<(&str, &[usize], &[f32])> = tensors.collect();
    tensors.sort_unstable_by_key(|(name, ..)| *name);
    let mut end = 0;
    let infos = tensors.iter().map(|(name, shape, values)| {
        let begin = end;
        end += size_of_val(*values);
        (name.to_string(), TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets: (begin, end) })
    });
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(about), infos.collect()).map_err(Error::other)?;
    let mut header = serde_json::to_string(&metadata).map_err(Error::other)?;
    // The data begin at a multiple of 8 bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    write_synced_by(path, |file| {
        let mut file = BufWriter::new(file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for (.., values) in &tensors {
            file.write_all(bytemuck::cast_slice(values))?;
        }
        file.flush()
    })
}
