//! Every kind of log that SigmaHQ writes rules for can be told from an event by the shipped tables, or it
//! is said here why not.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use watchfire::decode::{Decoder, Format, Tables, shipped_tables};
use watchfire::event::Logsource;
use watchfire::rule::{Node, parse_yaml};
use watchfire::time::Timestamp;

/// A kind of log, and an event of it as far as it tells.
const TOLD: &[(&str, &str)] = &[
    ("-/-/apache", r#"{"event": {"dataset": "apache.error"}, "message": "x"}"#),
    ("-/-/netflow", r#"{"netflow": {"type": "netflow_flow"}, "destination": {"port": 1}}"#),
    ("-/-/nginx", r#"{"event.dataset": "nginx.error", "message": "x"}"#),
    (
        "-/antivirus/-",
        r#"{"Channel": "Microsoft-Windows-Windows Defender/Operational", "EventID": 1116}"#,
    ),
    ("-/dns/-", r#"{"_path": "dns", "query": "a.example", "answers": ["192.0.2.1"]}"#),
    ("-/firewall/-", r#"{"_path": "conn", "id.orig_h": "192.0.2.1", "id.resp_p": 22}"#),
    ("-/firewall/-", r#"{"devid": "FG100", "type": "traffic", "srcip": "192.0.2.1"}"#),
    ("-/proxy/-", r#"{"c-uri": "http://a.example/", "cs-method": "GET"}"#),
    ("-/webserver/-", r#"{"cs-uri-stem": "/", "cs-uri-query": "a=b", "cs-method": "GET"}"#),
    ("-/webserver/-", r#"{"event": {"dataset": "nginx.access"}, "url": {"path": "/"}}"#),
    ("aws/-/cloudtrail", r#"{"eventSource": "iam.amazonaws.com", "eventName": "CreateUser"}"#),
    (
        "azure/-/activitylogs",
        r#"{"category": "Administrative", "resourceId": "/SUBSCRIPTIONS/0", "operationName": "MICROSOFT.COMPUTE/x"}"#,
    ),
    ("azure/-/auditlogs", r#"{"category": "AuditLogs", "operationName": "Add user"}"#),
    ("azure/-/pim", r#"{"riskEventType": "redundantAssignmentAlertIncident"}"#),
    ("azure/-/riskdetection", r#"{"riskEventType": "leakedCredentials"}"#),
    ("azure/-/signinlogs", r#"{"category": "SignInLogs", "resultType": "50053"}"#),
    (
        "bitbucket/-/audit",
        r#"{"auditType": {"category": "Repositories", "action": "Repository deleted"}}"#,
    ),
    (
        "cisco/-/duo",
        r#"{"txid": "0", "event_type": "authentication", "reason": "user_marked_fraud"}"#,
    ),
    ("fortigate/-/event", r#"{"devid": "FGT60", "type": "event", "action": "Add"}"#),
    (
        "gcp/-/gcp.audit",
        r#"{"protoPayload": {"@type": "type.googleapis.com/google.cloud.audit.AuditLog", "methodName": "x"}}"#,
    ),
    (
        "gcp/-/google_workspace.admin",
        r#"{"protoPayload": {"serviceName": "admin.googleapis.com"}}"#,
    ),
    (
        "gcp/-/google_workspace.login",
        r#"{"protoPayload": {"serviceName": "login.googleapis.com"}}"#,
    ),
    ("github/-/audit", r#"{"_document_id": "x", "action": "repo.create"}"#),
    ("kubernetes/-/audit", r#"{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "verb": "get"}"#),
    ("kubernetes/application/audit", r#"{"auditID": "0", "verb": "get", "objectRef": {}}"#),
    ("linux/-/-", r#"{"program": "sshd", "message": "x"}"#),
    ("linux/-/auditd", r#"{"type": "EXECVE", "a0": "ls"}"#),
    ("linux/-/auditd", r#"{"type": "PATH", "msg": "audit(1364481363.243:24287)", "name": "/etc"}"#),
    ("linux/-/auth", r#"{"SYSLOG_IDENTIFIER": "su", "MESSAGE": "x"}"#),
    ("linux/-/clamav", r#"{"program": "clamd", "message": "x"}"#),
    ("linux/-/cron", r#"{"program": "CRON", "message": "x"}"#),
    ("linux/-/guacamole", r#"{"program": "guacd", "message": "x"}"#),
    ("linux/-/sshd", r#"{"program": "sshd", "message": "x"}"#),
    ("linux/-/sudo", r#"{"program": "sudo", "message": "x"}"#),
    ("linux/-/syslog", r#"{"program": "cron", "message": "x"}"#),
    ("linux/-/vsftpd", r#"{"program": "vsftpd", "message": "x"}"#),
    (
        "linux/file_event/-",
        r#"{"Event": {"System": {"Channel": "Linux-Sysmon/Operational", "EventID": 11}}}"#,
    ),
    (
        "linux/network_connection/-",
        r#"{"Event": {"System": {"Channel": "Linux-Sysmon/Operational", "EventID": 3}}}"#,
    ),
    (
        "linux/process_creation/-",
        r#"{"host": {"os": {"type": "linux"}}, "event": {"category": ["process"], "type": ["start"]}}"#,
    ),
    (
        "m365/-/audit",
        r#"{"Workload": "AzureActiveDirectory", "Operation": "Add user.", "RecordType": 8}"#,
    ),
    ("m365/-/exchange", r#"{"eventSource": "Exchange", "eventName": "x", "status": "success"}"#),
    ("m365/-/threat_detection", r#"{"eventSource": "SecurityComplianceCenter", "eventName": "x"}"#),
    (
        "m365/-/threat_management",
        r#"{"eventSource": "SecurityComplianceCenter", "eventName": "x"}"#,
    ),
    (
        "macos/file_event/-",
        r#"{"host.os.type": "macos", "event.category": "file", "event.type": "creation"}"#,
    ),
    (
        "macos/process_creation/-",
        r#"{"host.os.type": "macos", "event.category": "process", "event.type": "start"}"#,
    ),
    ("okta/-/okta", r#"{"eventType": "user.session.start", "legacyEventType": null}"#),
    ("onelogin/-/onelogin.events", r#"{"event_type_id": 3, "account_id": 1}"#),
    ("opencanary/application/-", r#"{"logtype": 4000, "node_id": "x"}"#),
    ("qualys/-/-", r#"{"host.scan.vuln": "10"}"#),
    ("rpc_firewall/application/-", r#"{"EventLog": "RPCFW", "EventID": 3}"#),
    (
        "windows/file_access/-",
        r##"{"Event": {"System": {"Provider": {"#attributes": {"Name": "Microsoft-Windows-Kernel-File"}}, "EventID": 12}}}"##,
    ),
    (
        "windows/file_rename/-",
        r##"{"Event": {"System": {"Provider": {"#attributes": {"Name": "Microsoft-Windows-Kernel-File"}}, "EventID": 27}}}"##,
    ),
    ("zeek/-/dce_rpc", r#"{"_path": "dce_rpc"}"#),
    ("zeek/-/dns", r#"{"event": {"dataset": "zeek.dns"}}"#),
    ("zeek/-/http", r#"{"_path": "http", "uri": "/"}"#),
    ("zeek/-/kerberos", r#"{"_path": "kerberos", "service": "krbtgt/EXAMPLE"}"#),
    ("zeek/-/rdp", r#"{"_path": "rdp"}"#),
    ("zeek/-/smb_files", r#"{"_path": "smb_files", "name": "x"}"#),
    ("zeek/-/x509", r#"{"_path": "x509"}"#),
];

/// Kinds of Windows logs: channel and event ID of an event, and its `EventType` if that decides.
const WINDOWS: &[(&str, &str, u32)] = &[
    ("windows/-/-", "Setup", 1),
    ("windows/-/application", "Application", 1000),
    ("windows/-/applocker", "Microsoft-Windows-AppLocker/MSI and Script", 8007),
    ("windows/-/appmodel-runtime", "Microsoft-Windows-AppModel-Runtime/Admin", 201),
    ("windows/-/appxdeployment-server", "Microsoft-Windows-AppXDeploymentServer/Operational", 400),
    ("windows/-/appxpackaging-om", "Microsoft-Windows-AppxPackaging/Operational", 157),
    ("windows/-/bits-client", "Microsoft-Windows-Bits-Client/Operational", 3),
    ("windows/-/capi2", "Microsoft-Windows-CAPI2/Operational", 70),
    (
        "windows/-/certificateservicesclient-lifecycle-system",
        "Microsoft-Windows-CertificateServicesClient-Lifecycle-System/Operational",
        1007,
    ),
    ("windows/-/codeintegrity-operational", "Microsoft-Windows-CodeIntegrity/Operational", 3077),
    ("windows/-/diagnosis-scripted", "Microsoft-Windows-Diagnosis-Scripted/Operational", 101),
    ("windows/-/dns-client", "Microsoft-Windows-DNS-Client/Operational", 3008),
    ("windows/-/dns-server", "DNS Server", 150),
    ("windows/-/dns-server-analytic", "Microsoft-Windows-DNSServer/Analytical", 257),
    ("windows/-/driver-framework", "Microsoft-Windows-DriverFrameworks-UserMode/Operational", 2003),
    (
        "windows/-/firewall-as",
        "Microsoft-Windows-Windows Firewall With Advanced Security/Firewall",
        2004,
    ),
    ("windows/-/iis-configuration", "Microsoft-IIS-Configuration/Operational", 29),
    ("windows/-/ldap", "Microsoft-Windows-LDAP-Client/Debug", 30),
    ("windows/-/lsa-server", "Microsoft-Windows-LSA/Operational", 300),
    ("windows/-/microsoft-servicebus-client", "Microsoft-ServiceBus-Client/Operational", 40300),
    ("windows/-/msexchange-management", "MSExchange Management", 1),
    ("windows/-/ntlm", "Microsoft-Windows-NTLM/Operational", 8001),
    ("windows/-/openssh", "OpenSSH/Operational", 4),
    ("windows/-/powershell-classic", "Windows PowerShell", 403),
    ("windows/-/printservice-admin", "Microsoft-Windows-PrintService/Admin", 808),
    ("windows/-/printservice-operational", "Microsoft-Windows-PrintService/Operational", 316),
    ("windows/-/security", "security", 4624),
    ("windows/-/security-mitigations", "Microsoft-Windows-Security-Mitigations/User Mode", 11),
    ("windows/-/shell-core", "Microsoft-Windows-Shell-Core/Operational", 28115),
    ("windows/-/smbclient-connectivity", "Microsoft-Windows-SmbClient/Connectivity", 30803),
    ("windows/-/smbclient-security", "Microsoft-Windows-SmbClient/Security", 31017),
    ("windows/-/smbserver-connectivity", "Microsoft-Windows-SMBServer/Connectivity", 4000),
    ("windows/-/sysmon", "Microsoft-Windows-Sysmon/Operational", 16),
    ("windows/-/system", "System", 7045),
    ("windows/-/taskscheduler", "Microsoft-Windows-TaskScheduler/Operational", 129),
    (
        "windows/-/terminalservices-localsessionmanager",
        "Microsoft-Windows-TerminalServices-LocalSessionManager/Operational",
        21,
    ),
    ("windows/-/windefend", "Microsoft-Windows-Windows Defender/Operational", 5001),
    ("windows/-/wmi", "Microsoft-Windows-WMI-Activity/Operational", 5861),
    ("windows/create_remote_thread/-", "Microsoft-Windows-Sysmon/Operational", 8),
    ("windows/create_stream_hash/-", "Microsoft-Windows-Sysmon/Operational", 15),
    ("windows/dns_query/-", "Microsoft-Windows-Sysmon/Operational", 22),
    ("windows/driver_load/-", "Microsoft-Windows-Sysmon/Operational", 6),
    ("windows/file_change/-", "Microsoft-Windows-Sysmon/Operational", 2),
    ("windows/file_delete/-", "Microsoft-Windows-Sysmon/Operational", 23),
    ("windows/file_delete/-", "Microsoft-Windows-Sysmon/Operational", 26),
    ("windows/file_event/-", "Microsoft-Windows-Sysmon/Operational", 11),
    ("windows/file_executable_detected/-", "Microsoft-Windows-Sysmon/Operational", 29),
    ("windows/image_load/-", "Microsoft-Windows-Sysmon/Operational", 7),
    ("windows/network_connection/-", "Microsoft-Windows-Sysmon/Operational", 3),
    ("windows/pipe_created/-", "Microsoft-Windows-Sysmon/Operational", 17),
    ("windows/pipe_created/-", "Microsoft-Windows-Sysmon/Operational", 18),
    ("windows/process_access/-", "Microsoft-Windows-Sysmon/Operational", 10),
    ("windows/process_creation/-", "Microsoft-Windows-Sysmon/Operational", 1),
    ("windows/process_creation/-", "Security", 4688),
    ("windows/process_tampering/-", "Microsoft-Windows-Sysmon/Operational", 25),
    ("windows/ps_classic_provider_start/-", "Windows PowerShell", 600),
    ("windows/ps_classic_start/-", "Windows PowerShell", 400),
    ("windows/ps_module/-", "Microsoft-Windows-PowerShell/Operational", 4103),
    ("windows/ps_script/-", "PowerShellCore/Operational", 4104),
    ("windows/raw_access_thread/-", "Microsoft-Windows-Sysmon/Operational", 9),
    ("windows/registry_add/-", "Microsoft-Windows-Sysmon/Operational", 12),
    ("windows/registry_delete/-", "Microsoft-Windows-Sysmon/Operational", 12),
    ("windows/registry_event/-", "Microsoft-Windows-Sysmon/Operational", 14),
    ("windows/registry_set/-", "Microsoft-Windows-Sysmon/Operational", 13),
    ("windows/sysmon_error/-", "Microsoft-Windows-Sysmon/Operational", 255),
    ("windows/sysmon_status/-", "Microsoft-Windows-Sysmon/Operational", 4),
    ("windows/wmi_event/-", "Microsoft-Windows-Sysmon/Operational", 20),
];

/// Kinds of logs that nothing in an event tells: `sources[].logsource` has to.
const UNTOLD: &[(&str, &str)] = &[
    ("-/database/-", "statements, whatever the database writes around them"),
    ("cisco/-/aaa", "free text of a device"),
    ("cisco/-/bgp", "free text of a device"),
    ("cisco/-/ldp", "free text of a device"),
    ("cisco/-/syslog", "free text of a device"),
    ("huawei/-/bgp", "free text of a device"),
    ("juniper/-/bgp", "free text of a device"),
    ("django/application/-", "free text of an application"),
    ("jvm/application/-", "free text of an application"),
    ("nodejs/application/-", "free text of an application"),
    ("python/application/-", "free text of an application"),
    ("ruby_on_rails/application/-", "free text of an application"),
    ("spring/application/-", "free text of an application"),
    ("sql/application/-", "free text of an application"),
    ("velocity/application/-", "free text of an application"),
    ("fortios/-/sslvpnd", "file events of an appliance, in no known form"),
    ("paloalto/appliance/globalprotect", "lines of a log file, in no known form"),
    ("paloalto/file_event/globalprotect", "file events of an appliance, in no known form"),
];

fn decoder() -> Decoder {
    let tables = Tables::new(shipped_tables().expect("tables")).expect("few");
    Decoder::new(Format::Json, Vec::new()).with_tables(tables)
}

fn logsource(kind: &str) -> Logsource {
    let mut parts = kind.split('/').map(|part| (part != "-").then(|| part.into()));
    let [product, category, service] = std::array::from_fn(|_| parts.next().flatten());
    Logsource { product, category, service }
}

/// Whether the event's source names each part of the kind, and as the whole truth if it is enough.
fn tells(decoder: &Decoder, kind: &str, json: &str) -> Result<(), String> {
    let event = decoder.decode(Some(json.as_bytes()), Timestamp(0)).expect("decodes");
    let source = event.source.to_string();
    let named =
        |(wanted, known): (&str, &str)| wanted == "-" || known.split('+').any(|k| k == wanted);
    // Azure's and Kerberos' own names may hold a slash, but only in the last part.
    if !kind.splitn(3, '/').zip(source.splitn(3, '/')).all(named) {
        return Err(format!("{kind}: the event is {source}: {json}"));
    }
    let wanted = logsource(kind);
    let enough =
        wanted.product.is_some() && (wanted.category.is_some() || wanted.service.is_some());
    let foreign = ["-/no_such/-", "-/-/no_such"].map(|kind| logsource(kind).admits(&event.source));
    match enough && foreign.contains(&true) {
        true => Err(format!("{kind}: {source} is not taken for the whole truth: {json}")),
        false => Ok(()),
    }
}

/// Every product/category/service that a rule of SigmaHQ names.
fn kinds(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            kinds(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for node in parse_yaml(&text).unwrap_or_default() {
            let Some(logsource) = node.get("logsource") else { continue };
            let part = |name: &str| logsource.get(name).and_then(Node::scalar_text);
            let parts = ["product", "category", "service"].map(|n| part(n).unwrap_or("-".into()));
            found.insert(parts.join("/"));
        }
    }
}

#[test]
fn every_kind_of_log_of_sigmahq_is_told_from_an_event_or_it_is_said_why_not() {
    let Some(corpora) = common::corpora() else { return };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(corpora.join("sigmahq")).expect("the corpus").flatten() {
        if entry.file_name().to_string_lossy().starts_with("rules") {
            kinds(&entry.path(), &mut found);
        }
    }
    assert!(found.len() > 130, "only {} kinds", found.len());
    let told = TOLD.iter().map(|(kind, _)| *kind).chain(WINDOWS.iter().map(|(kind, ..)| *kind));
    let known: BTreeSet<&str> = told.chain(UNTOLD.iter().map(|(kind, _)| *kind)).collect();
    let missing: Vec<&String> =
        found.iter().filter(|kind| !known.contains(kind.as_str())).collect();
    assert!(missing.is_empty(), "neither told nor excused: {missing:?}");
    let gone: Vec<&&str> = known.iter().filter(|kind| !found.contains(**kind)).collect();
    assert!(gone.is_empty(), "no rule asks for {gone:?}");
}

#[test]
fn the_shipped_tables_tell_each_kind_from_its_event() {
    let decoder = decoder();
    let windows = WINDOWS.iter().map(|(kind, channel, id)| {
        let change = if kind.contains("registry_delete") { "DeleteValue" } else { "CreateKey" };
        let json =
            format!(r#"{{"Channel": "{channel}", "EventID": {id}, "EventType": "{change}"}}"#);
        (*kind, json)
    });
    let others = TOLD.iter().map(|(kind, json)| (*kind, (*json).to_owned()));
    let wrong: Vec<String> = windows
        .chain(others)
        .filter_map(|(kind, json)| tells(&decoder, kind, &json).err())
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_event_that_no_table_knows_switches_no_rule_off() {
    let decoder = decoder();
    for json in [
        r#"{"message": "x", "type": "login", "user": "bob"}"#,
        r#"{"action": "x", "category": "Administrative", "verb": "get"}"#,
        r#"{"eventType": "x", "eventSource": "y", "Operation": "z"}"#,
        r##"{"Channel": "#general", "EventID": 1, "program": "my-app"}"##,
    ] {
        let event = decoder.decode(Some(json.as_bytes()), Timestamp(0)).expect("decodes");
        let admitted = |kind: &str| logsource(kind).admits(&event.source);
        assert!(admitted("windows/-/security") && admitted("linux/-/auditd"), "{json}");
    }
}
