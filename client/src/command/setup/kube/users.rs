//! The list `users` of a kubeconfig: one of ours is put into it or taken out, by lines. What is written as kubectl writes it
//! is changed; the rest is for people.

use std::ops::Range;

use super::super::lines::{Lines, Wrong};
use super::user::{self, User};
use super::yaml::{self, Document, Node, Value};

/// Why a file is not changed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Something is wrong with it.
    Wrong(Wrong),
    /// A person has to: it is written in blocks, or as JSON is.
    ByHand { wrong: Wrong, is_flow: bool },
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Users<'a> {
    lines: Lines<'a>,
    root: Option<Node>,
    place: Place,
    items: Vec<Item>,
}

/// Where a new user goes. Lines are counted from 0.
#[derive(Debug)]
enum Place {
    /// At the end of a file in which nothing is.
    Empty,
    /// Before the first key, so much indented, with a list of its own.
    Before { line: usize, indent: usize },
    /// In the place of this line, which comes back without what stood for an empty list.
    OnLine {
        line: usize,
        key: String,
        indent: usize,
    },
    /// As the first of the list, so much indented.
    First { line: usize, indent: usize },
}

/// One user of the list.
#[derive(Debug)]
struct Item {
    name: Option<String>,
    ours: Option<Ours>,
    /// None if it is not written as kubectl would.
    lines: Option<Range<usize>>,
    line: usize,
}

#[derive(Debug)]
struct Ours {
    user: User,
    /// Whether it still is as setup writes it.
    is_intact: bool,
    /// A line that is somebody else's.
    foreign: Option<usize>,
}

const SKELETON: [&str; 2] = ["apiVersion: v1", "kind: Config"];
const KEY: &str = "users";

