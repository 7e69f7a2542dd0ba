//! The log that the demo tells: an ordinary server, and what is done to it.
//!
//! Lines are made ahead of time and come out when their time has come. The same seed tells the same
//! story. Addresses are those reserved for documentation (RFC 5737).

use std::collections::BTreeMap;

use crate::time::Timestamp;

const SECOND: i64 = 1_000_000;

/// How long a cycle of attacks is; then it begins again from other addresses.
pub const CYCLE_SECONDS: i64 = 75;

const HOSTS: &[&str] = &["web-1", "web-2", "db-1", "bastion"];
const PEOPLE: &[&str] = &["alice", "bob", "carol", "dave", "erin", "frank"];
const GUESSES: &[&str] =
    &["admin", "test", "oracle", "postgres", "git", "pi", "ubuntu", "support", "guest", "ftp"];

/// A line of a host's auth log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The host that wrote it.
    pub host: &'static str,
    /// Program, pid and message.
    pub text: String,
}

/// Makes the lines.
pub struct Story {
    seed: u64,
    lines: BTreeMap<(i64, u64), Line>,
    next: u64,
    told_to: i64,
    cycle: i64,
    begins: i64,
}

impl Story {
    /// A story whose attacks begin at `begins`, after `calm_seconds` in which nothing happened.
    pub fn new(seed: u64, begins: Timestamp, calm_seconds: i64) -> Self {
        let told_to = begins.0 - calm_seconds * SECOND;
        Self {
            seed: seed | 1,
            lines: BTreeMap::new(),
            next: 0,
            told_to,
            cycle: 0,
            begins: begins.0,
        }
    }

    /// The lines up to `now` that have not been told yet, with their times, in order.
    pub fn until(&mut self, now: Timestamp) -> Vec<(Timestamp, Line)> {
        while self.told_to < now.0 {
            self.ordinary_second();
            let next_cycle = self.begins + self.cycle * CYCLE_SECONDS * SECOND;
            if self.told_to == next_cycle {
                self.attacks(next_cycle, self.cycle);
                self.cycle += 1;
            }
            self.told_to += SECOND;
        }
        let later = self.lines.split_off(&(now.0, 0));
        let due = std::mem::replace(&mut self.lines, later);
        due.into_iter().map(|((time, _), line)| (Timestamp(time), line)).collect()
    }

    /// About one event in two seconds: logins with keys, cron, the odd mistyped password.
    fn ordinary_second(&mut self) {
        let at = self.told_to + self.below(SECOND as u64) as i64;
        let (host, person) = (self.pick(HOSTS), self.pick(PEOPLE));
        let (pid, port) = (1000 + self.below(30_000), 1024 + self.below(60_000));
        let address = format!("192.0.2.{}", 10 + self.below(6));
        match self.below(40) {
            0..=2 => {
                let text = format!(
                    "sshd[{pid}]: Accepted publickey for {person} from {address} port {port} ssh2"
                );
                self.line(at, host, text);
            }
            3 => self.failure(at, host, person, &address),
            4..=9 => {
                let text = format!("sshd[{pid}]: Disconnected from {address} port {port}");
                self.line(at, host, text);
            }
            10..=16 => {
                let text = format!(
                    "CRON[{pid}]: pam_unix(cron:session): session opened for user root by (uid=0)"
                );
                self.line(at, host, text);
            }
            _ => {}
        }
    }

    fn attacks(&mut self, start: i64, cycle: i64) {
        let n = cycle % 200 + 1;
        let at = |seconds: i64, tenths: i64| start + seconds * SECOND + tenths * SECOND / 10;
        let text = "sudo:   mallory : user NOT in sudoers ; TTY=pts/3 ; PWD=/tmp ; USER=root ; COMMAND=/bin/sh";
        self.line(at(1, 0), "web-2", text.to_owned());
        for i in 0..14 {
            self.failure(at(3, i * 4), "bastion", "root", &format!("203.0.113.{n}"));
        }
        for (i, user) in (0..).zip(GUESSES) {
            self.failure(at(16, i * 7), "web-1", user, &format!("198.51.100.{n}"));
        }
        let patient = format!("203.0.113.{}", 250 - n % 40);
        for i in 0..11 {
            self.failure(at(30, i * 6), "db-1", "deploy", &patient);
        }
        let text =
            format!("sshd[4711]: Accepted password for deploy from {patient} port 40022 ssh2");
        self.line(at(38, 0), "db-1", text);
        for i in 0..45 {
            let person = self.pick(PEOPLE);
            let text = format!(
                "sshd[{}]: Accepted publickey for {person} from 192.0.2.{} port {} ssh2",
                5000 + i,
                100 + i,
                1024 + self.below(60_000)
            );
            self.line(at(50, i * 2), "web-1", text);
        }
    }

    fn failure(&mut self, at: i64, host: &'static str, user: &str, address: &str) {
        let (pid, port) = (1000 + self.below(30_000), 1024 + self.below(60_000));
        let known = PEOPLE.contains(&user) || user == "root" || user == "deploy";
        let invalid = if known { "" } else { "invalid user " };
        let text = format!(
            "sshd[{pid}]: Failed password for {invalid}{user} from {address} port {port} ssh2"
        );
        self.line(at, host, text);
    }

    fn line(&mut self, at: i64, host: &'static str, text: String) {
        self.next += 1;
        self.lines.insert((at, self.next), Line { host, text });
    }

    fn pick(&mut self, from: &'static [&'static str]) -> &'static str {
        from[self.below(from.len() as u64) as usize]
    }

    /// Xorshift: good enough for a story.
    fn below(&mut self, limit: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % limit
    }
}

impl Line {
    /// The line as RFC 3164 writes it, without priority, in UTC.
    pub fn syslog(&self, time: Timestamp) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let at = time.civil().unwrap_or_default();
        let month = MONTHS[(at.month().max(1) as usize - 1) % 12];
        format!(
            "{month} {:>2} {:02}:{:02}:{:02} {} {}",
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            self.host,
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_tells_the_same_story_however_often_one_listens() {
        let begins = Timestamp(1_767_225_600_000_000);
        let end = begins.plus(100 * SECOND);
        let at_once = Story::new(7, begins, 900).until(end);
        let mut story = Story::new(7, begins, 900);
        let mut in_steps = Vec::new();
        for step in 1..=1000 {
            in_steps.extend(story.until(begins.plus(step * SECOND / 10)));
        }
        assert_eq!(at_once.len(), in_steps.len());
        assert!(at_once.len() > 200);
        assert!(at_once.windows(2).all(|w| w[0].0 <= w[1].0), "in the order of time");
    }

    #[test]
    fn lines_are_syslog() {
        let line = Line { host: "web-1", text: "sudo: x".into() };
        assert_eq!(line.syslog(Timestamp(0)), "Jan  1 00:00:00 web-1 sudo: x");
    }
}
