//! Probes from inside the sandbox. It confines a thread for good, and no other thread.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use super::*;

/// Runs probes in a thread of their own, first free and then confined to a folder.
fn probe<T: Send>(folder: &Path, probes: impl Fn() -> T + Sync) -> (T, T) {
    let paths = AllowedPaths {
        read: vec![
            "/etc".into(),
            "/usr".into(),
            "/lib".into(),
            "/lib64".into(),
            "/proc".into(),
        ],
        write: vec![folder.to_owned()],
        execute: Vec::new(),
    };

    let free = probes();
    let confined = thread::scope(|scope| {
        let confined = scope.spawn(|| {
            restrict_files(&paths).unwrap();
            filter_system_calls().unwrap();
            probes()
        });
        confined.join().unwrap()
    });

    (free, confined)
}

#[test]
fn landlock_allows_only_paths_of_the_work() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&inside, &outside] {
        fs::write(folder.path().join("file"), "text").unwrap();
    }

    let kind = |outcome: std::io::Result<()>| outcome.err().map(|error| error.kind());
    let probes = || {
        let of = |folder: &Path| {
            [
                kind(fs::read(folder.join("file")).map(drop)),
                kind(
                    fs::OpenOptions::new()
                        .append(true)
                        .open(folder.join("file"))
                        .and_then(|mut file| file.write_all(b"x")),
                ),
                kind(fs::write(folder.join("new"), "text")),
                kind(fs::remove_file(folder.join("new"))),
                kind(fs::read_dir(folder).map(drop)),
            ]
        };
        let program = kind(Command::new("/usr/bin/env").arg("true").status().map(drop));
        let overwrite = kind(
            fs::OpenOptions::new()
                .append(true)
                .open("/etc/hostname")
                .map(drop),
        );
        (of(inside.path()), of(outside.path()), program, overwrite)
    };

    let (free, confined) = probe(inside.path(), probes);
    let denied = Some(ErrorKind::PermissionDenied);
    assert_eq!((free.0, free.1, free.2), ([None; 5], [None; 5], None));
    assert_eq!(confined.0, [None; 5], "the work goes on");
    let missing = Some(ErrorKind::NotFound);
    assert_eq!(confined.1[..3], [denied; 3]);
    assert!(
        confined.1[3] == denied || confined.1[3] == missing,
        "{confined:?}"
    );

    assert_eq!(
        (confined.1[4], confined.2, confined.3),
        (denied, denied, denied)
    );
}

/// A program that no rule allows, started from memory as a reload does.
fn cat_from_memory(file: &Path) -> std::io::Result<bool> {
    let flags = rustix::fs::MemfdFlags::EXEC;
    let mut copy = fs::File::from(rustix::fs::memfd_create("cat", flags)?);
    std::io::copy(&mut fs::File::open("/bin/cat")?, &mut copy)?;
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let read_only = fs::File::open(path)?;
    drop(copy);

    let path = format!("/proc/self/fd/{}", read_only.as_raw_fd());
    let status = Command::new(path)
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

#[test]
fn started_program_is_confined_as_the_daemon_is() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&inside, &outside] {
        fs::write(folder.path().join("file"), "text").unwrap();
    }

    let probes =
        || [&inside, &outside].map(|folder| cat_from_memory(&folder.path().join("file")).unwrap());
    let (free, confined) = probe(inside.path(), probes);
    assert_eq!(free, [true, true]);
    assert_eq!(confined, [true, false], "it starts, and reads no more");
}

