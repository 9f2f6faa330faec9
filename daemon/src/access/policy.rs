//! May this peer have this profile? No clock, and no I/O but a look at which file a configured path leads to.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::config::callers::{CallerRule, Callers};
use crate::sandbox::helper::peer_inspector::{Inspection, Program};

/// InspectTarget the daemon serves.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The user the daemon runs as.
    pub owner: u32,
    /// InspectTarget some profile names beside that.
    users: Vec<u32>,
    groups: Vec<u32>,
}

/// The proof that a peer may have a profile. Only [`Policy::authorize`] makes one.
#[derive(Debug, Clone)]
#[must_use]
pub struct Grant {
    entry: Arc<CacheEntry>,
}

impl Grant {
    pub fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}

/// RefusalKind a peer may not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    #[error("this daemon serves other users than user {uid}")]
    User { uid: u32 },
    #[error("only the user whose daemon this is may ask for that, not user {uid}")]
    NotOwner { uid: u32 },
    #[error("profile {profile} is not for user {uid}")]
    NotForUser { profile: String, uid: u32 },
    #[error("profile {profile} is not for everybody, and it cannot be told which program asks")]
    UnknownCaller { profile: String },
    #[error(
        "profile {profile} is not for everybody, and the lookout, which tells who asks, is gone"
    )]
    InspectorUnavailable { profile: String },
    #[error(
        "profile {profile} is not for everybody, and this connection was handed on by the process that made it"
    )]
    ConnectionPassedOn { profile: String },
    #[error(
        "profile {profile} is not for everybody, and this one has not answered once it was looked at"
    )]
    ChallengeFailed { profile: String },
    #[error(
        "profile {profile} is not for everybody, and the process that made this connection has ended, or runs \
        another program now"
    )]
    ProcessReplaced { profile: String },
    #[error("profile {profile} is not for {program}")]
    Program { profile: String, program: String },
}

impl Denied {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::User { .. } => "a daemon of your own: ROLEKEEPER_SOCKET names its socket".into(),
            Self::NotOwner { .. } => {
                "whoever looks after the daemon; for credentials, exec --mode env or credential-process".into()
            }
            Self::NotForUser { profile, .. } => {
                format!("whoever looks after the daemon: `users` and `groups` of [profile.{profile}]")
            }
            Self::InspectorUnavailable { .. } => "restart rolekeeperd: it cannot start another lookout once it is confined".into(),
            Self::UnknownCaller { profile } => format!(
                "credential-process or exec in --mode env instead of HTTP; else `callers` of [profile.{profile}]"
            ),
            Self::ConnectionPassedOn { .. } | Self::ChallengeFailed { .. } | Self::ProcessReplaced { .. } => {
                "rolekeeper, which connects for each request".into()
            }
            Self::Program { profile, .. } => format!("`callers` of [profile.{profile}], if this program may have it"),
        }
    }
}

impl Policy {
    /// One user's own daemon.
    pub fn of(owner: u32) -> Self {
        Self {
            owner,
            ..Self::default()
        }
    }