impl From<Wrong> for Trouble {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl<'a> Users<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Trouble> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            Wrong::new(
                before.iter().filter(|&&byte| byte == b'\n').count() + 1,
                "this is no UTF-8",
            )
        })?;
        let lines = Lines::of(bytes)?;
        let Document { root, end } = yaml::parse(text.trim_start_matches('\u{feff}'))?;
        if let Some(line) = end {
            return Err(by_hand(line, "another document begins here"));
        }
        let Some(top) = &root else {
            return Ok(Self {
                lines,
                root,
                place: Place::Empty,
                items: Vec::new(),
            });
        };
        let place = place(&lines, top)?;
        let indent = if let Place::First { indent, .. } = place {
            indent
        } else {
            0
        };
        let items = top
            .get(KEY)
            .map_or(&[][..], Node::items)
            .iter()
            .map(|item| Item::of(item, &lines, indent))
            .collect();
        Ok(Self {
            lines,
            root,
            place,
            items,
        })
    }

    /// The user of this name, if it is ours. It is wrong to ask for one that is not.
    pub(super) fn find(&self, name: &str) -> Result<Option<&User>, Trouble> {
        Ok(self.item(name)?.map(|(_, ours)| &ours.user))
    }

    fn item(&self, name: &str) -> Result<Option<(&Item, &Ours)>, Trouble> {
        let mut named = self
            .items
            .iter()
            .filter(|item| item.name.as_deref() == Some(name));
        let Some(item) = named.next() else {
            return Ok(None);
        };
        if let Some(again) = named.next() {
            return Err(Wrong::new(again.line, format!("the user {name} is there twice")).into());
        }
        let wrong = || {
            let wrong = Wrong::new(
                item.line,
                format!("the user {name} is there already, and not by rolekeeper"),
            );
            wrong.or_try("another one with --name, or take that one out first; nothing was changed")
        };
        Ok(Some((item, item.ours.as_ref().ok_or_else(wrong)?)))
    }

    /// The file with this user, in the place of ours of that name if there is one.
    pub(super) fn with(&self, user: &User) -> Result<Vec<u8>, Trouble> {
        if self
            .item(&user.name)?
            .is_some_and(|(_, ours)| ours.is_intact && ours.user == *user)
        {
            return Ok(self.lines.with::<&str>(0..0, &[]));
        }
        let new = match (self.lines_of(&user.name)?, &self.place) {
            (Some(lines), Place::First { indent, .. }) => {
                self.lines.with(lines, &user.block(*indent))
            }
            (_, Place::First { line, indent }) => {
                self.lines.with(*line..*line, &user.block(*indent))
            }
            (_, Place::OnLine { line, key, indent }) => self.lines.with(
                *line..line + 1,
                &[vec![key.clone()], user.block(*indent)].concat(),
            ),
            (_, Place::Before { line, indent }) => {
                let key = format!("{}{KEY}:", " ".repeat(*indent));
                self.lines
                    .with(*line..*line, &[vec![key], user.block(*indent)].concat())
            }
            (_, Place::Empty) => {
                let mut all: Vec<String> = SKELETON.iter().map(|line| (*line).to_owned()).collect();
                all.push(format!("{KEY}:"));
                all.extend(user.block(0));
                self.lines.with(self.lines.len()..self.lines.len(), &all)
            }
        };
        self.checked(new, &user.name, Some(user))
    }

    /// The file without ours of this name.
    pub(super) fn without(&self, name: &str) -> Result<Vec<u8>, Trouble> {
        let lines = self.lines_of(name)?.unwrap_or(0..0);
        self.checked(self.lines.with::<&str>(lines, &[]), name, None)
    }

    fn lines_of(&self, name: &str) -> Result<Option<Range<usize>>, Trouble> {
        let Some((item, ours)) = self.item(name)? else {
            return Ok(None);
        };
        if let Some(line) = ours.foreign {
            return Err(
                Wrong::new(line, "this line in rolekeeper's user is not rolekeeper's").into(),
            );
        }
        match &item.lines {
            Some(lines) => Ok(Some(lines.clone())),
            None => Err(by_hand(
                item.line,
                "this user is not written as kubectl writes one",
            )),
        }
    }

    /// The new file, if it is the same but for this user.
    fn checked(&self, new: Vec<u8>, name: &str, user: Option<&User>) -> Result<Vec<u8>, Trouble> {
        let is_right = Users::read(&new).is_ok_and(|again| {
            again.find(name).is_ok_and(|found| found == user)
                && alike(&self.others(name), &again.others(name))
                && (self.root.is_none() || alike(&self.rest(), &again.rest()))
        });
        if is_right {
            Ok(new)
        } else {
            Err(by_hand(
                1,
                "this file is written in a way that setup cannot change",
            ))
        }
    }

    /// Everybody else in the list.
    fn others(&self, name: &str) -> Vec<&Node> {
        let users = self
            .root
            .as_ref()
            .and_then(|root| root.get(KEY))
            .map_or(&[][..], Node::items);
        users
            .iter()
            .filter(|item| item.get("name").and_then(Node::text) != Some(name))
            .collect()
    }

    /// Everything but the list.
    fn rest(&self) -> Vec<&Node> {
        let pairs = self.root.iter().flat_map(Node::pairs);
        pairs
            .filter(|(key, _)| key.text() != Some(KEY))
            .flat_map(|(key, value)| [key, value])
            .collect()
    }
}

fn alike(one: &[&Node], two: &[&Node]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.is_like(two))
}

/// Whether what is left of a file is nothing that somebody wrote.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    let lines: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .collect();
    let skeleton = SKELETON
        .iter()
        .map(|line| line.as_bytes())
        .chain([&b"users:"[..], b""]);
    lines.iter().all(|line| line.is_empty()) || lines.iter().copied().eq(skeleton)
}

