//! The programs under test. Cargo builds each from its own package, as a user would, so that no
//! feature of another package is enabled.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[derive(Debug)]
pub struct Programs {
    pub rolekeeper: PathBuf,
    pub rolekeeperd: PathBuf,
    pub sandbox: PathBuf,
}

/// Builds the programs, once per process.
///
/// # Panics
/// If they cannot be built.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();

    PROGRAMS.get_or_init(|| {
        let folder = profile_folder();
        Programs {
            rolekeeper: build("rolekeeper", "rolekeeper", &folder),
            rolekeeperd: build("rolekeeperd", "rolekeeperd", &folder),
            sandbox: build("rolekeeper-tests", "rolekeeper-sandbox", &folder),
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

fn build(package: &str, name: &str, folder: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let target = folder.parent().expect("the target folder");

    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            package,
            "--bin",
            name,
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo starts");
    assert!(status.success(), "{package} does not build");

    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
