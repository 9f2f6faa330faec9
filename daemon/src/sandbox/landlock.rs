//! Landlock: nothing is read, written or started but where the daemon's work is (landlock(7)).

use std::path::PathBuf;

use ::landlock::{
    ABI, Access, AccessFs, BitFlags, RestrictSelfError, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use super::AllowedPaths;
use crate::platform::private_file::create_folder;

/// What is withheld where the kernel knows it; an older one withholds less.
const RIGHTS: ABI = ABI::V5;

pub(super) fn restrict(places: &AllowedPaths) -> Result<(), String> {
    for folder in &places.write {
        if let Err(error) = create_folder(folder) {
            tracing::warn!(folder = %folder.display(), %error, "it cannot be made");
        }
    }
    // A process that takes the place of a confined one is as confined as that was.
    for folder in places.read.iter().chain(&places.write) {
        if std::fs::read_dir(folder)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        {
            let why = "it cannot be read; if it is new in the configuration, restart rolekeeperd instead of reloading it";
            tracing::warn!(folder = %folder.display(), "{why}");
        }
    }
    match rules(places).and_then(RulesetCreated::restrict_self) {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err("this kernel has none".into())
        }
        Ok(_) => Ok(()),
        // Each process that takes the place of another adds a layer, and no more than 16 fit: those of the earlier ones hold.
        Err(error) if is_full(&error) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_full(error: &RulesetError) -> bool {
    let RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall { source, .. }) = error
    else {
        return false;
    };
    source.raw_os_error() == Some(libc::E2BIG)
}

fn rules(places: &AllowedPaths) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = read | AccessFs::Execute;
    let write = read | (AccessFs::from_write(RIGHTS) & !(AccessFs::MakeBlock | AccessFs::MakeChar));
    let nothing = [PathBuf::from("/dev/null")];
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?;
    let allow = |rules: RulesetCreated, paths: &[PathBuf], rights: BitFlags<AccessFs>| {
        rules.add_rules(path_beneath_rules(paths, rights))
    };
    let rules = allow(rules, &places.read, read)?;
    let rules = allow(rules, &places.write, write)?;
    let rules = allow(rules, &places.execute, execute)?;
    let rules = allow(rules, &loader(), execute)?;
    allow(rules, &nothing, read | AccessFs::WriteFile)
}

/// What loads this program's libraries, without which the next one would not start.
fn loader() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = |line: &str| {
        line.find('/')
            .and_then(|at| line.get(at..))
            .map(PathBuf::from)
    };
    let is_loader = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("ld-"))
    };
    let mut found: Vec<_> = maps.lines().filter_map(path).filter(is_loader).collect();
    found.dedup();
    found
}
