//! The demo's output: styled lines on standard output, and an SVG picture of them.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Title,
    Command,
    Dim,
    Good,
    Bad,
}

impl Style {
    fn ansi(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Title => "\x1b[1;36m",
            Self::Command => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
        }
    }

    fn svg(self) -> &'static str {
        match self {
            Self::Plain => "fill=\"#d8dee9\"",
            Self::Title => "fill=\"#88c0d0\" font-weight=\"bold\"",
            Self::Command => "fill=\"#eceff4\" font-weight=\"bold\"",
            Self::Dim => "fill=\"#7b88a1\"",
            Self::Good => "fill=\"#a3be8c\"",
            Self::Bad => "fill=\"#bf616a\"",
        }
    }
}

/// Prints lines and remembers them. Colors only on a terminal, and not if `NO_COLOR` is set.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    has_color: bool,
    lines: Vec<(Style, String)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());

        Self {
            is_terminal,
            has_color: is_terminal && !no_color,
            lines: Vec::new(),
        }
    }

    pub(super) fn print(&mut self, style: Style, text: &str) {
        for line in text.lines() {
            println!("{}", self.paint(style, line));
            self.lines.push((style, line.into()));
        }
    }

    pub(super) fn print_empty_line(&mut self) {
        println!();
        self.lines.push((Style::Plain, String::new()));
    }

    /// Replaces the progress line. A terminal shows it; other outputs and the picture do not.
    pub(super) fn show_progress(&self, style: Style, text: &str) {
        if self.is_terminal {
            print!("\r\x1b[K{}", self.paint(style, text));
            let _ = std::io::stdout().flush();
        }
    }

    pub(super) fn clear_progress(&self) {
        if self.is_terminal {
            print!("\r\x1b[K");
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.has_color {
            format!("{}{text}\x1b[0m", style.ansi())
        } else {
            text.into()
        }
    }

    /// A picture of a terminal window with all lines.
    pub(super) fn to_svg(&self) -> String {
        const CHARACTER_WIDTH: usize = 8;
        const LINE_HEIGHT: usize = 18;

        let columns = self
            .lines
            .iter()
            .map(|(_, text)| text.chars().count())
            .max()
            .unwrap_or(0);
        let width = columns * CHARACTER_WIDTH + 40;
        let height = self.lines.len() * LINE_HEIGHT + 60;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"13\">\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#2e3440\"/>\n"
        );

        for (x, fill) in [(20, "#bf616a"), (40, "#ebcb8b"), (60, "#a3be8c")] {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x}\" cy=\"20\" r=\"6\" fill=\"{fill}\"/>"
            );
        }

        for (number, (style, text)) in self.lines.iter().enumerate() {
            if text.is_empty() {
                continue;
            }
            let y = 58 + number * LINE_HEIGHT;
            let attributes = style.svg();
            let text = escape_xml(text);
            let _ = writeln!(
                svg,
                "<text x=\"20\" y=\"{y}\" xml:space=\"preserve\" {attributes}>{text}</text>"
            );
        }

        svg + "</svg>\n"
    }
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
