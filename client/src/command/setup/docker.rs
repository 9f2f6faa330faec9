//! A credential helper of Docker for registries: its name in `~/.docker/config.json`, and a script of that name on `PATH`.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use rolekeeper::shell::quoted;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use super::file::{Edit, Original};
use super::plan::{Change, Note, Plan};
use super::program::{self, option};
use super::{Common, Options};
use crate::command::lease;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    /// The registry's host, with its port if that is not 443; may be repeated
    #[arg(long = "host", value_name = "HOST", value_parser = program::host, required_unless_present = "undo")]
    hosts: Vec<String>,
    /// The user name to give with the token
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
    /// The folder of the script [default: the first of ~/.local/bin, ~/bin and rolekeeper's own that is on PATH]
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
}

const HELPERS: &str = "credHelpers";
const SCRIPT_START: &str = "#!/bin/sh\nexec ";

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let (profile, Options { undo, .. }) = arguments.common.parts();
    let path = match (
        &arguments.common.options.file,
        connect::variable("DOCKER_CONFIG"),
    ) {
        (Some(file), _) => file.into(),
        (None, Some(folder)) => Path::new(&folder).join("config.json"),
        (None, None) => program::in_home(".docker/config.json")?,
    };

    let original = Original::read(&path)?;
    let mut config = parse(&original)?;
    let helper = format!("rolekeeper-{profile}");
    let hosts = match undo {
        true => remove(&mut config, &helper, &arguments.hosts),
        false => insert(&mut config, &helper, &arguments.hosts, &path)?,
    };

    let is_used = config.get(HELPERS).and_then(Value::as_object);
    let is_used = is_used.is_some_and(|helpers| helpers.values().any(|value| *value == helper));
    let script = script(arguments, is_used, socket)?;
    let notes = arguments.bin.iter().filter_map(|folder| path_note(folder));

    let lines = hosts.iter();
    let lines = lines.map(|host| format!("\"{HELPERS}\": {{ \"{host}\": \"{helper}\" }}"));
    let lines: Vec<_> = lines.collect();
    // Docker fails if the configuration names a script that does not exist.
    let edits = match (hosts.is_empty(), undo) {
        (true, _) => [None, script],
        (_, true) => [
            Some(original.edit(written(&config)?, lines, Vec::new())?),
            script,
        ],
        (_, false) => [
            script,
            Some(original.edit(written(&config)?, Vec::new(), lines)?),
        ],
    };

    let host = arguments.hosts.first().map_or("HOST", String::as_str);
    Ok(Plan {
        changes: edits.into_iter().flatten().map(Change::File).collect(),
        example: format!("docker pull {host}/IMAGE"),
        notes: notes.filter(|_| !undo).collect(),
    })
}

/// Parses the configuration. An empty file is an empty object, as it is to Docker.
fn parse(original: &Original) -> Result<Map<String, Value>, Failure> {
    let refused = |reason: &str| {
        let message = format!("{} {reason}", original.path.display());
        Failure::new(
            Code::Configuration,
            message,
            "fix the file and run the command again",
        )
    };

    let content = original.content.as_deref().unwrap_or_default();
    if content.trim_ascii().is_empty() {
        return Ok(Map::new());
    }

    // The error has the line and the column, and no text of the file.
    let invalid = |error: serde_json::Error| refused(&format!("is not valid JSON: {error}"));
    let config: Value = serde_json::from_slice(content).map_err(invalid)?;
    serde_json::from_slice::<UniqueKeys>(content).map_err(invalid)?;
    let Value::Object(config) = config else {
        return Err(refused("is not a JSON object"));
    };

    match problem(&config) {
        Some(problem) => Err(refused(&format!("is not valid: {problem}"))),
        None => Ok(config),
    }
}

/// What Docker does not read as it is written. Go compares the names of an object's fields without regard to case.
fn problem(config: &Map<String, Value>) -> Option<String> {
    let mut seen = HashSet::new();
    for key in config.keys() {
        let folded = key.to_lowercase();
        if folded == HELPERS.to_lowercase() && key != HELPERS {
            return Some(format!("a key is {HELPERS} in other letters"));
        }
        if !seen.insert(folded) {
            return Some("two keys differ only in capital letters".into());
        }
    }

    let is_text = |value: &Value| value.is_string() || value.is_null();
    let is_object = |value: &Value| value.is_object() || value.is_null();
    for name in [HELPERS, "HttpHeaders", "auths"] {
        let value = match config.get(name) {
            None => continue,
            Some(Value::Null) if name != HELPERS => continue,
            Some(value) => value,
        };
        let Some(values) = value.as_object() else {
            return Some(format!("{name} is not a JSON object"));
        };

        let mut values = values.values();
        let (is_valid, kind) = match name {
            "auths" => (values.all(is_object), "an object"),
            _ => (values.all(is_text), "text"),
        };
        if !is_valid {
            return Some(format!("a value in {name} is not {kind}"));
        }
    }

    let store = config.get("credsStore");
    store
        .filter(|store| !is_text(store))
        .map(|_| "credsStore is not text".to_owned())
}

