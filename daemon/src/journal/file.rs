//! The journal's file: one JSON object a line. Each line opens the file again, so that it goes to where the path leads,
//! also after the file was moved.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::record::Record;
use super::retention::{Owner, retained};
use crate::platform::private_file;

/// The number of records that a rotation leaves. The file rotates when it has twice as many.
pub(super) const RETAINED: usize = 10_000;
/// The size at which the file rotates, in bytes: records with many processes and long paths are long.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The size that a rotation leaves at most, in bytes.
const RETAINED_BYTES: usize = MAX_BYTES / 2;
/// A shorter line counts as this many bytes, so that both limits are one.
const SHORT_LINE: usize = RETAINED_BYTES / RETAINED;
/// The size up to which a file is read, in bytes. The daemon writes smaller ones.
const READ_LIMIT: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    lines: usize,
    bytes: usize,
    /// The last line may be incomplete.
    is_torn: bool,
}

impl JournalFile {
    /// Opens the file, or creates it, and passes its records to `found`. Lines that are no records stay in the file.
    pub(super) fn open(path: &Path, mut found: impl FnMut(Record)) -> io::Result<Self> {
        let mut file = Self {
            path: path.into(),
            lines: 0,
            bytes: 0,
            is_torn: true,
        };

        for line in read_lines(path)? {
            let line = line?;
            file.lines += 1;
            file.bytes += line.len() + 1;
            if let Ok(record) = serde_json::from_slice(&line) {
                found(record);
            }
        }

        if file.lines == 0 {
            // Creates it, so that an error shows now and not at the first record.
            private_file::writable().append(true).open(path)?;
        }

        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.lines >= 2 * RETAINED || self.bytes >= MAX_BYTES {
            self.rotate()?;
        }

        if self.is_torn {
            self.end_torn_line()?;
        }

        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');

        self.is_torn = true;
        private_file::writable()
            .append(true)
            .open(&self.path)?
            .write_all(&line)?;
        self.is_torn = false;

        self.lines += 1;
        self.bytes += line.len();

        Ok(())
    }

    /// Makes an incomplete last line a line of its own.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let mut file = private_file::writable()
            .read(true)
            .append(true)
            .open(&self.path)?;
        if file.seek(SeekFrom::End(0))? > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }

        self.is_torn = false;

        Ok(())
    }

    /// Replaces the file by the newest lines of each user, in one step.
    fn rotate(&mut self) -> io::Result<()> {
        let lines: Vec<_> = read_lines(&self.path)?.collect::<Result<_, _>>()?;
        let sizes: Vec<_> = lines.iter().map(|line| (owner(line), size(line))).collect();
        let retained = retained(&sizes, SHORT_LINE * RETAINED);

        let mut text = Vec::new();
        self.lines = 0;
        for (line, _) in lines.iter().zip(&retained).filter(|(_, kept)| **kept) {
            text.extend_from_slice(line);
            text.push(b'\n');
            self.lines += 1;
        }

        private_file::replace(&self.path, &text)?;

        self.bytes = text.len();
        self.is_torn = false;
        log_dropped(&sizes, &retained);

        Ok(())
    }
}

/// One line for each rotation, and so for each 10,000 records at most.
fn log_dropped(sizes: &[(Owner, usize)], retained: &[bool]) {
    let mut dropped: BTreeMap<Owner, usize> = BTreeMap::new();
    for ((owner, _), _) in sizes.iter().zip(retained).filter(|(_, kept)| !**kept) {
        *dropped.entry(*owner).or_default() += 1;
    }

    let records: usize = dropped.values().sum();
    if let Some((user, most)) = dropped.into_iter().max_by_key(|(_, count)| *count) {
        tracing::warn!(
            records,
            ?user,
            of_this_user = most,
            "the journal is full: dropped its oldest records"
        );
    }
}

/// The user of a line.
fn owner(line: &[u8]) -> Owner {
    #[derive(Deserialize)]
    struct Line {
        uid: Owner,
    }

    serde_json::from_slice::<Line>(line).ok()?.uid
}

/// What a line counts in a rotation, in bytes.
fn size(line: &[u8]) -> usize {
    (line.len() + 1).max(SHORT_LINE)
}

/// The lines of a file, without their ends. A missing file has none.
fn read_lines(path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<Vec<u8>>>>> {
    // Opening a pipe blocks until it has a writer.
    if path.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }

    match File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::new(file.take(READ_LIMIT)).split(b'\n'))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, messages: std::ops::Range<usize>) {
        let mut file = JournalFile::open(path, drop).unwrap();
        for number in messages {
            file.append(&Record::refused(&number.to_string())).unwrap();
        }
    }

    /// The messages of all records.
    fn messages(path: &Path) -> Vec<String> {
        let mut messages = Vec::new();
        JournalFile::open(path, |record| match record {
            Record::Refused { message, .. } => messages.push(message),
            other => panic!("{other:?}"),
        })
        .unwrap();
        messages
    }

    fn line_count(path: &Path) -> usize {
        std::fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn torn_line_stays_and_breaks_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        append(&path, 0..3);
        private_file::writable()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"type\":\"refu")
            .unwrap();

        append(&path, 3..5);
        assert_eq!(messages(&path), ["0", "1", "2", "3", "4"]);
        assert_eq!(line_count(&path), 6);
    }

    #[test]
    fn append_recreates_a_deleted_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut file = JournalFile::open(&path, drop).unwrap();
        file.append(&Record::refused("0")).unwrap();

        std::fs::remove_file(&path).unwrap();
        file.append(&Record::refused("1")).unwrap();
        assert_eq!(messages(&path), ["1"]);
    }

    #[test]
    fn rotation_retains_the_newest_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        append(&path, 0..2 * RETAINED + 5);

        let messages = messages(&path);
        assert_eq!(messages.len(), RETAINED + 5);
        assert_eq!(messages[0], RETAINED.to_string());
        assert_eq!(messages[RETAINED + 4], (2 * RETAINED + 4).to_string());
    }

    /// The attack: another user has as many records written as it takes.
    #[test]
    fn rotation_retains_the_records_of_other_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut file = JournalFile::open(&path, drop).unwrap();
        let mut append = |uid, message: &str| {
            let mut record = Record::refused(message);
            record.caller_mut().unwrap().uid = uid;
            file.append(&record).unwrap();
        };

        append(1, "first");
        for _ in 0..5 * RETAINED {
            append(2, "x");
        }

        assert_eq!(messages(&path)[0], "first");
    }

    #[test]
    fn long_records_rotate_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let long = Record::refused(&"x".repeat(100_000));
        let mut file = JournalFile::open(&path, drop).unwrap();
        for _ in 0..1_000 {
            file.append(&long).unwrap();
        }

        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes <= (MAX_BYTES + 200_000) as u64, "{bytes}");
        assert!(line_count(&path) > 100);
    }

    #[test]
    fn symlinks_pipes_and_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "target").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let pipe = dir.path().join("pipe");
        let mkfifo = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(mkfifo.unwrap().success());

        for path in [link.as_path(), pipe.as_path(), dir.path()] {
            let error = JournalFile::open(path, drop).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "target");
    }
}
