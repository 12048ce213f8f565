//! Durations as people write them.

use std::time::Duration;

/// Reads `500ms`, `30s`, `5m`, `1h`, or a number of seconds.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    let wrong = "use a number with ms, s, m or h, like 30s";
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong)?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong),
    };
    let total = number.checked_mul(milliseconds).ok_or("too long")?;
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::{Duration, parse};

    #[test]
    fn durations_are_read_with_or_without_a_unit() {
        let seconds = Duration::from_secs;
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(
            [parse("30"), parse("30s")],
            [Ok(seconds(30)), Ok(seconds(30))]
        );
        assert_eq!(
            [parse("2m"), parse("1h")],
            [Ok(seconds(120)), Ok(seconds(3600))]
        );
        for text in ["", "s", "1d", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
