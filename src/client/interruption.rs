//! Why a stream leaves the replica that served it.

use std::{fmt, time::Duration};

use super::Error;
use crate::proto::v1::Closing;

/// Why a subscription or a watch left a replica, and resumes at another.
#[derive(Debug)]
pub enum Interruption {
    /// No connection came about, for this reason.
    Unreachable(String),
    /// The replica answered with an error that another one, or a later try, may not give.
    Refused(Error),
    /// The replica announced the end of the stream.
    Closing(Closing),
    /// Nothing was received for so long.
    Silent(Duration),
    /// The connection broke, for this reason.
    Broken(String),
    /// The stream ended without a word.
    Ended,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Broken(why) => f.write_str(why),
            Self::Refused(Error::Refused { status, .. }) => f.write_str(status.message()),
            Self::Refused(error) => error.fmt(f),
            Self::Closing(closing) => f.write_str(&closing.message),
            Self::Silent(span) => write!(f, "nothing received for {span:?}"),
            Self::Ended => f.write_str("the replica ended the stream"),
        }
    }
}
