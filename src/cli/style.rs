//! Lines of pieces that carry a tone, and how they are painted.
//!
//! Colours repeat what the words say already: without them nothing is lost.

use std::ffi::OsStr;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Effects};
use unicode_width::UnicodeWidthChar as _;

use super::words;

/// How something is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether there are colours.
    pub colours: Colours,
    /// How much is told.
    pub detail: Detail,
    /// Columns of the terminal, beyond which lines are cut; `None`: not at all.
    pub width: Option<usize>,
}

impl Style {
    /// Text for a file or a pipe.
    pub const PLAIN: Self = Self { colours: Colours::Off, detail: Detail::Normal, width: None };
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// None.
    Off,
    /// Those of a terminal.
    On,
}

impl Colours {
    /// Whether to colour what goes to `out`: a terminal only, and not when `no_color`, the value of NO_COLOR, is set to
    /// something (<https://no-color.org>).
    #[must_use]
    pub fn of(out: &impl IsTerminal, no_color: Option<&OsStr>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !refused { Self::On } else { Self::Off }
    }
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What most people want to know.
    Normal,
    /// More: hashes, nodes, all steps, conditions.
    Wide,
}

/// What a piece of a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// A label.
    Label,
    /// As it should be.
    Good,
    /// On its way.
    Moving,
    /// Held.
    Held,
    /// Wrong.
    Bad,
    /// Beside the point.
    Faint,
}

impl Tone {
    /// The tone of a rollout's state.
    pub(super) fn of_state(word: &str) -> Self {
        match word {
            "Healthy" | "Running" | "Successful" | "Completed" => Self::Good,
            "Progressing" | "Pending" | "ContainerCreating" | "PodInitializing" => Self::Moving,
            "Paused" | "Inconclusive" => Self::Held,
            "Degraded" | "Failing" | "Failed" | "Error" | "CrashLoopBackOff" | "ImagePullBackOff"
            | "ErrImagePull" => Self::Bad,
            "ScaledDown" | "Terminating" | "Unknown" => Self::Faint,
            _ => Self::Plain,
        }
    }

    /// A whole line of others, blanks and all. It can drive a terminal as little as a [`Line`].
    pub(super) fn paint(self, line: &str, style: Style) -> String {
        let line = line.replace(char::is_control, " ");
        let paint = self.style();
        match style.colours {
            Colours::On if !paint.is_plain() && !line.is_empty() => format!("{paint}{line}{paint:#}"),
            _ => line,
        }
    }

    fn style(self) -> anstyle::Style {
        let colour = |colour: AnsiColor| colour.on_default();
        match self {
            Self::Plain => anstyle::Style::new(),
            Self::Label => anstyle::Style::new().effects(Effects::BOLD),
            Self::Good => colour(AnsiColor::Green),
            Self::Moving => colour(AnsiColor::Cyan),
            Self::Held => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red),
            Self::Faint => anstyle::Style::new().effects(Effects::DIMMED),
        }
    }
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Tone, String)>);

impl Line {
    /// Adds a piece. Whatever it says, it can neither break the line nor drive a terminal.
    pub(super) fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        let text: String = text.into();
        self.0.push((tone, text.replace(char::is_control, " ")));
        self
    }

    /// The line with another behind it.
    pub(super) fn then(mut self, rest: Self) -> Self {
        self.0.extend(rest.0);
        self
    }

    /// Its columns, uncut.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| words::width(text)).sum()
    }

    /// The line as text, without blanks at its end, cut to the style's width.
    pub(super) fn paint(&self, style: Style) -> String {
        let pieces = self.clone().trimmed().cut(style.width).0;
        pieces
            .into_iter()
            .map(|(tone, text)| match (style.colours, tone.style()) {
                (Colours::On, paint) if !paint.is_plain() && !text.is_empty() => {
                    format!("{paint}{text}{paint:#}")
                }
                _ => text,
            })
            .collect()
    }

    fn trimmed(mut self) -> Self {
        while let Some((_, last)) = self.0.last_mut() {
            last.truncate(last.trim_end().len());
            if !last.is_empty() {
                break;
            }
            self.0.pop();
        }
        self
    }

    /// What fits; what is cut off leaves an ellipsis.
    fn cut(self, width: Option<usize>) -> Self {
        let Some(width) = width.filter(|width| self.width() > *width) else { return self };
        let mut left = width.saturating_sub(1);
        let mut cut = Self::default();
        for (tone, text) in self.0 {
            let mut kept = String::new();
            for character in text.chars() {
                let columns = character.width().unwrap_or(0);
                if columns > left {
                    kept.push('…');
                    return cut.with(tone, kept);
                }
                left -= columns;
                kept.push(character);
            }
            cut = cut.with(tone, kept);
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::default().with(Tone::Plain, "web  ").with(Tone::Good, "Healthy").with(Tone::Plain, "   ")
    }

    #[test]
    fn colours_end_where_they_should_and_blanks_at_the_end_are_dropped() {
        let coloured = Style { colours: Colours::On, ..Style::PLAIN };
        assert_eq!(line().paint(coloured), "web  \u{1b}[32mHealthy\u{1b}[0m");
        assert_eq!(line().paint(Style::PLAIN), "web  Healthy");
    }

    #[test]
    fn a_piece_cannot_break_the_line_or_drive_the_terminal() {
        let line = Line::default().with(Tone::Plain, "a\n\u{1b}[2Jb");
        assert_eq!(line.paint(Style::PLAIN), "a  [2Jb");
    }

    #[test]
    fn a_line_is_cut_at_the_terminals_width_and_not_within_a_wide_character() {
        let cut = |width| line().paint(Style { width: Some(width), ..Style::PLAIN });
        assert_eq!(
            (cut(12).as_str(), cut(8).as_str(), cut(4).as_str()),
            ("web  Healthy", "web  He…", "web…")
        );
        let wide = Line::default().with(Tone::Plain, "世界世界");
        assert_eq!(wide.paint(Style { width: Some(4), ..Style::PLAIN }), "世…");
        assert_eq!(wide.paint(Style { width: Some(0), ..Style::PLAIN }), "…");
    }
}
