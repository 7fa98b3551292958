//! Compiled pipelines kept between processes, where the back end gives them away (Vulkan): a file in the cache folder
//! for each adapter and driver, written by rename.
//!
//! A driver reads what it once wrote without much care, so the file begins with a hash of the rest: one that is damaged
//! counts as none. One of another driver version has another name, and the driver itself refuses what it does not know.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cache::cache_folder;

/// Bytes of the hash at the head of the file.
const HASH: usize = 32;

/// The cache of an opened device; does nothing where there is none.
pub(super) struct PipelineCache {
    raw: Option<wgpu::PipelineCache>,
    path: Option<PathBuf>,
    changed: AtomicBool,
}

impl PipelineCache {
    /// The kept pipelines of an adapter, or an empty cache.
    pub fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> PipelineCache {
        let none = PipelineCache { raw: None, path: None, changed: AtomicBool::new(false) };
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return none;
        }
        let Some(key) = wgpu::util::pipeline_cache_key(info) else { return none };
        let driver = blake3::hash(format!("{} {} {}", info.name, info.driver, info.driver_info).as_bytes());
        let name = format!("{key}-{}", &driver.to_hex()[..16]);
        let path = cache_folder().map(|folder| folder.join("pipelines").join(name));
        let data = path.as_ref().and_then(|path| std::fs::read(path).ok()).and_then(whole);
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("lowland"), data: data.as_deref(), fallback: true };
        // SAFETY: the data are whole, as the hash at their head shows, and what `get_data` gave this program for an
        // adapter and driver of these names; the driver looks at their header and takes none of another build.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        PipelineCache { raw: Some(raw), path, changed: AtomicBool::new(false) }
    }

    /// The driver's cache, for making a pipeline; `None` where the back end gives none away.
    pub fn raw(&self) -> Option<&wgpu::PipelineCache> {
        self.raw.as_ref()
    }

    /// Notes that a pipeline was made which may not be in the file.
    pub fn changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Writes the file if there is something new.
    pub fn keep(&self) {
        let (Some(raw), Some(path)) = (&self.raw, &self.path) else { return };
        if !self.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(data) = raw.get_data() else { return };
        let mut file = blake3::hash(&data).as_bytes().to_vec();
        file.extend(data);
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let parent = path.parent().expect("a file in a folder");
        let written = std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&beside, file))
            .and_then(|()| std::fs::rename(&beside, path));
        if written.is_err() {
            // A cache that cannot be kept costs time only.
            let _ = std::fs::remove_file(&beside);
        }
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        self.keep();
    }
}

/// The bytes behind the hash, if the hash is theirs.
fn whole(file: Vec<u8>) -> Option<Vec<u8>> {
    let (hash, data) = file.split_at_checked(HASH)?;
    (blake3::hash(data).as_bytes() == hash).then(|| data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn a_damaged_file_counts_as_none() {
        let data = b"compiled".to_vec();
        let mut file = blake3::hash(&data).as_bytes().to_vec();
        file.extend(&data);
        assert_eq!(whole(file.clone()), Some(data));
        assert_eq!(whole(file[..file.len() - 1].to_vec()), None);
        assert_eq!(whole(file[..20].to_vec()), None);
        let last = file.len() - 1;
        file[last] ^= 1;
        assert_eq!(whole(file), None);
    }
}
