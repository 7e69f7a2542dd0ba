//! What the answer to an attempt means, and when the next attempt is due. Pure: no clock, no randomness.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | delivered |
//! | 410 | the receiver wants no more: the endpoint stops, nothing is thrown away |
//! | 408, 425, 429, 5xx, timeout, network | try again on the schedule, then dead letter |
//! | everything else, 3xx too | try three times more, then dead letter |
//!
//! A connect that fails within a second is tried again at once, one time: a restarting receiver or a closed
//! keep-alive connection looks like that.

use std::time::Duration;

use jiff::fmt::rfc2822;

/// Waits between attempts: about three days in all, so that a receiver broken on Friday loses nothing by
/// Monday.
pub const SCHEDULE: &[Duration] = &[
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3_600),
    Duration::from_secs(3 * 3_600),
    Duration::from_secs(6 * 3_600),
    Duration::from_secs(12 * 3_600),
    Duration::from_secs(24 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// Waits after a refusal such as 401 or 404. A receiver that is being deployed answers so for a minute or
/// two; a body that it will never take must not hold up the others for long.
pub const REFUSED_SCHEDULE: &[Duration] =
    &[Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(2 * 60)];

/// Jitter of every wait, in per cent to either side, so that receivers are not hit in step.
pub const JITTER_PERCENT: u64 = 20;

/// A connect that fails faster than this is tried again at once, one time.
pub const INSTANT_RETRY_MS_MAX: u64 = 1_000;

/// When a receiver wants the next attempt (RFC 9110, section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// In so many seconds.
    Seconds(u64),
    /// At this time, in ms since 1970.
    At(i64),
}

impl RetryAfter {
    /// Reads the header's value: seconds, or a date in one of the three forms of RFC 9110.
    pub fn parse(value: &str) -> Option<RetryAfter> {
        let value = value.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number too large to hold is clamped later anyway.
            return Some(RetryAfter::Seconds(value.parse().unwrap_or(u64::MAX)));
        }
        http_date(value).map(|date| RetryAfter::At(date.as_millisecond()))
    }

    fn wait(self, now_ms: i64) -> Duration {
        match self {
            RetryAfter::Seconds(seconds) => Duration::from_secs(seconds),
            RetryAfter::At(at_ms) => {
                Duration::from_millis(at_ms.saturating_sub(now_ms).max(0).unsigned_abs())
            }
        }
    }
}

fn http_date(value: &str) -> Option<jiff::Timestamp> {
    if let Ok(date) = rfc2822::DateTimeParser::new().parse_timestamp(value) {
        return Some(date);
    }
    // RFC 850 and asctime: obsolete, but a recipient must take them.
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].into_iter().find_map(|format| {
        let date = jiff::civil::DateTime::strptime(format, value).ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver answered.
    Status {
        /// Status code.
        code: u16,
        /// Its `Retry-After`, if it sent a readable one.
        retry_after: Option<RetryAfter>,
    },
    /// No connection came about.
    Connect {
        /// How long that took to find out.
        elapsed: Duration,
    },
    /// The receiver took too long.
    Timeout,
    /// The connection broke before an answer.
    Network,
    /// Our own egress policy allowed no address of the receiver.
    Blocked,
}

impl Attempt {
    /// Returns an answer without `Retry-After`.
    pub const fn status(code: u16) -> Attempt {
        Attempt::Status { code, retry_after: None }
    }

    /// Returns the attempt's outcome as a metric label.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Attempt::Status { code: 200..=299, .. } => "delivered",
            Attempt::Status { code: 300..=399, .. } => "redirect",
            Attempt::Status { code: 410, .. } => "gone",
            Attempt::Status { code: 408 | 425 | 429, .. } => "throttled",
            Attempt::Status { code: 500..=599, .. } => "server_error",
            Attempt::Status { .. } => "refused",
            Attempt::Connect { .. } => "connect",
            Attempt::Timeout => "timeout",
            Attempt::Network => "network",
            Attempt::Blocked => "blocked",
        }
    }
}

/// Why an alert goes to the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// Every retry of the schedule failed.
    #[error("schedule exhausted, last outcome {last}")]
    Exhausted {
        /// Outcome of the last attempt.
        last: &'static str,
    },
    /// The receiver refused it, and again, and again.
    #[error("receiver refused with status {code}")]
    Refused {
        /// Its last status code.
        code: u16,
    },
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Commit the offset and go on.
    Delivered,
    /// Try again after this wait.
    Retry(Duration),
    /// Write a dead letter, then commit and go on.
    GiveUp(GiveUp),
    /// Stop the endpoint; the alert stays uncommitted.
    Disable,
}

