//! The tokens of documents on disk, made once: two streams (training, held out) of 16- or 32-bit ids, with the places
//! where examples begin where these are not all of one length. Memory grows with neither.
//!
//! A folder of the cache is named by a hash of all that its tokens follow from: what the files and the tokenizer hold,
//! and how documents are put together. It is made under another name and renamed when whole.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Documents, Pieces, TextError, TextFormat};
use crate::interrupt;

/// The files of a corpus.
#[derive(Clone, Debug)]
pub struct TextFiles {
    /// In the order in which documents are numbered.
    pub files: Vec<PathBuf>,
    /// How they hold documents.
    pub format: TextFormat,
    /// Where tokens are kept.
    pub cache: PathBuf,
}

/// How documents become examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// Tokens before each document.
    pub before: Vec<u32>,
    /// Tokens behind each document.
    pub behind: Vec<u32>,
    /// Tokens of an example, at most.
    pub length: usize,
    /// Tokens of the shortest example.
    pub least: usize,
    /// Whether examples are cut out of one stream of all documents, and none begins anew with each.
    pub pack: bool,
    /// The share of documents that is held out.
    pub held_out: f64,
}

/// Training or held-out examples.
pub struct Part {
    tokens: Mutex<File>,
    starts: Option<Mutex<File>>,
    path: PathBuf,
    wide: bool,
    length: u64,
    about: AboutPart,
}

