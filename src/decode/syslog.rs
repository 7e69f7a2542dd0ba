//! Syslog lines, read in place.
//!
//! - RFC 5424: `<34>1 2003-10-11T22:14:15.003Z host app pid msgid [sd] message`
//! - RFC 3164: `<34>Oct 11 22:14:15 host tag[pid]: message`; the priority may be missing, as in files
//! - the same with an RFC 3339 time in front, as rsyslog writes files by default
//!
//! Fields: `host`, `program`, `service` (the program), `pid`, `message`, and where given `facility`,
//! `severity`, `msgid`, `sd.<id>.<param>`.

use std::borrow::Cow;

use super::{EventClock, Reject, RejectCode, reject};
use crate::event::{Event, Object, Value};
use crate::time::Timestamp;

/// Decodes one line.
pub fn decode<'a>(
    line: &'a str,
    reference: Timestamp,
    clock: &EventClock,
) -> Result<Event<'a>, Reject> {
    let mut event = Event::default();
    let (priority, rest) = priority(line);
    let body = &mut event.body;
    let time = match rest.strip_prefix("1 ").filter(|_| priority.is_some()) {
        Some(rest) => rfc5424(rest, body),
        None => rfc3164(rest, body, reference, clock),
    };
    let Some(time) = time else {
        let start: String = line.chars().take(60).collect();
        return Err(reject(RejectCode::InvalidSyslog, format!("no syslog header in `{start}`")));
    };
    if let Some(priority) = priority {
        body.set("facility", Value::Int(i64::from(priority / 8)));
        body.set("severity", Value::Int(i64::from(priority % 8)));
    }
    event.time = time;
    Ok(event)
}

/// `<0>` to `<191>`, and what follows.
fn priority(line: &str) -> (Option<u8>, &str) {
    let inside = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match inside.map(|(digits, rest)| (digits.parse(), rest)) {
        Some((Ok(n @ 0..=191), rest)) => (Some(n), rest),
        _ => (None, line),
    }
}

/// What follows the version. The outer `None`: not of this form; the inner: no time (`-`).
fn rfc5424<'a>(rest: &'a str, body: &mut Object<'a>) -> Option<Option<Timestamp>> {
    let mut parts = rest.splitn(6, ' ');
    let time = match parts.next()? {
        "-" => None,
        text => Some(Timestamp::parse(text)?),
    };
    for name in ["host", "program", "pid", "msgid"] {
        match parts.next()? {
            "-" => {}
            // Two blanks in a row: it cannot be told which field is missing.
            "" => return None,
            value => set_header(body, name, value),
        }
    }
    let mut params = Vec::new();
    let rest = structured_data(parts.next()?, &mut params)?;
    body.extend(params);
    let message = rest.strip_prefix(' ').unwrap_or(rest);
    body.set("message", text(message.strip_prefix('\u{feff}').unwrap_or(message)));
    Some(time)
}

/// `-` or `[id name="value" …]…`; gives what follows.
fn structured_data<'a>(
    rest: &'a str,
    found: &mut Vec<(Cow<'a, str>, Value<'a>)>,
) -> Option<&'a str> {
    if let Some(rest) = rest.strip_prefix('-') {
        return Some(rest);
    }
    let mut rest = rest;
    while let Some(element) = rest.strip_prefix('[') {
        let id_end = element.find([' ', ']'])?;
        let id = &element[..id_end];
        let mut params = &element[id_end..];
        loop {
            params = params.trim_start_matches(' ');
            if let Some(after) = params.strip_prefix(']') {
                rest = after;
                break;
            }
            let (name, after) = params.split_once("=\"")?;
            let end = closing_quote(after)?;
            found.push((format!("sd.{id}.{name}").into(), Value::Str(unescaped(&after[..end]))));
            params = &after[end + 1..];
        }
    }
    Some(rest)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let closes = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        closes
    })
}

/// RFC 5424 escapes `"`, `\` and `]` in values.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next_if(|n| matches!(n, '"' | '\\' | ']')).unwrap_or('\\')),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn rfc3164<'a>(
    rest: &'a str,
    body: &mut Object<'a>,
    reference: Timestamp,
    clock: &EventClock,
) -> Option<Option<Timestamp>> {
    let (time, rest) = header_time(rest, reference, clock)?;
    let (host, rest) = rest.split_once(' ')?;
    if host.is_empty() {
        return None;
    }
    set_header(body, "host", host);
    let rest = rest.trim_start_matches(' ');
    match tag(rest) {
        Some((program, pid, message)) => {
            set_header(body, "program", program);
            if let Some(pid) = pid {
                set_header(body, "pid", pid);
            }
            body.set("message", text(message));
        }
        None => body.set("message", text(rest)),
    }
    Some(Some(time))
}

