//! A credential helper of Docker's for registries: its name in `~/.docker/config.json`, and the script of that name, which
//! Docker looks for on `PATH`.

mod object;
mod script;

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::protocol::Failure;
use serde_json::Value;

use self::object::{Layout, Object};
use super::How;
use super::file::Original;
use super::lines::Wrong;
use super::plan::{Change, FileKind, Plan, refused, undone};
use super::program;
use crate::command::iam::suggest;
use crate::command::lease;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles), value_parser = program::profile)]
    pub(super) profile: String,
    /// The registry's host, with its port if that is not 443; may be given again
    #[arg(long = "host", value_name = "HOST", value_parser = program::host, required_unless_present = "undo")]
    hosts: Vec<String>,
    /// The user name to give with the token
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
    /// The file [default: config.json in $DOCKER_CONFIG, else in ~/.docker]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The folder of the script [default: ~/.local/bin, ~/bin or this program's, whichever is on PATH]
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: How,
}

const HELPERS: &str = "credHelpers";

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let Arguments {
        profile,
        hosts,
        username,
        file,
        bin,
        how,
    } = arguments;
    let path = match (file, program::path_in("DOCKER_CONFIG")) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => folder.join("config.json"),
        (None, None) => program::at_home(".docker/config.json")?,
    };
    let original = Original::read(&path)?;
    let refuse = |wrong: Wrong| refused(&original.path, &wrong);
    let mut hosts = hosts.clone();
    hosts.sort();
    hosts.dedup();
    let helper = format!("rolekeeper-{profile}");
    let set_up = helped(original.content(), &helper).map_err(refuse)?;
    let found = script::find(profile, bin.as_deref(), how.undo)?;
    let (after, text) = if how.undo {
        let is_meant = |host: &String| hosts.is_empty() || hosts.contains(host);
        let (gone, stay): (Vec<String>, Vec<String>) = set_up.into_iter().partition(is_meant);
        let text = found
            .as_ref()
            .filter(|_| !stay.is_empty())
            .map(|found| found.without(&gone));
        (taken_out(&original, &gone, &helper).map_err(refuse)?, text)
    } else {
        let new = hosts.iter().filter(|host| !set_up.contains(host));
        let all: Vec<&String> = set_up.iter().chain(new).collect();
        let text = script::text(
            &program::name()?,
            profile,
            &all,
            username.as_deref(),
            socket,
        );
        (
            Some(with(original.content(), &hosts, &helper).map_err(refuse)?),
            Some(text),
        )
    };
    let notes = found
        .iter()
        .filter_map(|found| found.note.clone())
        .collect();
    let script = found.filter(|found| !found.is_left);
    let script = script.map(|found| Change {
        original: found.original,
        after: text,
        kind: FileKind::Script,
    });
    let configuration = Change {
        original,
        after,
        kind: FileKind::Dense,
    };
    // Docker must not be told of a script that is not there.
    let changes = match how.undo {
        true => [Some(configuration), script],
        false => [script, Some(configuration)],
    };
    let host = hosts.first().map_or("HOST", String::as_str);
    Ok(Plan {
        changes: changes.into_iter().flatten().collect(),
        usage: format!("docker pull {host}/IMAGE"),
        notes,
    })
}

/// The hosts for which this is the helper.
fn helped(bytes: &[u8], helper: &str) -> Result<Vec<String>, Wrong> {
    let (text, root) = read(bytes)?;
    let Some(helpers) = helpers(&text, &root)? else {
        return Ok(Vec::new());
    };
    let is_ours =
        |value: &str| serde_json::from_str::<String>(value).is_ok_and(|value| value == helper);
    let ours = helpers
        .members
        .iter()
        .filter(|member| is_ours(text.get(member.value.clone()).unwrap_or_default()));
    Ok(ours.map(|member| member.name.clone()).collect())
}

/// The file with this helper for these hosts.
fn with(bytes: &[u8], hosts: &[String], helper: &str) -> Result<Vec<u8>, Wrong> {
    let (text, root) = read(bytes)?;
    let helpers = helpers(&text, &root)?;
    let mut members = Vec::new();
    for host in hosts {
        match helpers.as_ref().and_then(|helpers| helpers.get(host)) {
            Some(member) if value(&text, &member.value) == helper => {}
            Some(member) => {
                let why = format!(
                    "{host} has the helper {} already",
                    value(&text, &member.value)
                );
                let wrong = Wrong::new(line_of(&text, member.start), why);
                return Err(wrong.or_try("take that entry out first; nothing was changed"));
            }
            None => members.push(format!(
                "{}: {}",
                Value::from(host.as_str()),
                Value::from(helper)
            )),
        }
    }
    if members.is_empty() {
        return Ok(bytes.to_vec());
    }
    if let Some(helpers) = helpers {
        return Ok(helpers
            .with(&text, &members, &Layout::default())
            .into_bytes());
    }
    // As the file is laid out; Docker itself indents by tabs.
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let space = match (root.space(&text), root.members.is_empty()) {
        (Some(space), _) => space.to_owned(),
        (None, true) => format!("{end}\t"),
        (None, false) => String::new(),
    };
    let inner = match space.rsplit_once('\n') {
        Some((_, indent)) => format!("{end}{indent}{indent}"),
        None => String::new(),
    };
    let outer = match space.rsplit_once('\n') {
        Some((_, indent)) => format!("{end}{indent}"),
        None => String::new(),
    };
    let between = if inner.is_empty() {
        ", ".into()
    } else {
        format!(",{inner}")
    };
    let member = format!(
        "{}: {{{inner}{}{outer}}}",
        Value::from(HELPERS),
        members.join(&between)
    );
    let mut new = root.with(
        &text,
        &[member],
        &Layout {
            before: space,
            after: end.into(),
        },
    );
    if bytes.iter().all(u8::is_ascii_whitespace) {
        new += end;
    }
    Ok(new.into_bytes())
}

