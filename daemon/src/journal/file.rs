//! The file: a line of JSON for each record, each with its number and the hash of the line before it, so that one which is
//! changed, taken out or put in shows. It is opened for each line, so that a line goes to where the path leads.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::platform::private_file;
use crate::platform::random::hex;

/// How many records are kept: after twice as many the file begins anew with these.
pub(super) const KEPT: usize = 10_000;
/// The longest that a file gets, in bytes, and what is kept of it then: lines with long paths of many processes are long.
const LONGEST: usize = 32 * 1024 * 1024;
const KEPT_BYTES: usize = LONGEST / 2;
/// The most that is read of a file, in bytes: more than it ever has.
const FILE_CAP: u64 = 64 * 1024 * 1024;
/// The most problems that are told of.
const PROBLEMS: usize = 20;

/// A record as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Line<R> {
    /// From 1, for as long as the file is there.
    n: u64,
    /// The SHA-256 of the line before, without its end, in hexadecimal digits; empty if there is none.
    after: String,
    #[serde(flatten)]
    record: R,
}

/// What a line has beside its record.
#[derive(Deserialize)]
struct Link {
    n: u64,
    after: String,
}

/// Where the chain ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    n: u64,
    hash: String,
}

#[derive(Debug)]
pub(super) struct Chain {
    path: PathBuf,
    lines: usize,
    bytes: usize,
    head: Head,
    /// A line may have been written in part.
    is_torn: bool,
    /// The end was not what this process wrote last, when it went on behind it.
    was_changed: bool,
}

/// What came of looking through a file.
#[derive(Debug, Default)]
pub struct Verified {
    pub lines: usize,
    /// The numbers of its first and last record.
    pub first: u64,
    pub last: u64,
    pub problems: Vec<String>,
    /// Of its last line.
    hash: String,
}

fn hash(line: &[u8]) -> String {
    hex(digest(&SHA256, line).as_ref())
}

impl Chain {
    /// Goes on behind what is in the file, whatever that is, and hands out the records that are.
    pub(super) fn open(path: &Path, mut found: impl FnMut(Record)) -> io::Result<Self> {
        let (mut chain, mut last) = (
            Self {
                path: path.into(),
                lines: 0,
                bytes: 0,
                head: Head::default(),
                is_torn: false,
                was_changed: false,
            },
            Vec::new(),
        );
        for line in lines(path)? {
            let line = line?;
            chain.lines += 1;
            chain.bytes += line.len() + 1;
            // What is a record, if something in the file is, is one whatever is wrong with the chain.
            if let Ok(Line { n, record, .. }) = serde_json::from_slice::<Line<Record>>(&line) {
                chain.head.n = chain.head.n.max(n);
                found(record);
            } else if let Ok(record) = serde_json::from_slice(&line) {
                found(record);
            }
            last = line;
        }
        if chain.lines > 0 {
            chain.head.hash = hash(&last);
            chain.is_torn = true;
        } else {
            // It can be written, or that is known from the start.
            private_file::writable().append(true).open(path)?;
        }
        Ok(chain)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn add(&mut self, record: &Record) -> io::Result<()> {
        if self.lines >= 2 * KEPT || self.bytes >= LONGEST {
            self.begin_anew()?;
        }
        if self.is_torn {
            self.mend()?;
        }
        let line = serde_json::to_vec(&Line {
            n: self.head.n + 1,
            after: self.head.hash.clone(),
            record,
        })?;
        let mut text = line.clone();
        text.push(b'\n');
        // Until it is known that all of it is there.
        self.is_torn = true;
        private_file::writable()
            .append(true)
            .open(&self.path)?
            .write_all(&text)?;
        self.is_torn = false;
        self.lines += 1;
        self.bytes += text.len();
        self.head = Head {
            n: self.head.n + 1,
            hash: hash(&line),
        };
        Ok(())
    }

    /// Ends a line that was written in part, and goes on behind it: what is there stays.
    fn mend(&mut self) -> io::Result<()> {
        let mut file = private_file::writable()
            .read(true)
            .append(true)
            .open(&self.path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut end = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut end)?;
        }
        if end != *b"\n" {
            file.write_all(b"\n")?;
        }
        (self.lines, self.bytes) = (0, 0);
        let mut ends = [String::new(), String::new()];
        for line in lines(&self.path)? {
            let line = line?;
            self.lines += 1;
            self.bytes += line.len() + 1;
            ends.swap(0, 1);
            ends[1] = hash(&line);
        }
        // What was written in part is a line of its own, behind the last that was whole.
        self.was_changed |= !ends.contains(&self.head.hash);
        let [_, end] = ends;
        self.head.hash = end;
        self.is_torn = false;
        Ok(())
    }