/// `Oct 11 22:14:15 ` or an RFC 3339 time, and what follows the blank.
fn header_time<'a>(
    rest: &'a str,
    reference: Timestamp,
    clock: &EventClock,
) -> Option<(Timestamp, &'a str)> {
    if rest.as_bytes().first()?.is_ascii_digit() {
        let (time, rest) = rest.split_once(' ')?;
        return Some((Timestamp::parse(time)?, rest));
    }
    let (head, rest) = (rest.get(..15)?, rest.get(15..)?);
    let month = month(head.get(..3)?)?;
    let b = head.as_bytes();
    let spaced = b[3] == b' ' && b[6] == b' ' && b[9] == b':' && b[12] == b':';
    let two = |at: usize| head.get(at..at + 2)?.trim_start_matches(' ').parse::<i8>().ok();
    if !spaced {
        return None;
    }
    let at = [month, two(4)?, two(7)?, two(10)?, two(13)?];
    Some((clock.without_year(at, reference)?, rest.strip_prefix(' ')?))
}

fn month(name: &str) -> Option<i8> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    MONTHS.iter().position(|m| *m == name).map(|i| i as i8 + 1)
}

/// `sshd[1291]: message` or `sudo: message`: program, pid, message.
fn tag(rest: &str) -> Option<(&str, Option<&str>, &str)> {
    let end = rest.find([':', '[', ' '])?;
    let (program, after) = rest.split_at(end);
    if program.is_empty() {
        return None;
    }
    if let Some(after) = after.strip_prefix('[') {
        let (pid, message) = after.split_once("]:")?;
        return Some((program, Some(pid), message.strip_prefix(' ').unwrap_or(message)));
    }
    let message = after.strip_prefix(':')?;
    Some((program, None, message.strip_prefix(' ').unwrap_or(message)))
}

fn set_header<'a>(body: &mut Object<'a>, name: &'static str, value: &'a str) {
    let number = (name == "pid").then(|| value.parse().ok()).flatten();
    body.set(name, number.map_or_else(|| text(value), Value::Int));
    if name == "program" {
        body.set("service", text(value));
    }
}

fn text(s: &str) -> Value<'_> {
    Value::Str(Cow::Borrowed(s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FieldPath;

    fn show(line: &str) -> Option<String> {
        let reference = Timestamp::parse("2017-06-01T00:00:00Z")?;
        let event = decode(line, reference, &EventClock::default()).ok()?;
        let field = |n: &str| event.text(&FieldPath::new(n)).unwrap_or_default().into_owned();
        let time = event.time.map(|t| t.to_string()).unwrap_or_default();
        let parts = [time, field("host"), field("program"), field("pid"), field("message")];
        Some(parts.join("|"))
    }

    #[test]
    fn the_forms_that_are_met_in_the_wild_are_read() {
        for (line, expect) in [
            (
                "Mar 27 13:06:56 ip-10 sshd[1291]: Server listening on :: port 22.",
                "2017-03-27T13:06:56Z|ip-10|sshd|1291|Server listening on :: port 22.",
            ),
            (
                "Mar  7 13:06:56 h sudo:   ubuntu : TTY=pts/0 ; COMMAND=/bin/su",
                "2017-03-07T13:06:56Z|h|sudo||  ubuntu : TTY=pts/0 ; COMMAND=/bin/su",
            ),
            (
                "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
                "2016-10-11T22:14:15Z|mymachine|su||'su root' failed",
            ),
            (
                "<165>1 2003-10-11T22:14:15.003Z m.example evntslog - ID47 [ex@1 a=\"x\\\"y\"][b] An event",
                "2003-10-11T22:14:15.003Z|m.example|evntslog||An event",
            ),
            ("<34>1 - - - - - -", "||||"),
            (
                "2017-03-27T13:06:56.5+02:00 host kernel: [ 1.0] usb",
                "2017-03-27T11:06:56.500Z|host|kernel||[ 1.0] usb",
            ),
            (
                "Mar 27 13:06:56 h message repeated 2 times: [ x]",
                "2017-03-27T13:06:56Z|h|||message repeated 2 times: [ x]",
            ),
        ] {
            assert_eq!(show(line).as_deref(), Some(expect), "{line}");
        }
        for line in [
            "",
            "hello world",
            "Mar 32 13:06:56 h a: b",
            "Mar 27 13:06:56",
            "<999>1 - - - - - -",
            "<34>1 -  su - - - m",
            "Mär 27 13:06:56 h a: b",
        ] {
            assert_eq!(show(line), None, "{line}");
        }
    }

    #[test]
    fn priority_and_structured_data_become_fields() {
        let line = "<165>1 2003-10-11T22:14:15Z h a 7 - [ex@1 k=\"a\\]b\"] m";
        let event = decode(line, Timestamp(0), &EventClock::default()).expect("decodes");
        let field = |n: &str| event.text(&FieldPath::new(n)).map(Cow::into_owned);
        assert_eq!(field("facility").as_deref(), Some("20"));
        assert_eq!(field("severity").as_deref(), Some("5"));
        assert_eq!(field("sd.ex@1.k").as_deref(), Some("a]b"));
    }
}
