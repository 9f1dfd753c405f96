//! The only place that writes to standard output and error.
//!
//! A reader that went away (`| head`) is an error like any other here, and no panic; the program then ends without a word.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};

use super::failure::Failure;
use super::live::{Medium, Screen};
use super::style::{Colours, Detail, Style};

/// Standard output and error.
#[derive(Debug)]
pub(super) struct Out {
    no_color: Option<OsString>,
}

impl Out {
    pub(super) fn new(no_color: Option<OsString>) -> Self {
        Self { no_color }
    }

    /// Writes lines to standard output.
    pub(super) fn lines<T: AsRef<str>>(&self, lines: impl IntoIterator<Item = T>) -> Result<(), Failure> {
        let mut text = String::new();
        for line in lines {
            text += line.as_ref();
            text.push('\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Output)
    }

    /// Writes a line to standard error: a failure, a warning, or what is about to be done.
    pub(super) fn note(&self, line: &str) {
        // There is nowhere left to complain to.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// The same for what only somebody who sits there and waits wants to know.
    pub(super) fn hint(&self, line: &str) {
        if io::stderr().is_terminal() {
            self.note(line);
        }
    }

    /// How to render what is written once: not cut, since a terminal's user can scroll and resize.
    pub(super) fn style(&self, detail: Detail) -> Style {
        Style { colours: self.colours(), detail, width: None }
    }

    /// Standard output as a place for something that changes.
    pub(super) fn screen(&self) -> Screen<Box<dyn io::Write>> {
        Screen::new(Box::new(io::stdout()), Medium::of(&io::stdout()), self.colours())
    }

    /// Standard error as such a place, when it is a terminal.
    pub(super) fn progress(&self) -> Option<Screen<Box<dyn io::Write>>> {
        let stderr = io::stderr();
        let colours = Colours::of(&stderr, self.no_color.as_deref());
        stderr
            .is_terminal()
            .then(|| Screen::new(Box::new(io::stderr()) as Box<dyn io::Write>, Medium::Terminal, colours))
    }

    fn colours(&self) -> Colours {
        Colours::of(&io::stdout(), self.no_color.as_deref())
    }
}
