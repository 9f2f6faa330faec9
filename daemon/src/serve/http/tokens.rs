//! The tokens that requests for container credentials have in `Authorization`. Each profile has one, in a private file beside
//! the socket. SDKs read the file for each request, so the token can be rotated while programs run.

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

/// A token of this age is replaced at its next use.
const ROTATION: Duration = Duration::from_secs(3600);

/// How long the previous token stays valid: a client may have read it from the file just before.
const OVERLAP: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Tokens {
    folder: PathBuf,
    by_profile: Mutex<BTreeMap<ProfileName, ProfileToken>>,
}

struct ProfileToken {
    token: Zeroizing<String>,
    created_at: BootTime,
    /// The token before, and the end of its validity.
    previous: Option<(Zeroizing<String>, BootTime)>,
}

impl fmt::Debug for ProfileToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileToken")
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

impl ProfileToken {
    fn new(token: Zeroizing<String>, created_at: BootTime) -> Self {
        Self {
            token,
            created_at,
            previous: None,
        }
    }
}

impl Tokens {
    /// Reads the tokens of an earlier daemon. If `stayed_open` is false, its port was closed for a while, and each token is
    /// replaced. Running programs find the new ones in the same files.
    pub(super) fn open<'a>(
        folder: &Path,
        profiles: impl IntoIterator<Item = &'a ProfileName>,
        stayed_open: bool,
        now: &Now,
    ) -> Self {
        let tokens = Self {
            folder: folder.into(),
            by_profile: Mutex::default(),
        };

        for profile in profiles {
            let path = path(folder, profile);
            if path.symlink_metadata().is_err() {
                continue;
            }

            if let Some(token) = read(&path).filter(|_token| stayed_open) {
                let created_at = now.boot.minus(age(&path, now));
                let token = ProfileToken::new(token, created_at);
                lock(&tokens.by_profile).insert(profile.clone(), token);
            } else if let Err(error) = tokens.file(profile, now.boot) {
                tracing::warn!(%profile, %error, "cannot write the endpoint's token");
            }
        }

        tokens
    }

    /// The file with a profile's token. It has no final line break, since SDKs send it unchanged. A token whose file is
    /// missing, or was not private, is replaced.
    pub(super) fn file(&self, profile: &ProfileName, now: BootTime) -> io::Result<PathBuf> {
        let path = path(&self.folder, profile);
        let mut by_profile = lock(&self.by_profile);

        let stored = by_profile.get(profile);
        let is_intact = stored.is_some_and(|stored| read(&path).as_ref() == Some(&stored.token));
        if !is_intact {
            let token = random_token()?;
            write(&path, &token)?;
            by_profile.insert(profile.clone(), ProfileToken::new(token, now));
        }

        Ok(path)
    }

    /// Whether `given` is the profile's token, or the previous one during the overlap. The comparison takes constant time.
    pub(super) fn check(&self, profile: &ProfileName, given: &[u8], now: BootTime) -> bool {
        let mut by_profile = lock(&self.by_profile);
        let Some(stored) = by_profile.get_mut(profile) else {
            return false;
        };

        if is_equal(&stored.token, given) {
            if now.since(stored.created_at) >= ROTATION {
                self.rotate(profile, stored, now);
            }
            return true;
        }

        stored
            .previous
            .as_ref()
            .is_some_and(|(previous, until)| now < *until && is_equal(previous, given))
    }

    fn rotate(&self, profile: &ProfileName, stored: &mut ProfileToken, now: BootTime) {
        stored.created_at = now;

        match self.replace(profile) {
            Ok(token) => {
                let previous = std::mem::replace(&mut stored.token, token);
                stored.previous = Some((previous, now.plus(OVERLAP)));
            }
            Err(error) => {
                tracing::warn!(%profile, %error, "cannot replace the endpoint's token");
            }
        }
    }

    fn replace(&self, profile: &ProfileName) -> io::Result<Zeroizing<String>> {
        let token = random_token()?;
        write(&path(&self.folder, profile), &token)?;

        Ok(token)
    }
}

fn is_equal(token: &str, given: &[u8]) -> bool {
    token.as_bytes().ct_eq(given).into()
}

