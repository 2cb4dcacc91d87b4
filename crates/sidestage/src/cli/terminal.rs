//! The terminal that the process was started from, and its raw mode: what is typed goes through as it is.

use std::io::{self, stdin};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Columns and rows; none without a terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    let terminal = term::Term::stdout();
    let (rows, columns) = terminal.size_checked()?;
    Some((columns, rows))
}

/// Raw mode until this is dropped.
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Begins.
    pub(super) fn begin() -> io::Result<Raw> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.before);
    }
}
