//! XML of S3, STS and IAM. All texts are escaped, because a key may have any characters.

#[derive(Debug)]
pub(super) struct Xml(String);

/// A document with a root element.
pub(super) fn document(
    root: &str,
    namespace: Option<&str>,
    fill: impl FnOnce(&mut Xml),
) -> Vec<u8> {
    let mut xml = Xml(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"));
    let attribute = namespace
        .map(|uri| format!(" xmlns=\"{uri}\""))
        .unwrap_or_default();

    xml.0 += &format!("<{root}{attribute}>");
    fill(&mut xml);
    xml.0 += &format!("</{root}>");
    xml.0.into_bytes()
}

impl Xml {
    pub(super) fn element(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.0 += &format!("<{name}>");
        fill(self);
        self.0 += &format!("</{name}>");
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.element(name, |xml| {
            for character in text.chars() {
                xml.push_escaped(character);
            }
        });
    }

    /// Control characters become references as in S3, although XML 1.0 forbids most of them.
    fn push_escaped(&mut self, character: char) {
        match character {
            '&' => self.0 += "&amp;",
            '<' => self.0 += "&lt;",
            '>' => self.0 += "&gt;",
            '"' => self.0 += "&quot;",
            control if control.is_control() => {
                self.0 += &format!("&#x{:x};", u32::from(control));
            }
            other => self.0.push(other),
        }
    }
}
