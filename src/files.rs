//! Reading what others wrote: files no longer than their kind can be, that end, and names that stay in the folder of
//! the file that names them.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

/// Bytes that no config, description or state has.
pub(crate) const SMALL: u64 = 16 << 20;

/// Bytes that no vocabulary or list of tensors has.
pub(crate) const LARGE: u64 = 1 << 30;

/// Why a name in a file is none of a file beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outside {
    /// It has `..`, begins at the root, or is empty.
    #[error("`{0}` is not the name of a file beside it")]
    Name(String),
    /// It leads through a symbolic link.
    #[error("`{name}` is a link out of its folder, to {}; copy the file to where the link is", to.display())]
    Link {
        /// As it stands in the file.
        name: String,
        /// Where it leads.
        to: PathBuf,
    },
}

impl From<Outside> for io::Error {
    fn from(outside: Outside) -> io::Error {
        io::Error::new(ErrorKind::InvalidInput, outside)
    }
}

/// The path of a name that stands in a file of `folder`: below `root`, links followed. Whether it is there is not
/// asked.
pub(crate) fn below(root: &Path, folder: &Path, name: &str) -> Result<PathBuf, Outside> {
    let plain = !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    if !plain {
        return Err(Outside::Name(name.into()));
    }
    let path = folder.join(name);
    match (path.canonicalize(), root.canonicalize()) {
        (Ok(to), Ok(root)) if !to.starts_with(&root) => Err(Outside::Link { name: name.into(), to }),
        _ => Ok(path),
    }
}

/// Opens a file of a folder that others may have made; a pipe or a device there would never end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Asked before it is opened: opening a pipe waits for who writes into it.
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "is no regular file")),
    }
}

/// The bytes of a file of a folder, `most` of them at most.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    all_of(open(path)?, most)
}

/// The same of what a user named, which may be a pipe.
pub(crate) fn read_any(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    all_of(File::open(path)?, most)
}

fn all_of(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, format!("has more than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

/// The same of a text.
pub(crate) fn text(path: &Path, most: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "is not UTF-8 text");
    String::from_utf8(read(path, most)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("own"), "x").unwrap();
        for name in ["own", "not there", "a/b"] {
            assert_eq!(below(path, path, name), Ok(path.join(name)));
        }
        for name in ["", "..", "../own", "/etc/hostname", "a/../../own", "./own"] {
            assert_eq!(below(path, path, name), Err(Outside::Name(name.into())), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_below_the_root() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (root, inner) = (folder.path(), folder.path().join("inner"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(root.join("blob"), "x").unwrap();
        std::os::unix::fs::symlink("../blob", inner.join("blob")).unwrap();
        assert_eq!(below(root, &inner, "blob"), Ok(inner.join("blob")));
        assert!(matches!(below(&inner, &inner, "blob"), Err(Outside::Link { .. })));
        std::os::unix::fs::symlink(elsewhere.path(), inner.join("folder")).unwrap();
        std::fs::write(elsewhere.path().join("file"), "x").unwrap();
        let said = below(root, &inner, "folder/file").unwrap_err().to_string();
        assert!(said.contains("is a link out of its folder, to ") && said.contains("copy the file"), "{said}");
    }

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert_eq!(read(&path, 1 << 20).unwrap_err().to_string(), "has more than 1 MiB");
        assert_eq!(text(&path, 2 << 20).unwrap().len(), (1 << 20) + 1);
        assert_eq!(read(folder.path(), 9).unwrap_err().to_string(), "is no regular file");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(text(&path, 9).unwrap_err().to_string(), "is not UTF-8 text");
    }

    /// It never ends, and neither would who reads all of it.
    #[cfg(target_os = "linux")]
    #[test]
    fn devices_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(read(&path, SMALL).unwrap_err().to_string(), "is no regular file");
    }
}
