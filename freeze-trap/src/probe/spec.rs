//! What a probe of the command line is to do. Read by `syntax`, opened by `board`.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What a request may take unless `within` says otherwise.
pub(super) const WITHIN: Duration = Duration::from_secs(1);

/// A probe to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// As it was written; the name of the probe.
    pub text: String,
    /// What is asked.
    pub kind: Kind,
    /// How often, if that is not left to the rest of the command line.
    pub every: Option<Duration>,
    /// How many failures in a row are a freeze, likewise.
    pub failures: Option<u32>,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An HTTP server.
    Http {
        /// What to get.
        url: String,
        /// Statuses that are good.
        status: RangeInclusive<u16>,
        /// Take any certificate.
        insecure: bool,
        /// The bound of an answer.
        within: Duration,
    },
    /// A port that accepts.
    Tcp {
        /// Host and port.
        address: String,
        /// The bound of a connection.
        within: Duration,
    },
    /// A server that speaks the protocol of Redis.
    Resp {
        /// Host and port.
        address: String,
        /// The bound of an answer.
        within: Duration,
    },
    /// A command for the shell.
    Command {
        /// The command.
        line: String,
        /// How long it may take.
        within: Duration,
    },
    /// A file that the service touches.
    HeartbeatFile {
        /// Which.
        path: PathBuf,
        /// How old it may be.
        older: Duration,
    },
    /// A Unix datagram socket that the service sends to.
    HeartbeatSocket {
        /// Which.
        path: PathBuf,
        /// How long ago the last datagram may have come.
        older: Duration,
        /// Permissions of the socket.
        mode: u32,
    },
    /// Threads of the watched processes that get nothing done.
    StalledThreads {
        /// For how long.
        lasting: Duration,
        /// How many of them.
        share: Share,
    },
    /// mmap_lock, as the source of intervals sees it.
    Lock {
        /// Which time.
        time: LockTime,
        /// Its bound.
        over: Duration,
    },
    /// Pressure stall information.
    Pressure {
        /// Of what.
        resource: Resource,
        /// All tasks waited, not only some.
        full: bool,
        /// The bound, as a fraction of the time.
        over: f64,
        /// The cgroup, if it is not the whole machine.
        cgroup: Option<PathBuf>,
    },
}

/// How many threads have to stall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// This fraction of those that are not idle.
    Fraction(f64),
    /// So many.
    Count(u32),
}

/// Which time around mmap_lock is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockTime {
    /// It is held for writing.
    WriteHold,
    /// A thread waits for it.
    Wait,
}

/// What tasks may be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Disks.
    Io,
    /// Processors.
    Cpu,
}

impl Resource {
    /// As the kernel's files are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Io => "io",
            Resource::Cpu => "cpu",
        }
    }
}

impl Spec {
    /// How often it is asked, if the others are asked every `usual`.
    #[must_use]
    pub fn every(&self, usual: Duration) -> Duration {
        match (self.every, &self.kind) {
            (Some(every), _) => every,
            (None, Kind::StalledThreads { lasting, .. }) => usual.min(*lasting / 2),
            (None, _) => usual,
        }
    }

    /// How many failures in a row are a freeze, if `usual` are for the others.
    #[must_use]
    pub fn failures(&self, usual: u32) -> u32 {
        // These measure a time themselves, and do not fail by chance.
        let at_once = matches!(self.kind, Kind::StalledThreads { .. } | Kind::Lock { .. });
        self.failures.unwrap_or(if at_once { 1 } else { usual })
    }

    /// How long a request may take.
    #[must_use]
    pub fn within(&self) -> Duration {
        match self.kind {
            Kind::Http { within, .. }
            | Kind::Tcp { within, .. }
            | Kind::Resp { within, .. }
            | Kind::Command { within, .. } => within,
            _ => WITHIN,
        }
    }

    /// The name for others to read: addresses are without user, password and query.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.kind {
            Kind::Http { url, .. } => self.text.replacen(url, &without_secrets(url), 1),
            _ => self.text.clone(),
        }
    }
}

/// An address without user, password, query and fragment.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

impl fmt::Display for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_no_secrets() {
        for (text, label) in [
            ("http://a:b@host:80/x/y?token=c,within=1s", "http://host:80/x/y,within=1s"),
            ("https://host?token=a@b/c", "https://host"),
            ("http://u@host/a@b,every=2s,failures=1", "http://host/a@b,every=2s,failures=1"),
            ("tcp:host:1", "tcp:host:1"),
        ] {
            assert_eq!(text.parse::<Spec>().unwrap().label(), label);
        }
    }
}
