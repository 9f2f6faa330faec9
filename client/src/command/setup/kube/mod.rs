//! A user of Kubernetes' clients: an entry of `~/.kube/config` that starts this program. Clusters and contexts are somebody
//! else's.

mod user;
mod users;
mod yaml;

use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use rolekeeper::protocol::{Code, Failure};

use self::user::User;
use self::users::{Trouble, Users};
use super::How;
use super::file::Original;
use super::plan::{Change, FileKind, Plan, refused, undone};
use super::program;
use crate::command::address::Origin;
use crate::command::iam::suggest;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles), value_parser = program::profile)]
    pub(super) profile: String,
    /// The user [default: as PROFILE]
    #[arg(long, value_name = "USER", value_parser = program::text)]
    name: Option<String>,
    /// The file [default: the first of $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// A server that may be given the token, and no other; may be given again [default: any]
    #[arg(long = "server", value_name = "URL", value_parser = server)]
    servers: Vec<String>,
    #[command(flatten)]
    pub(super) how: How,
}

fn server(text: &str) -> Result<String, String> {
    match Origin::of_url(text) {
        Some((_, "" | "/")) => Ok(text.into()),
        _ => {
            Err("scheme, host and port of a cluster, such as https://k8s.example.test:6443".into())
        }
    }
}

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let Arguments {
        profile,
        name,
        file,
        servers,
        how,
    } = arguments;
    let name = name.as_ref().unwrap_or(profile);
    let path = match file.clone().or_else(first_file) {
        Some(path) => path,
        None => program::at_home(".kube/config")?,
    };
    let original = Original::read(&path)?;
    let mut notes = Vec::new();
    let after = if how.undo {
        let file = Users::read(original.content());
        match file.and_then(|users| taken_out(&users, &original, name, profile, &mut notes)) {
            Ok(after) => after,
            Err(trouble) => return Err(failure(&original.path, trouble, Err(name))),
        }
    } else {
        let user = User {
            name: name.clone(),
            profile: profile.clone(),
            program: program::name()?,
            servers: servers.clone(),
            socket: socket.map(str::to_owned),
        };
        match Users::read(original.content()).and_then(|users| users.with(&user)) {
            Ok(new) => Some(new),
            Err(trouble) => return Err(failure(&original.path, trouble, Ok(&user))),
        }
    };
    let usage = format!(
        "kubectl config set-context --current --user={}",
        program::escaped(name)
    );
    Ok(Plan {
        changes: vec![Change {
            original,
            after,
            kind: FileKind::Configuration,
        }],
        usage,
        notes,
    })
}

/// The first file of those in the variable.
fn first_file() -> Option<PathBuf> {
    let several = std::env::var_os("KUBECONFIG")?;
    std::env::split_paths(&several)
        .find(|path| !path.as_os_str().is_empty())
        .map(|path| program::expanded(path.as_os_str()))
}

fn taken_out(
    users: &Users<'_>,
    original: &Original,
    name: &str,
    profile: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<u8>>, Trouble> {
    let Some(user) = users.find(name)? else {
        return Ok(original.bytes.clone());
    };
    if user.profile != profile {
        notes.push(format!(
            "There is what came by: rolekeeper setup kube {} --name {name}",
            user.profile
        ));
        return Ok(original.bytes.clone());
    }
    let left = users.without(name)?;
    let is_before = |copy: &[u8]| {
        let before = Users::read(copy)
            .ok()
            .filter(|before| matches!(before.find(name), Ok(None)));
        before
            .and_then(|before| before.with(user).ok())
            .is_some_and(|with| with == original.content())
    };
    Ok(undone(original, left, is_before, users::is_blank))
}

/// Why the file is not changed. `user` is who was to be put in, or the name of who was to be taken out.
fn failure(path: &Path, trouble: Trouble, user: Result<&User, &String>) -> Failure {
    let (wrong, is_flow) = match trouble {
        Trouble::Wrong(wrong) => return refused(path, &wrong),
        Trouble::ByHand { wrong, is_flow } => (wrong, is_flow),
    };
    let hint = match user {
        Err(name) => format!("take the user {name} out by hand; nothing was changed"),
        Ok(user) if is_flow => format!(
            "put this into its list of users by hand; nothing was changed\n{}",
            user.json()
        ),
        Ok(user) => {
            let block = user.block(0).join("\n");
            format!("put this into its list of users by hand; nothing was changed\nusers:\n{block}")
        }
    };
    Failure::new(
        Code::Configuration,
        format!("{}:{}: {}", path.display(), wrong.line, wrong.why),
        hint,
    )
}
