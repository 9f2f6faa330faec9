//! A machine that sleeps, and a clock on the wall that is set, for one real program: `clock_shim.c` is preloaded into it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Home;

/// The clocks of the programs that it was preloaded into.
#[derive(Debug)]
pub struct Clocks {
    offsets: File,
    boot: i64,
    wall: i64,
}

impl Clocks {
    /// Compiles the library in this home, and preloads it into a program that is about to be started.
    ///
    /// # Panics
    /// Without a C compiler.
    pub fn preload(home: &Home, command: &mut Command) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/harness/clock_shim.c");
        let (library, file) = (
            home.path().join("clock_shim.so"),
            home.path().join("clocks"),
        );
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .args(["-ldl", "-lpthread"]);
        assert!(compiler.status().expect("there is a C compiler").success());
        let offsets = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&file)
            .expect("a file");
        offsets.write_all_at(&[0; 16], 0).expect("it is written");
        command.env("LD_PRELOAD", library).env("CLOCK_SHIM", file);
        Self {
            offsets,
            boot: 0,
            wall: 0,
        }
    }

    /// Preloads it into another program of the same machine.
    pub fn join(&self, home: &Home, command: &mut Command) {
        command
            .env("LD_PRELOAD", home.path().join("clock_shim.so"))
            .env("CLOCK_SHIM", home.path().join("clocks"));
    }

    /// The machine sleeps.
    pub fn sleep(&mut self, span: Duration) {
        let nanos = i64::try_from(span.as_nanos()).expect("less than centuries");
        self.set(self.boot + nanos, self.wall + nanos);
    }

    /// Somebody sets the clock on the wall.
    pub fn step(&mut self, seconds: i64) {
        self.set(self.boot, self.wall + seconds * 1_000_000_000);
    }

    fn set(&mut self, boot: i64, wall: i64) {
        (self.boot, self.wall) = (boot, wall);
        let bytes: Vec<u8> = [boot, wall]
            .iter()
            .flat_map(|nanos| nanos.to_ne_bytes())
            .collect();
        self.offsets.write_all_at(&bytes, 0).expect("it is written");
    }
}
