//! Places in a stream: [`ResourceVersion`], [`Position`].

use std::{cmp::Ordering, fmt, num::NonZeroU64, str::FromStr};

use super::id::Era;

/// The API server's revision of an object or a list: a decimal of any length without leading
/// zeros (KEP-5504). Comparable within one stream only. Zero stands for "before everything".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceVersion(Digits);

/// Numbers that fit are kept as numbers; `Long` holds only numbers that do not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Digits {
    Short(u64),
    Long(Box<str>),
}

/// Why a text is not a resource version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resource version {0:?} is not a decimal number without leading zeros")]
pub struct NotAResourceVersion(pub String);

impl ResourceVersion {
    /// Before every version that an API server gives.
    pub const ZERO: Self = Self(Digits::Short(0));

    /// Longest text accepted: far above 2^128 (39 digits), and still small in every record.
    pub const DIGITS_MAX: usize = 64;

    /// The number, where it fits.
    pub fn as_u64(&self) -> Option<u64> {
        match &self.0 {
            Digits::Short(number) => Some(*number),
            Digits::Long(_) => None,
        }
    }

    /// The version just before this one; zero stays zero.
    ///
    /// A watch at `rv.previous()` delivers what was written at `rv` and everything after.
    #[must_use]
    pub fn previous(&self) -> Self {
        match &self.0 {
            Digits::Short(number) => Self(Digits::Short(number.saturating_sub(1))),
            Digits::Long(text) => Self::from_digits(&decrement(text)),
        }
    }

    /// Reads digits that are known to be decimal and without leading zeros.
    fn from_digits(text: &str) -> Self {
        text.parse::<u64>().map_or_else(
            |_| Self(Digits::Long(text.into())),
            |n| Self(Digits::Short(n)),
        )
    }
}

/// Schoolbook "minus one" on a decimal text above zero.
fn decrement(text: &str) -> String {
    let mut digits = text.as_bytes().to_vec();
    for digit in digits.iter_mut().rev() {
        if *digit == b'0' {
            *digit = b'9';
        } else {
            *digit -= 1;
            break;
        }
    }
    let text: String = digits.into_iter().map(char::from).collect();
    text.trim_start_matches('0').to_owned()
}

impl From<u64> for ResourceVersion {
    fn from(number: u64) -> Self {
        Self(Digits::Short(number))
    }
}

impl FromStr for ResourceVersion {
    type Err = NotAResourceVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let decimal = !text.is_empty()
            && text.len() <= Self::DIGITS_MAX
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        if decimal {
            Ok(Self::from_digits(text))
        } else {
            Err(NotAResourceVersion(
                text.chars().take(Self::DIGITS_MAX).collect(),
            ))
        }
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Digits::Short(number) => number.fmt(f),
            Digits::Long(text) => text.fmt(f),
        }
    }
}

impl Ord for ResourceVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Digits::Short(a), Digits::Short(b)) => a.cmp(b),
            (Digits::Short(_), Digits::Long(_)) => Ordering::Less,
            (Digits::Long(_), Digits::Short(_)) => Ordering::Greater,
            (Digits::Long(a), Digits::Long(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        }
    }
}

impl PartialOrd for ResourceVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Which of the events that share one resource version (watch trap T7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(u32);

impl Ordinal {
    /// The first event at a resource version.
    pub const FIRST: Self = Self(0);
    /// After every event at a resource version: the version is closed.
    pub const CLOSED: Self = Self(u32::MAX);

    /// The ordinal of the `index`-th event; the last open one for absurd numbers.
    pub fn new(index: u32) -> Self {
        Self(index.min(u32::MAX - 1))
    }

    /// The ordinal with this number, as [`Self::get`] gives it.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number, `u32::MAX` for [`Self::CLOSED`].
    pub fn get(self) -> u32 {
        self.0
    }

    /// The ordinal of the next event at the same resource version.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.0.saturating_add(1))
    }
}

/// A place in a stream, totally ordered.
///
/// A *closed* position stands after every event of its resource version; any other stands just
/// after one event, and more events of the same version may follow.
///
/// Prints as `era/rv/ordinal`, or `era/rv` where it is closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The stream's history epoch.
    pub era: Era,
    /// The API server's revision.
    pub rv: ResourceVersion,
    /// Which event of that revision.
    pub ordinal: Ordinal,
}

