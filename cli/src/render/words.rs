//! Numbers and times as a person says them.

use std::time::Duration;

/// `1 000`, `12 001`: groups of three, from 1 000 on.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `0 s`, `42 s`, `6 m`, `3 h`, `2 d`: the greatest unit alone, rounded down.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} m", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `0.3 ms`, `402 ms`, `1.2 s`: how long something took.
pub fn took(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// `1.2 MB`, `410 KB`, `12 B`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `1 path`, `2 paths`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// Local time of day, `14:02:11`; with the date when it is not of today. UTC where the offset is not known.
pub fn clock(unix_ms: u64, now_ms: u64) -> String {
    use time::macros::format_description;
    let offset = time::UtcOffset::current_local_offset().unwrap_or(time::UtcOffset::UTC);
    let at = |ms: u64| {
        let ns = i128::from(ms) * 1_000_000;
        time::OffsetDateTime::from_unix_timestamp_nanos(ns).ok().map(|t| t.to_offset(offset))
    };
    let (Some(then), Some(now)) = (at(unix_ms), at(now_ms)) else { return "–".to_owned() };
    let format = if then.date() == now.date() {
        format_description!("[hour]:[minute]:[second]")
    } else {
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")
    };
    then.format(&format).unwrap_or_else(|_| "–".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_says_them() {
        assert_eq!(
            [0, 999, 1_000, 12_001, 1_000_000].map(count),
            ["0", "999", "1 000", "12 001", "1 000 000"]
        );
        assert_eq!(
            [0, 59, 60, 3_600, 200_000].map(|s| age(Duration::from_secs(s))),
            ["0 s", "59 s", "1 m", "1 h", "2 d"]
        );
        assert_eq!(
            [300, 402_000, 1_240_000].map(|us| took(Duration::from_micros(us))),
            ["0.3 ms", "402 ms", "1.2 s"]
        );
        assert_eq!([12, 410_000, 1_200_000].map(bytes), ["12 B", "410 KB", "1.2 MB"]);
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(plural(1, "path", "paths"), "1 path");
    }
}
