//! Probes as they are written on the command line: `http://localhost:8080/health,within=500ms`. Each kind has a
//! function that reads it, by `options`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::options::{Options, count, percent, suggestion};
use super::spec::{Kind, LockTime, Resource, Share, Spec, WITHIN};

/// How old a sign of life may be unless `older` says otherwise.
const OLDER: Duration = Duration::from_secs(2);

/// The kinds of probes and their options, for `--help`.
pub const HELP: &str = "\
  http://HOST[:PORT]/PATH        GET answers with a good status
  https://HOST[:PORT]/PATH       likewise, if the system trusts the certificate
      status=200..299            statuses that are good: one, or the first and the last
      within=1s                  how long the answer and the first 64 KiB of its body may take
      insecure                   https: take any certificate
  tcp:HOST:PORT                  a connection can be made
      within=1s
  resp:HOST:PORT                 PING is answered, as by Redis and Valkey; asking for a password is an answer
      within=1s
  command:COMMAND                `sh -c COMMAND` ends with status 0
      within=1s                  it is killed when that is over
  heartbeat-file:PATH            the service touches a file
      older=2s                   how long ago the last time may be
  heartbeat-socket:PATH          the service sends datagrams to a Unix socket, which the trap makes
      older=2s                   how long ago the last one may be
      mode=666                   who may send: the socket's permissions
  stalled-threads                threads sleep in the kernel where no signal wakes them, or want to run, and get nothing
                                 done; those that sleep because there is nothing to do are left out (where there are
                                 a thousand, it looks less often, to stay below 2 % of a processor)
      for=500ms                  for how long
      share=all                  how many: all that are not idle, a share like 50%, or a number
  lock-hold                      mmap_lock is held for writing
      over=100ms                 for longer than that
  lock-wait                      a thread waits for mmap_lock
      over=100ms                 for longer than that
  psi:memory, psi:io, psi:cpu    pressure, as in /proc/pressure
      some, full                 some tasks wait (this unless told otherwise), or all of them
      over=20%                   for more than this share of the time since it was asked last
      cgroup=PATH                of this cgroup instead of the whole machine
  Every kind takes also:
      every=1s                   how often it is asked; stalled-threads: half of `for`
      failures=N                 how many failures in a row are a freeze, instead of what --failures says;
                                 stalled-threads, lock-hold and lock-wait: 1
  Durations are written like 250ms, 2s, 1m.";

/// The kinds, each with the beginning of its text, as errors list them.
const KINDS: [&str; 10] = [
    "http",
    "https",
    "tcp",
    "resp",
    "command",
    "heartbeat-file",
    "heartbeat-socket",
    "stalled-threads",
    "lock-hold",
    "psi",
];

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = &text[..text.find([':', ',']).unwrap_or(text.len())];
        let rest = text[name.len()..].strip_prefix(':').unwrap_or(&text[name.len()..]);
        let (kind, mut options) = match name {
            "http" | "https" => http(text)?,
            "tcp" | "resp" => port(text, name, rest)?,
            "command" => command(text, rest)?,
            "heartbeat-file" | "heartbeat-socket" => heartbeat(text, name, rest)?,
            "stalled-threads" => stalled(text, rest)?,
            "lock-hold" | "lock-wait" => lock(text, name, rest)?,
            "psi" => pressure(text, rest)?,
            _ => {
                let known = [&KINDS[..], &["lock-wait"]].concat();
                let name = if name.is_empty() { text } else { name };
                return Err(format!("`{text}`: no kind of probe is called `{name}`; {}", suggestion(name, &known)));
            }
        };
        let every = options.duration("every")?;
        let failures = options.value("failures", count)?;
        options.finish()?;
        Ok(Spec { text: text.to_owned(), kind, every, failures })
    }
}

type Read<'a> = Result<(Kind, Options<'a>), String>;

fn http(text: &str) -> Read<'_> {
    let known = &["status", "within", "insecure", "every", "failures"];
    let (url, mut options) = Options::split_end(text, text, known)?;
    let uri: ureq::http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return options.wrong(format!("`{url}` is no address: {error}; write `http://host:port/path`")),
    };
    let https = uri.scheme_str() == Some("https");
    if uri.scheme().is_none() || uri.host().is_none_or(str::is_empty) {
        return options.wrong("the host is missing; write `http://host:port/path`");
    }
    let insecure = options.flag("insecure")?;
    if insecure && !https {
        return options.wrong("`insecure` is for https alone");
    }
    let status = options.value("status", statuses)?.unwrap_or(200..=299);
    let within = options.duration("within")?.unwrap_or(WITHIN);
    Ok((Kind::Http { url: url.to_owned(), status, insecure, within }, options))
}

/// `204`, or `200..299` with both ends.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    match (number(first), number(last.trim_start_matches('='))) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is no status; write one like `204`, or the first and the last like `200..299`")),
    }
}

