//! `rolekeeper docker-credential PROFILE ACTION`: the session token as docker and its kin expect it of a credential helper.
//! The protocol has failures on standard output, and exit codes 0 and 1 alone. docker shows nobody what it reads there and
//! goes on without credentials, so that a failure is said on standard error as well. What docker wants kept is dropped.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Lease};
use serde::Serialize;
use serde_json::{Map, Value};

use super::address::{self, Host, Origin, Scheme};
use super::iam::suggest;
use super::lease;
use crate::command;

pub(crate) const HELP: &str = "\
docker starts a helper by its name alone. Put a file docker-credential-rolekeeper-dev on the PATH, and chmod +x it:

  #!/bin/sh
  exec /usr/local/bin/rolekeeper docker-credential dev \"$@\"

Then, in ~/.docker/config.json:

  { \"credHelpers\": { \"registry.example.test\": \"rolekeeper-dev\" } }

Only the registries there get the token. If the helper is the credsStore, which docker asks for every registry, say in that
file which are meant: docker-credential dev --host registry.example.test \"$@\".

docker goes on without credentials if a helper fails, and what it says then is beside the point: read the line of rolekeeper's
above it.";

/// What the protocol says where a helper has nothing for a registry: clients know the text.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// And where they have named no registry.
const NO_SERVER: &str = "no credentials server URL";

/// More than any registry's address has, in bytes.
const ADDRESS_CAP: u64 = 4 * 1024;
/// More than anybody wants kept.
const DROPPED_CAP: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// What is wanted: get, store, erase, list or version
    action: String,
    /// The user name that goes with the token [default: the access key's id]
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
    /// Give the token to this registry alone; may be given several times
    #[arg(long = "host", value_name = "HOST[:PORT]", value_parser = Host::parse)]
    hosts: Vec<Host>,
}

/// Why there is no answer.
#[derive(Debug)]
enum Refusal {
    /// Nothing is wrong.
    NotFound,
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let answer = match arguments.action.as_str() {
        "get" => get(arguments, io::stdin(), socket),
        "store" => store(arguments, io::stdin()),
        "erase" => {
            drop_input(io::stdin());
            Ok(String::new())
        }
        "list" => list(arguments),
        "version" => Ok(concat!("rolekeeper ", env!("CARGO_PKG_VERSION"), "\n").into()),
        other => Err(unknown(other).into()),
    };
    let told = match answer {
        Ok(text) => {
            return command::print(&command::for_standard_output(text)).map(|()| ExitCode::SUCCESS);
        }
        Err(Refusal::NotFound) => NOT_FOUND.into(),
        Err(Refusal::Failed(failure)) => {
            command::tell(&format!("rolekeeper: {failure}"));
            failure.message
        }
    };
    command::print(&(command::printable(&told) + "\n"))?;
    Ok(ExitCode::from(1))
}

fn get(
    arguments: &Arguments,
    input: impl Read,
    socket: Option<PathBuf>,
) -> Result<String, Refusal> {
    let address = address(input)?;
    let origin = match address.contains("://") {
        true => Origin::of_url(&address).map(|(origin, _path)| origin),
        false => Origin::of_host(
            Scheme::Https,
            address
                .split_once('/')
                .map_or(address.as_str(), |(host, _path)| host),
        ),
    };
    let Some(origin) = origin else {
        let hint = "a host, with its port if it has one, or its URL";
        return Err(Failure::new(
            Code::Usage,
            "what docker asks for is not the address of a registry",
            hint,
        )
        .into());
    };
    if !address::is_meant(&arguments.hosts, &origin) {
        return Err(Refusal::NotFound);
    }
    origin.check_secrecy()?;
    let username = arguments.username.as_deref();
    Ok(lease::ask(&arguments.profile, socket, |lease| {
        document(&address, username, lease)
    })?)
}

