//! Times as text.

use chrono::{DateTime, SecondsFormat, Utc};
use prost_types::{Duration, Timestamp};

use crate::clock;

/// The instant of a timestamp; `None` where it is outside of what a calendar holds.
pub(super) fn instant(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(timestamp.nanos).ok()?;
    DateTime::from_timestamp(timestamp.seconds, nanos)
}

/// RFC 3339 with milliseconds, in UTC.
pub(super) fn rfc3339(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Now.
pub(super) fn now() -> DateTime<Utc> {
    let now = i64::try_from(clock::unix_now().0).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(now).unwrap_or_default()
}

/// How long ago, as kubectl shows it: `12s`, `5m3s`, `4h`, `12d`.
pub(super) fn age(instant: &DateTime<Utc>) -> String {
    let seconds = now().signed_duration_since(instant).num_seconds();
    for_seconds(seconds)
}

/// A span of the API in milliseconds, rounded towards zero; negative where the span is.
pub(super) fn milliseconds(span: &Duration) -> i64 {
    let nanos = i64::from(span.nanos);
    span.seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}

/// A duration of the API as text; `-` if unknown.
pub(super) fn short_or_dash(span: Option<&Duration>) -> String {
    let milliseconds = span.map(|span| u64::try_from(milliseconds(span)).unwrap_or(0));
    milliseconds.map_or_else(|| "-".into(), short)
}

/// A span: milliseconds below ten seconds, then as an age.
pub(super) fn short(milliseconds: u64) -> String {
    match milliseconds {
        ..10_000 => format!("{milliseconds}ms"),
        _ => for_seconds(i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX)),
    }
}

fn for_seconds(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..600 => with_rest(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with_rest(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with_rest(days, 'd', hours % 24, 'h'),
        691_200.. => format!("{days}d"),
    }
}

fn with_rest(whole: i64, unit: char, rest: i64, smaller: char) -> String {
    if rest == 0 {
        format!("{whole}{unit}")
    } else {
        format!("{whole}{unit}{rest}{smaller}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, for_seconds, milliseconds, short_or_dash};

    #[test]
    fn spans_of_the_api_are_shown_in_milliseconds_and_may_be_negative() {
        let span = |seconds, nanos| Duration { seconds, nanos };
        assert_eq!(milliseconds(&span(-1, -500_000_000)), -1500);
        assert_eq!(short_or_dash(Some(&span(1, 500_000_000))), "1500ms");
        assert_eq!(short_or_dash(Some(&span(12, 0))), "12s");
        assert_eq!(short_or_dash(None), "-");
    }

    #[test]
    fn ages_read_as_those_of_kubectl() {
        let ages = [
            -5, 0, 119, 120, 303, 3600, 14_400, 100_000, 180_000, 900_000,
        ]
        .map(for_seconds);
        let expected = [
            "0s", "0s", "119s", "2m", "5m3s", "60m", "4h", "27h", "2d2h", "10d",
        ];
        assert_eq!(ages, expected);
    }
}
