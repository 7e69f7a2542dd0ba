//! The forms in which Windows events come as JSON, and the flat names that rules know them by.
//!
//! | form | looks like |
//! |---|---|
//! | rendered EVTX | `{"Event": {"System": {…}, "EventData" or "UserData": {…}}}`, attributes under `#attributes`, `X_attributes` or `@x` |
//! | Winlogbeat | `{"winlog": {"channel": …, "event_data": {…}}}`; before 7 `log_name`, `event_data` at the top |
//! | either of them flat | `"winlog.event_data.Image"`, `"Event.EventData.Image"` |
//! | NXLog and the like | `Channel`, `EventID` and the rest at the top: nothing to do |
//!
//! Fields of `System` are called as in its XML, attributes `Tag_Attribute` (`Provider_Name`); those of
//! `EventData` and `UserData` by their own names. Where both have a name, `System` wins: rules mean it.

use std::borrow::Cow;

use super::shape::Fields;
use crate::event::{Object, Value};
use crate::limits::FIELD_NAME_BYTES_MAX;

/// Names at the top of an event without which nothing is added.
pub const NAMES: &[&str] = &["Event", "System", "EventData", "UserData", "winlog", "event_data"];
/// Beginnings of such names.
pub const PREFIXES: &[&str] = &["winlog.", "Event."];

/// Adds the flat fields of a Windows event; nothing for any other.
pub fn fields<'a>(body: &Object<'a>, fields: &mut Fields<'a>) {
    let mut system = Fields::new();
    for (name, value) in body.members() {
        match (&**name, value) {
            ("Event", Value::Object(event)) => evtx(event, fields, &mut system),
            ("System", Value::Object(of)) if is_evtx(body) => self::system(of, &mut system),
            ("EventData", of) if is_evtx(body) => event_data(of, fields),
            ("UserData", of) if is_evtx(body) => user_data(of, fields),
            ("winlog", Value::Object(winlog)) => {
                winlog
                    .members()
                    .for_each(|(k, v)| self::winlog(k.clone(), 0, v, fields, &mut system));
            }
            ("event_data", of) if body.get("log_name").is_some() => event_data(of, fields),
            ("log_name" | "event_id" | "source_name" | "computer_name", _)
                if body.get("event_data").is_some() =>
            {
                winlog(name.clone(), 0, value, fields, &mut system);
            }
            (path, value) if path.starts_with("winlog.") || path.starts_with("Event.") => {
                flat(name.clone(), value, fields, &mut system);
            }
            _ => {}
        }
    }
    if !system.is_empty() && !system.iter().any(|(name, _)| name == "EventID") {
        let code = body.get("event.code").or_else(|| match body.get("event") {
            Some(Value::Object(event)) => event.get("code"),
            _ => None,
        });
        code.into_iter().for_each(|code| system.push(("EventID".into(), code.clone())));
    }
    fields.append(&mut system);
}

/// Whether an event was written without the `Event` around it.
fn is_evtx(body: &Object<'_>) -> bool {
    matches!(body.get("System"), Some(Value::Object(s)) if s.get("EventID").is_some())
}

fn evtx<'a>(event: &Object<'a>, fields: &mut Fields<'a>, of_system: &mut Fields<'a>) {
    let Some(Value::Object(head)) = event.get("System") else { return };
    event.get("EventData").into_iter().for_each(|data| event_data(data, fields));
    event.get("UserData").into_iter().for_each(|data| user_data(data, fields));
    system(head, of_system);
}

/// `System`: tags with text by their names, attributes as `Tag_Attribute`.
fn system<'a>(system: &Object<'a>, fields: &mut Fields<'a>) {
    for (tag, value) in system.members() {
        match (tag.strip_suffix("_attributes"), value) {
            (_, Value::Null) => {}
            (Some(tag), Value::Object(attributes)) => attribute_fields(tag, attributes, fields),
            (_, Value::Object(parts)) => {
                for (name, part) in parts.iter() {
                    match (name, part) {
                        ("#text", text) => push(tag.clone(), text, fields),
                        ("#attributes", Value::Object(of)) => attribute_fields(tag, of, fields),
                        (name, part) => attribute_field(tag, name, part, fields),
                    }
                }
            }
            (_, value) => push(tag.clone(), value, fields),
        }
    }
}

fn attribute_fields<'a>(tag: &str, attributes: &Object<'a>, fields: &mut Fields<'a>) {
    attributes.iter().for_each(|(name, value)| attribute_field(tag, name, value, fields));
}

fn attribute_field<'a>(tag: &str, name: &str, value: &Value<'a>, fields: &mut Fields<'a>) {
    if tag.len() + name.len() < FIELD_NAME_BYTES_MAX {
        push(format!("{tag}_{}", name.trim_start_matches('@')), value, fields);
    }
}

