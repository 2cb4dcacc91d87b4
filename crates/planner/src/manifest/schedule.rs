//! `[cron.NAME] schedule`: five fields in UTC, as crontab has them.

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};

/// From here schedules are tried: whatever never fires in the years after it never does. 29 February comes within eight.
const FROM: i64 = 1_704_067_200;

/// Whether a schedule is one, and fires at all. Five fields cannot fire more often than once a minute.
///
/// # Errors
/// One line, without the place where it stands.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    const EXAMPLE: &str = "minute, hour, day, month, weekday, such as \"*/5 * * * *\"";
    let words = schedule.split_ascii_whitespace().count();
    if words == 6 || words == 7 {
        return Err(format!("has {words} fields, so it would count seconds, and once a minute is the most: {EXAMPLE}"));
    }
    if words != 5 || schedule.len() > 200 {
        return Err(format!("must have five fields: {EXAMPLE}"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(schedule).map_err(|error| format!("is no schedule: {error}; {EXAMPLE}"))?;
    let from: DateTime<Utc> = DateTime::from_timestamp(FROM, 0).unwrap_or_default();
    match cron.find_next_occurrence(&from, false) {
        Ok(_) => Ok(()),
        Err(_) => Err("never fires: no year has such a day".to_owned()),
    }
}
