//! Control groups of both versions: where they are mounted, which processes are in one and below it, and how long their
//! quotas kept them from running (Documentation/admin-guide/cgroup-v2.rst, Documentation/scheduler/sched-bwc.rst).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

/// A place where a hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    directory: PathBuf,
    /// The part of the hierarchy that is seen there: `/`, or less in a container.
    root: PathBuf,
    /// Controllers and the name of one of version 1; `None` for version 2.
    names: Option<Vec<String>>,
}

impl Mount {
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether systemd keeps its units there.
    pub(super) fn is_of_systemd(&self) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|name| name == "name=systemd"))
    }

    fn has_cpu(&self) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|name| name == "cpu"))
    }

    /// The directory of a path as in `/proc/PID/cgroup`. `None` for a path like `/../../b`, as a process outside of the
    /// trap's cgroup namespace has it, unless such places can be seen here.
    fn directory_of(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        let is_below = below.components().all(|part| part != Component::ParentDir);
        is_below.then(|| self.directory.join(below))
    }

    /// Reads a line of `/proc/self/mountinfo`.
    fn parse(line: &str) -> Option<Mount> {
        let (before, behind) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3).map(|field| PathBuf::from(field.replace("\\040", " ")));
        let (root, directory) = (fields.next()?, fields.next()?);
        let mut fields = behind.split(' ');
        let names = match fields.next()? {
            "cgroup2" => None,
            "cgroup" => Some(fields.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Mount { directory, root, names })
    }
}

/// Where hierarchies are mounted, those first in which systemd keeps its units.
pub(super) fn mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    mounts.sort_by_key(|mount| (!mount.is_of_systemd(), mount.names.is_some()));
    mounts
}

/// A cgroup: a directory, or one in each of several hierarchies that are called the same.
#[derive(Debug)]
pub(super) struct Group {
    directories: Vec<PathBuf>,
}

impl Group {
    /// Finds a cgroup by its directory, or by its path within a hierarchy. `None` if there is none now.
    pub(super) fn find(path: &Path) -> Option<Self> {
        if path.join("cgroup.procs").exists() {
            // Without links: `cpu` is often one to `cpu,cpuacct`.
            return Some(Group { directories: vec![fs::canonicalize(path).ok()?] });
        }
        let absolute = Path::new("/").join(path);
        let places = mounts().into_iter().filter_map(|mount| mount.directory_of(&absolute));
        let directories: Vec<_> = places.filter(|place| place.join("cgroup.procs").exists()).collect();
        (!directories.is_empty()).then_some(Group { directories })
    }

    /// Its directories, and those below them that have processes of their own.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let mut found = self.directories.clone();
        self.directories.iter().for_each(|directory| populated(directory, &mut found));
        found
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        self.directories.iter().any(|directory| directory.exists())
    }

    /// Its processes and those of all cgroups below it.
    pub(super) fn processes(&self) -> Result<BTreeSet<i32>> {
        // Hierarchies may share a name and not the processes; the first that has some counts.
        for directory in &self.directories {
            let mut found = BTreeSet::new();
            collect(directory, &mut found)?;
            if found.remove(&0) {
                bail!(
                    "{} has processes of another pid namespace, which have no number here; start the trap on the host, \
                     or with the host's pid namespace",
                    directory.display()
                );
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(BTreeSet::new())
    }
}

/// Whether an error says that the cgroup has been removed, or that its processes are listed above it because it is
/// threaded.
fn is_nothing(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == ErrorKind::NotFound || code == Some(libc::ENODEV) || code == Some(libc::EOPNOTSUPP)
}

fn collect(directory: &Path, found: &mut BTreeSet<i32>) -> Result<()> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|pid| pid.trim().parse::<i32>().ok())),
        Err(error) if is_nothing(&error) => {}
        Err(error) => bail!("processes of {} cannot be listed: {error}", directory.display()),
    }
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// Cgroups below a directory that have processes of their own.
fn populated(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let below = entry.path();
        populated(&below, found);
        if fs::read_to_string(below.join("cgroup.procs")).is_ok_and(|text| !text.is_empty()) {
            found.push(below);
        }
    }
}