    /// The last lines as they stand, in place of all of them at once.
    fn begin_anew(&mut self) -> io::Result<()> {
        let all: Vec<_> = lines(&self.path)?.collect::<Result<_, _>>()?;
        let mut room = KEPT_BYTES;
        let fits = |line: &&Vec<u8>| {
            room.checked_sub(line.len() + 1).is_some_and(|left| {
                room = left;
                true
            })
        };
        let count = all.iter().rev().take(KEPT).take_while(fits).count();
        let kept = all.get(all.len() - count..).unwrap_or(&all);
        let mut text = kept.join(&b'\n');
        text.push(b'\n');
        private_file::replace(&self.path, &text)?;
        (self.lines, self.bytes) = (kept.len(), text.len());
        Ok(())
    }

    /// Looks through the file as it is now. What this process wrote last has to be at its end.
    pub(super) fn verify(&self) -> io::Result<Verified> {
        let mut verified = verify(lines(&self.path)?)?;
        if self.was_changed {
            verified
                .problems
                .push("its end was changed while it could not be written".into());
        }
        if self.head.n > 0 && verified.last != self.head.n {
            let (last, want) = (verified.last, self.head.n);
            verified.problems.push(format!(
                "it ends with record {last}, and record {want} was written"
            ));
        } else if self.head.n > 0 && !self.is_torn && verified.hash != self.head.hash {
            verified
                .problems
                .push("its end is not what was written last".into());
        }
        Ok(verified)
    }
}

/// The lines of a file, without their ends. None, if there is no file.
fn lines(path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<Vec<u8>>>>> {
    // Opening a pipe would wait for its writer.
    if path.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a file",
        ));
    }
    match File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::new(file.take(FILE_CAP)).split(b'\n'))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(error) => Err(error),
    }
}