fn port<'a>(text: &'a str, name: &str, rest: &'a str) -> Read<'a> {
    let known = &["within", "every", "failures"];
    let (address, mut options) = Options::split(text, rest, known);
    let address = address.trim_start_matches("//");
    let number = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match number {
        Some((host, Ok(1..))) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {}
        _ => {
            return options.wrong(format!(
                "`{address}` is no host and port; write `{name}:localhost:6379`, or `{name}:[::1]:6379`"
            ));
        }
    }
    let address = address.to_owned();
    let within = options.duration("within")?.unwrap_or(WITHIN);
    let kind = if name == "tcp" { Kind::Tcp { address, within } } else { Kind::Resp { address, within } };
    Ok((kind, options))
}

fn command<'a>(text: &'a str, rest: &'a str) -> Read<'a> {
    let known = &["within", "every", "failures"];
    let (line, mut options) = Options::split_end(text, rest, known)?;
    if line.trim().is_empty() {
        return options.wrong("the command is missing; write `command:test -e /run/healthy`");
    }
    let within = options.duration("within")?.unwrap_or(WITHIN);
    Ok((Kind::Command { line: line.to_owned(), within }, options))
}

fn heartbeat<'a>(text: &'a str, name: &str, rest: &'a str) -> Read<'a> {
    let of_file = name == "heartbeat-file";
    let known: &'static [&str] =
        if of_file { &["older", "every", "failures"] } else { &["older", "mode", "every", "failures"] };
    let (path, mut options) = Options::split(text, rest, known);
    if path.is_empty() {
        return options.wrong(format!("the path is missing; write `{name}:/run/service/alive`"));
    }
    let path = PathBuf::from(path);
    let older = options.duration("older")?.unwrap_or(OLDER);
    if of_file {
        return Ok((Kind::HeartbeatFile { path, older }, options));
    }
    let mode = |text: &str| match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("`{text}` is no permission; write three octal digits like `660`")),
    };
    let mode = options.value("mode", mode)?.unwrap_or(0o666);
    Ok((Kind::HeartbeatSocket { path, older, mode }, options))
}

