//! `rolekeeper docker-credential PROFILE ACTION`: prints the session token for docker, as a credential helper. The protocol
//! has errors on standard output, and only the exit codes 0 and 1. docker hides such an error and continues without
//! credentials, so the error is printed to standard error too. Credentials to store are discarded.

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
docker runs a helper by its name, without arguments. Put an executable file docker-credential-rolekeeper-dev in a folder of
PATH:

  #!/bin/sh
  exec /usr/local/bin/rolekeeper docker-credential dev \"$@\"

Then, in ~/.docker/config.json:

  { \"credHelpers\": { \"registry.example.test\": \"rolekeeper-dev\" } }

docker asks a credHelpers entry only for its registry, and a credsStore for every registry. With a credsStore, restrict the
registries in that file: docker-credential dev --host registry.example.test \"$@\".

If a helper fails, docker continues without credentials and prints a misleading error. Read the error of rolekeeper above it.";

/// The protocol's error if a helper has no credentials for a registry. Clients compare the text.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The protocol's error if the input has no registry.
const NO_SERVER: &str = "no credentials server URL";

/// The maximum length of a registry's address, in bytes.
const MAX_ADDRESS: u64 = 4 * 1024;
/// The maximum length of discarded input, in bytes.
const MAX_DISCARDED: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// The action: get, store, erase, list or version
    action: String,
    /// The user name for the token [default: the access key's id]
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
    /// Allow only this registry; can be repeated
    #[arg(long = "host", value_name = "HOST[:PORT]", value_parser = Host::parse)]
    hosts: Vec<Host>,
}

/// Why there are no credentials.
#[derive(Debug)]
enum Refusal {
    /// The registry is not one of this helper's.
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
            discard(io::stdin());
            Ok(String::new())
        }
        "list" => list(arguments),
        "version" => Ok(concat!("rolekeeper ", env!("CARGO_PKG_VERSION"), "\n").into()),
        other => Err(unknown(other).into()),
    };

    let message = match answer {
        Ok(text) => {
            return command::print(&command::escaped_json(&text)).map(|()| ExitCode::SUCCESS);
        }
        Err(Refusal::NotFound) => NOT_FOUND.into(),
        Err(Refusal::Failed(failure)) => {
            command::print_error(&format!("rolekeeper: {failure}"));
            failure.message
        }
    };

    command::print(&(command::printable(&message) + "\n"))?;

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
        let hint = "use a host with an optional port, or a URL";
        return Err(Failure::new(
            Code::Usage,
            "docker's request is not the address of a registry",
            hint,
        )
        .into());
    };

    if !address::is_allowed_host(&arguments.hosts, &origin) {
        return Err(Refusal::NotFound);
    }

    origin.check_encryption()?;
    let username = arguments.username.as_deref();
    Ok(lease::ask(&arguments.profile, socket, |lease| {
        document(&address, username, lease)
    })?)
}

/// The registry's address from the input.
fn address(input: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_ADDRESS + 1).read_to_end(&mut bytes);
    read.map_err(|error| refuse(&format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > MAX_ADDRESS {
        return Err(refuse(
            "standard input is longer than the address of a registry",
        ));
    }

    let text = String::from_utf8(bytes).map_err(|_| refuse("docker's request is not UTF-8"))?;
    match text.trim() {
        "" => Err(refuse(NO_SERVER)),
        address => Ok(address.to_owned()),
    }
}

fn refuse(reason: &str) -> Failure {
    Failure::new(
        Code::Usage,
        reason,
        "pass the address of a registry on standard input",
    )
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

/// The input has the password of `docker login`.
fn store(Arguments { profile, .. }: &Arguments, input: impl Read) -> Result<String, Refusal> {
    discard(input);
    Err(Failure::new(
        Code::NotAllowed,
        format!("cannot store credentials: this helper returns those of profile {profile}"),
        "skip docker login: the registry's credHelpers entry is enough",
    )
    .into())
}

/// The hosts and user names of the options.
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
        format!("unknown action `{action}`"),
        "use get, store, erase, list or version",
    )
}

/// Reads the input to its end, so that the writer gets no broken pipe.
fn discard(input: impl Read) {
    let _ = io::copy(&mut input.take(MAX_DISCARDED), &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::super::lease::example;
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

    /// The refusal of an input that needs no daemon.
    fn refused(arguments: &Arguments, input: &[u8]) -> Refusal {
        get(arguments, input, Some("/nonexistent/socket".into())).unwrap_err()
    }

    #[test]
    fn answer_repeats_the_registry_of_the_request() {
        assert_eq!(
            document("registry.example.test:5000", None, &example()).unwrap(),
            "{\"ServerURL\":\"registry.example.test:5000\",\"Username\":\"BYIA1\",\"Secret\":\"canary-token\"}\n"
        );
        assert!(
            document("https://r.test/v1/", Some("<token>"), &example())
                .unwrap()
                .contains(r#""Username":"<token>""#)
        );
    }

    #[test]
    fn registry_of_another_host_is_not_found() {
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
    fn invalid_address_is_rejected_and_not_printed() {
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
            (&long, "longer than the address"),
            (
                b"http://registry.test/v2/",
                "http://registry.test would receive the token unencrypted",
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
    fn list_has_the_hosts_of_the_options() {
        let list = |username, hosts: &[&str]| list(&arguments(username, hosts)).unwrap();
        assert_eq!(list(None, &["a.test"]), "{}\n");
        assert_eq!(list(Some("me"), &[]), "{}\n");
        assert_eq!(
            list(Some("me"), &["a.test", "b.test:5000"]),
            "{\"a.test\":\"me\",\"b.test:5000\":\"me\"}\n"
        );
    }

    #[test]
    fn stored_credentials_are_read_and_discarded() {
        let mut input = &br#"{"ServerURL":"r.test","Username":"me","Secret":"canary"}"#[..];
        let Err(Refusal::Failed(failure)) = store(&arguments(None, &[]), &mut input) else {
            panic!()
        };
        assert!(input.is_empty() && !failure.to_string().contains("canary"));
    }
}