/// Where a new user goes in a document that has something in it.
fn place(lines: &Lines<'_>, top: &Node) -> Result<Place, Trouble> {
    let Value::Mapping(inside) = &top.value else {
        return Err(Wrong::new(top.span.start.line(), "this is no kubeconfig").into());
    };
    if opens_with(lines, top, '{') {
        return Err(in_flow(top));
    }
    let mut keys = top.pairs().filter(|(key, _)| key.text() == Some(KEY));
    let found = keys.next();
    if let Some((again, _)) = keys.next() {
        return Err(Wrong::new(again.span.start.line(), "users is there twice").into());
    }
    let first = inside.first().unwrap_or(top);
    let (key, value) = found.map_or((first, None), |(key, value)| (key, Some(value)));
    let (line, indent) = (
        key.span.start.line().saturating_sub(1),
        key.span.start.col(),
    );
    let text = String::from_utf8_lossy(lines.at(line)).into_owned();
    let odd = || {
        by_hand(
            line + 1,
            "the list of users is not written as kubectl writes it",
        )
    };
    let (before, rest) = split_at(&text, indent);
    if !before.chars().all(|each| each == ' ') || top.is_marked || key.is_marked {
        return Err(odd());
    }
    let Some(value) = value else {
        return Ok(Place::Before { line, indent });
    };
    let rest = [KEY, "\"users\"", "'users'"]
        .iter()
        .find_map(|key| rest.strip_prefix(key))
        .ok_or_else(odd)?;
    let rest = rest
        .trim_start_matches(' ')
        .strip_prefix(':')
        .ok_or_else(odd)?;
    if value.is_marked {
        return Err(odd());
    }
    match &value.value {
        Value::Sequence(items) if !items.is_empty() => {
            if opens_with(lines, value, '[') {
                return Err(in_flow(value));
            }
            // A list that is no deeper than its key has no place of its own.
            let first = value.span.start.line().saturating_sub(1);
            let text = String::from_utf8_lossy(lines.at(first)).into_owned();
            let item = text.trim_start_matches(' ');
            let is_usual = is_comment(rest) && first > line && item.starts_with('-');
            if is_usual {
                Ok(Place::First {
                    line: line + 1,
                    indent: text.len() - item.len(),
                })
            } else {
                Err(odd())
            }
        }
        Value::Sequence(_) => in_place(&text, rest, line, indent).ok_or_else(odd),
        Value::Alias(_) => Err(odd()),
        _ if value.is_nothing() => in_place(&text, rest, line, indent).ok_or_else(odd),
        _ => Err(Wrong::new(line + 1, "users is no list").into()),
    }
}

/// The line of an empty list without what stands for it.
fn in_place(text: &str, rest: &str, line: usize, indent: usize) -> Option<Place> {
    let value = rest.trim_start_matches([' ', '\t']);
    let behind = match value.strip_prefix('[') {
        Some(list) => list.trim_start_matches([' ', '\t']).strip_prefix(']')?,
        None => ["null", "Null", "NULL", "~"]
            .iter()
            .find_map(|null| value.strip_prefix(null))
            .unwrap_or(value),
    };
    let behind = if behind.len() == value.len() {
        rest
    } else {
        behind
    };
    let key = format!("{}{behind}", text.strip_suffix(rest)?);
    is_comment(behind).then_some(Place::OnLine { line, key, indent })
}

/// Whether nothing is behind a key but perhaps a comment.
fn is_comment(rest: &str) -> bool {
    let text = rest.trim_start_matches([' ', '\t']);
    text.is_empty() || (text.starts_with('#') && text.len() < rest.len())
}

fn opens_with(lines: &Lines<'_>, node: &Node, mark: char) -> bool {
    let text =
        String::from_utf8_lossy(lines.at(node.span.start.line().saturating_sub(1))).into_owned();
    text.chars().nth(node.span.start.col()) == Some(mark)
}

/// A line, split before this column.
fn split_at(text: &str, column: usize) -> (&str, &str) {
    let place = text
        .char_indices()
        .nth(column)
        .map_or(text.len(), |(place, _)| place);
    text.split_at(place)
}

