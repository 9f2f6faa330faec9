//! Landlock: the daemon reads, writes and executes only the files of its work (landlock(7)).

use std::io::ErrorKind;
use std::path::PathBuf;

use ::landlock::{
    ABI, Access, AccessFs, BitFlags, RestrictSelfError, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use super::AllowedPaths;
use crate::platform::private_file::create_folder;

/// An older kernel restricts fewer rights.
const RIGHTS: ABI = ABI::V5;

pub(super) fn restrict(paths: &AllowedPaths) -> Result<(), String> {
    for folder in &paths.write {
        if let Err(error) = create_folder(folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot create the folder");
        }
    }

    // After a reload, the rules of the earlier process are still in force.
    for folder in paths.read.iter().chain(&paths.write) {
        let read = std::fs::read_dir(folder);
        if read.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            tracing::warn!(
                folder = %folder.display(),
                "cannot read the folder; if it is new in the configuration, restart rolekeeperd instead of reloading it"
            );
        }
    }

    match rules(paths).and_then(RulesetCreated::restrict_self) {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err("this kernel has no Landlock".into())
        }
        Ok(_) => Ok(()),
        // Each reload adds a layer. The kernel allows 16, and the earlier ones stay in force.
        Err(error) if is_layer_limit(&error) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_layer_limit(error: &RulesetError) -> bool {
    let RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall { source, .. }) = error
    else {
        return false;
    };
    source.raw_os_error() == Some(libc::E2BIG)
}

fn rules(paths: &AllowedPaths) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = read | AccessFs::Execute;
    let write = read | (AccessFs::from_write(RIGHTS) & !(AccessFs::MakeBlock | AccessFs::MakeChar));

    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?;
    let rules = allow(rules, &paths.read, read)?;
    let rules = allow(rules, &paths.write, write)?;
    let rules = allow(rules, &paths.execute, execute)?;
    let rules = allow(rules, &loaders(), execute)?;

    allow(rules, &["/dev/null".into()], read | AccessFs::WriteFile)
}

fn allow(
    rules: RulesetCreated,
    paths: &[PathBuf],
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    rules.add_rules(path_beneath_rules(paths, rights))
}

/// The dynamic loader of this program. After a reload, the next program needs it to start.
fn loaders() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut loaders = Vec::new();
    for line in maps.lines() {
        let path = line.find('/').and_then(|start| line.get(start..));
        let Some(path) = path.map(PathBuf::from) else {
            continue;
        };
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("ld-") && !loaders.contains(&path) {
            loaders.push(path);
        }
    }

    loaders
}