    /// The same for whoever the profiles name.
    pub fn for_all<'a>(owner: u32, profiles: impl IntoIterator<Item = &'a Callers>) -> Self {
        let mut policy = Self::of(owner);
        for callers in profiles {
            policy.users.extend(&callers.users);
            policy.groups.extend(&callers.groups);
        }
        policy
    }

    /// Whether there may be peers of other users.
    pub fn is_shared(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }

    /// May this peer talk to the daemon at all? Root could read everything anyway, but root's tools are not meant to use
    /// a user's tokens by accident.
    pub fn admit(&self, peer: &Peer) -> Result<(), Denied> {
        let is_known = peer.uid == self.owner || is_of(peer, &self.users, &self.groups);
        if is_known {
            Ok(())
        } else {
            Err(Denied::User { uid: peer.uid })
        }
    }

    /// May this peer do what concerns all of the daemon, or what it holds?
    pub fn admit_owner(&self, peer: &Peer) -> Result<(), Denied> {
        if peer.uid == self.owner {
            Ok(())
        } else {
            Err(Denied::NotOwner { uid: peer.uid })
        }
    }

    /// Whether a profile is for this peer's user.
    pub fn is_for(&self, peer: &Peer, callers: &Callers) -> bool {
        peer.uid == self.owner || is_of(peer, &callers.users, &callers.groups)
    }

    /// May this peer see and end what the profile holds? No credentials are given on that.
    pub fn own(&self, peer: &Peer, entry: &Arc<CacheEntry>) -> Result<Grant, Denied> {
        self.admit_owner(peer)?;
        Ok(Grant {
            entry: Arc::clone(entry),
        })
    }

    /// May this peer know how things are with the profile, and have it refreshed? No credentials are given on that.
    pub fn watch(&self, peer: &Peer, entry: &Arc<CacheEntry>) -> Result<Grant, Denied> {
        if self.is_for(peer, &entry.profile.callers) {
            return Ok(Grant {
                entry: Arc::clone(entry),
            });
        }
        Err(Denied::NotForUser {
            profile: entry.profile.name.to_string(),
            uid: peer.uid,
        })
    }

    pub async fn authorize(&self, peer: &Peer, entry: &Arc<CacheEntry>) -> Result<Grant, Denied> {
        let (grant, callers) = (self.watch(peer, entry)?, &entry.profile.callers);
        if callers.is_guarded() {
            self.authorize_process(peer, callers, || entry.profile.name.to_string())
                .await?;
        }
        Ok(grant)
    }

    /// Whether this peer has to be looked at, and then to answer, before it may have the profile.
    pub fn wants_proof(peer: &Peer, entry: &CacheEntry) -> bool {
        entry.profile.callers.is_guarded() && peer.is_by_process() && !peer.is_proven()
    }

    /// The process as it was when it connected has to fit a rule, and to be the same now.
    async fn authorize_process(
        &self,
        peer: &Peer,
        callers: &Callers,
        profile: impl Fn() -> String,
    ) -> Result<(), Denied> {
        // Over HTTP a person is told that it cannot be told for sure.
        if !peer.is_by_process() && !callers.asks_for_process() {
            return Ok(());
        }
        let seen = if peer.is_by_process() {
            peer.trace().sight().seen().await
        } else {
            None
        };
        // From another namespace of processes a message can come in any other's name.
        let Some(seen) = seen.filter(|seen| !seen.programs.is_empty() && seen.is_here) else {
            return Err(match peer.trace().is_lookout_gone() {
                true => Denied::InspectorUnavailable { profile: profile() },
                false => Denied::UnknownCaller { profile: profile() },
            });
        };
        if peer.is_handed_on() {
            return Err(Denied::ConnectionPassedOn { profile: profile() });
        }
        if !peer.is_proven() {
            return Err(Denied::ChallengeFailed { profile: profile() });
        }
        if callers.asks_for_process() {
            let hashed = if callers.asks_for_hash() {
                peer.trace().hashed().seen().await
            } else {
                None
            };
            if !callers
                .rules
                .iter()
                .any(|rule| fits(rule, hashed.unwrap_or(seen), file_at))
            {
                return Err(Denied::Program {
                    profile: profile(),
                    program: described(&seen.programs),
                });
            }
        }
        // Last, because a process that is refused can make this take its time.
        if !seen
            .pin
            .as_ref()
            .is_some_and(crate::sandbox::helper::peer_inspector::ProcessPin::holds)
            || !peer.was_there_all_along()
        {
            return Err(Denied::ProcessReplaced { profile: profile() });
        }
        Ok(())
    }
}

/// By what the kernel says of the moment in which the connection was made.
fn is_of(peer: &Peer, users: &[u32], groups: &[u32]) -> bool {
    users.contains(&peer.uid) || peer.groups.iter().any(|group| groups.contains(group))
}

/// Who asked: the peer, and what it passes on for. A rule names one of them.
pub(crate) fn askers(programs: &[Program]) -> &[Program] {
    let between = programs
        .iter()
        .take_while(|program| program.is_between)
        .count();
    programs.get(..=between).unwrap_or(programs)
}

/// Whether a process is what a rule asks for. Which file a path leads to is looked up here, and not by the name that the
/// process has for it, which may be another file in a folder tree of its own.
fn fits(
    rule: &CallerRule,
    seen: &Inspection,
    file_at: impl Fn(&Path) -> Option<(u64, u64)>,
) -> bool {
    let CallerRule {
        exe,
        sha256,
        under,
        unit,
        terminal,
    } = rule;
    let asks = askers(&seen.programs);
    let runs =
        |path: &Path, program: &Program| program.file.is_some() && program.file == file_at(path);
    // Both of one program.
    let is_it = |program: &Program| {
        exe.as_deref().is_none_or(|path| runs(path, program))
            && sha256.is_none_or(|hash| program.sha256 == Some(hash))
    };
    asks.iter().any(is_it)
        && under.as_deref().is_none_or(|path| {
            seen.programs
                .iter()
                .skip(1)
                .any(|program| runs(path, program))
        })
        && unit.as_ref().is_none_or(|unit| seen.units.contains(unit))
        && terminal.is_none_or(|terminal| terminal == seen.has_terminal)
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path)
        .ok()
        .map(|meta| (meta.dev(), meta.ino()))
}

/// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
pub(crate) fn described(programs: &[Program]) -> String {
    let (asks, shown) = (askers(programs), shown);
    let Some(asker) = asks.last() else {
        return "a process that cannot be seen".into();
    };
    let by = programs
        .get(asks.len())
        .map(|parent| format!(", by {}", shown(parent)))
        .unwrap_or_default();
    format!("{} (process {}{by})", shown(asker), asker.process.pid)
}

