//! What the configuration allows: users and programs. These are functions of their arguments.

use std::path::Path;

use super::error::AccessError;
use super::peer::{Peer, requesting_programs};
use crate::config::callers::{CallerRule, Callers};
use crate::sandbox::helper::peer_inspector::{Inspection, Program};

/// Device and inode.
type FileId = (u64, u64);

/// The users that the daemon serves.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The user that the daemon runs as.
    pub(crate) owner: u32,
    /// The users and groups that profiles name.
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Policy {
    /// For a daemon that serves its own user.
    pub fn of(owner: u32) -> Self {
        Self {
            owner,
            ..Self::default()
        }
    }

    /// For a daemon that also serves the users whom its profiles name.
    pub(crate) fn for_all<'a>(owner: u32, profiles: impl IntoIterator<Item = &'a Callers>) -> Self {
        let mut policy = Self::of(owner);
        for callers in profiles {
            policy.users.extend(&callers.users);
            policy.groups.extend(&callers.groups);
        }
        policy
    }

    /// Whether the daemon serves other users than its own.
    pub(crate) fn is_shared(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }

    /// Whether a peer's groups matter.
    pub(crate) fn names_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether a profile is for this peer's user. Root is a user like others: it could read
    /// everything anyway, but its tools do not use a user's tokens by accident.
    pub(crate) fn allows_user(&self, peer: &Peer, callers: &Callers) -> bool {
        peer.uid == self.owner || is_one_of(peer, &callers.users, &callers.groups)
    }

    pub(super) fn check_served(&self, peer: &Peer) -> Result<(), AccessError> {
        if peer.uid == self.owner || is_one_of(peer, &self.users, &self.groups) {
            Ok(())
        } else {
            Err(AccessError::UserNotServed { uid: peer.uid })
        }
    }

    pub(super) fn check_owner(&self, peer: &Peer) -> Result<(), AccessError> {
        if peer.uid == self.owner {
            Ok(())
        } else {
            Err(AccessError::NotOwner { uid: peer.uid })
        }
    }
}

/// Whether a process fits one of the profile's rules. `file_id` looks up which file a path of the
/// configuration leads to.
pub(super) fn fits_any(
    rules: &[CallerRule],
    process: &Inspection,
    file_id: impl Fn(&Path) -> Option<FileId>,
) -> bool {
    rules.iter().any(|rule| fits(rule, process, &file_id))
}

/// Whether everything that the rule names fits.
fn fits(
    rule: &CallerRule,
    process: &Inspection,
    file_id: impl Fn(&Path) -> Option<FileId>,
) -> bool {
    // Path and hash are those of one program.
    let is_named = |program: &Program| {
        let has_path = rule
            .exe
            .as_deref()
            .is_none_or(|path| is_file(program, file_id(path)));
        let has_hash = rule.sha256.is_none_or(|hash| program.sha256 == Some(hash));
        has_path && has_hash
    };

    let is_under = |path: &Path| {
        let mut parents = process.programs.iter().skip(1);
        parents.any(|parent| is_file(parent, file_id(path)))
    };

    requesting_programs(&process.programs).iter().any(is_named)
        && rule.under.as_deref().is_none_or(is_under)
        && rule
            .unit
            .as_ref()
            .is_none_or(|unit| process.units.contains(unit))
        && rule
            .terminal
            .is_none_or(|terminal| process.has_terminal == terminal)
}

/// Compares files, and not paths: a process can have another file at the same path in a mount
/// namespace of its own.
fn is_file(program: &Program, file: Option<FileId>) -> bool {
    program.file.is_some() && program.file == file
}

/// By user and groups as the kernel saw them when the peer connected.
fn is_one_of(peer: &Peer, users: &[u32], groups: &[u32]) -> bool {
    users.contains(&peer.uid) || peer.groups.iter().any(|group| groups.contains(group))
}

#[cfg(test)]
mod tests {
    use rolekeeper::protocol::Process;

    use super::*;
    use crate::config::{Profile, ProfileName, RoleId, RoleRequest, SHORTEST_SESSION};
    use crate::sandbox::helper::peer_inspector::is_intermediary_name;

    const OWNER: u32 = 1000;

