//! Shows something that changes: redrawn in place on a terminal, one line per change elsewhere.
//!
//! Writes to what it is given and knows nothing of rollouts; [`super::tree`] makes what it shows.

use std::io::{self, IsTerminal, Write};

use crossterm::cursor::MoveToPreviousLine;
use crossterm::queue;
use crossterm::terminal::{self, Clear, ClearType};

use super::style::{Colours, Detail, Style};
use super::words;

/// What a terminal that does not tell its size is taken for: columns and rows.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// What is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A terminal, where what was drawn can be drawn over.
    Terminal,
    /// A file or a pipe, where every line stays.
    Lines,
}

impl Medium {
    /// What `out` is.
    #[must_use]
    pub fn of(out: &impl IsTerminal) -> Self {
        if out.is_terminal() { Self::Terminal } else { Self::Lines }
    }
}

/// A place for something that changes.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    medium: Medium,
    colours: Colours,
    /// Columns and rows of the terminal; asked before each drawing, since people resize windows.
    size: fn() -> (u16, u16),
    /// What stands on the terminal now and will be drawn over.
    frame: Vec<String>,
    /// The line that was printed last.
    line: String,
}

impl<W: Write> Screen<W> {
    /// An empty place on `out`.
    pub fn new(out: W, medium: Medium, colours: Colours) -> Self {
        // Some say that they have no columns and rows at all.
        let size = || {
            terminal::size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL_SIZE)
        };
        Self { out, medium, colours, size, frame: Vec::new(), line: String::new() }
    }

    /// How to render for it at this moment.
    pub fn style(&self, detail: Detail) -> Style {
        let width = match self.medium {
            Medium::Terminal => Some(usize::from((self.size)().0)),
            Medium::Lines => None,
        };
        Style { colours: self.colours, detail, width }
    }

    /// Shows `frame` in place of what was shown before; without a terminal, prints `line` if it is not what was printed
    /// last.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub fn show(&mut self, frame: &[String], line: &str) -> io::Result<()> {
        match self.medium {
            Medium::Terminal => self.redraw(frame),
            Medium::Lines if self.line == line => Ok(()),
            Medium::Lines => {
                line.clone_into(&mut self.line);
                writeln!(self.out, "{line}")?;
                self.out.flush()
            }
        }
    }

    /// Prints a line that stays; on a terminal, above what is being redrawn.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub fn note(&mut self, line: &str) -> io::Result<()> {
        let mut text = Vec::new();
        self.rewind(&mut text)?;
        writeln!(text, "{line}")?;
        for line in &self.frame {
            writeln!(text, "{line}")?;
        }
        self.out.write_all(&text)?;
        self.out.flush()
    }

    /// Leaves what is shown where it is: the next frame is drawn below.
    pub fn settle(&mut self) {
        self.frame.clear();
    }

    /// One write per frame: a terminal never shows half of one.
    fn redraw(&mut self, frame: &[String]) -> io::Result<()> {
        let frame = self.fitting(frame);
        if frame == self.frame {
            return Ok(());
        }
        let mut text = Vec::new();
        self.rewind(&mut text)?;
        for line in &frame {
            writeln!(text, "{line}")?;
        }
        self.frame = frame;
        self.out.write_all(&text)?;
        self.out.flush()
    }

    /// Goes back to where the frame begins and wipes it out.
    fn rewind(&self, text: &mut Vec<u8>) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        // A window that became narrower has wrapped the lines.
        let columns = usize::from((self.size)().0).max(1);
        let rows: usize =
            self.frame.iter().map(|line| words::shown_width(line).div_ceil(columns).max(1)).sum();
        queue!(
            text,
            MoveToPreviousLine(u16::try_from(rows).unwrap_or(u16::MAX)),
            Clear(ClearType::FromCursorDown)
        )
    }

    /// What can be drawn over again: what scrolls out at the top cannot, so the end of a frame that is too high is left
    /// out, and the last line says so.
    fn fitting(&self, frame: &[String]) -> Vec<String> {
        // One row is the cursor's.
        let rows = usize::from((self.size)().1).saturating_sub(1).max(1);
        if frame.len() <= rows {
            return frame.to_vec();
        }
        let kept = rows - 1;
        let mut fitting = frame[..kept].to_vec();
        fitting.push(format!("… {} more lines", frame.len() - kept));
        fitting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(medium: Medium, size: fn() -> (u16, u16)) -> Screen<Vec<u8>> {
        Screen { size, ..Screen::new(Vec::new(), medium, Colours::Off) }
    }

    fn text(screen: &Screen<Vec<u8>>) -> String {
        String::from_utf8(screen.out.clone()).unwrap()
    }

    fn frame(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_terminal_a_line_is_printed_for_each_change_only() {
        let mut screen = screen(Medium::Lines, || (80, 24));
        for line in ["step 0", "step 0", "step 1"] {
            screen.show(&frame(&["a", "b"]), line).unwrap();
        }
        assert_eq!(text(&screen), "step 0\nstep 1\n");
        assert_eq!(screen.style(Detail::Normal), Style::PLAIN);
    }

    #[test]
    fn on_a_terminal_a_frame_is_drawn_over_the_one_before_and_only_when_it_differs() {
        let mut screen = screen(Medium::Terminal, || (80, 24));
        screen.show(&frame(&["a", "b"]), "").unwrap();
        screen.show(&frame(&["a", "b"]), "").unwrap();
        screen.show(&frame(&["c"]), "").unwrap();
        assert_eq!(text(&screen), "a\nb\n\u{1b}[2F\u{1b}[Jc\n");
    }

    #[test]
    fn a_note_stays_above_the_frame() {
        let mut screen = screen(Medium::Terminal, || (80, 24));
        screen.show(&frame(&["a"]), "").unwrap();
        screen.note("promoted").unwrap();
        assert_eq!(text(&screen), "a\n\u{1b}[1F\u{1b}[Jpromoted\na\n");
    }

    #[test]
    fn a_settled_frame_is_not_drawn_over() {
        let mut screen = screen(Medium::Terminal, || (80, 24));
        screen.show(&frame(&["a"]), "").unwrap();
        screen.settle();
        screen.show(&frame(&["b"]), "").unwrap();
        assert_eq!(text(&screen), "a\nb\n");
    }

    #[test]
    fn a_frame_higher_than_the_terminal_is_cut_and_says_so() {
        let mut screen = screen(Medium::Terminal, || (80, 4));
        screen.show(&frame(&["a", "b", "c", "d", "e"]), "").unwrap();
        assert_eq!(text(&screen), "a\nb\n… 3 more lines\n");
    }

    #[test]
    fn lines_that_a_narrower_window_wrapped_are_wiped_out_whole() {
        let mut screen = screen(Medium::Terminal, || (80, 24));
        screen.show(&frame(&["\u{1b}[32m12345678\u{1b}[0m", ""]), "").unwrap();
        screen.size = || (4, 24);
        screen.show(&frame(&["a"]), "").unwrap();
        assert!(text(&screen).contains("\u{1b}[3F"), "two rows and an empty one: {:?}", text(&screen));
    }
}