/// The time since a file was written.
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

/// The secret in a private file. A missing file is created with a new secret.
pub(super) fn read_or_create(path: &Path) -> io::Result<Zeroizing<String>> {
    if let Some(secret) = read(path) {
        return Ok(secret);
    }

    let secret = random_token()?;
    write(path, &secret)?;
    Ok(secret)
}

/// The secret in a file, if the file is private and the secret has the right form.
fn read(path: &Path) -> Option<Zeroizing<String>> {
    let text = private_file::read(path).map(Zeroizing::new).ok()?;
    let is_secret = text.len() == 2 * LENGTH && text.bytes().all(|each| each.is_ascii_hexdigit());

    is_secret.then_some(text)
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

    fn mode(file: &Path) -> u32 {
        file.metadata().unwrap().permissions().mode() & 0o777
    }

    fn set_mode(file: &Path, mode: u32) {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn token_has_256_bits_a_private_file_and_one_profile() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path(), [&dev()], true, &now(0));
        let prod = ProfileName::parse("prod").unwrap();
        let file = tokens.file(&dev(), at(0)).unwrap();
        let other = tokens.file(&prod, at(0)).unwrap();
        assert_eq!(mode(&file), 0o600);

        let token = std::fs::read(&file).unwrap();
        assert!(token.len() == 64 && token.iter().all(u8::is_ascii_hexdigit));
        assert_ne!(token, std::fs::read(other).unwrap());

        assert!(tokens.check(&dev(), &token, at(1)));
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
    fn token_rotates_with_use_and_overlaps_the_previous_one() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path(), [], true, &now(0));
        let file = tokens.file(&dev(), at(0)).unwrap();

        let first = std::fs::read(&file).unwrap();
        assert!(tokens.check(&dev(), &first, at(3599)));
        assert_eq!(std::fs::read(&file).unwrap(), first);

        assert!(tokens.check(&dev(), &first, at(3600)));
        let second = std::fs::read(&file).unwrap();
        assert_ne!(first, second);

        assert!(tokens.check(&dev(), &second, at(3601)));
        assert!(tokens.check(&dev(), &first, at(3899)));
        assert!(!tokens.check(&dev(), &first, at(3900)));
        assert!(tokens.check(&dev(), &second, at(3900)));
    }

    #[test]
    fn token_survives_a_restart_unless_the_port_was_closed() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path(), [], true, &now(0));
        let file = tokens.file(&dev(), at(0)).unwrap();
        let first = std::fs::read(&file).unwrap();

        let tokens = Tokens::open(folder.path(), [&dev()], true, &now(9));
        assert!(tokens.check(&dev(), &first, at(9)));

        let tokens = Tokens::open(folder.path(), [&dev()], false, &now(9));
        let second = std::fs::read(&file).unwrap();
        assert!(!tokens.check(&dev(), &first, at(9)));
        assert!(tokens.check(&dev(), &second, at(9)));
    }

    #[test]
    fn readable_damaged_or_missing_file_gets_a_new_token() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path(), [], true, &now(0));
        let file = tokens.file(&dev(), at(0)).unwrap();
        let first = std::fs::read(&file).unwrap();

        set_mode(&file, 0o644);
        let tokens = Tokens::open(folder.path(), [&dev()], true, &now(9));
        let second = std::fs::read(&file).unwrap();
        assert!(!tokens.check(&dev(), &first, at(9)));
        assert!(tokens.check(&dev(), &second, at(9)));

        set_mode(&file, 0o644);
        tokens.file(&dev(), at(10)).unwrap();
        let third = std::fs::read(&file).unwrap();
        assert!(!tokens.check(&dev(), &second, at(10)));
        assert!(tokens.check(&dev(), &third, at(10)));
        assert_eq!(mode(&file), 0o600);

        std::fs::write(&file, "").unwrap();
        tokens.file(&dev(), at(10)).unwrap();
        assert!(tokens.check(&dev(), &std::fs::read(&file).unwrap(), at(10)));

        std::fs::remove_file(&file).unwrap();
        tokens.file(&dev(), at(10)).unwrap();
        assert!(tokens.check(&dev(), &std::fs::read(&file).unwrap(), at(10)));
    }
}