fn by_hand(line: usize, why: &str) -> Trouble {
    Trouble::ByHand {
        wrong: Wrong::new(line, why),
        is_flow: false,
    }
}

fn in_flow(node: &Node) -> Trouble {
    let line = node.span.start.line();
    Trouble::ByHand {
        wrong: Wrong::new(
            line,
            "this is written as JSON is, which setup does not change",
        ),
        is_flow: true,
    }
}

impl Item {
    fn of(node: &Node, lines: &Lines<'_>, indent: usize) -> Self {
        let line = node.span.start.line();
        let start = line.saturating_sub(1);
        let text = String::from_utf8_lossy(lines.at(start)).into_owned();
        let (before, _) = split_at(&text, node.span.start.col());
        let is_usual = before
            .strip_prefix(&" ".repeat(indent))
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|each| each == ' '));
        let name = node.get("name").and_then(Node::text).map(str::to_owned);
        let place = start..node.last_line();
        let ours = User::of(node).map(|user| Ours {
            is_intact: user.is_intact(node),
            foreign: user::foreign(node).or_else(|| comment(lines, place.clone())),
            user,
        });
        Self {
            name,
            ours,
            lines: is_usual.then_some(place),
            line,
        }
    }
}

fn comment(lines: &Lines<'_>, mut place: Range<usize>) -> Option<usize> {
    let has_comment = |line: &usize| {
        let text = String::from_utf8_lossy(lines.at(*line)).into_owned();
        text.trim_start().starts_with('#') || text.contains(" #")
    };
    place.find(has_comment).map(|line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::setup::odd;

    fn user(servers: &[&str]) -> User {
        User {
            name: "dev".into(),
            profile: "dev".into(),
            program: "/opt/a b/rolekeeper".into(),
            servers: servers.iter().map(|url| (*url).to_owned()).collect(),
            socket: None,
        }
    }

    fn with(bytes: &[u8], user: &User) -> Result<Vec<u8>, Trouble> {
        Users::read(bytes)?.with(user)
    }

    const PIECES: [&[u8]; 8] = [
        b"apiVersion: v1\n",
        "# é\nclusters:\n- name: \"k: [\"\n  cluster: {server: 'https://k'}  # c\n".as_bytes(),
        b"users:\n- name: other\n  user:\n    token: t\n",
        b"users:\n\n  # who\n\n  -   name: other\n      user: &a\n        username: x\n  - *a\n",
        b"users: []  # none\n",
        b"users:\n",
        b"note: |+\n  a\n\n   b\n\n",
        b"\"users\" :   ~\n",
    ];

    #[test]
    fn what_was_put_in_and_taken_out_again_leaves_the_same_file() {
        let mut changed = 0;
        for file in odd::files(&PIECES) {
            let Ok(with_one) = with(&file, &user(&[])) else {
                continue;
            };
            assert_eq!(with(&with_one, &user(&[])).unwrap(), with_one);
            let other = with(&with_one, &user(&["https://k"])).unwrap();
            for bytes in [with_one, other] {
                let left = Users::read(&bytes).unwrap().without("dev").unwrap();
                let before = String::from_utf8(file.clone()).unwrap();
                let left = String::from_utf8(left).unwrap();
                // What stood for an empty list, a list, or a file is not told from none: the copies are there for that.
                let said = |text: &str| -> Vec<String> {
                    let lines = text
                        .trim_start_matches('\u{feff}')
                        .lines()
                        .map(|line| line.replace("[]", "").replace('~', ""));
                    let lines =
                        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
                    lines
                        .filter(|line| {
                            !["users:", "apiVersion: v1", "kind: Config"].contains(&line.as_str())
                        })
                        .collect()
                };
                assert_eq!(said(&left), said(&before), "{before:?} became {left:?}");
                if before.contains("- name: other") || before.contains("-   name") {
                    assert_eq!(left, before);
                }
            }
            changed += 1;
        }
        assert!(changed > 200, "{changed}");
    }

    #[test]
    fn what_is_not_written_as_kubectl_writes_it_is_left_to_people_and_what_is_no_kubeconfig_is_refused()
     {
        let hand = |text: &str| match with(text.as_bytes(), &user(&[])) {
            Err(Trouble::ByHand { is_flow, .. }) => Some(is_flow),
            Err(Trouble::Wrong(_)) => None,
            Ok(new) => panic!("{text:?} became {:?}", new.escape_ascii()),
        };
        for flow in [
            "{}",
            "{\"users\": []}\n",
            "users: [{name: a}]\n",
            "users:\n  [{name: a}]\n",
            "---\n{users: null}\n",
        ] {
            assert_eq!(hand(flow), Some(true), "{flow}");
        }
        for odd in [
            "users: &a\n- name: x\n",
            "a: &a\n- name: x\nusers: *a\n",
            "users: !!seq\n- name: x\n",
            "? users\n: - name: x\n",
            "users:\n  []\n",
            "!!map\nusers: []\n",
            "\"us\\u0065rs\": []\n",
            "users: []\n---\nusers: []\n",
        ] {
            assert_eq!(hand(odd), Some(false), "{odd}");
        }
        for (wrong, line) in [
            ("a: b\n c: d\n", 2),
            ("a: [\n", 2),
            ("users: x\n", 1),
            ("- a\n", 1),
            ("text\n", 1),
            ("users: []\nusers: []\n", 2),
            ("users:\n- name: x\n- name: dev\n  user: {}\n", 3),
            (
                "users:\n- name: dev\n  user: {exec: {command: /bin/other, args: [kube, dev]}}\n",
                2,
            ),
        ] {
            let Err(Trouble::Wrong(found)) = with(wrong.as_bytes(), &user(&[])) else {
                panic!("{wrong}")
            };
            assert_eq!(found.line, line, "{wrong}: {}", found.why);
        }
        let Err(Trouble::Wrong(found)) = with(b"a: b\nc: \xff\n", &user(&[])) else {
            panic!()
        };
        assert_eq!(found.line, 2);
        let deep = "a: ".to_owned() + &"[".repeat(5000) + &"]".repeat(5000);
        assert!(matches!(
            with(deep.as_bytes(), &user(&[])),
            Err(Trouble::Wrong(_))
        ));
    }

    #[test]
    fn ours_is_known_after_kubectl_has_written_the_file_and_what_somebody_added_to_it_is_not_thrown_away()
     {
        let written = "apiVersion: v1\nkind: Config\npreferences: {}\nusers:\n- name: dev\n  user:\n    exec:\n      \
            apiVersion: client.authentication.k8s.io/v1\n      args:\n      - kube\n      - dev\n      \
            command: /opt/a b/rolekeeper\n      env: null\n      interactiveMode: Never\n      provideClusterInfo: false\n";
        assert_eq!(
            with(written.as_bytes(), &user(&[])).unwrap(),
            written.as_bytes()
        );
        let left = Users::read(written.as_bytes())
            .unwrap()
            .without("dev")
            .unwrap();
        assert!(left.ends_with(b"preferences: {}\nusers:\n"));
        for (from, to, line) in [
            ("env: null", "env: [{name: A, value: b}]", 13),
            ("env: null", "# mine", 13),
            (
                "provideClusterInfo: false\n",
                "provideClusterInfo: false\n    token: t\n",
                16,
            ),
        ] {
            let text = written.replace(from, to);
            let Err(Trouble::Wrong(wrong)) = Users::read(text.as_bytes()).unwrap().without("dev")
            else {
                panic!("{to}")
            };
            assert_eq!(wrong.line, line, "{to}");
        }
        let loose = written.replace("interactiveMode: Never", "interactiveMode: Always");
        assert_ne!(
            with(loose.as_bytes(), &user(&[])).unwrap(),
            loose.as_bytes()
        );
    }
}