/// The registry, as docker names it.
fn address(input: impl Read) -> Result<String, Failure> {
    let refuse = |why: &str| {
        Failure::new(
            Code::Usage,
            why,
            "the address of a registry on standard input",
        )
    };
    let mut bytes = Vec::new();
    let read = input.take(ADDRESS_CAP + 1).read_to_end(&mut bytes);
    read.map_err(|error| refuse(&format!("standard input cannot be read: {error}")))?;
    if bytes.len() as u64 > ADDRESS_CAP {
        return Err(refuse(
            "there is more on standard input than the address of a registry",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("what docker asks for is not UTF-8"))?;
    match text.trim() {
        "" => Err(refuse(NO_SERVER)),
        address => Ok(address.to_owned()),
    }
}

fn document(address: &str, username: Option<&str>, lease: &Lease<'_>) -> Result<String, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document<'a> {
        #[serde(rename = "ServerURL")]
        server_url: &'a str,
        username: &'a str,
        secret: &'a str,
    }
    let username = username.unwrap_or(&lease.access_key_id);
    serde_json::to_string(&Document {
        server_url: address,
        username,
        secret: lease::token(lease)?,
    })
    .map(|json| json + "\n")
    .map_err(|_| connect::unexpected_reply())
}

/// What docker was given at a `docker login` is in the input.
fn store(Arguments { profile, .. }: &Arguments, input: impl Read) -> Result<String, Refusal> {
    drop_input(input);
    Err(Failure::new(
        Code::NotAllowed,
        format!("nothing can be stored here: the credentials are those of rolekeeper's profile {profile}"),
        "no docker login: the registry's credHelpers entry is enough",
    )
    .into())
}

/// As far as can be said without the daemon.
fn list(
    Arguments {
        username, hosts, ..
    }: &Arguments,
) -> Result<String, Refusal> {
    let username = username.iter();
    let entries = username.flat_map(|name| {
        hosts
            .iter()
            .map(|host| (host.written.clone(), Value::from(name.as_str())))
    });
    let entries: Map<String, Value> = entries.collect();
    let text = serde_json::to_string(&entries).map_err(|_| connect::unexpected_reply())?;
    Ok(text + "\n")
}

fn unknown(action: &str) -> Failure {
    let action: String = action.chars().take(40).collect();
    Failure::new(
        Code::Usage,
        format!("there is no action `{action}`"),
        "get, store, erase, list or version",
    )
}

/// So that whoever writes it sees no broken pipe.
fn drop_input(input: impl Read) {
    let _ = io::copy(&mut input.take(DROPPED_CAP), &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::super::lease::canary;
    use super::*;

    fn arguments(username: Option<&str>, hosts: &[&str]) -> Arguments {
        let hosts = hosts
            .iter()
            .map(|host| Host::parse(host).unwrap())
            .collect();
        Arguments {
            profile: "dev".into(),
            action: "get".into(),
            username: username.map(Into::into),
            hosts,
        }
    }

    /// Of an input for which no daemon is needed.
    fn refused(arguments: &Arguments, input: &[u8]) -> Refusal {
        get(arguments, input, Some("/nonexistent/socket".into())).unwrap_err()
    }

    #[test]
    fn an_answer_names_the_registry_as_docker_did() {
        assert_eq!(
            document("registry.example.test:5000", None, &canary()).unwrap(),
            "{\"ServerURL\":\"registry.example.test:5000\",\"Username\":\"BYIA1\",\"Secret\":\"canary-token\"}\n"
        );
        assert!(
            document("https://r.test/v1/", Some("<token>"), &canary())
                .unwrap()
                .contains(r#""Username":"<token>""#)
        );
    }

    #[test]
    fn a_registry_that_is_not_meant_is_not_found() {
        let arguments = arguments(None, &["registry.example.test", "127.0.0.1:5000"]);
        for input in [
            "other.example.test",
            "registry.example.test:5000",
            "http://other.example.test",
            "https://index.docker.io/v1/",
            "127.0.0.1",
        ] {
            assert!(
                matches!(refused(&arguments, input.as_bytes()), Refusal::NotFound),
                "{input}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        let long = vec![b'a'; 5000];
        for (input, want) in [
            (&b""[..], "no credentials server URL"),
            (b" \r\n", "no credentials server URL"),
            (
                b"canary:canary@registry.test",
                "not the address of a registry",
            ),
            (
                b"https://canary@registry.test",
                "not the address of a registry",
            ),
            (b"registry.test\ncanary", "not the address of a registry"),
            (b"canary\xff", "not UTF-8"),
            (&long, "more on standard input"),
            (
                b"http://registry.test/v2/",
                "http://registry.test would get the token in the clear",
            ),
        ] {
            let Refusal::Failed(failure) = refused(&arguments(None, &[]), input) else {
                panic!("{want}")
            };
            assert!(
                failure.message.contains(want) && !failure.to_string().contains("canary"),
                "{failure}"
            );
        }
        assert_eq!(address(&b""[..]).unwrap_err().message, NO_SERVER);
    }

    #[test]
    fn a_list_has_what_is_known_without_asking() {
        let list = |username, hosts: &[&str]| list(&arguments(username, hosts)).unwrap();
        assert_eq!(list(None, &["a.test"]), "{}\n");
        assert_eq!(list(Some("me"), &[]), "{}\n");
        assert_eq!(
            list(Some("me"), &["a.test", "b.test:5000"]),
            "{\"a.test\":\"me\",\"b.test:5000\":\"me\"}\n"
        );
    }

    #[test]
    fn what_docker_wants_kept_is_read_to_its_end_and_dropped() {
        let mut input = &br#"{"ServerURL":"r.test","Username":"me","Secret":"canary"}"#[..];
        let Err(Refusal::Failed(failure)) = store(&arguments(None, &[]), &mut input) else {
            panic!()
        };
        assert!(input.is_empty() && !failure.to_string().contains("canary"));
    }
}
