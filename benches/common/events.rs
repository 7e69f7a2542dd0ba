//! Events as they might come, without their time: members of a JSON object.

/// Numbers that are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A login of one of a thousand users: 5 % fail, one in a thousand of all is root's.
pub fn login(dice: &mut Dice) -> String {
    let failed = dice.below(20) == 0;
    let user = match dice.below(1000) {
        0 => "root".to_owned(),
        _ => format!("u{:06}", dice.below(100_000)),
    };
    let (host, pid, port) = (dice.below(200), dice.below(30_000), 1024 + dice.below(60_000));
    let ip = format!("10.{}.{}.{}", dice.below(256), dice.below(256), 1 + dice.below(250));
    let (verb, outcome) = match failed {
        true => ("Failed password", "failure"),
        false => ("Accepted publickey", "success"),
    };
    format!(
        "\"host\":\"host-{host:03}\",\
         \"facility\":\"authpriv\",\"process\":\"sshd\",\"pid\":{pid},\"user\":\"{user}\",\"src_ip\":\"{ip}\",\
         \"outcome\":\"{outcome}\",\
         \"message\":\"{verb} for {user} from {ip} port {port} ssh2\""
    )
}

/// The creation of a process in the manner of Sysmon, about 1.1 kB.
pub fn process_creation(dice: &mut Dice) -> String {
    const PROGRAMS: [&str; 5] =
        ["svchost.exe", "cmd.exe", "powershell.exe", "conhost.exe", "chrome.exe"];
    let mut program = || PROGRAMS[dice.below(PROGRAMS.len() as u64) as usize];
    let (image, parent) = (program(), program());
    let (arguments, pid) = ("-k netsvcs -p -s Schedule ".repeat(12), dice.below(9_000));
    let hash = format!("{:032X}", u128::from(dice.below(u64::MAX)) * 0x1_0000_0001);
    format!(
        "\"Channel\":\"Microsoft-Windows-Sysmon/Operational\",\"EventID\":1,\
         \"Computer\":\"ws-{:03}.corp.local\",\
         \"Image\":\"C:\\\\Windows\\\\System32\\\\{image}\",\
         \"CommandLine\":\"C:\\\\Windows\\\\System32\\\\{image} {arguments}{pid}\",\
         \"ParentImage\":\"C:\\\\Windows\\\\System32\\\\{parent}\",\
         \"ParentCommandLine\":\"C:\\\\Windows\\\\System32\\\\{parent} {arguments}\",\
         \"ProcessId\":\"{pid}\",\"User\":\"CORP\\\\user{:04}\",\"IntegrityLevel\":\"Medium\",\
         \"Hashes\":\"MD5={hash}\",\"CurrentDirectory\":\"C:\\\\Windows\\\\system32\\\\\"",
        dice.below(500),
        dice.below(2_000),
    )
}
