//! The Date header (RFC 3261 §20.17), which knows one form only: `Sat, 13 Nov 2010 23:29:00 GMT`.

/// Unix seconds as a Date. Years beyond four digits are not written; `iat` never comes near them.
pub(super) fn write(unix_s: i64) -> String {
    let unix_s = unix_s.clamp(0, 253_402_300_799);
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    // 1 January 1970 was a Thursday.
    let weekday = WEEKDAYS[usize::try_from((days + 3).rem_euclid(7)).unwrap_or(0)];
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// A Date header as Unix seconds; HTTP has the same form. The name of the day is not compared.
pub fn read(text: &str) -> Option<i64> {
    let mut words = text.trim().split_ascii_whitespace();
    let (_weekday, day, month, year, time, zone) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    if zone != "GMT" || words.next().is_some() {
        return None;
    }
    let number = |text: &str, most: i64| {
        let is_short = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| is_short && *n <= most)
    };
    let month = 1 + i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    let mut clock = time.split(':');
    let (hour, minute, second) = (clock.next()?, clock.next()?, clock.next()?);
    if clock.next().is_some() {
        return None;
    }
    let days = days_of(number(year, 9_999)?, month, number(day, 31)?);
    // A leap second is written 60.
    Some(days * 86_400 + number(hour, 23)? * 3_600 + number(minute, 59)? * 60 + number(second, 60)?)
}

/// Days since 1970 of a day in the Gregorian calendar. Years begin in March, so that the leap day is their last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_back_as_it_was_written() {
        // The example of RFC 3261 §20.17, and both ends of leap days.
        for (text, unix_s) in [
            ("Sat, 13 Nov 2010 23:29:00 GMT", 1_289_690_940),
            ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
            ("Thu, 31 Dec 2099 23:59:59 GMT", 4_102_444_799),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ] {
            assert_eq!(write(unix_s), text);
            assert_eq!(read(text), Some(unix_s));
        }
        for text in ["", "Sat, 13 Nov 2010 23:29:00 UTC", "Sat, 13 Nov 2010 24:29:00 GMT", "Sat, 13 Bla 2010 1:1:1 GMT"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