/// `EventData`: members by their names, what has none as `Data`.
fn event_data<'a>(data: &Value<'a>, fields: &mut Fields<'a>) {
    let Value::Object(members) = data else { return unnamed(data, fields) };
    let parameters = fields.len();
    for (name, value) in members.members() {
        match &**name {
            "Data" => unnamed(value, fields),
            "#attributes" => {}
            _ => member(name.clone(), value, fields),
        }
    }
    // Winlogbeat numbers what has no name.
    if members.get("param1").is_some() && members.get("Data").is_none() {
        let numbered = |(name, _): &&(Cow<'a, str>, Value<'a>)| {
            name.strip_prefix("param").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        };
        let values = fields[parameters..].iter().filter(numbered).map(|(_, v)| v.clone());
        let values = Value::Array(values.collect());
        fields.push(("Data".into(), values));
    }
}

/// `Data` elements: text, `{"#text": …}` around text, or elements that carry their name.
fn unnamed<'a>(data: &Value<'a>, fields: &mut Fields<'a>) {
    match data {
        Value::Null => {}
        Value::Array(items) if items.iter().any(|item| named(item).is_some()) => {
            items.iter().for_each(|item| unnamed(item, fields));
        }
        item => match named(item) {
            Some(name) => push(name.to_owned(), element_text(item), fields),
            None => push("Data", inner_text(item), fields),
        },
    }
}

/// The name that a `Data` element carries.
fn named<'e>(item: &'e Value<'_>) -> Option<&'e str> {
    let Value::Object(element) = item else { return None };
    let attributes = match element.get("#attributes") {
        Some(Value::Object(attributes)) => attributes,
        _ => element,
    };
    match attributes.get("Name").or_else(|| attributes.get("@Name")) {
        Some(Value::Str(name)) => Some(name),
        _ => None,
    }
}

/// `UserData`: the members of the one element in it.
fn user_data<'a>(data: &Value<'a>, fields: &mut Fields<'a>) {
    let Value::Object(elements) = data else { return };
    for (name, element) in elements.members().filter(|(name, _)| *name != "#attributes") {
        match element {
            Value::Object(members) => members
                .members()
                .filter(|(name, _)| *name != "#attributes" && !name.starts_with('@'))
                .for_each(|(name, value)| member(name.clone(), value, fields)),
            value => member(name.clone(), value, fields),
        }
    }
}

/// What stands below `winlog`, by the rest of its path from byte `from`.
fn winlog<'a>(
    whole: Cow<'a, str>,
    from: usize,
    value: &Value<'a>,
    data: &mut Fields<'a>,
    system: &mut Fields<'a>,
) {
    let name = match (&whole[from..], value) {
        ("channel" | "log_name", _) => "Channel",
        ("event_id", _) => "EventID",
        ("provider_name" | "source_name", _) => "Provider_Name",
        ("provider_guid", _) => "Provider_Guid",
        ("computer_name", _) => "Computer",
        ("record_id", _) => "EventRecordID",
        ("process.pid", _) => "Execution_ProcessID",
        ("process.thread.id", _) => "Execution_ThreadID",
        ("user.identifier", _) => "Security_UserID",
        ("event_data", of) => return event_data(of, data),
        ("user_data", Value::Object(of)) => {
            return of.members().for_each(|(name, value)| member(name.clone(), value, data));
        }
        (path @ ("process" | "user" | "process.thread"), Value::Object(parts)) => {
            for (part, value) in parts.iter() {
                winlog(format!("{path}.{part}").into(), 0, value, data, system);
            }
            return;
        }
        (path, _) => {
            if path.starts_with("event_data.") || path.starts_with("user_data.") {
                let from = from + path.find('.').map_or(0, |dot| dot + 1);
                member(rest(whole, from), value, data);
            }
            return;
        }
    };
    push(name, value, system);
}

/// A key that holds a whole path.
fn flat<'a>(name: Cow<'a, str>, value: &Value<'a>, data: &mut Fields<'a>, system: &mut Fields<'a>) {
    if name.starts_with("winlog.") {
        return winlog(name, "winlog.".len(), value, data, system);
    }
    let Some(path) = name.strip_prefix("Event.") else { return };
    let path = path.trim_end_matches(".#text");
    if let Some(name) = path.strip_prefix("EventData.") {
        member(name.to_owned().into(), value, data);
    } else if let Some(path) = path.strip_prefix("UserData.") {
        let name = path.split_once('.').map_or(path, |(_, name)| name);
        member(name.to_owned().into(), value, data);
    } else if let Some(tag) = path.strip_prefix("System.") {
        push(tag.replace(".#attributes.", "_").replace('.', "_"), value, system);
    }
}

/// The name from byte `from`.
fn rest(name: Cow<'_, str>, from: usize) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(&name[from..]),
        Cow::Owned(name) => Cow::Owned(name[from..].to_owned()),
    }
}