    fn profile(users: &[u32], groups: &[u32]) -> Profile {
        let role = RoleRequest::bycloud(RoleId::parse("r-1").unwrap(), SHORTEST_SESSION);
        let mut profile = Profile::new(ProfileName::parse("dev").unwrap(), "up".into(), role);
        profile.callers.users = users.into();
        profile.callers.groups = groups.into();
        profile
    }

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        let mut peer = Peer::new(uid, None);
        peer.groups = groups.into();
        peer
    }

    #[test]
    fn users_are_served_and_allowed_by_owner_user_and_group() {
        let own = profile(&[], &[]);
        let shared = profile(&[1001], &[7]);
        let policy = Policy::for_all(OWNER, [&own.callers, &shared.callers]);
        assert!(policy.is_shared());
        for (peer, is_served, may_own, may_view_own, may_view_shared) in [
            (peer(OWNER, &[]), true, true, true, true),
            (peer(1001, &[]), true, false, false, true),
            (peer(1002, &[5, 7]), true, false, false, true),
            (peer(1002, &[5]), false, false, false, false),
            (peer(0, &[0]), false, false, false, false),
            (peer(u32::MAX, &[]), false, false, false, false),
        ] {
            let uid = peer.uid;
            assert_eq!(policy.check_served(&peer).is_ok(), is_served, "{uid}");
            assert_eq!(policy.check_owner(&peer).is_ok(), may_own, "{uid}");
            let views_own = policy.allows_user(&peer, &own.callers);
            assert_eq!(views_own, may_view_own, "{uid}");
            let views_shared = policy.allows_user(&peer, &shared.callers);
            assert_eq!(views_shared, may_view_shared, "{uid}");
        }
    }

    #[test]
    fn unshared_daemon_serves_its_owner_only() {
        let policy = Policy::of(OWNER);
        assert!(!policy.is_shared());
        assert_eq!(policy.check_served(&peer(OWNER, &[])), Ok(()));
        for uid in [0, 1, 999, 1001, u32::MAX] {
            let refusal = policy.check_served(&peer(uid, &[OWNER]));
            assert_eq!(refusal, Err(AccessError::UserNotServed { uid }));
        }
    }

    fn inspection(programs: &[&str]) -> Inspection {
        let program = |(at, path): (usize, &&str)| Program {
            process: Process {
                pid: 100 - i32::try_from(at).unwrap(),
                program: (*path).into(),
            },
            file: file(Path::new(path)),
            is_intermediary: is_intermediary_name(path) && *path != "/usr/bin/zsh",
            is_elsewhere: false,
            sha256: Some([u8::try_from(path.len()).unwrap(); 32]),
            not_hashed: None,
        };
        Inspection {
            programs: programs.iter().enumerate().map(program).collect(),
            units: vec!["run-7.scope".into(), "ci.service".into()],
            has_terminal: false,
            is_complete: true,
            in_pid_namespace: true,
            is_unchanged: false,
        }
    }

    /// Each path leads to a file of its own.
    fn file(path: &Path) -> Option<(u64, u64)> {
        (path != Path::new("?")).then(|| (1, path.to_str().unwrap().bytes().map(u64::from).sum()))
    }

    #[test]
    fn rule_applies_to_the_requesting_program() {
        let client = "/usr/bin/rolekeeper";
        let sh = "/bin/sh";
        let make = "/usr/bin/make";
        let terraform = "/usr/bin/terraform";
        let bash = "/bin/bash";
        let sshd = "/usr/sbin/sshd";
        let exe = |path: &str| CallerRule {
            exe: Some(path.into()),
            ..CallerRule::default()
        };
        let under = |path: &str| CallerRule {
            under: Some(path.into()),
            ..CallerRule::default()
        };
        let table: &[(&[&str], CallerRule, bool)] = &[
            (&[client, terraform, bash, sshd], exe(terraform), true),
            (&[client, sh, terraform, bash, sshd], exe(terraform), true),
            (&[terraform, bash], exe(terraform), true),
            (&[client, make, terraform, bash], exe(terraform), false),
            (&[client, make, terraform, bash], under(terraform), true),
            (&[client, bash, sshd], exe(bash), true),
            (&[client, bash, sshd], exe(terraform), false),
            // An interactive shell is the requesting program itself.
            (&[client, "/usr/bin/zsh", terraform], exe(terraform), false),
            (
                &[client, "/usr/bin/zsh", terraform],
                exe("/usr/bin/zsh"),
                true,
            ),
            (&[client, "/usr/bin/zsh", terraform], under(terraform), true),
            (&[terraform, bash], under(terraform), false),
            (&["?", terraform], exe(terraform), false),
            (&["?"], exe("?"), false),
        ];
        for (programs, rule, want) in table {
            assert_eq!(
                fits(rule, &inspection(programs), file),
                *want,
                "{programs:?} {rule:?}"
            );
        }
    }

    #[test]
    fn every_condition_of_a_rule_has_to_fit() {
        let programs = ["/usr/bin/rolekeeper", "/usr/bin/aws", "/usr/bin/make"];
        let whole = CallerRule {
            exe: Some("/usr/bin/aws".into()),
            sha256: Some([12; 32]),
            under: Some("/usr/bin/make".into()),
            unit: Some("ci.service".into()),
            terminal: Some(false),
        };
        assert!(fits(&whole, &inspection(&programs), file));
        for wrong in [
            CallerRule {
                exe: Some("/usr/bin/aws2".into()),
                ..whole.clone()
            },
            CallerRule {
                sha256: Some([13; 32]),
                ..whole.clone()
            },
            // The hash of the client, which passes the request on.
            CallerRule {
                sha256: Some([19; 32]),
                ..whole.clone()
            },
            CallerRule {
                under: Some("/usr/bin/vim".into()),
                ..whole.clone()
            },
            CallerRule {
                unit: Some("cd.service".into()),
                ..whole.clone()
            },
            CallerRule {
                terminal: Some(true),
                ..whole.clone()
            },
        ] {
            assert!(!fits(&wrong, &inspection(&programs), file), "{wrong:?}");
        }
    }
}
