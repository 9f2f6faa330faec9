//! `rolekeeper git-credential PROFILE ACTION`: prints the session token for git, as a credential helper
//! (gitcredentials(7), git-credential(1)). Without an answer git asks the user for a password. On an error the answer is
//! `quit=1`, which stops git instead. A password in the input is never stored, compared or printed.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::ArgValueCandidates;
use interprocess::local_socket::traits::Stream as _;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Lease, Request};

use super::address::{self, Host, Origin, Scheme};
use super::git_helpers;
use super::iam::suggest;
use super::lease;
use crate::command;

pub(crate) const HELP: &str = "\
In ~/.gitconfig:

  [credential \"https://git.example.test\"]
      helper =
      helper = /usr/local/bin/rolekeeper git-credential dev

The empty helper disables earlier ones for that address, because one that stores passwords would store the token too. If git
also has a later one for that address, it gets no token, and the error names the other helper. The same with commands:

  git config --global --add credential.https://git.example.test.helper ''
  git config --global --add credential.https://git.example.test.helper '/usr/local/bin/rolekeeper git-credential dev'

git asks a helper without an address for every host. Then restrict the hosts: git-credential dev --host git.example.test.
The token is sent over https, and over http only to this machine.";

/// The maximum length of git's input, in bytes.
const MAX_INPUT: u64 = 64 * 1024;

/// How long git waits while the daemon checks a rejected session. The daemon completes the check in any case.
const REPORT_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// The action: get, store or erase; others are ignored
    action: String,
    /// The user name for the token, unless git names one [default: the access key's id]
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
    /// Allow only this host; can be repeated
    #[arg(long = "host", value_name = "HOST[:PORT]", value_parser = Host::parse)]
    hosts: Vec<Host>,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let request = CredentialRequest::read(io::stdin());
    match arguments.action.as_str() {
        "get" => match request.and_then(|request| get(arguments, &request, socket)) {
            Ok(answer) => command::print(&answer),
            Err(failure) => {
                command::print("quit=1\n")?;
                Err(failure)
            }
        },
        "erase" => {
            // git ignores errors of this action.
            if request.is_ok_and(|request| {
                request.has_password && request.is_allowed_host(&arguments.hosts)
            }) {
                let _ = report_rejected(&arguments.profile, socket);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The answer, which is empty for another host.
fn get(
    arguments: &Arguments,
    request: &CredentialRequest,
    socket: Option<PathBuf>,
) -> Result<String, Failure> {
    let Some(origin) = request
        .origin
        .as_ref()
        .filter(|origin| address::is_allowed_host(&arguments.hosts, origin))
    else {
        return Ok(String::new());
    };

    origin.check_encryption()?;
    git_helpers::check_alone(origin, &arguments.profile)?;
    let username = request
        .username
        .as_deref()
        .or(arguments.username.as_deref());
    lease::ask(&arguments.profile, socket, |lease| answer(username, lease))
}

fn answer(username: Option<&str>, lease: &Lease<'_>) -> Result<String, Failure> {
    let username = username.unwrap_or(&lease.access_key_id);
    if username.chars().any(char::is_control) {
        return Err(connect::unexpected_reply());
    }
    let expiry = epoch_seconds(&lease.expires_at).ok_or_else(connect::unexpected_reply)?;
    Ok(format!(
        "username={username}\npassword={}\npassword_expiry_utc={expiry}\n",
        lease::token(lease)?
    ))
}

/// The host rejected a password, which may have been a token of this profile. Does not start a daemon.
fn report_rejected(profile: &str, socket: Option<PathBuf>) -> Result<(), Failure> {
    let Some(mut stream) = connect::open(&connect::socket_path(socket)?)? else {
        return Ok(());
    };

    if stream.set_recv_timeout(Some(REPORT_DEADLINE)).is_ok() {
        connect::document(
            &mut stream,
            Request::ReportRejected {
                profile: profile.into(),
            },
        )?;
    }

    Ok(())
}

/// git's input.
#[derive(Debug, Default, PartialEq, Eq)]
struct CredentialRequest {
    /// `None` for other protocols than http and https, and for invalid hosts.
    origin: Option<Origin>,
    username: Option<String>,
    has_password: bool,
}

impl CredentialRequest {
    /// Reads `key=value` lines up to an empty one or the end. The last of duplicate keys is used; unknown keys are ignored.
    fn read(input: impl Read) -> Result<Self, Failure> {
        let mut input = BufReader::new(input.take(MAX_INPUT + 1));
        let mut request = Self::default();
        let mut scheme = None;
        let mut host = String::new();
        let mut length = 0;

        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line);
            length += read.map_err(|error| refuse(&format!("cannot be read: {error}")))?;
            if length as u64 > MAX_INPUT {
                return Err(refuse("is too long"));
            }
            let line = String::from_utf8(line).map_err(|_| refuse("is not UTF-8"))?;
            let line = line.strip_suffix('\n').unwrap_or(&line);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                break;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| refuse("has a line without key=value"))?;
            if line.chars().any(char::is_control) {
                return Err(refuse("has control characters"));
            }
            match key {
                "protocol" => scheme = Scheme::parse(value),
                "host" => value.clone_into(&mut host),
                "username" => {
                    request.username = Some(value.to_owned()).filter(|name| !name.is_empty());
                }
                "password" => request.has_password = !value.is_empty(),
                _ => {}
            }
        }

        request.origin = scheme.and_then(|scheme| Origin::of_host(scheme, &host));

        Ok(request)
    }

    fn is_allowed_host(&self, hosts: &[Host]) -> bool {
        self.origin.as_ref().is_some_and(|origin| {
            address::is_allowed_host(hosts, origin) && origin.check_encryption().is_ok()
        })
    }
}

fn refuse(why: &str) -> Failure {
    Failure::new(
        Code::Usage,
        format!("git's request on standard input {why}"),
        "pass key=value lines, as git credential does",
    )
}

/// Seconds since 1970 of a lease's time: `2026-01-01T00:00:00Z`.
fn epoch_seconds(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };

    let length_of = |month: u64| match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };

    let is_time = hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > length_of(month) || !is_time {
        return None;
    }

    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days_before_year = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let days = days_before_year + (1..month).map(length_of).sum::<u64>() + day - 1;

    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Three numbers with these lengths.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }

    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::super::lease::example;
    use super::*;

    fn arguments(hosts: &[&str]) -> Arguments {
        let hosts = hosts
            .iter()
            .map(|host| Host::parse(host).unwrap())
            .collect();
        Arguments {
            profile: "dev".into(),
            action: "get".into(),
            username: None,
            hosts,
        }
    }

    fn request(text: &str) -> CredentialRequest {
        CredentialRequest::read(text.as_bytes()).unwrap()
    }

    /// The answer without a daemon.
    fn without_daemon(hosts: &[&str], text: &str) -> Result<String, Failure> {
        get(
            &arguments(hosts),
            &request(text),
            Some(format!("/{}", "x".repeat(200)).into()),
        )
    }

    #[test]
    fn answer_has_user_name_and_expiry_in_seconds() {
        let want = "username=BYIA1\npassword=canary-token\npassword_expiry_utc=1767225600\n";
        assert_eq!(answer(None, &example()).unwrap(), want);
        assert!(
            answer(Some("me"), &example())
                .unwrap()
                .starts_with("username=me\n")
        );
        for broken in [
            Lease {
                access_key_id: "a\npassword=x".into(),
                ..example()
            },
            Lease {
                session_token: "canary\nhost=evil.test".into(),
                ..example()
            },
            Lease {
                expires_at: "soon".into(),
                ..example()
            },
        ] {
            assert!(
                !answer(None, &broken)
                    .unwrap_err()
                    .to_string()
                    .contains("canary")
            );
        }
    }

    #[test]
    fn input_ends_at_an_empty_line_and_ignores_unknown_keys() {
        let text = "capability[]=authtype\r\nprotocol=https\nhost=git.example.test:8443\nwwwauth[]=Basic realm=\"x\"\n\
            path=a/b=c\nusername=me\npassword=p\n\nhost=evil.test\n";
        let origin = Origin::of_url("https://git.example.test:8443").map(|(origin, _)| origin);
        assert_eq!(
            request(text),
            CredentialRequest {
                origin,
                username: Some("me".into()),
                has_password: true
            }
        );
        assert_eq!(request(""), CredentialRequest::default());
        assert_eq!(
            request("protocol=https\nhost=a.test\nusername=\npassword="),
            request("protocol=https\nhost=a.test")
        );
    }

    #[test]
    fn a_request_that_is_none_is_refused_and_not_repeated() {
        let long = format!("host={}", "a".repeat(70_000));
        for text in [
            &b"canary"[..],
            b"host=canary\0",
            b"username=canary\rx\n",
            b"host=canary\xff",
            long.as_bytes(),
        ] {
            let failure = CredentialRequest::read(text).unwrap_err();
            assert!(
                failure.code == Code::Usage && !failure.to_string().contains("canary"),
                "{failure}"
            );
        }
    }

    #[test]
    fn other_host_gets_an_empty_answer() {
        for (hosts, text) in [
            (&["git.example.test"][..], "protocol=https\nhost=other.test"),
            (
                &["git.example.test"],
                "protocol=https\nhost=git.example.test:8443",
            ),
            (&["git.example.test"], "protocol=http\nhost=other.test"),
            (&[], "protocol=ssh\nhost=git.example.test"),
            (&[], "protocol=cert\npath=/a"),
            (&[], "protocol=https\nhost=me@git.example.test"),
            (&[], "host=git.example.test"),
        ] {
            assert_eq!(without_daemon(hosts, text).as_deref(), Ok(""), "{text}");
            assert!(
                !request(text).is_allowed_host(&arguments(hosts).hosts),
                "{text}"
            );
        }
        let reaches_the_daemon = |hosts: &[&str], text| {
            without_daemon(hosts, text).unwrap_err().code == Code::Configuration
        };
        assert!(reaches_the_daemon(
            &["git.example.test:8443"],
            "protocol=https\nhost=git.example.test:8443"
        ));
        assert!(reaches_the_daemon(
            &[],
            "protocol=http\nhost=127.0.0.1:3000"
        ));
    }

    #[test]
    fn remote_host_over_http_is_rejected() {
        let failure = without_daemon(&[], "protocol=http\nhost=git.example.test").unwrap_err();
        assert_eq!(failure.code, Code::NotAllowed);
        assert!(
            failure.message.contains("http://git.example.test"),
            "{failure}"
        );
    }

    #[test]
    fn epoch_seconds_accept_only_rfc_3339_in_utc() {
        for (time, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-12-31T12:00:00Z", 1_735_646_400),
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(epoch_seconds(time), Some(seconds), "{time}");
        }
        for time in [
            "",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01T00:00:00.5Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
        ] {
            assert_eq!(epoch_seconds(time), None, "{time}");
        }
    }
}