/// Options of a kind without an address.
fn bare<'a>(text: &'a str, rest: &'a str, known: &'static [&'static str]) -> Result<Options<'a>, String> {
    let (address, options) = Options::split(text, rest, known);
    if address.is_empty() { Ok(options) } else { options.wrong(format!("`{address}` is not accepted here")) }
}

fn stalled<'a>(text: &'a str, rest: &'a str) -> Read<'a> {
    let mut options = bare(text, rest, &["for", "share", "every", "failures"])?;
    let lasting = options.duration("for")?.unwrap_or(Duration::from_millis(500));
    let share = |text: &str| match text {
        "all" => Ok(Share::Fraction(1.0)),
        _ if text.ends_with('%') => percent(text).map(Share::Fraction),
        _ => count(text).map(Share::Count).map_err(|error| format!("{error}, `all`, or a share like `50%`")),
    };
    let share = options.value("share", share)?.unwrap_or(Share::Fraction(1.0));
    Ok((Kind::StalledThreads { lasting, share }, options))
}

fn lock<'a>(text: &'a str, name: &str, rest: &'a str) -> Read<'a> {
    let mut options = bare(text, rest, &["over", "every", "failures"])?;
    let over = options.duration("over")?.unwrap_or(Duration::from_millis(100));
    let time = if name == "lock-hold" { LockTime::WriteHold } else { LockTime::Wait };
    Ok((Kind::Lock { time, over }, options))
}

fn pressure<'a>(text: &'a str, rest: &'a str) -> Read<'a> {
    let known = &["some", "full", "over", "cgroup", "every", "failures"];
    let (name, mut options) = Options::split(text, rest, known);
    let resources = [Resource::Memory, Resource::Io, Resource::Cpu];
    let Some(resource) = resources.into_iter().find(|resource| resource.name() == name) else {
        let names = resources.map(Resource::name);
        return options.wrong(format!("no pressure is called `{name}`; {}", suggestion(name, &names)));
    };
    let (some, full) = (options.flag("some")?, options.flag("full")?);
    if some && full {
        return options.wrong("`some` and `full` exclude each other");
    }
    let over = options.value("over", percent)?.unwrap_or(0.2);
    let cgroup = options.value("cgroup", |path| Ok(PathBuf::from(path)))?;
    Ok((Kind::Pressure { resource, full, over, cgroup }, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        text.parse::<Spec>().unwrap_or_else(|error| panic!("{error}")).kind
    }

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn every_kind_has_defaults_for_all_options() {
        let (older, within) = (OLDER, WITHIN);
        let http = |url: &str| Kind::Http { url: url.into(), status: 200..=299, insecure: false, within };
        let table = [
            ("http://localhost:80/health", http("http://localhost:80/health")),
            ("https://[::1]/", http("https://[::1]/")),
            ("tcp:localhost:80", Kind::Tcp { address: "localhost:80".into(), within }),
            ("resp:[::1]:6379", Kind::Resp { address: "[::1]:6379".into(), within }),
            ("command:true", Kind::Command { line: "true".into(), within }),
            ("heartbeat-file:/a", Kind::HeartbeatFile { path: "/a".into(), older }),
            ("heartbeat-socket:/a", Kind::HeartbeatSocket { path: "/a".into(), older, mode: 0o666 }),
            ("stalled-threads", Kind::StalledThreads { lasting: MS(500), share: Share::Fraction(1.0) }),
            ("lock-hold", Kind::Lock { time: LockTime::WriteHold, over: MS(100) }),
            ("lock-wait", Kind::Lock { time: LockTime::Wait, over: MS(100) }),
            ("psi:io", Kind::Pressure { resource: Resource::Io, full: false, over: 0.2, cgroup: None }),
        ];
        for (text, expected) in table {
            assert_eq!(kind(text), expected, "{text}");
            let name = &text[..text.find([':', ',']).unwrap_or(text.len())];
            assert!(HELP.contains(&format!("  {name}")), "the help tells nothing of {name}");
        }
    }

    #[test]
    fn every_option_is_read() {
        let within = MS(250);
        let url = "http://h/a,b?c=d,e".to_owned();
        let table = [
            (
                "http://h/a,b?c=d,e,status=204..205,within=250ms",
                Kind::Http { url, status: 204..=205, insecure: false, within },
            ),
            (
                "https://h/,insecure,status=503,within=250ms",
                Kind::Http { url: "https://h/".into(), status: 503..=503, insecure: true, within },
            ),
            ("tcp:h:1,within=250ms", Kind::Tcp { address: "h:1".into(), within }),
            ("command:echo a,b; c=d,within=250ms", Kind::Command { line: "echo a,b; c=d".into(), within }),
            ("heartbeat-file:/a,older=250ms", Kind::HeartbeatFile { path: "/a".into(), older: within }),
            (
                "heartbeat-socket:/a,mode=600,older=250ms",
                Kind::HeartbeatSocket { path: "/a".into(), older: within, mode: 0o600 },
            ),
            ("stalled-threads,for=250ms,share=3", Kind::StalledThreads { lasting: within, share: Share::Count(3) }),
            ("stalled-threads,share=50%", Kind::StalledThreads { lasting: MS(500), share: Share::Fraction(0.5) }),
            ("lock-wait,over=250ms", Kind::Lock { time: LockTime::Wait, over: within }),
            (
                "psi:cpu,full,over=5%,cgroup=/a",
                Kind::Pressure { resource: Resource::Cpu, full: true, over: 0.05, cgroup: Some("/a".into()) },
            ),
        ];
        for (text, expected) in table {
            assert_eq!(kind(text), expected, "{text}");
        }
        let spec: Spec = "tcp:h:1,every=2s,failures=5".parse().unwrap();
        assert_eq!((spec.every(MS(1)), spec.failures(2)), (MS(2000), 5));
        let spec: Spec = "tcp:h:1".parse().unwrap();
        assert_eq!((spec.every(MS(1)), spec.failures(2), spec.within()), (MS(1), 2, WITHIN));
        let spec: Spec = "stalled-threads".parse().unwrap();
        assert_eq!((spec.every(MS(1000)), spec.failures(2)), (MS(250), 1));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_reason() {
        let table = [
            ("", "no kind of probe is called"),
            ("htp://localhost/", "did you mean `http`?"),
            ("lock-holds", "did you mean `lock-hold`?"),
            ("redis:localhost:1", "accepted: `http`"),
            ("http://", "write `http://host:port/path`"),
            ("http:localhost", "write `http://host:port/path`"),
            ("http://h/,insecure", "for https alone"),
            ("http://h/,status=200-299", "like `200..299`"),
            ("http://h/,status=299..200", "like `200..299`"),
            ("http://h/,withn=5s", "did you mean `within`?"),
            ("http://h/,within=5", "the unit is missing"),
            ("tcp:localhost", "is no host and port"),
            ("tcp:localhost:0", "is no host and port"),
            ("tcp:::1:80", "[::1]"),
            ("resp:h:99999", "is no host and port"),
            ("tcp:h:1,status=200", "`status` is not an option here; accepted: `within`"),
            ("tcp:h:1,within", "`within` needs a value"),
            ("tcp:h:1,failures=0", "from 1 on"),
            ("command:", "the command is missing"),
            ("command:true,wihtin=1s", "did you mean `within`?"),
            ("heartbeat-file:,older=1s", "the path is missing"),
            ("heartbeat-file:/a,mode=600", "`mode` is not an option here"),
            ("heartbeat-socket:/a,mode=888", "octal"),
            ("stalled-threads:all", "`all` is not accepted here"),
            ("stalled-threads,share=most", "a share like `50%`"),
            ("lock-hold,over=fast", "is no duration"),
            ("psi:disk", "no pressure is called `disk`; accepted: `memory`"),
            ("psi:memroy", "did you mean `memory`?"),
            ("psi:memory,some,full", "exclude each other"),
            ("psi:memory,full=1", "takes no value"),
            ("psi:memory,over=20", "is no share"),
            ("psi:memory,over=120%", "is no share"),
        ];
        for (text, reason) in table {
            let error = text.parse::<Spec>().unwrap_err();
            assert!(error.contains(reason) && error.starts_with(&format!("`{text}`")), "{text}: {error}");
        }
    }
}
