//! seccomp: system calls by which one process reads another's memory, or changes the system, are refused (seccomp(2)). What is
//! started from here is refused them, too.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, apply_filter, sock_filter,
};

/// What is refused.
pub(super) struct Refused {
    calls: &'static [&'static [libc::c_long]],
    /// Which kinds of sockets are not.
    families: &'static [i32],
}

/// Other processes, and what is theirs.
const OTHERS: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The system: what is mounted, loaded, running, and what time it is.
const SYSTEM: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
];

/// Programs and connections.
const PROGRAMS: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
];

pub(super) const FOR_DAEMON: Refused = Refused {
    calls: &[OTHERS, SYSTEM],
    families: &[
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ],
};
pub(super) const FOR_LOOKOUT: Refused = Refused {
    calls: &[OTHERS, SYSTEM, PROGRAMS],
    families: &[],
};

/// With which a new process has namespaces of its own.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

#[allow(clippy::needless_pass_by_value, reason = "a constant")]
pub(super) fn forbid(refused: Refused) -> Result<(), String> {
    // Without it a filter is for root alone; and nothing that is started from here is ever more than this process.
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
    let programs = [program(&refused), no_clone3(), Ok(no_x32())];
    for program in programs {
        let program = program.map_err(|error| error.to_string())?;
        if program.is_empty() {
            continue;
        }
        match apply_filter(&program) {
            // Each process that takes the place of another adds its own, until no more fit: those of the earlier ones hold.
            Err(error) if is_full(&error) && is_refused() => {}
            outcome => outcome.map_err(|error| error.to_string())?,
        }
    }
    Ok(())
}

fn is_full(error: &Error) -> bool {
    let (Error::Prctl(error) | Error::Seccomp(error)) = error else {
        return false;
    };
    error.raw_os_error() == Some(libc::ENOMEM)
}

/// Whether this process may not do, even with itself, what every process may that has no filter.
fn is_refused() -> bool {
    let may = || {
        pidfd_getfd(
            pidfd_open(getpid(), PidfdFlags::empty())?,
            0,
            PidfdGetfdFlags::empty(),
        )
    };
    may().is_err_and(|error| error == Errno::PERM)
}

fn program(refused: &Refused) -> Result<BpfProgram, BackendError> {
    let calls = refused.calls.iter().flat_map(|calls| calls.iter());
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        calls.map(|call| (*call, Vec::new())).collect();
    let other_than = |family: &i32| condition(SeccompCmpOp::Ne, *family);
    let others = refused
        .families
        .iter()
        .map(other_than)
        .collect::<Result<Vec<_>, _>>()?;
    let sockets = if others.is_empty() {
        Vec::new()
    } else {
        vec![SeccompRule::new(others)?]
    };
    rules.insert(libc::SYS_socket, sockets);
    let with =
        |flag: &i32| SeccompRule::new(vec![condition(SeccompCmpOp::MaskedEq(bits(*flag)), *flag)?]);
    rules.insert(
        libc::SYS_clone,
        NAMESPACES.iter().map(with).collect::<Result<_, _>>()?,
    );
    filter(rules, libc::EPERM)
}

/// What it is asked for is in memory, where a filter sees nothing; without it everybody uses `clone`.
fn no_clone3() -> Result<BpfProgram, BackendError> {
    filter(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        libc::ENOSYS,
    )
}

/// On x86-64 each call has another number, too, for programs with short pointers, which a filter by numbers lets pass.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    if !cfg!(target_arch = "x86_64") {
        return BpfProgram::new();
    }
    let step = |code: u32, jt, jf, k| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    vec![
        // The call's number comes first of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Of a call's first argument.
fn condition(operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, bits(value))
}

fn bits(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn filter(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    refusal: i32,
) -> Result<BpfProgram, BackendError> {
    let refuse = SeccompAction::Errno(refusal.unsigned_abs());
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        refuse,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}