/// Both parts.
pub struct Tokenized {
    /// What is trained on.
    pub train: Part,
    /// What is not.
    pub held_out: Part,
    /// Documents of both.
    pub documents: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct AboutPart {
    documents: u64,
    tokens: u64,
    examples: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct About {
    documents: u64,
    wide: bool,
    train: AboutPart,
    held_out: AboutPart,
    /// Hash of what each file holds, by its name.
    hashes: BTreeMap<String, String>,
}

const ABOUT: &str = "about.json";
/// Changes whenever what is kept does.
const VERSION: &[u8] = b"lowland text 2";
const DAMAGED: &str = "is damaged; remove its folder, and it is made anew";
/// Bytes of text that are cut at once.
const BATCH: usize = 8 << 20;

impl TextFiles {
    /// Bytes of all files.
    ///
    /// # Errors
    /// One that is not there.
    pub fn bytes(&self) -> Result<u64, TextError> {
        let size = |path: &PathBuf| {
            let about = std::fs::metadata(path);
            let about = about.map_err(|e| TextError::wrong(path, None, format!("cannot be read: {e}")))?;
            match about.is_file() {
                true => Ok(about.len()),
                false => Err(TextError::wrong(path, None, "is no file; name the files in it")),
            }
        };
        self.files.iter().map(size).sum()
    }

    /// The folder of the tokens.
    fn folder(&self, pieces: &Pieces, shape: &Shape) -> Result<PathBuf, TextError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(VERSION);
        for file in self.files.iter().map(PathBuf::as_path).chain([pieces.path()]) {
            let hash = content_hash(file).map_err(|e| TextError::wrong(file, None, format!("cannot be read: {e}")))?;
            hasher.update(&hash);
        }
        let how = serde_json::to_vec(&(self.format, shape)).expect("plain values");
        hasher.update(&how);
        Ok(self.cache.join(&hasher.finalize().to_hex()[..32]))
    }

    /// The tokens, which are made where they are not there. `chosen` says of a document's number whether it is held
    /// out, `watch` is told how many bytes of how many are done.
    ///
    /// # Errors
    /// Files that cannot be read or are no text, a tokenizer that cannot cut them, a part that would be empty, a cache
    /// that cannot be written; an interrupt.
    pub fn tokens(
        &self,
        pieces: &Pieces,
        shape: &Shape,
        chosen: &(dyn Fn(u64) -> bool + Sync),
        watch: &dyn Fn(u64, u64),
    ) -> Result<Tokenized, TextError> {
        let bytes = self.bytes()?;
        let folder = self.folder(pieces, shape)?;
        if !folder.join(ABOUT).exists() {
            // Of this process alone, also among those of other machines.
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let making = folder.with_extension(format!("{}-{now:x}.tmp", std::process::id()));
            let made = self.make(&making, pieces, shape, chosen, &|done| watch(done, bytes)).and_then(|()| {
                match std::fs::rename(&making, &folder) {
                    // Another process was faster.
                    Err(_) if folder.join(ABOUT).exists() => Ok(()),
                    other => other.map_err(TextError::cache(&folder)),
                }
            });
            // What is left of one that failed, or that came second.
            let _ = std::fs::remove_dir_all(&making);
            made?;
        }
        Tokenized::open(&folder, shape)
    }

    fn make(
        &self,
        folder: &Path,
        pieces: &Pieces,
        shape: &Shape,
        chosen: &(dyn Fn(u64) -> bool + Sync),
        watch: &dyn Fn(u64),
    ) -> Result<(), TextError> {
        std::fs::create_dir_all(folder).map_err(TextError::cache(folder))?;
        let wide = pieces.size() > 1 << 16;
        let [mut train, mut held_out] =
            [PartWriter::create(folder, "train", wide, shape)?, PartWriter::create(folder, "held-out", wide, shape)?];
        let mut documents = Documents::new(&self.files, self.format);
        let mut number = 0;
        loop {
            interrupt::check()?;
            let batch = documents.batch(BATCH)?;
            if batch.is_empty() {
                break;
            }
            let cut = |text: &String| {
                interrupt::check()?;
                Ok::<Vec<u32>, TextError>(pieces.ids(text)?)
            };
            let ids: Vec<Vec<u32>> = batch.par_iter().map(cut).collect::<Result<_, _>>()?;
            for ids in ids {
                let part = if chosen(number) { &mut held_out } else { &mut train };
                part.add(&ids)?;
                number += 1;
            }
            watch(documents.read);
        }
        let (train, held_out) = (train.finish()?, held_out.finish()?);
        let about = About { documents: number, wide, train, held_out, hashes: hashes(folder, shape)? };
        let first = self.files.first().map(PathBuf::as_path).unwrap_or(folder);
        for (part, name, instead) in [
            (about.train, "to train on", "lower `language.held_out`, or give more documents"),
            (about.held_out, "held out", "raise `language.held_out`, or give more documents"),
        ] {
            if part.examples == 0 {
                let few =
                    if number == 1 { "there is 1 document".into() } else { format!("there are {number} documents") };
                let share = shape.held_out;
                let message = format!("none is {name}: {few}, of which a share of {share} is held out; {instead}");
                return Err(TextError::wrong(first, None, message));
            }
        }
        let path = folder.join(ABOUT);
        let text = serde_json::to_string_pretty(&about).expect("plain values") + "\n";
        std::fs::write(&path, text).map_err(TextError::cache(&path))
    }
}

impl Tokenized {
    fn open(folder: &Path, shape: &Shape) -> Result<Tokenized, TextError> {
        let path = folder.join(ABOUT);
        let text = crate::files::text(&path, crate::files::SMALL).map_err(TextError::cache(&path))?;
        let damaged = |e: serde_json::Error| TextError::cache(&path)(std::io::Error::other(format!("is damaged: {e}")));
        let about: About = serde_json::from_str(&text).map_err(damaged)?;
        if about.hashes != hashes(folder, shape)? {
            return Err(TextError::cache(folder)(std::io::Error::other(DAMAGED)));
        }
        let part = |name, own: AboutPart| Part::open(folder, name, about.wide, shape, own);
        let (train, held_out) = (part("train", about.train)?, part("held-out", about.held_out)?);
        Ok(Tokenized { train, held_out, documents: about.documents })
    }
}

impl Part {
    fn open(folder: &Path, name: &str, wide: bool, shape: &Shape, about: AboutPart) -> Result<Part, TextError> {
        let open = |path: &Path, bytes: u64| {
            let file = File::open(path).map_err(TextError::cache(path))?;
            let there = file.metadata().map_err(TextError::cache(path))?.len();
            match there == bytes {
                true => Ok(Mutex::new(file)),
                false => {
                    let message = format!("has {there} bytes of {bytes}; remove its folder, and it is made anew");
                    Err(TextError::cache(path)(std::io::Error::other(message)))
                }
            }
        };
        let (path, starts) = names(folder, name);
        let fewest = if shape.pack { about.examples.saturating_sub(1).saturating_mul(shape.length as u64) } else { 0 };
        if about.examples == 0 || fewest >= about.tokens {
            return Err(TextError::cache(&folder.join(ABOUT))(std::io::Error::other(DAMAGED)));
        }
        let tokens = open(&path, about.tokens.saturating_mul(width(wide)))?;
        let starts =
            if shape.pack { None } else { Some(open(&starts, about.examples.saturating_add(1).saturating_mul(8))?) };
        Ok(Part { tokens, starts, path, wide, length: shape.length as u64, about })
    }

    /// Examples in it.
    pub fn examples(&self) -> u64 {
        self.about.examples
    }

    /// Tokens in it.
    pub fn tokens(&self) -> u64 {
        self.about.tokens
    }

    /// Documents in it.
    pub fn documents(&self) -> u64 {
        self.about.documents
    }

    /// The ids of an example.
    ///
    /// # Errors
    /// What the system says when the file is read.
    pub fn example(&self, number: u64) -> Result<Vec<u32>, TextError> {
        self.read(number).map_err(TextError::cache(&self.path))
    }

