//! Values of tags and attributes. Source: RFC 8216 §4.2.

use std::time::Duration;

/// decimal-integer: 0 to 2⁶⁴ − 1 in at most twenty digits.
pub(super) fn integer(text: &str) -> Option<u64> {
    let is_decimal = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_decimal { text.parse().ok() } else { None }
}

/// decimal-floating-point, in seconds; what is below a nanosecond is left out.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (text, "0"),
    };
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::new(integer(whole)?, nanos.parse().ok()?))
}

/// signed-decimal-floating-point.
pub(super) fn is_signed(text: &str) -> bool {
    seconds(text.strip_prefix('-').unwrap_or(text)).is_some()
}

/// hexadecimal-sequence.
pub(super) fn is_hexadecimal(text: &str) -> bool {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or("");
    !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}

/// decimal-resolution: width and height.
pub(super) fn resolution(text: &str) -> Option<(u64, u64)> {
    let (width, height) = text.split_once('x')?;
    Some((integer(width)?, integer(height)?))
}

/// enumerated-string.
pub(super) fn is_enumerated(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '"' || c == ',' || c.is_whitespace())
}

/// A URI or a reference to one, by its characters. Source: RFC 3986 §2.
pub(super) fn is_uri(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A point in time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    /// Since 1970-01-01T00:00:00Z.
    pub(super) since_epoch: Duration,
    /// As ISO 8601 has it in its extended format, and to the millisecond.
    pub(super) is_exact: bool,
}

/// `YYYY-MM-DDThh:mm:ss[.fraction]` with `Z`, `±hh:mm`, `±hh` or, which is no
/// ISO 8601 beside the extended format but met with, `±hhmm`.
pub(super) fn date_time(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once('T')?;
    let zone_at = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let days = days(date)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    if 23 < hour || 59 < minute || 60 < second || (!fraction.is_empty() && !is_digits(fraction)) {
        return None;
    }
    let (offset, is_extended) = offset(zone)?;
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(local - offset).ok()?;
    let fraction_of_second =
        if fraction.is_empty() { Some(Duration::ZERO) } else { self::fraction(fraction) };
    Some(DateTime {
        since_epoch: Duration::from_secs(seconds) + fraction_of_second?,
        is_exact: is_extended && 3 <= fraction.len(),
    })
}

fn fraction(digits: &str) -> Option<Duration> {
    seconds(&format!("0.{digits}"))
}

/// Seconds east of Greenwich, and whether that is in the extended format.
fn offset(zone: &str) -> Option<(i64, bool)> {
    if zone == "Z" {
        return Some((0, true));
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.get(1..)?;
    let ([hours, minutes], is_extended) = match digits.len() {
        2 => (fields(&format!("{digits}:00"), ':', [2, 2])?, true),
        5 => (fields(digits, ':', [2, 2])?, true),
        4 => (fields(&format!("{}:{}", digits.get(..2)?, digits.get(2..)?), ':', [2, 2])?, false),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), is_extended))
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
fn days(date: &str) -> Option<i64> {
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let place = usize::try_from(month - 1).ok()?;
    if year < 1970 || !(1..=*lengths.get(place)?).contains(&day) {
        return None;
    }
    let years: i64 = (1970..year).map(|y| if is_leap(y) { 366 } else { 365 }).sum();
    Some(years + lengths.iter().take(place).sum::<i64>() + day - 1)
}

/// Numbers of so many digits with a separator between them.
fn fields<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut values = [0; N];
    let mut parts = text.split(separator);
    for (value, digits) in values.iter_mut().zip(digits) {
        let part = parts.next().filter(|p| p.len() == digits && is_digits(p))?;
        *value = part.parse().ok()?;
    }
    parts.next().is_none().then_some(values)
}
