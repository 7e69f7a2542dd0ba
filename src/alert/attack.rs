//! `attack.…` tags → OCSF attacks (MITRE ATT&CK Enterprise).

use serde_json::{Value, json};

const TACTICS: &[(&str, &str, &str)] = &[
    ("reconnaissance", "TA0043", "Reconnaissance"),
    ("resource-development", "TA0042", "Resource Development"),
    ("initial-access", "TA0001", "Initial Access"),
    ("execution", "TA0002", "Execution"),
    ("persistence", "TA0003", "Persistence"),
    ("privilege-escalation", "TA0004", "Privilege Escalation"),
    ("defense-evasion", "TA0005", "Defense Evasion"),
    ("credential-access", "TA0006", "Credential Access"),
    ("discovery", "TA0007", "Discovery"),
    ("lateral-movement", "TA0008", "Lateral Movement"),
    ("collection", "TA0009", "Collection"),
    ("command-and-control", "TA0011", "Command and Control"),
    ("exfiltration", "TA0010", "Exfiltration"),
    ("impact", "TA0040", "Impact"),
];

/// One entry per tactic and technique that the tags name; other tags are left to `tags`.
pub fn attacks(tags: &[String]) -> Vec<Value> {
    let named =
        tags.iter().filter_map(|t| t.to_lowercase().strip_prefix("attack.").map(str::to_owned));
    named.filter_map(|name| entry(&name)).collect()
}

fn entry(name: &str) -> Option<Value> {
    let dashed = name.replace('_', "-");
    if let Some((_, uid, title)) = TACTICS.iter().find(|(n, ..)| *n == dashed) {
        return Some(json!({"tactic": {"uid": uid, "name": title}}));
    }
    let (technique, sub) = match name.split_once('.') {
        Some((technique, sub)) => (technique, Some(sub)),
        None => (name, None),
    };
    let digits = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
    if !technique.strip_prefix('t').is_some_and(|d| digits(d, 4)) {
        return None;
    }
    let technique = technique.to_uppercase();
    match sub {
        None => Some(json!({"technique": {"uid": technique}})),
        Some(sub) if digits(sub, 3) => Some(json!({
            "technique": {"uid": technique},
            "sub_technique": {"uid": format!("{technique}.{sub}")},
        })),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tactics_and_techniques_are_told_from_other_tags() {
        let tags = ["attack.credential_access", "attack.t1110.001", "attack.g0007", "cve.2024-1"];
        let found = attacks(&tags.map(str::to_owned));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["tactic"]["uid"], "TA0006");
        assert_eq!(found[1]["sub_technique"]["uid"], "T1110.001");
    }
}