#[test]
fn confinement_survives_many_reloads() {
    let outside = tempfile::tempdir().unwrap();
    let paths = AllowedPaths {
        read: vec!["/usr".into()],
        write: Vec::new(),
        execute: Vec::new(),
    };

    thread::scope(|scope| {
        let often = || {
            // The kernel allows 16 Landlock layers, and fewer than 200 of these filters.
            (0..20).for_each(|_| restrict_files(&paths).unwrap());
            (0..200).for_each(|_| filter_system_calls().unwrap());
            let socket = rustix::net::socket(AddressFamily::VSOCK, SocketType::STREAM, None);
            (fs::read_dir(outside.path()).is_err(), socket.err())
        };
        assert_eq!(
            scope.spawn(often).join().unwrap(),
            (true, Some(Errno::PERM))
        );
    });
}

#[test]
#[allow(unsafe_code, reason = "there are no safe functions for these calls")]
fn seccomp_denies_other_processes_and_system_calls() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = i64::from(child.id());
    let probes = || {
        // SAFETY: none of these calls takes a pointer but a null one.
        let call = |number, first: i64, second: i64| unsafe {
            libc::syscall(number, first, second, 0, 0, 0)
        };
        let refused = |outcome: libc::c_long| {
            outcome == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
        };
        [
            // Allowed: does the process exist? Denied: reading it.
            refused(call(libc::SYS_kill, pid, 0)),
            refused(call(libc::SYS_kcmp, pid, pid)),
            refused(call(libc::SYS_process_vm_readv, pid, 0)),
            refused(call(libc::SYS_ptrace, i64::from(libc::PTRACE_CONT), pid)),
            refused(call(libc::SYS_unshare, 0, 0)),
            // The second flag makes the call fail also without a filter.
            refused(call(
                libc::SYS_clone,
                i64::from(libc::CLONE_NEWUSER | libc::CLONE_FS),
                0,
            )),
            refused(call(
                libc::SYS_clone,
                i64::from(libc::CLONE_NEWNET | libc::CLONE_SIGHAND),
                0,
            )),
            cfg!(target_arch = "x86_64") && refused(call(0x4000_0000 | libc::SYS_getpid, 0, 0)),
            call(libc::SYS_clone3, 0, 0) == -1
                && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS),
            refused(call(libc::SYS_personality, 0xffff_ffff, 0)),
            refused(call(
                libc::SYS_socket,
                i64::from(libc::AF_VSOCK),
                i64::from(libc::SOCK_STREAM),
            )),
            refused(call(
                libc::SYS_socket,
                i64::from(libc::AF_INET),
                i64::from(libc::SOCK_STREAM),
            )),
        ]
    };

    let (free, confined) = probe(folder.path(), probes);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(free, [false; 12], "nothing else refuses them");
    let x32 = cfg!(target_arch = "x86_64");
    assert_eq!(
        confined,
        [
            false, true, true, true, true, true, true, x32, true, true, true, false
        ]
    );
}

#[test]
fn allowed_paths_follow_configuration() {
    let text = "[upstream.a]\nkind = \"bycloud\"\nendpoint = \"https://iam.example.test\"\n\
                token = { file = \"/tokens/a\" }\nca = \"/authorities/ca.pem\"\n\
                [upstream.b]\nkind = \"bycloud\"\nendpoint = \"https://iam.example.test\"\n\
                token = { age = \"/sealed/b\", identity = \"/keys/b\" }\n";
    let config =
        |text: &str| crate::config::file::check(text, Path::new("/conf/config.toml")).unwrap();
    let of = |config| {
        let (program, file) = (
            Path::new("/opt/rolekeeperd"),
            Path::new("/conf/config.toml"),
        );
        AllowedPaths::new(
            &config,
            program,
            file,
            Path::new("/run/me/socket"),
            Some(Path::new("/state")),
        )
    };
    let paths = of(config(text));
    for read in ["/tokens", "/authorities", "/conf"] {
        assert!(paths.read.contains(&read.into()), "{read}: {paths:?}");
    }
    assert_eq!(
        paths.write,
        ["/run/me", "/state", "/sealed", "/keys"].map(std::path::PathBuf::from)
    );
    assert_eq!(paths.execute, [std::path::PathBuf::from("/opt")]);
}
