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

/// Whether a schedule of a manifest fires in this minute since the Unix epoch.
#[must_use]
pub fn fires(schedule: &str, minute: u64) -> bool {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let at = i64::try_from(minute * 60).ok().and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0));
    let (Ok(cron), Some(at)) = (parser.parse(schedule), at) else { return false };
    cron.is_time_matching(&at).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_fires_in_its_minutes() {
        // Sunday, 1 January 2023, 00:00.
        let start = 27_876_960;
        assert!(fires("* * * * *", start) && fires("* * * * *", start + 1));
        assert!(fires("*/5 * * * *", start) && !fires("*/5 * * * *", start + 1) && fires("*/5 * * * *", start + 5));
        assert!(fires("30 1 * * *", start + 90) && !fires("30 1 * * *", start + 91));
        assert!(fires("0 0 * * SUN", start) && !fires("0 0 * * MON", start) && fires("0 0 * * 1", start + 1440));
        assert!(!fires("nonsense", start));
    }
}
