//! seccomp: system calls that read another process or change the system fail with `EPERM`, also in child processes
//! (seccomp(2)).

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, apply_filter, sock_filter,
};

pub(super) struct Filter {
    denied_calls: &'static [&'static [libc::c_long]],
    allowed_socket_families: &'static [i32],
}

/// Calls that read or change other processes, and calls that bypass a filter or Landlock.
const OTHER_PROCESSES: &[libc::c_long] = &[
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

/// Calls that change mounts, namespaces, kernel modules, the clock, and more.
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

/// Calls that start programs or make connections.
const PROGRAMS: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
];

pub(super) const FOR_DAEMON: Filter = Filter {
    denied_calls: &[OTHER_PROCESSES, SYSTEM],
    allowed_socket_families: &[
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ],
};

pub(super) const FOR_PEER_INSPECTOR: Filter = Filter {
    denied_calls: &[OTHER_PROCESSES, SYSTEM, PROGRAMS],
    allowed_socket_families: &[],
};

/// The flags of `clone` that create namespaces.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Filters the system calls of this thread and of all that it starts.
pub(super) fn apply(filter: &Filter) -> Result<(), String> {
    // Without it, only root may install a filter. It also keeps set-user-id programs from gaining rights.
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;

    let programs = [main_program(filter), clone3_program(), Ok(x32_program())];
    for program in programs {
        let program = program.map_err(|error| error.to_string())?;
        if program.is_empty() {
            continue;
        }
        match apply_filter(&program) {
            // Each reload adds its filters. At the kernel's limit, the earlier ones stay in force.
            Err(error) if is_size_limit(&error) && is_filtered() => {}
            outcome => outcome.map_err(|error| error.to_string())?,
        }
    }

    Ok(())
}

fn is_size_limit(error: &Error) -> bool {
    let (Error::Prctl(error) | Error::Seccomp(error)) = error else {
        return false;
    };
    error.raw_os_error() == Some(libc::ENOMEM)
}

/// Whether a denied call fails that succeeds without a filter: a process may always duplicate its own descriptors.
fn is_filtered() -> bool {
    let Ok(me) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return false;
    };
    pidfd_getfd(me, 0, PidfdGetfdFlags::empty()).is_err_and(|error| error == Errno::PERM)
}

fn main_program(filter: &Filter) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::new();
    for call in filter.denied_calls.iter().copied().flatten() {
        rules.insert(*call, Vec::new());
    }

    let mut other_families = Vec::new();
    for family in filter.allowed_socket_families {
        other_families.push(first_argument(SeccompCmpOp::Ne, *family)?);
    }

    let sockets = if other_families.is_empty() {
        Vec::new()
    } else {
        vec![SeccompRule::new(other_families)?]
    };

    rules.insert(libc::SYS_socket, sockets);

    let mut namespaces = Vec::new();
    for flag in NAMESPACES {
        let has_flag = first_argument(SeccompCmpOp::MaskedEq(bits(*flag)), *flag)?;
        namespaces.push(SeccompRule::new(vec![has_flag])?);
    }

    rules.insert(libc::SYS_clone, namespaces);

    compile(rules, libc::EPERM)
}

/// The flags of `clone3` are in memory, which a filter cannot read. On `ENOSYS`, the C library uses `clone`.
fn clone3_program() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    compile(rules, libc::ENOSYS)
}

/// On x86-64 each call has a second number, for programs with 32-bit pointers. Filters by number do not match it.
fn x32_program() -> BpfProgram {
    const X32_BIT: u32 = 0x4000_0000;
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    if !cfg!(target_arch = "x86_64") {
        return BpfProgram::new();
    }

    vec![
        // The number is the first word of what a filter reads.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32_BIT),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, DENY),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    }
}

fn first_argument(operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, bits(value))
}

fn bits(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// These calls fail with `errno`; all others are allowed.
fn compile(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, BackendError> {
    let deny = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, deny, arch)?.try_into()
}