/// Directories of a process in the hierarchies that may have a quota, from its `/proc/PID/cgroup`.
fn of_process(text: &str, mounts: &[Mount]) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let wanted = |mount: &&Mount| match &mount.names {
            None => names.is_empty(),
            Some(_) => mount.has_cpu() && names.split(',').any(|name| name == "cpu"),
        };
        let Some(mount) = mounts.iter().find(wanted) else { continue };
        found.extend(mount.directory_of(Path::new(path)).map(|directory| (mount.directory.clone(), directory)));
    }
    found
}

/// The nearest cgroup that has a quota, from a directory up to where its hierarchy is mounted.
fn with_quota<'a>(mount: &Path, directory: &'a Path) -> Option<&'a Path> {
    directory.ancestors().take_while(|above| above.starts_with(mount)).find(|above| {
        let quota = |file| fs::read_to_string(above.join(file)).ok();
        let second = quota("cpu.max").is_some_and(|text| !text.starts_with("max"));
        second || quota("cpu.cfs_quota_us").is_some_and(|text| text.trim().parse::<i64>().is_ok_and(|us| us > 0))
    })
}

/// The time that a cgroup was kept from running, from its `cpu.stat`.
fn throttled_of(text: &str) -> Option<u64> {
    let value = |name: &str| {
        let mut words = text.lines().map(str::split_whitespace).find(|words| words.clone().next() == Some(name))?;
        words.nth(1)?.parse::<u64>().ok()
    };
    value("throttled_time").or_else(|| Some(value("throttled_usec")?.saturating_mul(1000)))
}

/// Cgroups whose quotas count for these cgroups and those of processes. A container without a view of other cgroups
/// gets no place of a process in another container, so that both are asked for.
fn limited(own: &[PathBuf], pids: &[i32], mounts: &[Mount]) -> BTreeSet<PathBuf> {
    let mut limited = BTreeSet::new();
    for directory in own {
        let mount = mounts.iter().find(|mount| directory.starts_with(&mount.directory));
        limited.extend(mount.and_then(|mount| with_quota(&mount.directory, directory)).map(Path::to_owned));
    }
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        for (mount, directory) in of_process(&text, mounts) {
            limited.extend(with_quota(&mount, &directory).map(Path::to_owned));
        }
    }
    limited
}