/// A field under its name without spaces.
fn member<'a>(name: Cow<'a, str>, value: &Value<'a>, fields: &mut Fields<'a>) {
    let name = if name.contains(' ') { name.replace(' ', "").into() } else { name };
    push(name, inner_text(value), fields);
}

fn push<'a>(name: impl Into<Cow<'a, str>>, value: &Value<'a>, fields: &mut Fields<'a>) {
    fields.push((name.into(), value.clone()));
}

/// The text of an element that has attributes too; any other value as it is.
fn inner_text<'v, 'a>(value: &'v Value<'a>) -> &'v Value<'a> {
    match value {
        Value::Object(parts) => parts.get("#text").unwrap_or(value),
        value => value,
    }
}

/// The text of an element that carries its name.
fn element_text<'v, 'a>(element: &'v Value<'a>) -> &'v Value<'a> {
    match element {
        Value::Object(parts) => {
            parts.get("#text").or_else(|| parts.get("Value")).unwrap_or(&Value::Null)
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Format, Tables, shipped_tables};
    use crate::event::FieldPath;
    use crate::time::Timestamp;

    /// Logsource, time, then `name=values` of each name that is there.
    fn show(json: &str, names: &[&str]) -> String {
        let tables = Tables::new(shipped_tables().expect("shipped")).expect("few");
        let decoder = Decoder::new(Format::Json, Vec::new()).with_tables(tables);
        let event = decoder.decode(Some(json.as_bytes()), Timestamp(0)).expect("decodes");
        let mut shown = vec![event.source.to_string()];
        shown.extend(event.time.map(|t| t.to_string()));
        for name in names {
            let found = event.find(&FieldPath::new(name));
            let texts: Vec<_> = found.values.iter().filter_map(|v| v.text()).collect();
            if found.present {
                shown.push(format!("{name}={}", texts.join("|")));
            }
        }
        shown.join(" ")
    }

    const NAMES: &[&str] = &[
        "EventID",
        "Channel",
        "Provider_Name",
        "Computer",
        "Execution_ProcessID",
        "Image",
        "Event.EventData.Image",
        "Data",
    ];

    #[test]
    fn every_form_of_a_sysmon_event_has_the_same_fields() {
        let channel = "Microsoft-Windows-Sysmon/Operational";
        let head = r##""Provider": {"#attributes": {"Name": "P", "Guid": "G"}}, "EventID": 1,
            "TimeCreated": {"#attributes": {"SystemTime": "2026-01-02T03:04:05Z"}},
            "Execution": {"#attributes": {"ProcessID": 7}}, "Channel": "CH", "Computer": "h""##;
        let old = r##""Provider": null, "Provider_attributes": {"Name": "P"},
            "EventID": {"#text": 1, "#attributes": {"Qualifiers": 0}},
            "TimeCreated_attributes": {"SystemTime": "2026-01-02T03:04:05Z"},
            "Execution_attributes": {"ProcessID": 7}, "Channel": "CH", "Computer": "h""##;
        let xml = r##""Provider": {"@Name": "P"}, "EventID": "1", "Channel": "CH", "Computer": "h",
            "TimeCreated": {"@SystemTime": "2026-01-02T03:04:05Z"}, "Execution": {"@ProcessID": "7"}"##;
        let data = r##"{"Image": "C:\\a.exe"}"##;
        let named = r##"{"Data": [{"@Name": "Image", "#text": "C:\\a.exe"}, {"@Name": "User"}]}"##;
        let elements = r##"{"Data": {"#attributes": {"Name": "Image"}, "#text": "C:\\a.exe"}}"##;
        for json in [
            format!(r##"{{"Event": {{"#attributes": {{}}, "System": {{{head}}}, "EventData": {data}}}}}"##),
            format!(r##"{{"Event": {{"System": {{{old}}}, "EventData": {data}}}, "Event_attributes": {{}}}}"##),
            format!(r##"{{"Event": {{"System": {{{xml}}}, "EventData": {named}}}}}"##),
            format!(r##"{{"Event": {{"System": {{{head}}}, "EventData": {elements}}}}}"##),
            format!(r##"{{"System": {{{head}}}, "EventData": {data}}}"##),
            format!(r##"{{"Event": {{"System": {{{head}}}, "UserData": {{"X": {data}}}}}}}"##),
            r##"{"Event.System.Provider.#attributes.Name": "P", "Event.System.EventID": 1,
                "Event.System.TimeCreated.#attributes.SystemTime": "2026-01-02T03:04:05Z",
                "Event.System.Execution.#attributes.ProcessID": 7, "Event.System.Channel": "CH",
                "Event.System.Computer": "h", "Event.EventData.Image": "C:\\a.exe"}"##
                .to_owned(),
            r##"{"@timestamp": "2026-01-02T03:04:05Z", "winlog": {"channel": "CH", "event_id": "1",
                "provider_name": "P", "computer_name": "h", "process": {"pid": 7},
                "event_data": {"Image": "C:\\a.exe"}}, "event": {"code": 1}}"##
                .to_owned(),
            r##"{"@timestamp": "2026-01-02T03:04:05Z", "winlog.channel": "CH", "event.code": "1",
                "winlog.provider_name": "P", "winlog.computer_name": "h", "winlog.process.pid": 7,
                "winlog.event_data.Image": "C:\\a.exe"}"##
                .to_owned(),
            r##"{"@timestamp": "2026-01-02T03:04:05Z", "winlog": {"channel": "CH", "event_id": 1,
                "provider_name": "P", "computer_name": "h", "process.pid": 7,
                "event_data.Image": "C:\\a.exe"}}"##
                .to_owned(),
            r##"{"@timestamp": "2026-01-02T03:04:05Z", "log_name": "CH", "event_id": 1,
                "source_name": "P", "computer_name": "h", "Execution_ProcessID": 7,
                "event_data": {"Image": "C:\\a.exe"}}"##
                .to_owned(),
            r##"{"EventTime": "2026-01-02 03:04:05", "Channel": "CH", "EventID": 1, "SourceName": "P",
                "Hostname": "h", "Execution_ProcessID": 7, "Image": "C:\\a.exe"}"##
                .to_owned(),
        ] {
            let shown = show(&json.replace("CH", channel), NAMES);
            let shown = shown.replace(r" Event.EventData.Image=C:\a.exe", "");
            let expect = format!(
                r"windows/process_creation/sysmon 2026-01-02T03:04:05Z EventID=1 Channel={channel} Provider_Name=P Computer=h Execution_ProcessID=7 Image=C:\a.exe"
            );
            assert_eq!(shown, expect, "{json}");
        }
    }

    #[test]
    fn the_original_path_goes_on_working() {
        let json = r##"{"Event": {"System": {"EventID": 1, "Channel": "Security"},
            "EventData": {"Image": "a"}}}"##;
        let names = ["Event.EventData.Image", "Event.System.EventID", "Event.System.Channel"];
        let expect = "windows/-/security Event.EventData.Image=a Event.System.EventID=1 Event.System.Channel=Security";
        assert_eq!(show(json, &names), expect);
    }

    #[test]
    fn data_without_names_is_one_field_with_all_of_it() {
        let event = |data: &str| {
            format!(
                r##"{{"Event": {{"System": {{"EventID": 1, "Channel": "Application"}}, "EventData": {data}}}}}"##
            )
        };
        for (data, expect) in [
            (r##"{"Data": ["a", "b"]}"##, "windows/-/application Data=a|b"),
            (r##"{"Data": {"#text": ["a", "b"]}}"##, "windows/-/application Data=a|b"),
            (r##"{"Data": "a", "Binary": null}"##, "windows/-/application Data=a"),
            (r##"["a", "b"]"##, "windows/-/application Data=a|b"),
            (r##"{"param1": "a", "param2": "b"}"##, "windows/-/application Data=a|b"),
            ("null", "windows/-/application"),
        ] {
            assert_eq!(show(&event(data), &["Data"]), expect, "{data}");
        }
    }

    #[test]
    fn names_with_spaces_are_found_without_them() {
        let json = r##"{"Event": {"System": {"EventID": 1116, "Channel": "Microsoft-Windows-Windows Defender/Operational"},
            "EventData": {"Product Name": "x", "Threat Name": "y", "Path": "p"}}}"##;
        let names =
            ["ProductName", "ThreatName", "Signature", "Filename", "Event.EventData.ThreatName"];
        let expect = "windows/antivirus/windefend ProductName=x ThreatName=y Signature=y Filename=p Event.EventData.ThreatName=y";
        assert_eq!(show(json, &names), expect);
    }

    #[test]
    fn a_channel_that_no_table_knows_tells_the_product_alone() {
        let json = r##"{"Channel": "Microsoft-Windows-New/Operational", "EventID": 1}"##;
        assert_eq!(show(json, &[]), "windows/-/-");
        let json = r##"{"Channel": "#general", "EventID": 1}"##;
        assert_eq!(show(json, &[]), "-/-/-");
    }

    #[test]
    fn keywords_search_what_the_record_said_once() {
        let json = r##"{"Event": {"System": {"EventID": 1, "Channel": "System"}, "EventData": {"a b": "x"}}}"##;
        let decoder = Decoder::new(Format::Json, Vec::new());
        let event = decoder.decode(Some(json.as_bytes()), Timestamp(0)).expect("decodes");
        let texts: Vec<_> = event.scalars().iter().filter_map(|v| v.text()).collect();
        assert_eq!(texts, ["1", "System", "x"]);
    }
}
