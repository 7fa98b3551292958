//! TensorBoard's event files: records of protobuf messages with masked CRC-32C checksums, scalars only.
//!
//! A run that goes on writes a file of its own, which begins with `session_log { status: START }` at its first step: a
//! reader drops what earlier files say of that step and later ones, so that every step is there once.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// An event file under construction.
pub struct EventWriter {
    file: File,
}

/// What the files' names begin with; the second of the begin follows.
const PREFIX: &str = "events.out.tfevents.";

/// A record's checksum as TensorFlow masks it.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Field of length-delimited bytes.
fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

fn event(time: f64, step: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(time.to_le_bytes());
    varint(2 << 3, &mut out);
    varint(step, &mut out);
    out
}

impl EventWriter {
    /// Starts a new file in a folder, for step `first` and those after it; behind all that are there, which readers
    /// take in the order of their names.
    pub fn create(folder: &Path, first: u64) -> std::io::Result<EventWriter> {
        let time = now();
        let earlier = std::fs::read_dir(folder)?.flatten().filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok()
        });
        let newest = earlier.max();
        // Two attempts of one second, or of hosts whose clocks differ.
        let number = newest.map_or(time as u64, |newest| (newest + 1).max(time as u64));
        let name = format!("{PREFIX}{number}.{}.lowland", std::process::id());
        let mut writer = EventWriter { file: File::create(folder.join(name))? };
        let mut version = event(time, 0);
        field(3, b"brain.Event:2", &mut version);
        writer.record(&version)?;
        if newest.is_some() {
            let mut start = event(time, first);
            field(7, &[1 << 3, 1], &mut start);
            writer.record(&start)?;
        }
        Ok(writer)
    }

    /// Adds scalars of a step.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> std::io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut one = Vec::new();
            field(1, tag.as_bytes(), &mut one);
            one.push(2 << 3 | 5);
            one.extend((*value as f32).to_le_bytes());
            field(1, &one, &mut summary);
        }
        let mut whole = event(now(), step);
        field(5, &summary, &mut whole);
        self.record(&whole)
    }

    fn record(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let mut out = Vec::with_capacity(bytes.len() + 16);
        out.extend(length);
        out.extend(masked_crc(&length).to_le_bytes());
        out.extend(bytes);
        out.extend(masked_crc(bytes).to_le_bytes());
        self.file.write_all(&out)
    }
}

fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of an event file, their checksums compared.
    fn records(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        let mut at = 0;
        let mut records = Vec::new();
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!(masked_crc(&bytes[at..at + 8]).to_le_bytes(), bytes[at + 8..at + 12]);
            assert_eq!(masked_crc(data).to_le_bytes(), bytes[at + 12 + length..at + 16 + length]);
            records.push(data.to_vec());
            at += 16 + length;
        }
        records
    }

    fn files(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn records_have_the_layout_that_tensorboard_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 0).unwrap();
        writer.scalars(300, &[("loss", 1.5)]).unwrap();
        let records = records(&files(folder.path())[0]);
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"brain.Event:2"));
        // step 300 as a varint in field 2, then summary { value { tag: "loss" simple_value: 1.5 } }
        let expected =
            [&[0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4][..], b"loss", &[0x15], &1.5f32.to_le_bytes()].concat();
        assert_eq!(records[1][9..], expected);
    }

    #[test]
    fn a_later_file_starts_a_session_and_comes_behind_the_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        // Of a host whose clock is an hour ahead.
        let ahead = now() as u64 + 3600;
        let first = folder.path().join(format!("events.out.tfevents.{ahead}.9.lowland"));
        std::fs::write(&first, []).unwrap();
        for step in [301, 11] {
            drop(EventWriter::create(folder.path(), step).unwrap());
        }
        let files = files(folder.path());
        assert_eq!(files[0], first);
        for (file, step) in files[1..].iter().zip([&[0xad, 0x02][..], &[11]]) {
            let records = records(file);
            assert!(records.len() == 2 && records[0].ends_with(b"brain.Event:2"));
            // The step in field 2, then session_log { status: START }.
            assert_eq!(records[1][9..], [&[0x10], step, &[0x3a, 2, 0x08, 1]].concat());
        }
    }

    /// CRC-32C of 32 zero bytes, from RFC 3720 B.4.
    #[test]
    fn checksum_is_crc32c() {
        assert_eq!(crc32c::crc32c(&[0u8; 32]), 0x8a91_36aa);
    }
}
