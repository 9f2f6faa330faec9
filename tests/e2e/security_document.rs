//! The tests that `.github/SECURITY.md` names as its evidence exist.

use std::fs;
use std::path::Path;

#[test]
fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join(".github/SECURITY.md")).unwrap();
    let mut file = String::new();
    let mut count = 0;

    // Every second part is between backticks.
    for word in text.split('`').skip(1).step_by(2) {
        let Some((module, name)) = word.split_once("::") else {
            let path = word
                .strip_prefix("tests/")
                .map_or_else(|| root.join(word), |rest| root.join("tests").join(rest));
            let is_path = ["client/", "daemon/", "tests/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            assert!(!is_path || path.exists(), "{word}");
            continue;
        };

        // `…` repeats the last file.
        if module != "…" {
            file = module.to_owned();
        }

        if file == "FILE" {
            continue;
        }

        let path = if file.contains('/') {
            root.join(&file)
        } else {
            root.join(format!("tests/e2e/{file}.rs"))
        };
        let tests = fs::read_to_string(path).unwrap_or_else(|_| panic!("{word}"));
        let (name, is_whole) = name
            .strip_suffix('…')
            .map_or((name, true), |name| (name, false));

        let function = if is_whole {
            format!("fn {name}()")
        } else {
            format!("fn {name}")
        };

        assert!(tests.contains(&function), "{word}");

        count += 1;
    }

    assert!(count > 15, "{count}");
}