    fn read(&self, number: u64) -> std::io::Result<Vec<u32>> {
        let [from, to] = match &self.starts {
            None => [number * self.length, ((number + 1) * self.length).min(self.about.tokens)],
            Some(starts) => {
                let mut both = [0; 16];
                read_at(starts, 8 * number, &mut both)?;
                let one = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| both[8 * i + k]));
                [one(0), one(1)]
            }
        };
        if from > to || to > self.about.tokens {
            return Err(std::io::Error::other(DAMAGED));
        }
        let width = width(self.wide);
        let mut bytes = vec![0; ((to - from) * width) as usize];
        read_at(&self.tokens, from * width, &mut bytes)?;
        Ok(match self.wide {
            true => bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            false => bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect(),
        })
    }
}

fn read_at(file: &Mutex<File>, at: u64, into: &mut [u8]) -> std::io::Result<()> {
    let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(into)
}

/// The hash of what each file of tokens holds.
fn hashes(folder: &Path, shape: &Shape) -> Result<BTreeMap<String, String>, TextError> {
    let mut all = BTreeMap::new();
    for part in ["train", "held-out"] {
        let (tokens, starts) = names(folder, part);
        for path in [Some(tokens), (!shape.pack).then_some(starts)].into_iter().flatten() {
            let hash = hash_now(&path).map_err(TextError::cache(&path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.insert(name, blake3::Hash::from(hash).to_hex().to_string());
        }
    }
    Ok(all)
}

fn width(wide: bool) -> u64 {
    if wide { 4 } else { 2 }
}

fn names(folder: &Path, part: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{part}.tokens")), folder.join(format!("{part}.starts")))
}

/// A part under construction.
struct PartWriter<'s> {
    tokens: BufWriter<File>,
    starts: Option<BufWriter<File>>,
    path: PathBuf,
    wide: bool,
    shape: &'s Shape,
    about: AboutPart,
}

impl<'s> PartWriter<'s> {
    fn create(folder: &Path, name: &str, wide: bool, shape: &'s Shape) -> Result<PartWriter<'s>, TextError> {
        let create = |path: &Path| {
            let file = File::create(path).map_err(TextError::cache(path))?;
            Ok::<_, TextError>(BufWriter::with_capacity(1 << 20, file))
        };
        let (path, starts) = names(folder, name);
        let starts = if shape.pack { None } else { Some(create(&starts)?) };
        Ok(PartWriter { tokens: create(&path)?, starts, path, wide, shape, about: AboutPart::default() })
    }

    /// A document; nothing is kept of one without tokens.
    fn add(&mut self, ids: &[u32]) -> Result<(), TextError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.about.documents += 1;
        let whole: Vec<u32> = [&self.shape.before, ids, &self.shape.behind].concat();
        let io = TextError::cache(&self.path);
        if self.shape.pack {
            return self.write(&whole).map_err(io);
        }
        for piece in whole.chunks(self.shape.length).filter(|piece| piece.len() >= self.shape.least) {
            let start = self.about.tokens;
            if let Some(starts) = &mut self.starts {
                starts.write_all(&start.to_le_bytes()).map_err(&io)?;
            }
            self.write(piece).map_err(&io)?;
            self.about.examples += 1;
        }
        Ok(())
    }

    fn write(&mut self, ids: &[u32]) -> std::io::Result<()> {
        self.about.tokens += ids.len() as u64;
        let bytes: Vec<u8> = match self.wide {
            true => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
            false => ids.iter().flat_map(|id| (*id as u16).to_le_bytes()).collect(),
        };
        self.tokens.write_all(&bytes)
    }

    fn finish(mut self) -> Result<AboutPart, TextError> {
        let (length, least) = (self.shape.length as u64, self.shape.least as u64);
        if self.shape.pack {
            let rest = self.about.tokens % length;
            self.about.examples = self.about.tokens / length + u64::from(rest >= least.max(1));
        }
        let io = TextError::cache(&self.path);
        if let Some(mut starts) = self.starts {
            starts.write_all(&self.about.tokens.to_le_bytes()).map_err(&io)?;
            starts.flush().map_err(&io)?;
        }
        self.tokens.flush().map_err(&io)?;
        Ok(self.about)
    }
}

/// A hash of what a file holds, taken once in a process while its size and time stay.
///
/// # Errors
/// What the system says when it is read.
pub fn content_hash(path: &Path) -> std::io::Result<[u8; 32]> {
    type Key = (PathBuf, u64, Option<SystemTime>);
    static KNOWN: Mutex<Option<HashMap<Key, [u8; 32]>>> = Mutex::new(None);
    let about = std::fs::metadata(path)?;
    let key = (path.to_path_buf(), about.len(), about.modified().ok());
    let known = || KNOWN.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(hash) = known().as_ref().and_then(|known| known.get(&key)) {
        return Ok(*hash);
    }
    let hash = hash_now(path)?;
    known().get_or_insert_default().insert(key, hash);
    Ok(hash)
}

fn hash_now(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            n => drop(hasher.update(&bytes[..n])),
        }
    }
}
