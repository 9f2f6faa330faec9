//! The programs under test. `tests/run` builds them once for all tests; otherwise cargo builds them here, with the features
//! of the whole workspace, so that it builds no dependency twice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[derive(Debug)]
pub struct Programs {
    pub rolekeeper: PathBuf,
    pub rolekeeperd: PathBuf,
    pub sandbox: PathBuf,
}

/// The programs of `ROLEKEEPER_TEST_PROGRAMS`, a folder, or of the folder that this program was built in: those are built
/// first, once in a process.
///
/// # Panics
/// If they cannot be built.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let built = std::env::var_os("ROLEKEEPER_TEST_PROGRAMS").map(PathBuf::from);
        let folder = built.unwrap_or_else(|| {
            let folder = profile_folder();
            build(&folder);
            folder
        });
        let program = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));

        Programs {
            rolekeeper: program("rolekeeper"),
            rolekeeperd: program("rolekeeperd"),
            sandbox: program("rolekeeper-sandbox"),
        }
    })
}

/// `target/debug` or `target/release`: the folder of the running program.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let folder = program.parent().expect("a folder");

    if folder.ends_with("deps") {
        folder.parent().expect("a folder").into()
    } else {
        folder.into()
    }
}

fn build(folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let target = folder.parent().expect("the target folder");

    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--workspace", "--bins"]);
    command
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target);
    if folder.ends_with("release") {
        command.arg("--release");
    }

    let status = command.status().expect("cargo starts");
    assert!(status.success(), "the programs do not build");
}
