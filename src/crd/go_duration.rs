//! Durations as Go's `time.ParseDuration` reads them: `1h30m`, `1.5s`, `-2us`.
//!
//! Depends on nothing of this package. Pauses and experiments use it; the fraction is computed the way Go
//! does it, in floating point, so that both agree on the last nanosecond.

use jiff::SignedDuration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Empty, no digits where some belong, or characters that are no part of a duration.
    #[error("{0:?} is not a duration such as 30s, 5m or 1h30m")]
    Malformed(String),
    /// A number without a unit, such as `10`.
    #[error("{0:?} lacks a unit (ns, us, ms, s, m or h)")]
    MissingUnit(String),
    /// A unit that is not one of ns, us, µs, ms, s, m, h.
    #[error("{0:?} has an unknown unit {1:?}")]
    UnknownUnit(String, String),
    /// More than Go's int64 of nanoseconds holds (about 292 years), or more seconds than an int32.
    #[error("{0:?} is too long")]
    TooLong(String),
}

/// One more than the nanoseconds of the longest duration; its negative is the shortest one.
const NANOS_LIMIT: u64 = 1 << 63;

/// Parses a duration: a possibly signed sequence of decimal numbers, each with an optional fraction and a
/// unit, or a bare `0`.
///
/// # Errors
///
/// [`DurationError`], with the text.
pub fn parse(text: &str) -> Result<SignedDuration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed(text.to_owned()));
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_part(rest, text)?;
        total = total
            .checked_add(nanos)
            .filter(|total| *total <= NANOS_LIMIT)
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
        rest = after;
    }
    let nanos = match (negative, i64::try_from(total)) {
        (false, Ok(nanos)) => nanos,
        (true, Ok(nanos)) => -nanos,
        (true, Err(_)) => i64::MIN, // exactly the limit, which only a negative duration may reach
        (false, Err(_)) => return Err(DurationError::TooLong(text.to_owned())),
    };
    Ok(SignedDuration::from_nanos(nanos))
}

/// Writes a duration of at least a second as Go does, such as `1m30s`; a shorter one as a part of one.
#[must_use]
pub fn format(duration: SignedDuration) -> String {
    let (whole, nanos) = (duration.as_secs().unsigned_abs(), duration.subsec_nanos().unsigned_abs());
    let fraction = format!("{nanos:09}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if duration.is_negative() { "-" } else { "" };
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{point}{fraction}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}{point}{fraction}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}{point}{fraction}s"),
    }
}

/// Reads one number with its unit from the front of `rest`: its nanoseconds, and what follows it.
fn parse_part<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), DurationError> {
    let too_long = || DurationError::TooLong(text.to_owned());
    let (whole, after_whole) = split_digits(rest);
    let (fraction, after_number) = match after_whole.strip_prefix('.') {
        Some(after_point) => split_digits(after_point),
        None => ("", after_whole),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Malformed(text.to_owned()));
    }
    let unit_end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
    let (unit, after_unit) = after_number.split_at(unit_end);
    let unit_nanos = match unit {
        "" => return Err(DurationError::MissingUnit(text.to_owned())),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000, // the micro sign and the Greek letter mu
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000_u64,
        _ => return Err(DurationError::UnknownUnit(text.to_owned(), unit.to_owned())),
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
    let nanos = whole
        .checked_mul(unit_nanos)
        .and_then(|nanos| nanos.checked_add(fraction_nanos(fraction, unit_nanos)))
        .filter(|nanos| *nanos <= NANOS_LIMIT)
        .ok_or_else(too_long)?;
    Ok((nanos, after_unit))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `0.<digits>` of a unit in nanoseconds, truncated. Digits beyond what an int64 holds are dropped.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn fraction_nanos(digits: &str, unit_nanos: u64) -> u64 {
    let mut numerator: u64 = 0;
    let mut denominator = 1.0_f64;
    for digit in digits.bytes() {
        let Some(next) = numerator
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
            .filter(|next| *next <= NANOS_LIMIT)
        else {
            break;
        };
        numerator = next;
        denominator *= 10.0;
    }
    (numerator as f64 * (unit_nanos as f64 / denominator)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_mean_what_they_mean_to_go() {
        // Expected values printed by Go's time.ParseDuration.
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("-0", 0),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("-1.5h", -5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1us2ns", 1_002),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("100ms", 100_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("0.100000000000000000000h", 360_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("39h9m14.425s", 140_954_425_000_000),
            ("1m1m", 120_000_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(SignedDuration::from_nanos(*nanos)), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for text in ["0s", "10s", "1m30s", "10m0s", "1h0m0s", "36h0m5.5s", "-1m0.25s"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_duration_is_an_error_that_says_why() {
        let malformed = ["", "-", "+", ".", "-.", ".s", "+.s", "s", "abc", " 1s", "--1s"];
        for text in malformed {
            assert_eq!(parse(text), Err(DurationError::Malformed(text.to_owned())), "{text}");
        }
        assert_eq!(parse("3"), Err(DurationError::MissingUnit("3".into())));
        assert_eq!(parse("1s2"), Err(DurationError::MissingUnit("1s2".into())));
        assert_eq!(parse("1d"), Err(DurationError::UnknownUnit("1d".into(), "d".into())));
        assert_eq!(parse("1s "), Err(DurationError::UnknownUnit("1s ".into(), "s ".into())));
        for text in ["9223372036854775808ns", "9223372036854775.808us", "3000000h", "99999999999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())), "{text}");
        }
    }
}
