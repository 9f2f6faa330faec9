//! The words that requests for container credentials must have in `Authorization`: one for each profile, in a file beside the
//! socket that only the user reads. SDKs read it anew for each request, so it changes while programs run.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::connect;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::clock::{BootTime, Now};
use crate::config::ProfileName;
use crate::platform::private_file;
use crate::platform::private_file::create_folder;
use crate::platform::random::{LENGTH, random_token};
use crate::sync::lock;

/// A token this old is replaced at its next use.
const ROTATION: Duration = Duration::from_secs(3600);
/// For how long the one before is still good: it may have been read from the file a moment earlier.
const OVERLAP: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Tokens {
    folder: PathBuf,
    held: Mutex<BTreeMap<ProfileName, Held>>,
}

struct Held {
    token: Zeroizing<String>,
    since: BootTime,
    before: Option<(Zeroizing<String>, BootTime)>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Those of an earlier daemon are good on if they `are_kept`: programs that it served may still run. Else they are made
    /// anew, and such programs find them in the same files.
    pub(super) fn open<'a>(
        folder: &Path,
        profiles: impl IntoIterator<Item = &'a ProfileName>,
        are_kept: bool,
        now: &Now,
    ) -> Self {
        let tokens = Self {
            folder: folder.into(),
            held: Mutex::default(),
        };
        for profile in profiles {
            let path = path(folder, profile);
            if path.symlink_metadata().is_err() {
                continue;
            }
            match read(&path).filter(|_| are_kept) {
                Some(token) => {
                    let since = now.boot.minus(age(&path, now));
                    lock(&tokens.held).insert(
                        profile.clone(),
                        Held {
                            token,
                            since,
                            before: None,
                        },
                    );
                }
                None => {
                    if let Err(error) = tokens.file(profile, now.boot) {
                        tracing::warn!(%profile, %error, "the endpoint's token cannot be written");
                    }
                }
            }
        }
        tokens
    }

    /// The file that has a profile's token, without a line's end: SDKs send it as it stands. One that somebody else could
    /// read or write meanwhile, or that is gone, gets another token.
    pub(super) fn file(&self, profile: &ProfileName, now: BootTime) -> io::Result<PathBuf> {
        let path = path(&self.folder, profile);
        let mut held = lock(&self.held);
        let is_there = held
            .get(profile)
            .is_some_and(|held| read(&path).is_some_and(|token| token == held.token));
        if !is_there {
            let token = random_token()?;
            write(&path, &token)?;
            held.insert(
                profile.clone(),
                Held {
                    token,
                    since: now,
                    before: None,
                },
            );
        }
        Ok(path)
    }

    /// Whether this is the profile's token, or was until a moment ago. Comparing takes as long for any two of one length.
    pub(super) fn check(&self, profile: &ProfileName, given: &[u8], now: BootTime) -> bool {
        let mut held = lock(&self.held);
        let Some(held) = held.get_mut(profile) else {
            return false;
        };
        if bool::from(held.token.as_bytes().ct_eq(given)) {
            if now.since(held.since) >= ROTATION {
                self.rotate(profile, held, now);
            }
            return true;
        }
        held.before.as_ref().is_some_and(|(before, until)| {
            now < *until && bool::from(before.as_bytes().ct_eq(given))
        })
    }

    fn rotate(&self, profile: &ProfileName, held: &mut Held, now: BootTime) {
        let rotated = random_token().and_then(|token| {
            write(&path(&self.folder, profile), &token)?;
            Ok(token)
        });
        held.since = now;
        match rotated {
            Ok(token) => {
                held.before = Some((std::mem::replace(&mut held.token, token), now.plus(OVERLAP)))
            }
            Err(error) => {
                tracing::warn!(%profile, %error, "the endpoint's token could not be replaced")
            }
        }
    }
}

/// How long ago a file was written.
fn age(path: &Path, now: &Now) -> Duration {
    let written = path
        .metadata()
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|at| Timestamp::try_from(at).ok());
    written
        .and_then(|at| Duration::try_from(now.wall.duration_since(at)).ok())
        .unwrap_or_default()
}

fn path(folder: &Path, profile: &ProfileName) -> PathBuf {
    folder.join(format!("{profile}.token"))
}

/// The secret in a file, which is made if need be.
pub(super) fn kept(path: &Path) -> io::Result<Zeroizing<String>> {
    if let Some(secret) = read(path) {
        return Ok(secret);
    }
    let secret = random_token()?;
    write(path, &secret)?;
    Ok(secret)
}