/// JSON whose objects have no key twice. Docker merges such values, and a rewrite would lose the first.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("an object has the same key twice"));
            }
            entries.next_value::<Self>()?;
        }
        Ok(self)
    }
}

/// Adds the helper for each of these registries, and returns those that did not have it.
fn insert(
    config: &mut Map<String, Value>,
    helper: &str,
    hosts: &[String],
    path: &Path,
) -> Result<Vec<String>, Failure> {
    let mut added = Vec::new();
    let helpers = config.entry(HELPERS).or_insert_with(|| Map::new().into());
    for host in hosts {
        match helpers.get(host) {
            Some(old) if old == helper => continue,
            Some(_) => {
                let message = format!("{host} already has another helper in {}", path.display());
                let hint = format!("remove \"{host}\" from \"{HELPERS}\" in that file");
                return Err(Failure::new(Code::Configuration, message, hint));
            }
            None => added.push(host.clone()),
        }
        if let Some(helpers) = helpers.as_object_mut() {
            helpers.insert(host.clone(), helper.into());
        }
    }

    Ok(added)
}

/// Removes the helper from these registries, or from all, and returns those that had it.
fn remove(config: &mut Map<String, Value>, helper: &str, hosts: &[String]) -> Vec<String> {
    let mut removed = Vec::new();
    let Some(helpers) = config.get_mut(HELPERS).and_then(Value::as_object_mut) else {
        return removed;
    };

    helpers.retain(|host, value| {
        let is_kept = *value != helper || !(hosts.is_empty() || hosts.contains(host));
        removed.extend((!is_kept).then(|| host.clone()));
        is_kept
    });

    if helpers.is_empty() {
        config.shift_remove(HELPERS);
    }

    removed
}

/// The configuration as Docker itself writes it, indented with tabs.
fn written(config: &Map<String, Value>) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = Serializer::with_formatter(&mut content, formatter);
    config
        .serialize(&mut serializer)
        .map_err(|_| connect::unexpected_reply())?;
    Ok(content)
}

/// The change of the script. One that is not from setup stays.
fn script(
    arguments: &Arguments,
    is_used: bool,
    socket: Option<&str>,
) -> Result<Option<Edit>, Failure> {
    let (profile, Options { undo, .. }) = arguments.common.parts();
    let path = match script_path(arguments) {
        Err(_) if *undo => return Ok(None),
        path => path?,
    };

    let original = Original::read(&path)?;
    let old = original.text()?.to_owned();
    let start = format!(" docker-credential {profile} ");
    let is_ours = old.starts_with(SCRIPT_START) && old.contains(&start);
    if *undo && (is_used || !is_ours) {
        return Ok(None);
    }

    if !is_ours && original.content.is_some() {
        let message = format!("{} is not from setup", original.path.display());
        let hint = "remove it, or choose another folder with --bin";
        return Err(Failure::new(Code::Configuration, message, hint));
    }

    let new = if *undo {
        String::new()
    } else {
        script_text(arguments, socket)?
    };

    let edit = Edit {
        file: original.path.display().to_string(),
        backup: None,
        removed: old.lines().map(str::to_owned).collect(),
        added: new.lines().map(str::to_owned).collect(),
        original,
        content: (!undo).then(|| new.clone().into_bytes()),
        new_mode: 0o755,
    };

    Ok((old != new).then_some(edit))
}

fn script_text(arguments: &Arguments, socket: Option<&str>) -> Result<String, Failure> {
    let program = program::path(|_| true)?;
    let mut words = vec![&program, "docker-credential", &arguments.common.profile];
    words.extend(option("--username", arguments.username.as_deref()));
    words.extend(option("--socket", socket));
    Ok(format!("{SCRIPT_START}{} \"$@\"\n", quoted(&words)))
}

/// Where the script is, or where a new one goes.
fn script_path(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let name = format!("docker-credential-rolekeeper-{}", arguments.common.profile);
    let search_path = program::search_path();
    let own = program::path(|_| true)?;
    let own = Path::new(&own).parent().map(Path::to_owned);
    let in_home = [program::in_home(".local/bin")?, program::in_home("bin")?];
    let mut new = in_home.into_iter().chain(own);

    let old = search_path
        .iter()
        .find(|folder| folder.join(&name).exists());
    let folder = arguments.bin.clone().or_else(|| old.cloned());
    let folder = folder.or_else(|| new.find(|folder| search_path.contains(folder)));
    folder.map(|folder| folder.join(name)).ok_or_else(|| {
        let message =
            "found no folder for Docker's script: neither ~/.local/bin nor ~/bin is on PATH";
        let hint = "name a folder on PATH with --bin";
        Failure::new(Code::Configuration, message, hint)
    })
}

fn path_note(folder: &Path) -> Option<Note> {
    let folder = std::path::absolute(folder).ok()?;
    let is_on_path = program::search_path().contains(&folder);
    let folder = folder.display();
    (!is_on_path).then(|| Note {
        message: format!("Docker finds the script only on PATH, which does not have {folder}"),
        hint: format!("add {folder} to PATH"),
    })
}