/// How long quotas kept cgroups, and those of processes, from running so far, in nanoseconds.
pub(super) fn throttled_ns(own: &[PathBuf], pids: &[i32]) -> Option<u64> {
    let limited = limited(own, pids, &mounts());
    let stat = |directory: &PathBuf| throttled_of(&fs::read_to_string(directory.join("cpu.stat")).ok()?);
    limited.iter().filter_map(stat).reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> Option<Mount> {
        Mount::parse(line)
    }

    const SECOND: &str = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    const CPU: &str = "32 31 0:29 /docker/7 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
    const SYSTEMD: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";

    #[test]
    fn mounts_are_told_apart() {
        let [second, cpu, systemd] = [SECOND, CPU, SYSTEMD].map(|line| mount(line).unwrap());
        assert_eq!([&second, &cpu, &systemd].map(|mount| mount.is_of_systemd()), [true, false, true]);
        assert_eq!([&second, &cpu, &systemd].map(|mount| mount.has_cpu()), [true, true, false]);
        assert_eq!(second.directory_of(Path::new("/a/b")), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(cpu.directory_of(Path::new("/docker/7/b")), Some("/sys/fs/cgroup/cpu,cpuacct/b".into()));
        assert_eq!(second.directory_of(Path::new("/../../b")), None, "it is outside of what is seen");
        let from_inside = mount("41 31 0:38 /../.. /node/cgroup rw - cgroup2 cgroup2 rw").unwrap();
        assert_eq!(from_inside.directory_of(Path::new("/../../b")), Some("/node/cgroup/b".into()));
        assert_eq!(mount("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755"), None);
        assert_eq!(mount("nonsense"), None);
    }

    #[test]
    fn a_process_is_found_where_quotas_may_be() {
        let mounts = [SECOND, CPU, SYSTEMD].map(|line| mount(line).unwrap());
        let text = "9:name=systemd:/x\n4:cpu,cpuacct:/docker/7/b\n3:cpuset:/y\n0::/a:b\n";
        let found: Vec<_> = of_process(text, &mounts).into_iter().map(|(_, directory)| directory).collect();
        assert_eq!(found, [Path::new("/sys/fs/cgroup/cpu,cpuacct/b"), Path::new("/sys/fs/cgroup/a:b")]);
    }

    /// Lines of `/proc/self/mountinfo` and `/proc/PID/cgroup` of a service, as systemd 252 sets machines up: version 2
    /// alone, and both (`systemd.unified_cgroup_hierarchy=0`); and as another init mounts each controller.
    const UNIFIED: (&str, &str) = (
        "31 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,\
         memory_recursiveprot\n",
        "0::/system.slice/icy.service\n",
    );
    const HYBRID: (&str, &str) = (
        "31 22 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,mode=755,inode64\n\
         32 31 0:27 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
         33 31 0:28 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,\
         name=systemd\n\
         36 31 0:31 / /sys/fs/cgroup/devices rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,devices\n\
         40 31 0:35 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:19 - cgroup cgroup rw,cpu,\
         cpuacct\n\
         45 31 0:40 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:24 - cgroup cgroup rw,memory\n",
        "13:blkio:/\n11:memory:/system.slice/icy.service\n6:cpu,cpuacct:/system.slice\n\
         2:devices:/system.slice/icy.service\n1:name=systemd:/system.slice/icy.service\n\
         0::/system.slice/icy.service\n",
    );
    const FIRST: (&str, &str) = (
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
         32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
         40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n",
        "9:name=systemd:/\n4:memory:/jobs/17\n1:cpu:/limited\n",
    );

    #[test]
    fn machines_of_each_layout_are_understood() {
        let units = |layout: (&str, &str)| -> Vec<PathBuf> {
            let of_systemd = parse_mounts(layout.0).into_iter().filter(Mount::is_of_systemd);
            of_systemd.map(|mount| mount.directory).collect()
        };
        let quotas = |layout: (&str, &str)| -> Vec<PathBuf> {
            of_process(layout.1, &parse_mounts(layout.0)).into_iter().map(|(_, directory)| directory).collect()
        };
        let paths =
            |paths: &[&str]| paths.iter().map(|path| Path::new("/sys/fs/cgroup").join(path)).collect::<Vec<_>>();
        assert_eq!(units(UNIFIED), paths(&[""]));
        assert_eq!(quotas(UNIFIED), paths(&["system.slice/icy.service"]));
        // The hierarchy of version 2 comes first. The service has no place of its own for processor time.
        assert_eq!(units(HYBRID), paths(&["unified", "systemd"]));
        assert_eq!(quotas(HYBRID), paths(&["cpu,cpuacct/system.slice", "unified/system.slice/icy.service"]));
        assert_eq!((units(FIRST), quotas(FIRST)), (paths(&["systemd"]), paths(&["cpu/limited"])));
    }

    #[test]
    fn throttled_time_is_read_in_both_versions() {
        assert_eq!(throttled_of("nr_periods 9\nnr_throttled 3\nthrottled_time 1234\n"), Some(1234));
        assert_eq!(throttled_of("usage_usec 9\nnr_throttled 3\nthrottled_usec 12\n"), Some(12_000));
        assert_eq!(throttled_of("usage_usec 9\n"), None);
    }

    #[test]
    fn quotas_of_containers_in_a_pod_count_without_their_processes_places() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, pids: &str, quota: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), pids).unwrap();
            fs::write(path.join("cpu.max"), quota).unwrap();
            path
        };
        let pod = make("pod", "", "max 100000\n");
        let limited_one = make("pod/one", "17\n", "10000 100000\n");
        let limited_two = make("pod/two", "", "20000 100000\n");
        // Its own processes are in a cgroup without a quota.
        make("pod/two/inner", "18\n", "max 100000\n");
        make("pod/free", "19\n", "max 100000\n");
        make("pod/empty", "", "10000 100000\n");
        let mounts = [Mount { directory: root.path().to_owned(), root: "/".into(), names: None }];
        let group = Group { directories: vec![pod] };
        assert_eq!(limited(&group.directories(), &[], &mounts), BTreeSet::from([limited_one, limited_two]));
    }
}
