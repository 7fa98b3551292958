//! Tensors of one safetensors file, read one after another: beside the numbers that are given back there is no copy of
//! the file in memory. 16-bit numbers are widened, 64-bit ones rounded.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use super::files::ModelError;
use super::tensor_names::is_aside;

/// Shapes and values by name.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Tensors of safetensors files as f32, by name.
#[derive(Debug, Default)]
pub struct WeightsFile {
    /// Shape and values, row-major.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Names of those that were rounded from double precision.
    pub rounded: Vec<String>,
}

/// Bytes that are read at once; whole numbers of every type.
const PIECE: usize = 1 << 20;

/// Largest header that the format allows.
const LARGEST_HEADER: u64 = 100_000_000;

/// What Git has in place of a large file that it did not fetch.
const POINTER: &[u8] = b"version https://git-lfs";

impl WeightsFile {
    /// Reads f32, f16, bf16 and f64 tensors.
    ///
    /// # Errors
    /// Names the tensor that is of another type, reaches beyond the end of the file or does not fit single precision.
    pub fn read(path: &Path) -> Result<WeightsFile, ModelError> {
        let file = crate::files::open(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        WeightsFile::read_from(file, path)
    }

    /// Reads from memory; `path` is named in errors.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<WeightsFile, ModelError> {
        WeightsFile::read_from(Cursor::new(bytes), path)
    }

    fn read_from(mut file: impl Read + Seek, path: &Path) -> Result<WeightsFile, ModelError> {
        let io = |source| ModelError::Io { path: path.into(), source };
        let (begin, tensors) = header(&mut file, path)?;
        file.seek(SeekFrom::Start(begin)).map_err(io)?;
        let mut read = WeightsFile::default();
        let mut piece = vec![0; PIECE];
        // In the order of their bytes, which lie behind one another.
        for (name, info) in tensors {
            let error = |message: String| ModelError::format(path, message);
            let mut left = info.data_offsets.1 - info.data_offsets.0;
            let mut values = Vec::new();
            match info.dtype {
                Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => values.reserve_exact(numbers(&info)),
                // Buffers such as position_ids; whether that is all right is seen by name.
                Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL if is_aside(&name) => {}
                other => {
                    return Err(error(format!(
                        "tensor `{name}` has type {other:?}; F32, F16, BF16 and F64 can be read"
                    )));
                }
            }
            while left > 0 {
                let bytes = &mut piece[..left.min(PIECE)];
                file.read_exact(bytes).map_err(io)?;
                left -= bytes.len();
                widen(info.dtype, bytes, &mut values).map_err(|(i, value)| {
                    error(format!("tensor `{name}` holds {value:e} at place {i}, beyond single precision"))
                })?;
            }
            if info.dtype == Dtype::F64 {
                read.rounded.push(name.clone());
            }
            read.tensors.insert(name, (info.shape, values));
        }
        read.rounded.sort_unstable();
        Ok(read)
    }
}

/// Where the data begins, and the tensors in the order of their bytes, which fill the rest of the file.
fn header(file: &mut (impl Read + Seek), path: &Path) -> Result<(u64, Vec<(String, TensorInfo)>), ModelError> {
    let error = |message: String| ModelError::format(path, message);
    let unreadable = |e: &dyn std::fmt::Display| error(format!("not a readable safetensors file: {e}"));
    let io = |source| ModelError::Io { path: path.into(), source };
    let whole = file.seek(SeekFrom::End(0)).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let mut first = Vec::new();
    file.by_ref().take(POINTER.len() as u64).read_to_end(&mut first).map_err(io)?;
    if first == POINTER {
        return Err(error("this is a pointer of Git LFS, not the weights; `git lfs pull` brings them".into()));
    }
    let Some(length) = first.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(unreadable(&SafeTensorError::HeaderTooSmall));
    };
    if length > LARGEST_HEADER {
        return Err(unreadable(&SafeTensorError::HeaderTooLarge));
    }
    let begin = 8 + length;
    if begin > whole {
        return Err(error(format!("the file is truncated: its header ends at byte {begin} of {whole}")));
    }
    let mut text = vec![0; length as usize];
    file.seek(SeekFrom::Start(8)).and_then(|_| file.read_exact(&mut text)).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| unreadable(&e))?;
    let mut tensors: Vec<(String, TensorInfo)> =
        metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    tensors.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));
    let data = whole - begin;
    if let Some((name, info)) = tensors.iter().find(|(_, info)| info.data_offsets.1 as u64 > data) {
        return Err(error(format!(
            "the file is truncated: tensor `{name}` ends at byte {} of the data, of which there are {data}",
            info.data_offsets.1
        )));
    }
    match tensors.last().map_or(0, |(_, info)| info.data_offsets.1 as u64) {
        end if end < data => Err(unreadable(&format!("{} bytes behind the last tensor", data - end))),
        _ => Ok((begin, tensors)),
    }
}

/// Numbers of a tensor.
fn numbers(info: &TensorInfo) -> usize {
    info.shape.iter().product()
}

/// Numbers in single precision behind those of the same tensor before them; the place and value of the first one of
/// double precision that is beyond it. Nothing of a type without fractions.
fn widen(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) -> Result<(), (usize, f64)> {
    match dtype {
        Dtype::F32 => values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Dtype::F16 => values.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32())),
        Dtype::BF16 => values.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32())),
        Dtype::F64 => {
            for value in bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)) {
                let single = value as f32;
                if value.is_finite() && !single.is_finite() {
                    return Err((values.len(), value));
                }
                values.push(single);
            }
        }
        _ => {}
    }
    Ok(())
}
