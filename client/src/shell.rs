//! Commands in hints: a person pastes them into a POSIX shell.

use std::path::Path;

/// The words as a command.
pub fn quoted<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word.as_ref())).collect();
    words.join(" ")
}

/// A path as one word of a command.
pub fn quoted_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

fn quote(word: &str) -> String {
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "-_./:@%+=,".contains(each);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }

    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_back() {
        let words = [
            "/usr/bin/x",
            "/a b/it's \"$HOME\" `id`; *?[a] \\ #~é/x",
            "",
            "~",
            "a=b",
            "(x)|&<>!{a,b}",
        ];
        let script = format!("printf '%s|' {}", quoted(&words));
        let run = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(run.stdout).unwrap(),
            words.join("|") + "|"
        );
    }
}
