//! The fuzz targets as ordinary tests: each runs over its corpus, and over mutations of it that a fixed seed decides.
//! `tests/run --long` fuzzes them with libFuzzer.

#[allow(unreachable_pub, reason = "it is the library of the fuzz targets")]
#[path = "src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rolekeeper_tests::harness::short_or_long;

#[test]
fn configuration() {
    replay("configuration", targets::configuration::run);
}

#[test]
fn crn_patterns() {
    replay("crn_patterns", targets::crn_patterns::run);
}

#[test]
fn frames() {
    replay("frames", targets::frames::run);
}

#[test]
fn policy_documents() {
    replay("policy_documents", targets::policy_documents::run);
}

#[test]
fn upstream_replies() {
    replay("upstream_replies", targets::upstream_replies::run);
}

#[test]
fn every_target_has_a_corpus_and_a_test() {
    let names = |folder: &str| -> BTreeSet<String> {
        let files = files(&here().join(folder));
        let stem = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into();
        files.iter().map(stem).collect()
    };
    assert_eq!(names("targets"), names("corpus"));

    let tests = include_str!("replay.rs");
    for name in names("targets") {
        assert!(tests.contains(&format!("replay(\"{name}\", ")), "{name}");
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What is in a folder, sorted, so that a seed means the same everywhere.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn replay(target: &str, run: fn(&[u8])) {
    let corpus: Vec<Vec<u8>> = files(&here().join("corpus").join(target))
        .iter()
        .map(|path| fs::read(path).expect("it can be read"))
        .collect();
    assert!(!corpus.is_empty());
    for input in &corpus {
        run_on(input, run);
    }

    let mut rng = Rng::with_seed(1);
    for _ in 0..short_or_long(10_000, 300_000) {
        run_on(&mutated(&corpus, &mut rng), run);
    }
}

/// Prints the input if the target panics.
fn run_on(input: &[u8], run: fn(&[u8])) {
    struct Input<'a>(&'a [u8]);

    impl Drop for Input<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input: b\"{}\"", self.0.escape_ascii());
            }
        }
    }

    let _input = Input(input);
    run(input);
}

/// An input of the corpus after one to four changes.
fn mutated(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    for _ in 0..rng.usize(1..=4) {
        let start = rng.usize(..=input.len());
        let end = rng.usize(start..=input.len().min(start + 16));
        match rng.u8(0..5) {
            0 if start < input.len() => input[start] ^= 1 << rng.u8(0..8),
            1 => input.insert(start, rng.u8(..)),
            2 => drop(input.drain(start..end)),
            3 => {
                let repeated = input[start..end].to_vec();
                input.splice(end..end, repeated);
            }
            _ => {
                let other = &corpus[rng.usize(..corpus.len())];
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len().min(from + 64));
                input.splice(start..end, other[from..to].iter().copied());
            }
        }
    }
    input
}