/// A path that cannot pass for a part of the sentence, and a word if it is not what is at that path here.
fn shown(program: &Program) -> String {
    let path = crate::one_line(&program.process.program);
    let is_plain = path
        .chars()
        .all(|each| each.is_ascii_alphanumeric() || "/._+-@".contains(each));
    let path = if is_plain { path } else { format!("{path:?}") };
    let is_another =
        program.file.is_some() && file_at(Path::new(&program.process.program)) != program.file;
    if is_another {
        format!("{path}, which is another file than the one there,")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::Process;

    #[test]
    fn only_the_owner_and_whom_a_profile_names_are_admitted() {
        let peer = |uid| Peer::new(uid, None);
        let policy = Policy::of(1000);
        assert_eq!(policy.admit(&peer(1000)), Ok(()));
        for uid in [0, 1, 999, 1001, u32::MAX] {
            assert_eq!(policy.admit(&peer(uid)), Err(Denied::User { uid }));
        }
        let callers = Callers {
            users: vec![1001],
            ..Callers::default()
        };
        let shared = Policy::for_all(1000, [&callers, &Callers::default()]);
        assert_eq!(shared.admit(&peer(1001)), Ok(()));
        assert_eq!(shared.admit(&peer(1002)), Err(Denied::User { uid: 1002 }));
        assert_eq!(
            shared.admit_owner(&peer(1001)),
            Err(Denied::NotOwner { uid: 1001 })
        );
        assert!(
            shared.is_for(&peer(1001), &callers)
                && !shared.is_for(&peer(1001), &Callers::default())
        );
        let by_group = Callers {
            groups: vec![7],
            ..Callers::default()
        };
        let mut member = peer(1003);
        member.groups = vec![5, 7];
        let shared = Policy::for_all(1000, [&by_group]);
        assert!(shared.admit(&member).is_ok() && shared.is_for(&member, &by_group));
        assert!(shared.admit(&peer(1003)).is_err());
    }

    fn seen(programs: &[&str]) -> Inspection {
        let program = |(at, path): (usize, &&str)| Program {
            process: Process {
                pid: 100 - i32::try_from(at).unwrap(),
                program: (*path).into(),
            },
            file: file(Path::new(path)),
            is_between: crate::sandbox::helper::peer_inspector::is_between(path)
                && *path != "/usr/bin/zsh",
            sha256: Some([u8::try_from(path.len()).unwrap(); 32]),
        };
        Inspection {
            programs: programs.iter().enumerate().map(program).collect(),
            units: vec!["run-7.scope".into(), "ci.service".into()],
            has_terminal: false,
            is_whole: true,
            is_here: true,
            pin: None,
        }
    }

    /// Each path leads to a file of its own.
    fn file(path: &Path) -> Option<(u64, u64)> {
        (path != Path::new("?")).then(|| (1, path.to_str().unwrap().bytes().map(u64::from).sum()))
    }

    #[test]
    fn a_rule_is_about_whoever_asked_and_not_about_who_passes_it_on() {
        let (client, sh, make) = ("/usr/bin/rolekeeper", "/bin/sh", "/usr/bin/make");
        let (terraform, bash, sshd) = ("/usr/bin/terraform", "/bin/bash", "/usr/sbin/sshd");
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
            // A shell that a person types into asks for itself.
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
                fits(rule, &seen(programs), file),
                *want,
                "{programs:?} {rule:?}"
            );
        }
    }

    #[test]
    fn all_that_a_rule_names_has_to_be_so() {
        let programs = ["/usr/bin/rolekeeper", "/usr/bin/aws", "/usr/bin/make"];
        let whole = CallerRule {
            exe: Some("/usr/bin/aws".into()),
            sha256: Some([12; 32]),
            under: Some("/usr/bin/make".into()),
            unit: Some("ci.service".into()),
            terminal: Some(false),
        };
        assert!(fits(&whole, &seen(&programs), file));
        for wrong in [
            CallerRule {
                exe: Some("/usr/bin/aws2".into()),
                ..whole.clone()
            },
            CallerRule {
                sha256: Some([13; 32]),
                ..whole.clone()
            },
            // That of the client, which is not the one that asks.
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
            assert!(!fits(&wrong, &seen(&programs), file), "{wrong:?}");
        }
        let mut programs = seen(&programs).programs;
        // Whose file cannot be looked at.
        programs.iter_mut().for_each(|program| program.file = None);
        assert_eq!(
            described(&programs),
            "/usr/bin/aws (process 99, by /usr/bin/make)"
        );
        programs[1].process.program = "/x/ git (process 1) asks. It is good since ".into();
        assert_eq!(
            described(&programs),
            "\"/x/ git (process 1) asks. It is good since \" (process 99, by /usr/bin/make)"
        );
        programs[2].file = Some((0, 0));
        assert!(
            described(&programs)
                .ends_with("by /usr/bin/make, which is another file than the one there,)")
        );
    }
}
