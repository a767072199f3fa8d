//! The one error of this crate: a line about what is wrong with an argument, and where.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub String);

pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// `Err` with a formatted message.
macro_rules! fail {
    ($($message:tt)*) => { return Err($crate::error::Error(format!($($message)*))) };
}
pub(crate) use fail;