/// The file without this helper for these hosts. None if it has nothing of it.
fn taken_out(
    original: &Original,
    hosts: &[String],
    helper: &str,
) -> Result<Option<Vec<u8>>, Wrong> {
    if hosts.is_empty() {
        return Ok(original.bytes.clone());
    }
    let bytes = original.content();
    let (mut text, _) = read(bytes)?;
    for host in hosts {
        let (_, root) = read(text.as_bytes())?;
        let Some(helpers) = helpers(&text, &root)? else {
            break;
        };
        text = helpers.without(&text, host);
    }
    let (_, root) = read(text.as_bytes())?;
    if helpers(&text, &root)?.is_some_and(|helpers| helpers.members.is_empty()) {
        text = root.without(&text, HELPERS);
    }
    let has_none = |copy: &[u8]| {
        helped(copy, helper).is_ok_and(|set_up| !set_up.iter().any(|host| hosts.contains(host)))
    };
    let is_before =
        |copy: &[u8]| has_none(copy) && with(copy, hosts, helper).is_ok_and(|with| with == bytes);
    Ok(undone(original, text.into_bytes(), is_before, |left| {
        read(left).is_ok_and(|(_, root)| root.members.is_empty())
    }))
}

/// The text of a configuration, which is an object. One in which nothing is, is as good as one without members.
fn read(bytes: &[u8]) -> Result<(String, Object), Wrong> {
    let bytes = if bytes.iter().all(u8::is_ascii_whitespace) {
        b"{}"
    } else {
        bytes
    };
    serde_json::from_slice::<Value>(bytes)
        .map_err(|error| Wrong::new(error.line(), format!("this is no JSON: {error}")))?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    let root = Object::at(&text, 0).ok_or_else(|| Wrong::new(1, "this is no object"))?;
    once(&text, &root, HELPERS)?;
    Ok((text, root))
}

fn helpers(text: &str, root: &Object) -> Result<Option<Object>, Wrong> {
    let Some(member) = root.get(HELPERS) else {
        return Ok(None);
    };
    let found = Object::at(text, member.value.start);
    let found = found.ok_or_else(|| {
        Wrong::new(
            line_of(text, member.start),
            format!("{HELPERS} is no object"),
        )
    })?;
    for member in &found.members {
        once(text, &found, &member.name)?;
    }
    Ok(Some(found))
}

/// Docker would take the last of several.
fn once(text: &str, object: &Object, name: &str) -> Result<(), Wrong> {
    match object
        .members
        .iter()
        .filter(|member| member.name == name)
        .nth(1)
    {
        Some(again) => Err(Wrong::new(
            line_of(text, again.start),
            format!("{name} is there twice"),
        )),
        None => Ok(()),
    }
}

fn value(text: &str, place: &std::ops::Range<usize>) -> String {
    let raw = text.get(place.clone()).unwrap_or_default();
    serde_json::from_str(raw).unwrap_or_else(|_| raw.into())
}

