//! The system's resolver reads its files through links to any folder, also after they are replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess, programs};

use tempfile::TempDir;

use super::tls_door::{TlsDoor, tls_door};

const HOST: &str = "iam.rolekeeper.test";

/// A home with copies of `/etc` and `/mnt` that the daemon sees in place of these, and an upstream
/// whose name only `hosts` has.
fn home_with_own_etc(sandbox: &SandboxProcess, door: &TlsDoor) -> Home {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let text = fs::read_to_string(home.config_path()).unwrap();
    let endpoint = format!("https://{HOST}:{}", door.address.port());
    home.configure(&text.replace(sandbox.endpoint(), &endpoint));
    let ca = home.private_file("ca.pem", &door.authority);
    home.configure_more(&format!("ca = {ca:?}"), "");

    let etc = home.path().join("etc");
    let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).status();
    assert!(copied.unwrap().success());
    fs::write(etc.join("nsswitch.conf"), "hosts: files\n").unwrap();
    let wsl = home.path().join("mnt/wsl");
    fs::create_dir_all(&wsl).unwrap();
    write_hosts(&wsl);

    home
}

/// A folder with `hosts`, apart from the home, which the daemon may read because of its token.
fn folder_with_hosts() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_hosts(folder.path());
    folder
}

fn write_hosts(folder: &Path) {
    let new = folder.join("hosts.new");
    fs::write(&new, format!("127.0.0.1 {HOST}\n")).unwrap();
    fs::rename(new, folder.join("hosts")).unwrap();
}

fn link_hosts(home: &Home, target: &Path) {
    let link = home.path().join("etc/hosts");
    let _ = fs::remove_file(&link);
    symlink(target, link).unwrap();
}

fn start(home: &Home) -> Daemon<'_> {
    let mut command = home.command(Path::new("/usr/bin/unshare"));
    let script =
        "mount --bind \"$HOME/etc\" /etc && mount --bind \"$HOME/mnt\" /mnt && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(&programs().rolekeeperd);
    home.daemon_from(command)
}

#[test]
#[ignore = "needs root"]
fn hosts_file_is_read_through_a_link() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), HOST);
    let home = home_with_own_etc(&sandbox, &door);
    let vpn = folder_with_hosts();
    link_hosts(&home, &vpn.path().join("hosts"));
    let _daemon = start(&home);
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);

    // As a program that manages the network does it.
    write_hosts(vpn.path());
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);

    // A folder that is known to have such files.
    link_hosts(&home, Path::new("/mnt/wsl/hosts"));
    let run = home.rolekeeper(&["refresh", "dev"]);
    assert_eq!(run.code, 0, "{run:?} {}", _daemon.log());
}

#[test]
#[ignore = "needs root"]
fn certificates_are_read_through_links() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), HOST);
    let home = home_with_own_etc(&sandbox, &door);
    let text = fs::read_to_string(home.config_path()).unwrap();
    let without_ca: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("ca = "))
        .collect();
    home.configure(&(without_ca.join("\n") + "\n"));
    link_hosts(&home, Path::new("/mnt/wsl/hosts"));

    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    fs::write(&authority, &door.authority).unwrap();
    let certificates = home.path().join("etc/ssl/certs");
    let _ = fs::remove_dir_all(&certificates);
    fs::create_dir_all(&certificates).unwrap();
    symlink(authority, certificates.join("ca-certificates.crt")).unwrap();

    let _daemon = start(&home);
    let run = home.rolekeeper(&["refresh", "dev"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
#[ignore = "needs root"]
fn unreadable_hosts_file_is_named_with_its_target() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), HOST);
    let home = home_with_own_etc(&sandbox, &door);
    let daemon = start(&home);
    let folder = folder_with_hosts();
    let later = folder.path().join("hosts");
    link_hosts(&home, &later);

    let run = home.rolekeeper(&["refresh", "dev"]);
    let problem = format!(
        "rolekeeperd cannot read /etc/hosts, which links to {}",
        later.display()
    );
    let remedy = "restart rolekeeperd";
    assert!(
        run.code == 7 && run.stderr.contains(&problem) && run.stderr.contains(remedy),
        "{run:?}"
    );
    let status = home.rolekeeper(&["status"]);
    assert!(status.stdout.contains(&problem), "{status:?}");
    drop(daemon);

    let _daemon = start(&home);
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    assert!(!home.rolekeeper(&["status"]).stdout.contains("cannot read"));
}