/// A secret that nobody else can have read or written.
fn read(path: &Path) -> Option<Zeroizing<String>> {
    let text = private_file::read(path).map(Zeroizing::new).ok()?;
    (text.len() == 2 * LENGTH && text.bytes().all(|each| each.is_ascii_hexdigit())).then_some(text)
}

fn write(path: &Path, secret: &str) -> io::Result<()> {
    create_folder(connect::folder_of(path))?;
    private_file::replace(path, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::Clock;

    fn at(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn now(seconds: u64) -> Now {
        Now {
            boot: at(seconds),
            ..Clock::virtual_from(Timestamp::UNIX_EPOCH).now()
        }
    }

    fn dev() -> ProfileName {
        ProfileName::parse("dev").unwrap()
    }

    #[test]
    fn a_token_has_256_bits_is_the_users_alone_and_opens_one_profile() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path(), [&dev()], true, &now(0));
        let prod = ProfileName::parse("prod").unwrap();
        let (file, other) = (
            tokens.file(&dev(), at(0)).unwrap(),
            tokens.file(&prod, at(0)).unwrap(),
        );
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read(&file).unwrap();
        assert!(token.len() == 64 && token.iter().all(u8::is_ascii_hexdigit));
        assert!(tokens.check(&dev(), &token, at(1)));
        assert_ne!(token, std::fs::read(other).unwrap());
        assert!(!tokens.check(&prod, &token, at(1)));
        assert!(!tokens.check(&ProfileName::parse("none").unwrap(), &token, at(1)));
        for wrong in [
            &[][..],
            &token[..63],
            &[&token[..], b"0"].concat(),
            &[b'0'; 64],
        ] {
            assert!(!tokens.check(&dev(), wrong, at(1)));
        }
        assert!(!format!("{tokens:?}").contains(std::str::from_utf8(&token).unwrap()));
    }

    #[test]
    fn it_changes_with_use_and_the_one_before_is_good_for_a_while_only() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path(), [], true, &now(0));
        let file = tokens.file(&dev(), at(0)).unwrap();
        let first = std::fs::read(&file).unwrap();
        assert!(tokens.check(&dev(), &first, at(3599)));
        assert_eq!(std::fs::read(&file).unwrap(), first);
        assert!(tokens.check(&dev(), &first, at(3600)));
        let second = std::fs::read(&file).unwrap();
        assert_ne!(first, second);
        assert!(tokens.check(&dev(), &second, at(3601)) && tokens.check(&dev(), &first, at(3899)));
        assert!(!tokens.check(&dev(), &first, at(3900)));
        assert!(tokens.check(&dev(), &second, at(3900)));
    }

    #[test]
    fn the_next_daemon_takes_it_over_unless_somebody_else_may_know_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = Tokens::open(folder.path(), [], true, &now(0))
            .file(&dev(), at(0))
            .unwrap();
        let token = std::fs::read(&file).unwrap();
        assert!(Tokens::open(folder.path(), [&dev()], true, &now(9)).check(&dev(), &token, at(9)));
        // Its port was free for a while.
        let tokens = Tokens::open(folder.path(), [&dev()], false, &now(9));
        let second = std::fs::read(&file).unwrap();
        assert!(!tokens.check(&dev(), &token, at(9)) && tokens.check(&dev(), &second, at(9)));
        // Others could read the file, before a daemon started and while it runs.
        let open_to_all =
            || std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        open_to_all();
        let tokens = Tokens::open(folder.path(), [&dev()], true, &now(9));
        let third = std::fs::read(&file).unwrap();
        assert!(!tokens.check(&dev(), &second, at(9)) && tokens.check(&dev(), &third, at(9)));
        open_to_all();
        tokens.file(&dev(), at(10)).unwrap();
        let fourth = std::fs::read(&file).unwrap();
        assert!(!tokens.check(&dev(), &third, at(10)) && tokens.check(&dev(), &fourth, at(10)));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // Damaged, gone, or a link to somewhere.
        for spoil in [
            |file: &Path| std::fs::write(file, "").unwrap(),
            |file: &Path| std::fs::remove_file(file).unwrap(),
        ] {
            spoil(&file);
            tokens.file(&dev(), at(10)).unwrap();
            assert!(tokens.check(&dev(), &std::fs::read(&file).unwrap(), at(10)));
        }
    }
}
