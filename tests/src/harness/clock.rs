//! Suspend and clock steps for one real program, by preloading `clock_shim.c`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Home;

/// The clocks of the programs with the preloaded library. Offsets in nanoseconds.
#[derive(Debug)]
pub struct Clocks {
    offsets: File,
    boot: i64,
    wall: i64,
}

impl Clocks {
    /// Compiles the library in this home, and preloads it into a command.
    ///
    /// # Panics
    /// Without a C compiler.
    pub fn preload(home: &Home, command: &mut Command) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/harness/clock_shim.c");
        let status = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(library_path(home))
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(status.expect("a C compiler").success());

        let offsets = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(offsets_path(home))
            .expect("a file");
        let mut clocks = Self {
            offsets,
            boot: 0,
            wall: 0,
        };
        clocks.set(0, 0);
        clocks.join(home, command);

        clocks
    }

    /// Preloads the library into another command. Its program has the same clocks.
    pub fn join(&self, home: &Home, command: &mut Command) {
        command
            .env("LD_PRELOAD", library_path(home))
            .env("CLOCK_SHIM", offsets_path(home));
    }

    /// Suspends the machine: boot time and wall time advance, monotonic time does not.
    pub fn sleep(&mut self, span: Duration) {
        let nanos = i64::try_from(span.as_nanos()).expect("less than 292 years");
        self.set(self.boot + nanos, self.wall + nanos);
    }

    /// Steps the wall clock.
    pub fn step(&mut self, seconds: i64) {
        self.set(self.boot, self.wall + seconds * 1_000_000_000);
    }

    fn set(&mut self, boot: i64, wall: i64) {
        self.boot = boot;
        self.wall = wall;

        let bytes = [boot.to_ne_bytes(), wall.to_ne_bytes()].concat();
        self.offsets
            .write_all_at(&bytes, 0)
            .expect("the offsets are written");
    }
}

fn library_path(home: &Home) -> PathBuf {
    home.path().join("clock_shim.so")
}

fn offsets_path(home: &Home) -> PathBuf {
    home.path().join("clocks")
}
