//! One user of ours in a kubeconfig. kubectl drops comments when it writes the file, so that ours is known by what it runs.

use serde_json::json;

use super::yaml::Node;

/// A user that gets its credentials from rolekeeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) profile: String,
    /// The path of this program.
    pub(super) program: String,
    pub(super) servers: Vec<String>,
    pub(super) socket: Option<String>,
}

const PROGRAM: &str = "rolekeeper";
const API: &str = "client.authentication.k8s.io/v1";

impl User {
    /// Who this is, if it is one of ours.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let exec = node.get("user")?.get("exec")?;
        let program = exec.get("command")?.text()?;
        let is_ours = program.rsplit('/').next()?.starts_with(PROGRAM);
        let words: Vec<&str> = exec
            .get("args")?
            .items()
            .iter()
            .filter_map(Node::text)
            .collect();
        let (["kube", profile], options) = words.split_first_chunk::<2>().filter(|_| is_ours)?
        else {
            return None;
        };
        let mut user = Self {
            name: node.get("name")?.text()?.into(),
            profile: (*profile).into(),
            program: program.into(),
            servers: Vec::new(),
            socket: None,
        };
        for pair in options.chunks(2) {
            match *pair {
                ["--server", url] => user.servers.push(url.into()),
                ["--socket", path] => user.socket = Some(path.into()),
                _ => {}
            }
        }
        Some(user)
    }

    /// Whether what says so says all that clients have to know.
    pub(super) fn is_intact(&self, node: &Node) -> bool {
        let Some(exec) = node.get("user").and_then(|user| user.get("exec")) else {
            return false;
        };
        let is = |name: &str, want: &str| exec.get(name).and_then(Node::text) == Some(want);
        let words = exec
            .get("args")
            .map_or(&[][..], Node::items)
            .iter()
            .filter_map(Node::text);
        is("apiVersion", API)
            && is("interactiveMode", "Never")
            && (self.servers.is_empty() || is("provideClusterInfo", "true"))
            && words.eq(self.words())
    }

    fn words(&self) -> Vec<&str> {
        let servers = self.servers.iter().flat_map(|url| ["--server", url]);
        let socket = self.socket.iter().flat_map(|path| ["--socket", path]);
        ["kube", &self.profile]
            .into_iter()
            .chain(servers)
            .chain(socket)
            .collect()
    }

    /// As an item of a list in blocks.
    pub(super) fn block(&self, indent: usize) -> Vec<String> {
        // A text in JSON is one in YAML, too.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut lines = vec![
            format!("- name: {}", quoted(&self.name)),
            "  user:".into(),
            "    exec:".into(),
            format!("      apiVersion: {API}"),
            format!("      command: {}", quoted(&self.program)),
            "      args:".into(),
        ];
        lines.extend(
            self.words()
                .iter()
                .map(|word| format!("      - {}", quoted(word))),
        );
        lines.push("      interactiveMode: Never".into());
        if !self.servers.is_empty() {
            lines.push("      provideClusterInfo: true".into());
        }
        lines
            .into_iter()
            .map(|line| " ".repeat(indent) + &line)
            .collect()
    }

    /// As an item of a list in JSON.
    pub(super) fn json(&self) -> String {
        let mut exec = json!({
            "apiVersion": API, "command": self.program, "args": self.words(), "interactiveMode": "Never",
        });
        if let Some(exec) = exec.as_object_mut().filter(|_| !self.servers.is_empty()) {
            exec.insert("provideClusterInfo".into(), true.into());
        }
        json!({ "name": self.name, "user": { "exec": exec } }).to_string()
    }
}

/// The line of a setting that setup does not write. kubectl writes out what is not set.
pub(super) fn foreign(node: &Node) -> Option<usize> {
    const OURS: [&str; 5] = [
        "apiVersion",
        "command",
        "args",
        "interactiveMode",
        "provideClusterInfo",
    ];
    let user = node.get("user")?;
    let around = node
        .pairs()
        .filter(|(key, _)| !matches!(key.text(), Some("name" | "user")));
    let beside = user.pairs().filter(|(key, _)| key.text() != Some("exec"));
    let inside = user
        .get("exec")?
        .pairs()
        .filter(|(key, _)| !key.text().is_some_and(|key| OURS.contains(&key)));
    let mut others = around
        .chain(beside)
        .chain(inside)
        .filter(|(_, value)| !value.is_nothing());
    others.next().map(|(key, _)| key.span.start.line())
}
