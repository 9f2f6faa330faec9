//! XML as S3 and STS send it. Whatever is written is escaped: a key may hold anything.

/// A document under construction.
#[derive(Debug)]
pub(super) struct Xml(String);

/// A document with this root.
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
        self.element(name, |xml| text.chars().for_each(|c| xml.push(c)));
    }

    /// Control characters become references, as S3 does it, although XML 1.0 has no way to write most of them.
    fn push(&mut self, c: char) {
        match c {
            '&' => self.0 += "&amp;",
            '<' => self.0 += "&lt;",
            '>' => self.0 += "&gt;",
            '"' => self.0 += "&quot;",
            c if c.is_control() => self.0 += &format!("&#x{:x};", u32::from(c)),
            c => self.0.push(c),
        }
    }
}
