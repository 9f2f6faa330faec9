//! A YAML document as a tree that knows where each of its nodes is, so that lines of the text can be changed and the
//! outcome compared. It never writes YAML.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::super::lines::Wrong;

/// A node and where it is: lines are counted from 1, columns from 0.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
    /// Whether it has an anchor or a tag.
    pub(super) is_marked: bool,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar {
        text: String,
        is_plain: bool,
    },
    Sequence(Vec<Node>),
    /// Each key and, behind it, its value.
    Mapping(Vec<Node>),
    /// Of the node with this number.
    Alias(usize),
}

/// Nothing that people write is nested deeper.
const DEEPEST: usize = 64;

/// What was read of a text.
#[derive(Debug)]
pub(super) struct Document {
    /// None if there is nothing in it.
    pub(super) root: Option<Node>,
    /// The line in which another document begins.
    pub(super) end: Option<usize>,
}

/// The first document.
pub(super) fn parse(text: &str) -> Result<Document, Wrong> {
    let mut document = None;
    let mut open: Vec<Node> = Vec::new();
    let mut has_begun = false;
    let mut end = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Wrong::new(
                error.marker().line().max(1),
                format!("this is no YAML: {}", error.info()),
            )
        })?;
        let node = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = Value::Scalar {
                    text: text.into_owned(),
                    is_plain: style == ScalarStyle::Plain,
                };
                Node {
                    value,
                    span,
                    is_marked: anchor != 0 || tag.is_some(),
                }
            }
            Event::Alias(anchor) => Node {
                value: Value::Alias(anchor),
                span,
                is_marked: false,
            },
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEEPEST => {
                return Err(Wrong::new(span.start.line(), "this is nested too deep"));
            }
            Event::SequenceStart(anchor, tag) => {
                open.push(Node {
                    value: Value::Sequence(Vec::new()),
                    span,
                    is_marked: anchor != 0 || tag.is_some(),
                });
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                open.push(Node {
                    value: Value::Mapping(Vec::new()),
                    span,
                    is_marked: anchor != 0 || tag.is_some(),
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(node) => Node {
                    span: Span::new(node.span.start, span.end),
                    ..node
                },
                None => continue,
            },
            Event::DocumentStart(_) if has_begun => {
                end = Some(span.start.line());
                break;
            }
            Event::DocumentStart(_) => {
                has_begun = true;
                continue;
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => continue,
        };
        match open.last_mut().map(|around| &mut around.value) {
            Some(Value::Sequence(inside) | Value::Mapping(inside)) => inside.push(node),
            _ => document = Some(node),
        }
    }
    Ok(Document {
        root: document.filter(|node| !node.is_nothing()),
        end,
    })
}

impl Node {
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Node, &Node)> {
        let inside: &[Node] = match &self.value {
            Value::Mapping(inside) => inside,
            _ => &[],
        };
        inside.chunks_exact(2).filter_map(|pair| match pair {
            [key, value] => Some((key, value)),
            _ => None,
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.pairs()
            .find(|(key, _)| key.text() == Some(name))
            .map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it stands for nothing: `null`, or what is not written at all.
    pub(super) fn is_nothing(&self) -> bool {
        let is_null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.value, Value::Scalar { text, is_plain: true } if is_null(text))
            && !self.is_marked
    }

    /// The last line that something of it is in.
    pub(super) fn last_line(&self) -> usize {
        match &self.value {
            Value::Sequence(inside) | Value::Mapping(inside) if !inside.is_empty() => {
                inside.iter().map(Self::last_line).max().unwrap_or_default()
            }
            _ => self.span.end.line(),
        }
    }

    /// Whether it is the same but for its place and its looks.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let are_alike = |one: &[Self], two: &[Self]| {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.is_like(two))
        };
        self.is_marked == other.is_marked
            && match (&self.value, &other.value) {
                (
                    Value::Scalar { text, is_plain },
                    Value::Scalar {
                        text: other,
                        is_plain: is_too,
                    },
                ) => text == other && is_plain == is_too,
                (Value::Sequence(one), Value::Sequence(two))
                | (Value::Mapping(one), Value::Mapping(two)) => are_alike(one, two),
                (Value::Alias(one), Value::Alias(two)) => one == two,
                _ => false,
            }
    }
}
