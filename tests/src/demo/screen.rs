//! What the demo shows: styled lines, on a terminal and, if asked for, in a picture of one.

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

/// The lines so far. Colours only on a terminal, and not where `NO_COLOR` is set.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    terminal: bool,
    lines: Vec<(Style, String)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: terminal && !no_colour,
            terminal,
            lines: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, style: Style, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            println!("{}", self.paint(style, line));
            self.lines.push((style, line.into()));
        }
    }

    pub(super) fn gap(&mut self) {
        println!();
        self.lines.push((Style::Plain, String::new()));
    }

    /// A line that the next one replaces; only a terminal can show it.
    pub(super) fn flash(&self, style: Style, text: &str) {
        if self.terminal {
            print!("\r\x1b[K{}", self.paint(style, text));
            let _ = std::io::stdout().flush();
        }
    }

    pub(super) fn clear_flash(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("{}{text}\x1b[0m", style.ansi())
        } else {
            text.into()
        }
    }

    /// The lines as a terminal's window.
    pub(super) fn picture(&self) -> String {
        const LINE: usize = 18;
        let wide = self
            .lines
            .iter()
            .map(|(_, text)| text.chars().count())
            .max()
            .unwrap_or(0)
            * 8
            + 40;
        let high = self.lines.len() * LINE + 60;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{high}\" viewBox=\"0 0 {wide} {high}\" \
             font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"13\">\n\
             <rect width=\"{wide}\" height=\"{high}\" rx=\"8\" fill=\"#2e3440\"/>\n"
        );
        for (x, fill) in [(20, "#bf616a"), (40, "#ebcb8b"), (60, "#a3be8c")] {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x}\" cy=\"20\" r=\"6\" fill=\"{fill}\"/>"
            );
        }
        for (number, (style, text)) in self
            .lines
            .iter()
            .enumerate()
            .filter(|(_, (_, text))| !text.is_empty())
        {
            let text = text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;");
            let y = 58 + number * LINE;
            let _ = writeln!(
                svg,
                "<text x=\"20\" y=\"{y}\" xml:space=\"preserve\" {}>{text}</text>",
                style.svg()
            );
        }
        svg + "</svg>\n"
    }
}
