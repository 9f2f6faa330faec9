//! Dependencies between the daemon's modules go one way. This reads every path into the crate from the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules, lowest first. A module may use those before it. Modules of one layer may not use each other,
/// unless the layer is split here.
const LAYERS: &[&[&str]] = &[
    &["sync", "text"],
    &["model"],
    &["platform"],
    &["clock"],
    &["config"],
    &["sandbox"],
    &["token_source"],
    &["upstream"],
    &["cache"],
    &["journal"],
    &["report"],
    &["access"],
    &["error"],
    &["revocation"],
    &["refresh"],
    &["credentials"],
    &["audit", "explain", "iam", "login", "sessions", "status"],
    &["desktop"],
    &["serve"],
    &["app"],
];

/// They build a daemon from all of its parts.
const TEST_ONLY: &[&str] = &["test_support", "fuzzing"];

#[test]
fn modules_use_lower_layers_only() {
    let mut violations = Vec::new();

    for file in source_files() {
        let Some(module) = top_level_module(&file) else {
            continue;
        };
        let rank = rank(&module).unwrap_or_else(|| panic!("{module} has no layer in LAYERS"));

        for used in used_modules(&file) {
            let is_lower = self::rank(&used).is_some_and(|used| used < rank);
            if used != module && !is_lower {
                violations.push(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }

    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// A search that finds nothing is worth something only if it can find something.
#[test]
fn search_finds_imports_in_all_their_forms() {
    let source = "
        use crate::model::ProfileId;
        use crate::{access, clock::Clock};
        fn f() { crate::serve::run() }
        // use crate::app;
        #[cfg(test)]
        mod tests { use crate::desktop; }
    ";

    let found: Vec<_> = modules_in(source).into_iter().collect();
    assert_eq!(found, ["access", "clock", "model", "serve"]);
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![source_folder()];

    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path)
            {
                files.push(path);
            }
        }
    }

    assert!(files.len() > 50, "the source was not found");
    files
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    name == "tests" || name.ends_with("_tests")
}

/// `None` for the crate's root and for what only tests build.
fn top_level_module(file: &Path) -> Option<String> {
    let relative = file.strip_prefix(source_folder()).unwrap();
    let first = Path::new(relative.components().next().unwrap().as_os_str());
    let module = first.file_stem().unwrap().to_string_lossy().into_owned();

    let is_root = ["lib", "main"].contains(&module.as_str());
    (!is_root && !TEST_ONLY.contains(&module.as_str())).then_some(module)
}

fn used_modules(file: &Path) -> BTreeSet<String> {
    modules_in(&fs::read_to_string(file).unwrap())
}

/// The first part of every path that starts with `crate::`, without tests and comments.
fn modules_in(source: &str) -> BTreeSet<String> {
    let code = without_comments(source);
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();

    let mut modules = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            Some(group) => modules.extend(group_heads(group)),
            None => modules.extend(head(path)),
        }
    }

    // A function or type of the crate's root is not a module.
    modules.retain(|module| {
        module
            .chars()
            .all(|each| each.is_ascii_lowercase() || each == '_')
    });
    modules
}

fn without_comments(source: &str) -> String {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .collect::<Vec<_>>()
        .join("\n")
}

fn head(path: &str) -> Option<String> {
    let end = path.find(|each: char| !each.is_ascii_alphanumeric() && each != '_');
    let head = &path[..end.unwrap_or(path.len())];

    (!head.is_empty()).then(|| head.to_owned())
}

/// The first parts of the paths in `{a::b, c::{d, e}}`, after its opening brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut starts = true;

    for (index, each) in group.char_indices() {
        match each {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            each if starts && !each.is_whitespace() => {
                heads.extend(head(&group[index..]));
                starts = false;
            }
            _ => {}
        }
    }

    heads
}
