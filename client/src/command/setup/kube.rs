//! A user in a kubeconfig that starts rolekeeper, by `kubectl config`. Clusters and contexts stay as they are.

use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use rolekeeper::shell::quoted;
use serde_json::{Value, json};

use super::file::check_path;
use super::plan::{Change, Plan};
use super::program::{self, option};
use super::{Common, Options, external};
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

const OTHER_NAME: &str = "choose another name with --name";
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
    let (profile, Options { file, .. }) = arguments.common.parts();
    // kubectl follows links.
    for path in files(file.as_deref()) {
        check_path(&path)?;
    }

    let name = arguments.name.as_ref().unwrap_or(profile);
    let mut kubectl = vec!["kubectl".to_owned(), "config".to_owned()];
    kubectl.extend(file.iter().map(|file| format!("--kubeconfig={file}")));

    let view = View::read(&kubectl)?;
    let user = view.user(name);
    let words = match arguments.common.options.undo {
        true => removal(user, name, profile),
        false => {
            let merged = merged_view(file.as_deref())?;
            if user.is_none()
                && merged
                    .as_ref()
                    .is_some_and(|view| view.user(name).is_some())
            {
                let message = format!("another file of KUBECONFIG already has a user {name}");
                return Err(Failure::new(Code::Configuration, message, OTHER_NAME));
            }

            let all_files = ["kubectl".to_owned(), "config".to_owned()];
            let source = merged.as_ref().map_or(kubectl.as_slice(), |_| &all_files);
            let authorities = authorities(source, &arguments.servers);
            let words = addition(user, name, arguments, &authorities, socket)?;
            if !words.is_empty() {
                check_contexts(merged.as_ref().unwrap_or(&view), user, name, arguments)?;
            }
            words
        }
    };

    let change = (!words.is_empty()).then(|| Change::Command {
        command: [kubectl, words].concat(),
    });

    Ok(Plan {
        changes: change.into_iter().collect(),
        example: format!(
            "kubectl config set-context CONTEXT --user {}",
            quoted(&[name])
        ),
        notes: Vec::new(),
    })
}

/// The files that kubectl may change, except the default one.
fn files(file: Option<&str>) -> Vec<PathBuf> {
    match (file, connect::variable("KUBECONFIG")) {
        (Some(file), _) => vec![file.into()],
        (None, Some(files)) => std::env::split_paths(&files)
            .filter(|path| !path.as_os_str().is_empty())
            .collect(),
        (None, None) => Vec::new(),
    }
}

/// What kubectl shows of its configuration, which has no secrets.
struct View(Value);

impl View {
    fn read(kubectl: &[String]) -> Result<Self, Failure> {
        let view = [kubectl, &["view".into(), "--output=json".into()]].concat();
        serde_json::from_str(&external::run(&view)?)
            .map(Self)
            .map_err(|_| connect::unexpected_reply())
    }

    fn entries(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let entries = self.0.get(kind).and_then(Value::as_array);
        entries.into_iter().flatten()
    }

    fn user(&self, name: &str) -> Option<&Value> {
        self.entries("users").find(|user| user["name"] == name)
    }

    /// A context with this user, and the address of its cluster.
    fn context(&self, user: &str) -> Option<(&str, Option<Origin>)> {
        let mut contexts = self.entries("contexts");
        let has_user = |context: &&Value| {
            let value = context.pointer("/context/user");
            value.is_some_and(|value| value == user)
        };
        let context = contexts.find(has_user)?;
        let name = context.pointer("/context/cluster");
        let mut clusters = self.entries("clusters");
        let cluster = clusters.find(|cluster| cluster.get("name") == name);
        let server = cluster.and_then(|cluster| cluster.pointer("/cluster/server")?.as_str());
        let origin = server.and_then(Origin::of_url).map(|(origin, _)| origin);

        Some((context["name"].as_str().unwrap_or_default(), origin))
    }
}

/// What kubectl shows without `--file`, if that file is one of several in KUBECONFIG.
fn merged_view(file: Option<&str>) -> Result<Option<View>, Failure> {
    let (Some(file), Some(files)) = (file, connect::variable("KUBECONFIG")) else {
        return Ok(None);
    };

    let resolved = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.canonicalize().unwrap_or(path)
    };
    let file = resolved(Path::new(file));
    match std::env::split_paths(&files).any(|path| resolved(&path) == file) {
        true => View::read(&["kubectl".into(), "config".into()]).map(Some),
        false => Ok(None),
    }
}

/// The certificate authorities that the kubeconfig has for these servers, in base64. Without them, rolekeeper gives no token
/// to a cluster with an authority of its own.
fn authorities(kubectl: &[String], servers: &[String]) -> Vec<String> {
    const LINES: &str = "--output=jsonpath={range .clusters[*]}{.cluster.server} \
        {.cluster.certificate-authority-data}{\"\\n\"}{end}";

    let is_named = |url: &str| {
        let origin = Origin::of_url(url).map(|(origin, _)| origin);
        let mut named = servers.iter().filter_map(|server| Origin::of_url(server));
        origin.is_some_and(|origin| named.any(|(named, _)| named == origin))
    };

    // kubectl reads the files of authorities into their place. It fails if a file of another cluster or user is missing.
    let view = ["view", "--raw", "--flatten", LINES].map(str::to_owned);
    let view = match servers.is_empty() {
        true => String::new(),
        false => external::run(&[kubectl, &view].concat()).unwrap_or_default(),
    };

    let clusters = view.lines().filter_map(|line| line.split_once(' '));
    let named = clusters.filter(|(server, authority)| is_named(server) && !authority.is_empty());
    let mut authorities: Vec<_> = named.map(|(_, authority)| authority.to_owned()).collect();
    authorities.sort();
    authorities.dedup();

    authorities
}

/// Refuses a user that a context already names: its cluster would get the token. With `--server`, rolekeeper checks that
/// itself.
fn check_contexts(
    view: &View,
    user: Option<&Value>,
    name: &str,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let is_unrestricted = |user: &Value| {
        let args = user.pointer("/user/exec/args").and_then(Value::as_array);
        args.is_some_and(|args| args.iter().all(|arg| arg != "--server"))
    };
    let is_known = user.is_some_and(|user| {
        is_unrestricted(user) && profile_of(user) == Some(&arguments.common.profile)
    });
    if is_known || !arguments.servers.is_empty() {
        return Ok(());
    }

    let Some((context, origin)) = view.context(name) else {
        return Ok(());
    };

    let (server, hint) = match origin {
        Some(origin) => (
            origin.to_string(),
            format!("add --server {origin} if it may get the token, or {OTHER_NAME}"),
        ),
        None => (
            "its cluster".to_owned(),
            format!("name the clusters that may get the token with --server, or {OTHER_NAME}"),
        ),
    };
    let message = format!(
        "the context {context} already has the user {name}, and would send the token to {server}"
    );
    Err(Failure::new(Code::Configuration, message, hint))
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
    authorities: &[String],
    socket: Option<&str>,
) -> Result<Vec<String>, Failure> {
    if user.is_some_and(|user| profile_of(user).is_none()) {
        return Err(Failure::new(
            Code::Configuration,
            format!("the kubeconfig already has another user {name}"),
            OTHER_NAME,
        ));
    }

    let program = program::path(|_| true)?;
    let mut args = vec!["kube", &arguments.common.profile];
    let servers = arguments.servers.iter().map(String::as_str);
    args.extend(option("--server", servers));
    let authorities = authorities.iter().map(String::as_str);
    args.extend(option("--certificate-authority-data", authorities));
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
