//! A user in a kubeconfig that starts rolekeeper, by `kubectl config`. Clusters and contexts stay as they are.

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde_json::{Value, json};

use super::plan::{Change, Plan};
use super::program::{self, option, quoted};
use super::{Common, external};
use crate::command::address::Origin;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    /// The user in the kubeconfig [default: as PROFILE]
    #[arg(long, value_name = "USER", value_parser = user_name)]
    name: Option<String>,
    /// A cluster that may get the token; may be repeated [default: all]
    #[arg(long = "server", value_name = "URL", value_parser = server)]
    servers: Vec<String>,
}

const API: &str = "client.authentication.k8s.io/v1";

fn user_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
        return Err("a user's name is text that does not start with `-`".into());
    }
    Ok(text.into())
}

fn server(text: &str) -> Result<String, String> {
    match Origin::of_url(text) {
        Some((_, "" | "/")) => Ok(text.into()),
        _ => Err("a server is scheme, host and port, such as https://k8s.example.test:6443".into()),
    }
}

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let Common { profile, file, .. } = &arguments.common;
    let name = arguments.name.as_ref().unwrap_or(profile);
    let mut kubectl = vec!["kubectl".to_owned(), "config".to_owned()];
    kubectl.extend(file.iter().map(|file| format!("--kubeconfig={file}")));

    let user = find_user(&kubectl, name)?;
    let words = match arguments.common.undo {
        true => removal(user.as_ref(), name, profile),
        false => addition(user.as_ref(), name, arguments, socket)?,
    };

    let change = (!words.is_empty()).then(|| Change::Command {
        command: [kubectl, words].concat(),
    });

    Ok(Plan {
        changes: change.into_iter().collect(),
        example: format!(
            "kubectl config set-context --current --user {}",
            quoted(&[name])
        ),
        notes: Vec::new(),
    })
}

/// The user of this name. kubectl leaves out its secrets.
fn find_user(kubectl: &[String], name: &str) -> Result<Option<Value>, Failure> {
    let view = [kubectl, &["view".into(), "--output=json".into()]].concat();
    let mut view: Value =
        serde_json::from_str(&external::run(&view)?).map_err(|_| connect::unexpected_reply())?;
    let users = view.get_mut("users").and_then(Value::as_array_mut);
    let user = users.and_then(|users| users.iter_mut().find(|user| user["name"] == name));
    Ok(user.map(Value::take))
}

/// The profile of a user that setup has added.
fn profile_of(user: &Value) -> Option<&str> {
    let exec = user.pointer("/user/exec")?;
    let program = exec.get("command")?.as_str()?;
    let is_ours = program::is_rolekeeper(program) && exec.pointer("/args/0")? == "kube";
    exec.pointer("/args/1")?.as_str().filter(|_| is_ours)
}

/// The words that add the user or change it, if that is needed.
fn addition(
    user: Option<&Value>,
    name: &str,
    arguments: &Arguments,
    socket: Option<&str>,
) -> Result<Vec<String>, Failure> {
    if user.is_some_and(|user| profile_of(user).is_none()) {
        return Err(Failure::new(
            Code::Configuration,
            format!("the kubeconfig already has another user {name}"),
            "choose another name with --name",
        ));
    }

    let program = program::path(|_| true)?;
    let mut args = vec!["kube", &arguments.common.profile];
    let servers = arguments.servers.iter().map(String::as_str);
    args.extend(option("--server", servers));
    args.extend(option("--socket", socket));
    let needs_cluster = !arguments.servers.is_empty();
    let exec = json!({
        "apiVersion": API,
        "command": program,
        "args": args,
        "interactiveMode": "Never",
        "provideClusterInfo": needs_cluster,
    });

    let old = user.and_then(|user| user.pointer("/user/exec"));
    let mut fields = exec.as_object().into_iter().flatten();
    if old.is_some_and(|old| fields.all(|(field, value)| old.get(field) == Some(value))) {
        return Ok(Vec::new());
    }

    let mut words = vec![
        "set-credentials".to_owned(),
        name.to_owned(),
        format!("--exec-api-version={API}"),
        format!("--exec-command={program}"),
        "--exec-interactive-mode=Never".to_owned(),
        format!("--exec-provide-cluster-info={needs_cluster}"),
    ];

    words.extend(args.iter().map(|arg| format!("--exec-arg={arg}")));

    Ok(words)
}

/// The words that remove the user, if it is of this profile. A dot separates fields in the argument of `unset`.
fn removal(user: Option<&Value>, name: &str, profile: &str) -> Vec<String> {
    match user.and_then(profile_of) {
        Some(found) if found == profile && name.contains('.') => {
            vec!["delete-user".into(), name.into()]
        }
        Some(found) if found == profile => vec!["unset".into(), format!("users.{name}")],
        _ => Vec::new(),
    }
}
