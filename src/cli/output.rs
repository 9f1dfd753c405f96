//! The only place that writes to standard output and error.
//!
//! A reader that went away (`| head`) is an error like any other here, and no panic; the program then ends without a word.

use std::ffi::OsString;
use std::io::{self, Write as _};

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

    /// How to render what is written once: not cut, since a terminal's user can scroll and resize.
    pub(super) fn style(&self, detail: Detail) -> Style {
        Style { colours: self.colours(), detail, width: None }
    }

    /// Standard output as a place for something that changes.
    pub(super) fn screen(&self) -> Screen<io::Stdout> {
        Screen::new(io::stdout(), Medium::of(&io::stdout()), self.colours())
    }

    fn colours(&self) -> Colours {
        Colours::of(&io::stdout(), self.no_color.as_deref())
    }
}