impl Position {
    /// After every event up to and including `rv`.
    pub fn closed(era: Era, rv: ResourceVersion) -> Self {
        Self {
            era,
            rv,
            ordinal: Ordinal::CLOSED,
        }
    }

    /// Just after one event.
    pub fn at(era: Era, rv: ResourceVersion, ordinal: Ordinal) -> Self {
        Self { era, rv, ordinal }
    }

    /// Whether no further event of this resource version can follow.
    pub fn is_closed(&self) -> bool {
        self.ordinal == Ordinal::CLOSED
    }

    /// The resource version at which a watch resumes without missing an event: the version itself
    /// where it is closed, else the one before.
    pub fn resume_rv(&self) -> ResourceVersion {
        if self.is_closed() {
            self.rv.clone()
        } else {
            self.rv.previous()
        }
    }

    /// The latest closed position at or before this one: what may be checkpointed.
    #[must_use]
    pub fn to_closed(&self) -> Self {
        Self::closed(self.era, self.resume_rv())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.era, self.rv)?;
        if self.is_closed() {
            Ok(())
        } else {
            write!(f, "/{}", self.ordinal.get())
        }
    }
}

/// Why a text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {0:?} is not of the form era/rv or era/rv/ordinal")]
pub struct NotAPosition(pub String);

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || NotAPosition(text.chars().take(128).collect());
        let mut parts = text.split('/');
        let (Some(era), Some(rv)) = (parts.next(), parts.next()) else {
            return Err(refuse());
        };
        let era: NonZeroU64 = era.parse().map_err(|_| refuse())?;
        let rv = rv.parse().map_err(|_| refuse())?;
        let ordinal = match (parts.next(), parts.next()) {
            (None, _) => Ordinal::CLOSED,
            (Some(ordinal), None) => Ordinal::new(ordinal.parse().map_err(|_| refuse())?),
            (Some(_), Some(_)) => return Err(refuse()),
        };
        Ok(Self {
            era: Era(era.get()),
            rv,
            ordinal,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Era, Ordinal, Position, ResourceVersion};

    fn rv(text: &str) -> ResourceVersion {
        text.parse().unwrap()
    }

    #[test]
    fn long_versions_compare_by_length_then_digits() {
        assert!(rv("18446744073709551615") < rv("18446744073709551616"));
        assert!(rv("99999999999999999999") < rv("100000000000000000000"));
        assert!(rv("9") < rv("10"));
    }

    #[test]
    fn what_is_not_a_decimal_is_refused() {
        for text in ["", "01", "-1", "1a", "1 ", &"9".repeat(65)] {
            assert!(text.parse::<ResourceVersion>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_version_before_a_long_one_may_be_short() {
        assert_eq!(
            rv("18446744073709551616").previous().as_u64(),
            Some(u64::MAX)
        );
        assert_eq!(
            rv("100000000000000000000").previous(),
            rv("99999999999999999999")
        );
    }

    #[test]
    fn a_closed_position_stands_after_every_event_of_its_version() {
        let closed = Position::closed(Era(1), rv("7"));
        let open = Position::at(Era(1), rv("7"), Ordinal::new(u32::MAX));
        assert!(open < closed);
        assert_eq!(closed.resume_rv(), rv("7"));
        assert_eq!(open.resume_rv(), rv("6"));
    }

    proptest! {
        #[test]
        fn order_is_that_of_numbers(a: u128, b: u128) {
            let (left, right) = (rv(&a.to_string()), rv(&b.to_string()));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(left.previous().to_string(), a.saturating_sub(1).to_string());
        }

        #[test]
        fn a_position_reads_back_as_it_prints(era in 1u64.., number: u128, ordinal: u32) {
            let position = Position::at(Era(era), rv(&number.to_string()), Ordinal::new(ordinal));
            prop_assert_eq!(&position.to_string().parse::<Position>().unwrap(), &position);
            let closed = position.to_closed();
            prop_assert_eq!(closed.to_string().parse::<Position>().unwrap(), closed);
        }
    }
}
