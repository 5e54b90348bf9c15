//! Units of systemd for the time of a test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use test_support::skip;

/// Where units are that are gone with the next start of the machine; there where systemd runs, and nowhere else.
const PLACE: &str = "/run/systemd/system";

/// What `systemctl` prints, which has to succeed.
pub fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().expect("systemctl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "systemctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Units of one test, in a slice of their own; stopped and removed with this.
pub struct Units {
    /// The slice.
    pub slice: String,
    prefix: String,
    // Not below /tmp, where services with PrivateTmp= would not see it.
    directory: TempDir,
}

impl Units {
    /// `None`, with a line, where that cannot be.
    pub fn new(test: &str) -> Option<Units> {
        // As sd_booted(3) tells.
        if !Path::new(PLACE).is_dir() {
            skip("no systemd runs here");
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skip("only root can start units");
            return None;
        }
        let asked = Command::new("systemctl").args(["show", "-p", "Version"]).output();
        if !asked.is_ok_and(|output| output.status.success()) {
            skip("systemd does not answer");
            return None;
        }
        let prefix = format!("freezetraptest{}{test}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in("/var/lib").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Some(Units { slice: format!("{prefix}.slice"), prefix, directory })
    }

    /// A directory that services can read.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The name of a directory for the state of services.
    pub fn state(&self) -> String {
        format!("{}-state", self.prefix)
    }

    /// A copy of a program that services can execute.
    pub fn copy(&self, program: &str) -> String {
        let copy = self.directory().join(Path::new(program).file_name().unwrap());
        fs::copy(program, &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        copy.to_str().unwrap().to_owned()
    }

    /// Makes a service of these settings known to systemd; its name.
    pub fn write(&self, name: &str, settings: &str) -> String {
        self.write_whole(name, &format!("[Service]\n{settings}\nSlice={}\n", self.slice))
    }

    /// The same, with all that the file says.
    pub fn write_whole(&self, name: &str, text: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        fs::write(Path::new(PLACE).join(&name), text).unwrap();
        systemctl(&["daemon-reload"]);
        name
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        let all = format!("{}*", self.prefix);
        let run = |arguments: &[&str]| drop(Command::new("systemctl").args(arguments).output());
        run(&["stop", &all]);
        run(&["reset-failed", &all]);
        let entries = fs::read_dir(PLACE).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&self.prefix)) {
            let _ = fs::remove_file(entry.path());
        }
        run(&["daemon-reload"]);
        for place in ["/var/lib", "/var/lib/private", "/run"] {
            let _ = fs::remove_dir_all(Path::new(place).join(self.state()));
        }
    }
}
