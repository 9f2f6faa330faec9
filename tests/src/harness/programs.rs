//! The programs under test, built by cargo as a user would build them: each from its own package, so that no feature of
//! another one slips in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[derive(Debug)]
pub struct Programs {
    pub rolekeeper: PathBuf,
    pub rolekeeperd: PathBuf,
    pub sandbox: PathBuf,
}

/// Builds the programs, once in a process.
///
/// # Panics
/// When they cannot be built.
pub fn programs() -> &'static Programs {
    static BUILT: OnceLock<Programs> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = profile_folder();
        for (package, bin) in [
            ("rolekeeper", "rolekeeper"),
            ("rolekeeperd", "rolekeeperd"),
            ("rolekeeper-tests", "rolekeeper-sandbox"),
        ] {
            build(package, bin, &folder);
        }
        let program = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        Programs {
            rolekeeper: program("rolekeeper"),
            rolekeeperd: program("rolekeeperd"),
            sandbox: program("rolekeeper-sandbox"),
        }
    })
}

/// `target/debug` or `target/release`: where this program itself was built.
fn profile_folder() -> PathBuf {
    let me = std::env::current_exe().expect("this program has a path");
    let folder = me.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps lies in a folder").into()
    } else {
        folder.into()
    }
}

fn build(package: &str, bin: &str, folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        package,
        "--bin",
        bin,
    ]);
    command
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    command.arg("--target-dir").arg(
        folder
            .parent()
            .expect("a profile lies in the target folder"),
    );
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be run");
    assert!(status.success(), "{package} does not build");
}