fn line_of(text: &str, place: usize) -> usize {
    text.bytes()
        .take(place)
        .filter(|&byte| byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    const ORIGINALS: [&str; 22] = [
        "{}",
        "{ }\n",
        "{\n}\n",
        "{\r\n}",
        "{\"a\":1}",
        "{\"a\":{\"b\":[1,\"}\\\"{\"]},\"c\":-1.5e3}\n",
        "{ \"a\" : true , \"b\":null }",
        "{\n\t\"auths\": {\n\t\t\"r\": {\"auth\": \"c2VjcmV0\"}\n\t}\n}",
        "{\r\n  \"auths\": {},\r\n  \"z\": \"\\u00e9é\\\\\"\r\n}\r\n",
        "\n{\"x\": {\"credHelpers\": {\"h\": \"inner\"}}}",
        "{\"credHelpers\":{}}",
        "{\"credHelpers\": { }, \"a\": 1}",
        "{\n  \"a\": 1,\n  \"credHelpers\": {\n  }\n}\n",
        "{\"credHelpers\":{\"x\":\"ecr-login\"}}",
        "{\n\t\"credHelpers\": {\n\t\t\"x\": \"ecr-login\",\n\t\t\"y\": \"rolekeeper-prod\"\n\t},\n\t\"b\": 2\n}\n",
        "{\n \"credsStore\": \"secretservice\", \"credHelpers\": {\"x\": \"gcloud\"} }",
        "{\"a\":1\n,\"b\":2}",
        "{\"a\":\n1}",
        "",
        "\n",
        "{\"credHelpers\"\n:\n{\n\"x\"\n:\n\"y\"\n}\n}",
        "{\"\\u0063redHelpers\": {\"x\": \"y\"}}",
    ];

    #[test]
    fn a_file_has_the_helper_and_otherwise_the_same_and_is_the_same_when_it_is_taken_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in ORIGINALS {
            let set = hosts(&["h", "i:5000"]);
            std::fs::write(&path, text).unwrap();
            let with = with(text.as_bytes(), &set, "rolekeeper-dev").unwrap();
            let mut want = if text.trim().is_empty() {
                Value::Object(serde_json::Map::new())
            } else {
                json(text.as_bytes())
            };
            for host in &set {
                want[HELPERS][host] = "rolekeeper-dev".into();
            }
            assert_eq!(json(&with), want, "{text}");
            assert_eq!(helped(&with, "rolekeeper-dev").unwrap(), set);
            assert_eq!(super::with(&with, &set, "rolekeeper-dev").unwrap(), with);
            // With the copy that the write keeps, to the byte.
            Original::read(&path)
                .unwrap()
                .replace(&with, 0o600, true)
                .unwrap();
            let original = Original::read(&path).unwrap();
            let left = taken_out(&original, &set, "rolekeeper-dev")
                .unwrap()
                .unwrap();
            assert_eq!(String::from_utf8(left).unwrap(), text);
            // And without it, in meaning.
            std::fs::remove_file(dir.path().join("config.json.rolekeeper-backup")).unwrap();
            let left = taken_out(&original, &set, "rolekeeper-dev")
                .unwrap()
                .unwrap_or(b"{}".to_vec());
            let mut want = if text.trim().is_empty() {
                Value::Object(serde_json::Map::new())
            } else {
                json(text.as_bytes())
            };
            if want[HELPERS]
                .as_object()
                .is_none_or(serde_json::Map::is_empty)
            {
                want.as_object_mut().unwrap().shift_remove(HELPERS);
            }
            assert_eq!(json(&left), want, "{text}");
        }
    }

    #[test]
    fn a_helper_of_somebody_elses_and_a_file_that_docker_cannot_read_are_refused_with_their_line() {
        for (text, line) in [
            ("{\n\"credHelpers\": {\n\"h\": \"ecr-login\"}}", 3),
            ("{\n\"credHelpers\": {\"h\": \"rolekeeper-prod\"}}", 2),
            ("{\"credHelpers\": {\"h\": 1}}", 1),
            ("{\n\"credHelpers\": {\"x\": \"a\",\n\"x\": \"b\"}}", 3),
            ("{\"credHelpers\": {},\n\"credHelpers\": {}}", 2),
            ("{\n\"credHelpers\": null}", 2),
            ("{\n\"a\": 1,\n}", 3),
            ("// c\n{}", 1),
            ("[]", 1),
            ("\u{feff}{}", 1),
            ("{\n\"a\": 1", 2),
        ] {
            let wrong = with(text.as_bytes(), &hosts(&["h"]), "rolekeeper-dev").unwrap_err();
            assert_eq!(wrong.line, line, "{text}: {}", wrong.why);
        }
        assert_eq!(
            with(b"{\"a\": \"\xff\"}", &hosts(&["h"]), "rolekeeper-dev")
                .unwrap_err()
                .line,
            1
        );
    }

    #[test]
    fn hosts_come_and_go_one_by_one_and_the_rest_keeps_its_place() {
        let (a, b) = (hosts(&["a"]), hosts(&["b"]));
        let original = "{\n  \"credHelpers\": {\n    \"x\": \"y\"\n  },\n  \"n\": 1\n}\n";
        let one = with(original.as_bytes(), &a, "rolekeeper-dev").unwrap();
        let two = with(&one, &b, "rolekeeper-dev").unwrap();
        let want = "{\n  \"credHelpers\": {\n    \"b\": \"rolekeeper-dev\",\n    \"a\": \"rolekeeper-dev\",\n    \"x\": \"y\"\n  },\n  \"n\": 1\n}\n";
        assert_eq!(String::from_utf8(two.clone()).unwrap(), want);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, &two).unwrap();
        let left = taken_out(&Original::read(&path).unwrap(), &a, "rolekeeper-dev")
            .unwrap()
            .unwrap();
        assert_eq!(
            left,
            with(original.as_bytes(), &b, "rolekeeper-dev").unwrap()
        );
    }
}
