//! When: days and hours by the clock of some place.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// Hours of some days, by the clock of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    days: Days,
    /// Minutes since midnight.
    from: u16,
    /// Minutes since midnight, not included. Up to `from`, it is those of the next day.
    to: u16,
    zone: TimeZone,
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// The whole week.
    pub const ALL: Days = Days(0x7f);

    /// No day.
    pub const NONE: Days = Days(0);

    /// These and one more.
    pub fn with(self, day: Weekday) -> Days {
        Days(self.0 | 1 << day.to_monday_zero_offset())
    }

    fn has(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }
}

/// Why there are no such hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoursFault {
    /// `from` is no time of day.
    From,
    /// `to` is no time of day.
    To,
    /// There is no such time zone.
    Zone,
}

impl Hours {
    /// Hours from and to a time of day as `08:30`, on days of a zone as `Europe/Rome` (IANA). Those that end before they
    /// begin end on the next day, and those that end as they begin last a whole day.
    ///
    /// # Errors
    /// What of it does not exist.
    pub fn new(days: Days, from: &str, to: &str, zone: &str) -> Result<Hours, HoursFault> {
        let from = minutes(from).filter(|from| *from < DAY).ok_or(HoursFault::From)?;
        let to = minutes(to).ok_or(HoursFault::To)?;
        let zone = TimeZone::get(zone).map_err(|_| HoursFault::Zone)?;
        Ok(Hours { days, from, to, zone })
    }

    /// Whether a moment lies in them.
    pub fn holds(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = self.days.has(local.weekday());
        let yesterday = self.days.has(local.weekday().previous());
        if self.from < self.to {
            today && (self.from..self.to).contains(&minute)
        } else {
            (today && minute >= self.from) || (yesterday && minute < self.to)
        }
    }

    /// What the clock there shows: `Fri 10:00 in Europe/Rome`.
    pub fn clock(&self, at: Timestamp) -> String {
        let local = self.zone.to_datetime(at);
        format!("{} in {}", local.strftime("%a %H:%M"), self.zone.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != Days::ALL {
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].into_iter().enumerate();
            let days: Vec<&str> = names.filter(|(n, _)| self.days.0 & (1 << n) != 0).map(|(_, name)| name).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))
    }
}

const DAY: u16 = 24 * 60;

/// `08:30` in minutes; `24:00` is the end of a day.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| match digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().ok(),
        false => None,
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_those_of_the_place_in_summer_and_winter() {
        let office = Hours::new(Days::ALL, "09:00", "18:00", "Europe/Rome").unwrap();

        assert!(office.holds(at("2026-11-20T08:00:00Z")) && !office.holds(at("2026-11-20T07:59:59Z")));
        assert!(office.holds(at("2026-07-20T07:00:00Z")) && !office.holds(at("2026-07-20T16:00:00Z")));
        assert_eq!(office.clock(at("2026-07-20T07:00:00Z")), "Mon 09:00 in Europe/Rome");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let friday = Days::NONE.with(Weekday::Friday);
        let night = Hours::new(friday, "22:00", "06:00", "UTC").unwrap();

        assert!(night.holds(at("2026-11-20T22:00:00Z")) && night.holds(at("2026-11-21T05:59:00Z")));
        assert!(!night.holds(at("2026-11-20T05:00:00Z")) && !night.holds(at("2026-11-21T06:00:00Z")));
        assert!(!night.holds(at("2026-11-21T22:00:00Z")));
    }

    #[test]
    fn a_day_has_an_end_and_may_be_whole() {
        let evening = Hours::new(Days::ALL, "18:00", "24:00", "UTC").unwrap();
        let whole = Hours::new(Days::NONE.with(Weekday::Friday), "00:00", "24:00", "UTC").unwrap();

        assert!(evening.holds(at("2026-11-20T23:59:59Z")) && !evening.holds(at("2026-11-21T00:00:00Z")));
        assert!(whole.holds(at("2026-11-20T00:00:00Z")) && !whole.holds(at("2026-11-21T00:00:00Z")));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let new = |from, to, zone| Hours::new(Days::ALL, from, to, zone).unwrap_err();

        assert_eq!(new("9:00", "18:00", "UTC"), HoursFault::From);
        assert_eq!(new("24:00", "18:00", "UTC"), HoursFault::From);
        assert_eq!(new("09:00", "24:01", "UTC"), HoursFault::To);
        assert_eq!(new("09:00", "18:60", "UTC"), HoursFault::To);
        assert_eq!(new("09:00", "18:00", "Europe/Milan"), HoursFault::Zone);
    }
}
