//! `[cron.NAME] schedule`: five fields in UTC, as crontab has them.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Dates come back on the same weekdays, leap days too, after 28 years: what fires on none of these days never does.
const DAYS: std::ops::Range<u64> = 20_000..20_000 + 28 * 366;

/// Whether a schedule is one, and fires at all. Five fields cannot fire more often than once a minute.
///
/// # Errors
/// One line, without the place where it stands.
pub fn check(schedule: &str) -> Result<(), String> {
    const EXAMPLE: &str = "minute, hour, day, month, weekday, such as \"*/5 * * * *\"";
    let words = schedule.split_ascii_whitespace().count();
    if words == 6 || words == 7 {
        return Err(format!("has {words} fields, so it would count seconds, and once a minute is the most: {EXAMPLE}"));
    }
    if words != 5 || schedule.len() > 200 {
        return Err(format!("must have five fields: {EXAMPLE}"));
    }
    let cron = parse(schedule).map_err(|error| format!("is no schedule: {error}; {EXAMPLE}"))?;
    if DAYS.map(date).any(|date| is_day_of(&cron, date)) {
        Ok(())
    } else {
        Err("never fires: no year has such a day".to_owned())
    }
}

/// Whether a schedule of a manifest fires in this minute since the Unix epoch.
#[must_use]
pub fn fires(schedule: &str, minute: u64) -> bool {
    let Ok(cron) = parse(schedule) else { return false };
    let (hour, in_hour) = ((minute / 60 % 24) as u32, (minute % 60) as u32);
    cron.pattern.minute_match(in_hour).unwrap_or(false)
        && cron.pattern.hour_match(hour).unwrap_or(false)
        && is_day_of(&cron, date(minute / (24 * 60)))
}

/// The first minute after `minute`, both since the Unix epoch, in which a schedule fires.
#[must_use]
pub fn next_fire(schedule: &str, minute: u64) -> Option<u64> {
    let cron = parse(schedule).ok()?;
    let today = (minute + 1) / (24 * 60);
    let days = (today..=today + DAYS.end - DAYS.start).filter(|day| is_day_of(&cron, date(*day)));
    let mut minutes = days.flat_map(|day| day * 24 * 60..(day + 1) * 24 * 60);
    minutes.find(|at| *at > minute && fires(schedule, *at))
}

fn parse(schedule: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(schedule).map_err(|error| error.to_string())
}

fn is_day_of(cron: &Cron, (year, month, day): (i32, u32, u32)) -> bool {
    cron.pattern.month_match(month).unwrap_or(false) && cron.pattern.day_match(year, month, day).unwrap_or(false)
}

/// Year, month and day of a day since the Unix epoch. Years are counted from March, so that a leap day is their last.
fn date(day: u64) -> (i32, u32, u32) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = i32::try_from(year + era * 400 + next).unwrap_or(i32::MAX);
    (year, u32::try_from(month).unwrap_or(0), u32::try_from(day).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_fires_in_its_minutes() {
        // Sunday, 1 January 2023, 00:00.
        let start = 27_875_520;
        assert!(fires("* * * * *", start) && fires("* * * * *", start + 1));
        assert!(fires("*/5 * * * *", start) && !fires("*/5 * * * *", start + 1) && fires("*/5 * * * *", start + 5));
        assert!(fires("30 1 * * *", start + 90) && !fires("30 1 * * *", start + 91));
        assert!(fires("0 0 * * SUN", start) && !fires("0 0 * * MON", start) && fires("0 0 * * 1", start + 1440));
        assert!(!fires("nonsense", start));
    }

    #[test]
    fn the_next_minute_is_found() {
        let start = 27_875_520;
        assert_eq!(next_fire("*/5 * * * *", start), Some(start + 5));
        assert_eq!(next_fire("0 3 * * *", start), Some(start + 180));
        assert_eq!(next_fire("0 3 * * *", start + 180), Some(start + 180 + 1440));
        assert_eq!(next_fire("0 0 * * MON", start), Some(start + 1440));
        assert_eq!(next_fire("nonsense", start), None);
    }

    #[test]
    fn days_have_their_dates() {
        for (day, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (11_016, (2000, 2, 29)),
            (20_453, (2025, 12, 31)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
    }
}