/// How far the delivery of one alert has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    retries: usize,
    refusals: usize,
    instant_retry_used: bool,
}

/// The retry schedules of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    schedule: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::new(SCHEDULE.to_vec(), REFUSED_SCHEDULE.to_vec())
    }
}

impl RetryPolicy {
    /// Takes the waits between attempts, and those after refusals.
    pub fn new(schedule: Vec<Duration>, refused: Vec<Duration>) -> RetryPolicy {
        RetryPolicy { schedule, refused }
    }

    /// Decides what follows on an attempt. `seed` is the alert's own: the same alert waits the same time
    /// wherever it is tried.
    pub fn step(&self, progress: &mut Progress, attempt: &Attempt, seed: u64, now_ms: i64) -> Step {
        match attempt {
            Attempt::Status { code: 200..=299, .. } => Step::Delivered,
            Attempt::Status { code: 410, .. } => Step::Disable,
            Attempt::Status { code: 408 | 425 | 429 | 500..=599, retry_after } => {
                self.scheduled(progress, attempt, *retry_after, seed, now_ms)
            }
            Attempt::Status { code, retry_after } => {
                let Some(wait) = self.refused.get(progress.refusals) else {
                    return Step::GiveUp(GiveUp::Refused { code: *code });
                };
                progress.refusals += 1;
                // Another row of the jitter than the schedule's.
                let wait = jittered(*wait, seed.rotate_left(32), progress.refusals);
                Step::Retry(asked(wait, *retry_after, now_ms))
            }
            Attempt::Connect { elapsed } if self.is_instant(progress, *elapsed) => {
                progress.instant_retry_used = true;
                Step::Retry(Duration::ZERO)
            }
            Attempt::Connect { .. } | Attempt::Timeout | Attempt::Network | Attempt::Blocked => {
                self.scheduled(progress, attempt, None, seed, now_ms)
            }
        }
    }

    fn is_instant(&self, progress: &Progress, elapsed: Duration) -> bool {
        !progress.instant_retry_used && elapsed < Duration::from_millis(INSTANT_RETRY_MS_MAX)
    }

    fn scheduled(
        &self,
        progress: &mut Progress,
        attempt: &Attempt,
        retry_after: Option<RetryAfter>,
        seed: u64,
        now_ms: i64,
    ) -> Step {
        let Some(wait) = self.schedule.get(progress.retries) else {
            return Step::GiveUp(GiveUp::Exhausted { last: attempt.outcome() });
        };
        progress.retries += 1;
        Step::Retry(asked(jittered(*wait, seed, progress.retries), retry_after, now_ms))
    }
}

/// Honours what the receiver asks for, within once and twice our own wait.
fn asked(wait: Duration, retry_after: Option<RetryAfter>, now_ms: i64) -> Duration {
    retry_after.map_or(wait, |asked| asked.wait(now_ms).clamp(wait, wait * 2))
}

/// Spreads a wait by ±[`JITTER_PERCENT`]; the same seed and retry give the same wait.
fn jittered(wait: Duration, seed: u64, retry: usize) -> Duration {
    const STEPS: u64 = 1 << 16;
    let spread = splitmix64(seed ^ splitmix64(retry as u64)) % (STEPS + 1);
    // Factor in 1/(100 · STEPS), from (100 − JITTER) to (100 + JITTER) per cent; integers stay exact.
    let factor = (100 - JITTER_PERCENT) * STEPS + 2 * JITTER_PERCENT * spread;
    let us = wait.as_micros() * u128::from(factor) / u128::from(100 * STEPS);
    Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014).
fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 784_111_777_000;

    fn first_step(attempt: Attempt) -> Step {
        RetryPolicy::default().step(&mut Progress::default(), &attempt, 7, NOW_MS)
    }

    fn within(wait: Duration, base_s: u64) -> bool {
        wait.as_millis() >= u128::from(base_s) * 800
            && wait.as_millis() <= u128::from(base_s) * 1_200
    }

    #[test]
    fn each_answer_means_what_the_contract_says() {
        let slow = Attempt::Connect { elapsed: Duration::from_secs(3) };
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(first_step(Attempt::status(code)), Step::Delivered, "{code}");
        }
        assert_eq!(first_step(Attempt::status(410)), Step::Disable);
        let statuses = [408, 425, 429, 500, 502, 503, 504, 599].map(Attempt::status);
        let others = [Attempt::Timeout, Attempt::Network, Attempt::Blocked, slow];
        for attempt in statuses.into_iter().chain(others) {
            let Step::Retry(wait) = first_step(attempt) else {
                panic!("{attempt:?} is not retried")
            };
            assert!(within(wait, 2), "{attempt:?} waits {wait:?}");
        }
        for code in [101, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 413, 422, 600] {
            let Step::Retry(wait) = first_step(Attempt::status(code)) else { panic!("{code}") };
            assert!(within(wait, 10), "{code} waits {wait:?}");
        }
    }

    #[test]
    fn a_refusal_is_retried_three_times_and_then_given_up() {
        let (policy, mut progress) = (RetryPolicy::default(), Progress::default());
        for base_s in [10, 30, 120] {
            let step = policy.step(&mut progress, &Attempt::status(404), 1, NOW_MS);
            assert!(matches!(step, Step::Retry(wait) if within(wait, base_s)), "{step:?}");
        }
        let step = policy.step(&mut progress, &Attempt::status(401), 1, NOW_MS);
        assert_eq!(step, Step::GiveUp(GiveUp::Refused { code: 401 }));
    }

    #[test]
    fn the_schedule_takes_three_days_and_then_ends() {
        let total: Duration = SCHEDULE.iter().sum();
        assert_eq!((SCHEDULE.len(), total.as_secs() / 3_600), (12, 70));
        for seed in 0..1_000 {
            let (policy, mut progress) = (RetryPolicy::default(), Progress::default());
            for base in SCHEDULE {
                let step = policy.step(&mut progress, &Attempt::status(503), seed, NOW_MS);
                assert!(
                    matches!(step, Step::Retry(wait) if within(wait, base.as_secs())),
                    "{step:?}"
                );
            }
            let step = policy.step(&mut progress, &Attempt::Timeout, seed, NOW_MS);
            assert_eq!(step, Step::GiveUp(GiveUp::Exhausted { last: "timeout" }));
        }
    }

    #[test]
    fn jitter_is_the_same_for_a_seed_and_spreads_over_seeds() {
        let base = Duration::from_secs(1_000);
        let waits: Vec<u64> = (0..1_000).map(|seed| jittered(base, seed, 1).as_secs()).collect();
        assert_eq!(jittered(base, 5, 1), jittered(base, 5, 1));
        assert_ne!(jittered(base, 5, 1), jittered(base, 5, 2));
        assert!(*waits.iter().min().unwrap() < 820 && *waits.iter().max().unwrap() > 1_180);
        let mean = waits.iter().sum::<u64>() / 1_000;
        assert!((980..=1_020).contains(&mean), "mean is {mean}");
    }

    #[test]
    fn only_the_first_quick_connect_failure_is_retried_at_once() {
        let (policy, mut progress) = (RetryPolicy::default(), Progress::default());
        let quick = Attempt::Connect { elapsed: Duration::from_millis(5) };
        assert_eq!(policy.step(&mut progress, &quick, 1, NOW_MS), Step::Retry(Duration::ZERO));
        let step = policy.step(&mut progress, &quick, 1, NOW_MS);
        assert!(matches!(step, Step::Retry(wait) if within(wait, 2)), "{step:?}");
    }

    #[test]
    fn retry_after_is_honoured_between_once_and_twice_the_own_wait() {
        let wait_for = |retry_after: &str| {
            let retry_after = RetryAfter::parse(retry_after);
            let attempt = Attempt::Status { code: 429, retry_after };
            let mut progress = Progress { retries: 2, ..Progress::default() };
            match RetryPolicy::default().step(&mut progress, &attempt, 3, NOW_MS) {
                Step::Retry(wait) => wait,
                step => panic!("{step:?}"),
            }
        };
        let own = wait_for("unreadable");
        assert!(within(own, 30));
        for (retry_after, expected) in [
            ("0", own),
            ("1", own),
            ("40", Duration::from_secs(40)),
            (" 40 ", Duration::from_secs(40)),
            ("86400", own * 2),
            ("99999999999999999999999", own * 2),
            ("-5", own),
            ("Sun, 06 Nov 1994 08:50:17 GMT", Duration::from_secs(40)),
            ("Sunday, 06-Nov-94 08:50:17 GMT", Duration::from_secs(40)),
            ("Sun Nov  6 08:50:17 1994", Duration::from_secs(40)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", own),
            ("Sat, 06 Nov 2094 08:49:37 GMT", own * 2),
            ("Mon, 06 Nov 1893 08:49:37 GMT", own),
            ("", own),
        ] {
            assert_eq!(wait_for(retry_after), expected, "{retry_after:?}");
        }
    }
}