fn verify(lines: impl Iterator<Item = io::Result<Vec<u8>>>) -> io::Result<Verified> {
    let mut verified = Verified::default();
    let mut before: Option<String> = None;
    let (mut bytes, mut numbered) = (0, 0);
    for line in lines {
        let line = line?;
        verified.lines += 1;
        bytes += line.len() + 1;
        if let Ok(Link { n, after }) = serde_json::from_slice(&line) {
            let problem = match &before {
                _ if verified.last != 0 && n != verified.last + 1 => {
                    Some(format!("record {n} comes after record {}", verified.last))
                }
                Some(before) if after != *before => Some(format!(
                    "what comes before record {n} was changed, or taken out"
                )),
                _ => None,
            };
            let at = verified.lines;
            verified
                .problems
                .extend(problem.map(|problem| format!("line {at}: {problem}")));
            if verified.first == 0 {
                verified.first = n;
            }
            verified.last = n;
            numbered += 1;
        } else if verified.first > 0
            && serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok()
        {
            // What was written in part is no JSON.
            verified.problems.push(format!(
                "line {} was not written by rolekeeperd",
                verified.lines
            ));
        }
        before = Some(hash(&line));
    }
    // A file begins anew with as many lines as are kept; with fewer, somebody else has taken some away.
    if verified.first > 1 && numbered < KEPT && bytes < KEPT_BYTES / 2 {
        let first = verified.first;
        verified.problems.push(format!(
            "it begins with record {first}, and has too few for having been begun anew"
        ));
    }
    verified.problems.truncate(PROBLEMS);
    verified.hash = before.unwrap_or_default();
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Event, What};

    fn record(number: u64) -> Record {
        let event = Event {
            message: Some(format!("number {number}")),
            ..Event::example(What::Refused)
        };
        Record::Event(event)
    }

    fn written(path: &Path, count: u64) -> Chain {
        let mut chain = Chain::open(path, drop).unwrap();
        (0..count).for_each(|number| chain.add(&record(number)).unwrap());
        chain
    }

    fn problems(chain: &Chain) -> Vec<String> {
        chain.verify().unwrap().problems
    }

    #[test]
    fn a_line_that_was_changed_taken_out_or_put_in_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let chain = written(&path, 10);
        assert_eq!(problems(&chain), [""; 0]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let with = |lines: &[&str]| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            problems(&chain)
        };
        let changed = lines[3].replace("number 3", "number 7");
        let mut one = lines.clone();
        one[3] = &changed;
        assert_eq!(
            with(&one),
            ["line 5: what comes before record 5 was changed, or taken out"]
        );
        one.remove(3);
        assert_eq!(with(&one), ["line 4: record 5 comes after record 3"]);
        let mut more = lines.clone();
        more.insert(5, "{}");
        assert_eq!(
            with(&more),
            [
                "line 6 was not written by rolekeeperd",
                "line 7: what comes before record 6 was changed, or taken out"
            ]
        );
        assert_eq!(
            with(&lines[..7]),
            ["it ends with record 7, and record 10 was written"]
        );
        assert_eq!(
            with(&lines[4..]),
            ["it begins with record 5, and has too few for having been begun anew"]
        );
        let last = lines[9].replace("number 9", "number 1");
        let mut end = lines.clone();
        end[9] = &last;
        assert_eq!(with(&end), ["its end is not what was written last"]);
        let mut longer = lines.clone();
        longer.push("{\"x\":1}");
        assert_eq!(
            with(&longer),
            [
                "line 11 was not written by rolekeeperd",
                "its end is not what was written last"
            ]
        );
        let mut padded = lines[4..].to_vec();
        padded.extend([""; KEPT]);
        assert!(
            with(&padded)
                .iter()
                .any(|problem| problem.contains("has too few"))
        );
        // All of it anew, with hashes that fit.
        std::fs::remove_file(&path).unwrap();
        let mut forged = Chain::open(&path, drop).unwrap();
        (10..20).for_each(|number| forged.add(&record(number)).unwrap());
        assert_eq!(problems(&chain), ["its end is not what was written last"]);
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        assert!(with(&swapped).len() >= 2);
        assert!(with(&[]).contains(&"it ends with record 0, and record 10 was written".to_owned()));
        assert_eq!(with(&lines), [""; 0]);
    }

    #[test]
    fn a_line_that_was_torn_off_stays_and_breaks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(written(&path, 3));
        private_file::writable()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"n\":4,\"aft")
            .unwrap();
        let chain = written(&path, 2);
        let verified = chain.verify().unwrap();
        assert_eq!((verified.lines, verified.last), (6, 5));
        assert_eq!(verified.problems, [""; 0]);
        let mut count = 0;
        Chain::open(&path, |_| count += 1).unwrap();
        assert_eq!(count, 5);
    }

    #[test]
    fn what_earlier_versions_wrote_is_read_and_gone_on_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let old = "{\"at\":\"2026-01-01T00:00:00.000Z\",\"session_id\":\"s-1\",\"principal\":\"user/u\",\
                   \"profile\":\"dev\",\"uid\":7,\"processes\":[]}\n";
        private_file::writable()
            .open(&path)
            .unwrap()
            .write_all(old.repeat(2).as_bytes())
            .unwrap();
        let mut found = Vec::new();
        let mut chain = Chain::open(&path, |record| found.push(record)).unwrap();
        assert!(
            matches!(&found[..], [Record::Issuance(one), Record::Issuance(_)] if one.session_id == "s-1")
        );
        chain.add(&record(0)).unwrap();
        let verified = chain.verify().unwrap();
        assert_eq!(
            (verified.lines, verified.first, verified.problems.len()),
            (3, 1, 0)
        );
    }

    #[test]
    fn the_file_does_not_grow_for_ever_and_its_beginning_is_none_of_anybodys_doing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let chain = written(&path, 2 * KEPT as u64 + 5);
        let verified = chain.verify().unwrap();
        assert_eq!(
            (verified.lines, verified.first, verified.last),
            (KEPT + 5, KEPT as u64 + 1, 2 * KEPT as u64 + 5)
        );
        assert_eq!(verified.problems, [""; 0]);
    }

    #[test]
    fn long_lines_are_fewer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut chain = Chain::open(&path, drop).unwrap();
        let long = Record::Event(Event {
            message: Some("x".repeat(100_000)),
            ..Event::example(What::Refused)
        });
        (0..1_000).for_each(|_| chain.add(&long).unwrap());
        assert!(std::fs::metadata(&path).unwrap().len() <= (LONGEST + 200_000) as u64);
        let verified = chain.verify().unwrap();
        assert_eq!((verified.last, verified.problems), (1_000, vec![]));
        assert!(verified.first > 1 && verified.lines < KEPT);
    }

    #[test]
    fn links_and_pipes_are_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("journal"), dir.path().join("precious"));
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(
            Chain::open(&path, drop)
                .unwrap_err()
                .to_string()
                .contains("it is not a file")
        );
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        let pipe = dir.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        for path in [pipe.as_path(), dir.path()] {
            assert!(
                Chain::open(path, drop)
                    .unwrap_err()
                    .to_string()
                    .contains("it is not a file")
            );
        }
    }
}
