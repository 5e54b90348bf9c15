//! The memory cgroup of the process: where its files are, its limits, what happened there. Called by `governor`.
//!
//! Invariant: a cgroup that was found is that of the process or an ancestor, as far as mounts tell, and its usage could
//! be read then; everything else is no cgroup at all, and has no limits and no events.
//!
//! What is read: Documentation/admin-guide/cgroup-v2 and cgroup-v1/memory, cgroups(7), proc_pid_mountinfo(5).

use super::path::PathBuffer;
use super::{Os, lines, text_scan};

/// Limits of version 1 from here on mean none: it writes the largest number of whole pages in an `i64`.
const V1_NO_LIMIT: u64 = 1 << 62;
/// Bytes of a line of `mountinfo` that is understood; mount options may fill a page.
const MOUNT_LINE_BYTES: usize = 8192;

/// Which interface a cgroup has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    V1,
    V2,
    /// The process is in no memory cgroup that can be read.
    None,
}

/// The memory cgroup of the process.
pub(crate) struct Cgroup {
    kind: Kind,
    /// The directory of its files, and how much of that is the mount point.
    path: PathBuffer,
    mount_length: usize,
    /// The kind and name that `/proc/self/cgroup` said last.
    named: (Kind, PathBuffer),
}

/// What one cgroup, on the way up from that of the process, allows and uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Usage {
    /// Over this, whoever allocates is slowed down; version 2 only.
    pub(crate) high_bytes: Option<u64>,
    /// More than this there is not.
    pub(crate) max_bytes: Option<u64>,
    /// What is used, file cache included.
    pub(crate) usage_bytes: u64,
}

/// One cgroup on the way up.
pub(crate) struct Level<'a> {
    kind: Kind,
    path: &'a [u8],
}

/// How often a cgroup ran into its limits, since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Events {
    /// Usage was about to pass the limit.
    pub(crate) max: u64,
    /// There was no memory even after reclaim.
    pub(crate) oom: u64,
}

impl Cgroup {
    /// Nothing known yet: [`Kind::None`].
    pub(crate) const fn new() -> Self {
        Cgroup { kind: Kind::None, path: PathBuffer::new(), mount_length: 0, named: (Kind::None, PathBuffer::new()) }
    }

    /// Which interface it has.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The directory of its files; empty without a cgroup.
    pub(crate) fn directory(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// The path of one of its files; `None` without a cgroup.
    pub(crate) fn file(&self, name: &[u8]) -> Option<PathBuffer> {
        let there = self.kind != Kind::None;
        there.then(|| PathBuffer::of(&[self.path.as_bytes(), b"/", name]))?
    }

    /// Looks where the process is now; whether that is another place than before. Four system calls if not. For about
    /// once a minute: the kernel takes a lock of all cgroups for it.
    pub(crate) fn refresh(&mut self, os: &impl Os) -> bool {
        let named = own_name(os);
        if named.0 == self.named.0 && named.1.as_bytes() == self.named.1.as_bytes() {
            return false;
        }
        *self = Cgroup { named, ..Self::new() };
        self.find(os);
        true
    }

    /// Finds the directory of the cgroup that `named` names.
    fn find(&mut self, os: &impl Os) {
        let mut name = PathBuffer::new();
        let kind = self.named.0;
        if kind == Kind::None || name.push(self.named.1.as_bytes().iter().copied()).is_none() {
            return;
        }
        let name = name.as_bytes();
        let mut buffer = [0; MOUNT_LINE_BYTES];
        let mut any = false;
        // First a mount that shows the cgroup, then one that shows another part of the tree: there the mount point
        // itself is the best guess. Not if the process was moved out of its namespace.
        for exact in [true, false] {
            // Without the file, the usual places are left.
            let _ = lines::for_each(os, c"/proc/self/mountinfo", &mut buffer, |line| {
                let Some(mount) = Mount::parse(line).filter(|mount| mount.kind == kind) else { return };
                any = true;
                let inside = match mount.inside(name) {
                    Some(inside) => inside,
                    None if exact || name.starts_with(b"/..") => return,
                    None => b"",
                };
                if self.kind == Kind::None {
                    self.settle(os, kind, text_scan::unescaped(mount.point), inside);
                }
            });
            if self.kind != Kind::None || any && name.starts_with(b"/..") {
                return;
            }
        }
        let usual: &[&[u8]] = match kind {
            Kind::V1 => &[b"/sys/fs/cgroup/memory"],
            _ => &[b"/sys/fs/cgroup", b"/sys/fs/cgroup/unified"],
        };
        for point in usual.iter().filter(|_| !any && !has_dots(name)) {
            if self.kind == Kind::None {
                self.settle(os, kind, point.iter().copied(), name);
            }
        }
    }

    /// Takes the cgroup `inside` the mount at `point`, or its nearest ancestor whose usage can be read.
    fn settle(&mut self, os: &impl Os, kind: Kind, point: impl Iterator<Item = u8>, inside: &[u8]) {
        let mut path = PathBuffer::new();
        let inside = inside.strip_suffix(b"/").unwrap_or(inside);
        if path.push(point).is_none() {
            return;
        }
        let mount_length = path.as_bytes().len();
        if path.push(inside.iter().copied()).is_none() {
            return;
        }
        let mut next = Some(path.as_bytes().len());
        while let Some(length) = next {
            let level = path.as_bytes().get(..length).unwrap_or_default();
            if number(os, level, usage_file(kind)).is_some() {
                path.truncate(length);
                (self.kind, self.path, self.mount_length) = (kind, path, mount_length);
                return;
            }
            next = above(level, mount_length);
        }
    }

    /// The cgroup and its ancestors, as far as they can be seen.
    pub(crate) fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        let own = (self.kind != Kind::None).then_some(self.path.as_bytes());
        core::iter::successors(own, |path| path.get(..above(path, self.mount_length)?))
            .map(|path| Level { kind: self.kind, path })
    }

    /// What happened in the cgroup itself and below it; `None` if it does not tell. Four system calls (eight in
    /// version 1).
    pub(crate) fn events(&self, os: &impl Os) -> Option<Events> {
        let path = self.path.as_bytes();
        let mut buffer = [0; 512];
        match self.kind {
            Kind::None => None,
            Kind::V1 => {
                let max = number(os, path, b"memory.failcnt")?;
                // Kernels before 4.13 do not count kills.
                let oom = text_scan::value(read(os, path, b"memory.oom_control", &mut buffer)?, b"oom_kill");
                Some(Events { max, oom: oom.unwrap_or(0) })
            }
            Kind::V2 => {
                let text = read(os, path, b"memory.events", &mut buffer)?;
                let count = |key: &[u8]| text_scan::value(text, key);
                Some(Events { max: count(b"max")?, oom: count(b"oom")? })
            }
        }
    }
}

impl Level<'_> {
    /// What it allows and uses; `None` if it does not tell. Twelve system calls (eight in version 1).
    pub(crate) fn usage(&self, os: &impl Os) -> Option<Usage> {
        let usage_bytes = number(os, self.path, usage_file(self.kind))?;
        let (high_bytes, max_bytes) = match self.kind {
            Kind::V2 => (number(os, self.path, b"memory.high"), number(os, self.path, b"memory.max")),
            _ => (None, number(os, self.path, b"memory.limit_in_bytes").filter(|bytes| *bytes < V1_NO_LIMIT)),
        };
        Some(Usage { high_bytes, max_bytes, usage_bytes })
    }

    /// Bytes of its use that are file cache the kernel takes back before anybody is refused: what was used once, and
    /// what was used again and is not mapped, as far as the kernel tells. Five to eight system calls; the kernel sums
    /// its counters over all processors.
    pub(crate) fn cache_bytes(&self, os: &impl Os) -> u64 {
        let keys: [&[u8]; 3] = match self.kind {
            Kind::V1 => [b"total_inactive_file", b"total_active_file", b"total_mapped_file"],
            _ => [b"inactive_file", b"active_file", b"file_mapped"],
        };
        let mut counts = [0_u64; 3];
        if let Some(path) = PathBuffer::of(&[self.path, b"/memory.stat"]) {
            // Without the file nothing is known of it.
            let _ = lines::for_each(os, path.as_c_str(), &mut [0; 1024], |line| {
                for (count, key) in counts.iter_mut().zip(keys) {
                    *count = text_scan::value_in_line(line, key).unwrap_or(*count);
                }
            });
        }
        let [inactive, active, mapped] = counts;
        inactive.saturating_add(active).saturating_sub(mapped).max(inactive)
    }
}

/// The file of a cgroup that says what it uses.
fn usage_file(kind: Kind) -> &'static [u8] {
    if kind == Kind::V1 { b"memory.usage_in_bytes" } else { b"memory.current" }
}

fn read<'a>(os: &impl Os, directory: &[u8], name: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let path = PathBuffer::of(&[directory, b"/", name])?;
    os.read_file(path.as_c_str(), buffer).ok()
}

/// The number in a file; `None` also for `max`.
fn number(os: &impl Os, directory: &[u8], name: &[u8]) -> Option<u64> {
    text_scan::number(read(os, directory, name, &mut [0; 32])?)
}

/// The length of the path one level above `path`, down to `mount_length`; `None` at the mount point.
fn above(path: &[u8], mount_length: usize) -> Option<usize> {
    let inside = path.get(mount_length..)?;
    inside.iter().rposition(|byte| *byte == b'/').map(|slash| mount_length + slash)
}

/// Whether a path leads upwards somewhere.
fn has_dots(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// The memory cgroup that `/proc/self/cgroup` names. A machine may have both versions: then the memory controller is
/// where it has a line of its own, in version 1.
fn own_name(os: &impl Os) -> (Kind, PathBuffer) {
    let mut own = (Kind::None, PathBuffer::new());
    let mut buffer = [0; MOUNT_LINE_BYTES];
    // Without the file there is no cgroup.
    let _ = lines::for_each(os, c"/proc/self/cgroup", &mut buffer, |line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (Some(number), Some(controllers), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            return;
        };
        let kind = if controllers.split(|byte| *byte == b',').any(|controller| controller == b"memory") {
            Kind::V1
        } else if number == b"0" && controllers.is_empty() && own.0 != Kind::V1 {
            Kind::V2
        } else {
            return;
        };
        own = PathBuffer::of(&[name]).map_or((Kind::None, PathBuffer::new()), |name| (kind, name));
    });
    own
}

/// A mount of cgroups with memory.
struct Mount<'a> {
    kind: Kind,
    /// Which cgroup it shows at the mount point, written with escapes.
    root: &'a [u8],
    /// The mount point, written with escapes.
    point: &'a [u8],
}

impl<'a> Mount<'a> {
    /// From a line such as `35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = text_scan::words(line).skip(3);
        let (root, point) = (words.next()?, words.next()?);
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let (system, _source, options) = (words.next()?, words.next()?, words.next()?);
        let kind = match system {
            b"cgroup2" => Kind::V2,
            b"cgroup" if options.split(|byte| *byte == b',').any(|option| option == b"memory") => Kind::V1,
            _ => return None,
        };
        Some(Mount { kind, root, point })
    }

    /// Where the cgroup `name` is below the mount point; `None` if it is not there.
    fn inside<'b>(&self, name: &'b [u8]) -> Option<&'b [u8]> {
        // The root of all is written `/`, others without a slash at the end.
        let mut rest = Some(name);
        if self.root != b"/" {
            for byte in text_scan::unescaped(self.root) {
                rest =
                    rest.and_then(|rest| rest.split_first()).filter(|(first, _)| **first == byte).map(|(_, tail)| tail);
            }
        }
        rest.filter(|rest| (rest.is_empty() || rest.starts_with(b"/")) && !has_dots(rest))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use test_support::skip;

    use super::*;
    use crate::os::Linux;
    use crate::os::fake::FakeOs;

    const V2_MOUNT: &str = "26 23 0:24 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const OTHER_MOUNTS: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                                23 22 0:21 / /sys rw,nosuid shared:2 - sysfs sysfs rw\n\
                                25 23 0:23 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n";

    fn machine(own: &str, mounts: &str) -> FakeOs {
        let os = FakeOs::new();
        os.files.set("/proc/self/cgroup", own);
        os.files.set("/proc/self/mountinfo", format!("{OTHER_MOUNTS}{mounts}"));
        os
    }

    fn add_v2(os: &FakeOs, path: &str, high: &str, max: &str, usage: u64) {
        os.files.set(&format!("{path}/memory.high"), format!("{high}\n"));
        os.files.set(&format!("{path}/memory.max"), format!("{max}\n"));
        os.files.set(&format!("{path}/memory.current"), format!("{usage}\n"));
    }

    fn add_v1(os: &FakeOs, path: &str, limit: u64, usage: u64) {
        os.files.set(&format!("{path}/memory.limit_in_bytes"), format!("{limit}\n"));
        os.files.set(&format!("{path}/memory.usage_in_bytes"), format!("{usage}\n"));
    }

    fn found(os: &FakeOs) -> Cgroup {
        let mut cgroup = Cgroup::new();
        cgroup.refresh(os);
        assert_eq!(os.files.open_count(), 0);
        cgroup
    }

    fn place(cgroup: &Cgroup) -> (Kind, &str) {
        (cgroup.kind(), core::str::from_utf8(cgroup.path.as_bytes()).unwrap())
    }

    fn levels(cgroup: &Cgroup, os: &FakeOs) -> Vec<Usage> {
        cgroup.levels().filter_map(|level| level.usage(os)).collect()
    }

    fn level(high_bytes: Option<u64>, max_bytes: Option<u64>, usage_bytes: u64) -> Usage {
        Usage { high_bytes, max_bytes, usage_bytes }
    }

    #[test]
    fn version_2_has_limits_at_each_level_up_to_the_mount() {
        let os = machine("0::/system.slice/app.service\n", V2_MOUNT);
        add_v2(&os, "/sys/fs/cgroup/system.slice/app.service", "max", "2000", 500);
        add_v2(&os, "/sys/fs/cgroup/system.slice", "900", "max", 600);
        // The root of the machine has no such files.
        let cgroup = found(&os);
        assert_eq!(place(&cgroup), (Kind::V2, "/sys/fs/cgroup/system.slice/app.service"));
        assert_eq!(levels(&cgroup, &os), [level(None, Some(2000), 500), level(Some(900), None, 600)]);
        let file = cgroup.file(b"memory.pressure").unwrap();
        assert_eq!(file.as_c_str(), c"/sys/fs/cgroup/system.slice/app.service/memory.pressure");
    }

    #[test]
    fn version_1_is_found_by_its_controller_and_its_largest_limit_is_none() {
        let own = "9:name=systemd:/x\n4:cpuset,memory:/user/a:b\n1:cpu:/cpu\n";
        let os = machine(own, "35 31 0:32 / /mnt/my\\040cgroups/m rw - cgroup cgroup rw,cpuset,memory\n");
        add_v1(&os, "/mnt/my cgroups/m/user/a:b", 1000, 10);
        add_v1(&os, "/mnt/my cgroups/m/user", 9_223_372_036_854_771_712, 20);
        add_v1(&os, "/mnt/my cgroups/m", 9_223_372_036_854_710_272, 30);
        let cgroup = found(&os);
        assert_eq!(place(&cgroup), (Kind::V1, "/mnt/my cgroups/m/user/a:b"));
        let expected = [level(None, Some(1000), 10), level(None, None, 20), level(None, None, 30)];
        assert_eq!(levels(&cgroup, &os), expected);
    }

    #[test]
    fn on_a_hybrid_machine_the_version_with_the_memory_controller_counts() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        for own in ["0::/other\n4:memory:/app\n", "4:memory:/app\n0::/other\n"] {
            let os = machine(own, mounts);
            add_v1(&os, "/sys/fs/cgroup/memory/app", 1000, 10);
            assert_eq!(place(&found(&os)), (Kind::V1, "/sys/fs/cgroup/memory/app"), "{own}");
        }
        // Version 2 is mounted without the controller, and version 1 has none either.
        let os = machine("0::/other\n1:cpu:/\n", mounts);
        assert_eq!(found(&os).kind(), Kind::None);
    }

    #[test]
    fn a_container_with_its_own_namespace_has_its_limits_at_the_mount_point() {
        let os = machine("0::/\n", V2_MOUNT);
        add_v2(&os, "/sys/fs/cgroup", "max", "4096", 100);
        let cgroup = found(&os);
        assert_eq!(place(&cgroup), (Kind::V2, "/sys/fs/cgroup"));
        assert_eq!(levels(&cgroup, &os), [level(None, Some(4096), 100)]);
    }

    #[test]
    fn a_container_that_sees_the_path_of_its_host_uses_it_relative_to_the_root_of_the_mount() {
        for (own, place_expected) in [
            ("/docker/0123abcd", "/sys/fs/cgroup/memory"),
            ("/docker/0123abcd/inner", "/sys/fs/cgroup/memory/inner"),
            // Moved after the mount: the mount point is the best guess.
            ("/docker/0123abcdef", "/sys/fs/cgroup/memory"),
            ("/elsewhere", "/sys/fs/cgroup/memory"),
        ] {
            let mount = "35 31 0:32 /docker/0123abcd /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n";
            let os = machine(&format!("4:memory:{own}\n"), mount);
            add_v1(&os, "/sys/fs/cgroup/memory", 1000, 10);
            add_v1(&os, "/sys/fs/cgroup/memory/inner", 800, 5);
            assert_eq!(place(&found(&os)), (Kind::V1, place_expected), "{own}");
        }
    }

    #[test]
    fn of_several_mounts_the_one_that_shows_the_cgroup_is_taken() {
        let mounts = "50 1 0:24 /b /mnt/b rw - cgroup2 cgroup2 rw\n51 1 0:24 /a /mnt/a rw - cgroup2 cgroup2 rw\n";
        let os = machine("0::/a/x\n", mounts);
        add_v2(&os, "/mnt/b", "max", "1", 1);
        add_v2(&os, "/mnt/a/x", "max", "2", 1);
        assert_eq!(place(&found(&os)), (Kind::V2, "/mnt/a/x"));
    }

    #[test]
    fn names_with_backslashes_are_compared_as_they_are() {
        let mount = "50 1 0:24 /system-a\\134x2db.slice /mnt rw - cgroup2 cgroup2 rw\n";
        let os = machine("0::/system-a\\x2db.slice/c\n", mount);
        add_v2(&os, "/mnt/c", "max", "2", 1);
        assert_eq!(place(&found(&os)), (Kind::V2, "/mnt/c"));
    }

    #[test]
    fn a_cgroup_that_cannot_be_read_gives_way_to_its_nearest_ancestor() {
        let os = machine("0::/a/b/c\n", V2_MOUNT);
        add_v2(&os, "/sys/fs/cgroup/a", "max", "7", 3);
        let cgroup = found(&os);
        assert_eq!(place(&cgroup), (Kind::V2, "/sys/fs/cgroup/a"));
        assert_eq!(levels(&cgroup, &os), [level(None, Some(7), 3)]);
    }

    #[test]
    fn a_process_moved_out_of_its_namespace_has_no_cgroup() {
        let os = machine("0::/../elsewhere\n", V2_MOUNT);
        add_v2(&os, "/sys/fs/cgroup", "max", "4096", 100);
        assert_eq!(found(&os).kind(), Kind::None);
        // Unless the mount shows what is above.
        let os = machine("0::/../elsewhere\n", "26 23 0:24 /.. /mnt rw - cgroup2 cgroup2 rw\n");
        add_v2(&os, "/mnt/elsewhere", "max", "4096", 100);
        assert_eq!(place(&found(&os)), (Kind::V2, "/mnt/elsewhere"));
    }

    #[test]
    fn without_mountinfo_the_usual_places_are_tried() {
        for (own, directory, kind) in [
            ("0::/a\n", "/sys/fs/cgroup/a", Kind::V2),
            ("0::/a\n", "/sys/fs/cgroup/unified/a", Kind::V2),
            ("3:memory:/a\n", "/sys/fs/cgroup/memory/a", Kind::V1),
        ] {
            let os = machine(own, "");
            os.files.remove("/proc/self/mountinfo");
            add_v2(&os, directory, "max", "1", 1);
            add_v1(&os, directory, 1, 1);
            assert_eq!(place(&found(&os)), (kind, directory));
        }
    }

    #[test]
    fn a_long_mountinfo_is_read_to_its_end() {
        let many: String = (0..400).map(|n| format!("{n} 1 0:9 / /mnt/{n} rw - tmpfs tmpfs rw\n")).collect();
        let overlay = format!("900 1 0:9 / /o rw - overlay overlay rw,lowerdir={}\n", "l".repeat(9000));
        let os = machine("0::/a\n", &format!("{many}{overlay}{V2_MOUNT}"));
        add_v2(&os, "/sys/fs/cgroup/a", "max", "1", 1);
        os.files.read_at_most(1000);
        assert_eq!(place(&found(&os)), (Kind::V2, "/sys/fs/cgroup/a"));
    }

    #[test]
    fn missing_and_garbled_files_mean_no_cgroup() {
        let none = FakeOs::new();
        let long = format!("0::/{}\n", "a".repeat(3000));
        let garbled = ["", "\n", "0:/a\n", "0::", "memory", "1:cpu:/\n", &long].map(|own| {
            let os = machine(own, V2_MOUNT);
            // There would be something to read.
            os.files.set("/sys/fs/cgroup/x/memory.current", "1\n");
            os
        });
        for os in garbled.iter().chain([&none]) {
            let cgroup = found(os);
            assert_eq!((cgroup.kind(), cgroup.events(os), levels(&cgroup, os).len()), (Kind::None, None, 0));
            assert!(cgroup.file(b"memory.pressure").is_none());
        }
    }

    #[test]
    fn events_come_from_the_files_of_either_version() {
        let os = machine("0::/a\n", V2_MOUNT);
        add_v2(&os, "/sys/fs/cgroup/a", "max", "1", 1);
        let cgroup = found(&os);
        assert_eq!(cgroup.events(&os), None);
        os.files.set("/sys/fs/cgroup/a/memory.events", "low 9\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n");
        assert_eq!(cgroup.events(&os), Some(Events { max: 2, oom: 3 }));

        let os = machine("3:memory:/a\n", "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n");
        add_v1(&os, "/m/a", 1, 1);
        let cgroup = found(&os);
        os.files.set("/m/a/memory.failcnt", "6\n");
        os.files.set("/m/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 7\n");
        assert_eq!(cgroup.events(&os), Some(Events { max: 6, oom: 7 }));
        os.files.set("/m/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 1\n");
        assert_eq!(cgroup.events(&os), Some(Events { max: 6, oom: 0 }));
    }

    #[test]
    fn cache_is_that_of_the_whole_level_in_either_version() {
        // As these kernels write it, shortened; version 2 counts what is below in every line.
        let v1 = "mapped_file 1\ninactive_file 100\nactive_file 200\nhierarchical_memory_limit 9223372036854771712\n\
                  total_mapped_file 50\ntotal_inactive_anon 7\ntotal_inactive_file 300\ntotal_active_file 400\n";
        let v2 = "anon 5\nfile 2000\nfile_mapped 50\ninactive_anon 7\nactive_file 400\ninactive_file 300\nslab 9\n";
        for (own, mount, text) in [
            ("3:memory:/a\n", "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n", v1),
            ("0::/a\n", "26 23 0:24 / /m rw - cgroup2 cgroup2 rw\n", v2),
        ] {
            let os = machine(own, mount);
            add_v1(&os, "/m/a", 1, 1);
            add_v2(&os, "/m/a", "max", "1", 1);
            let cgroup = found(&os);
            let cache = || cgroup.levels().next().unwrap().cache_bytes(&os);
            assert_eq!(cache(), 0, "no file");
            os.files.set("/m/a/memory.stat", format!("{}{text}", "padding 1\n".repeat(150)));
            assert_eq!(cache(), 650);
            os.files.set("/m/a/memory.stat", text.replace(" 50\n", " 690\n"));
            assert_eq!(cache(), 300, "what was used once goes, mapped or not");
            os.files.set("/m/a/memory.stat", text.replace(" 300\n", " many\n").replace(" 50\n", " 0\n"));
            assert_eq!(cache(), 400);
        }
    }

    #[test]
    fn a_move_is_noticed_and_staying_costs_one_file() {
        let os = machine("0::/a\n", V2_MOUNT);
        add_v2(&os, "/sys/fs/cgroup/a", "max", "1", 1);
        add_v2(&os, "/sys/fs/cgroup/b", "max", "2", 1);
        let mut cgroup = Cgroup::new();
        assert!(cgroup.refresh(&os));
        let opens = os.files.opens();
        assert!(!cgroup.refresh(&os));
        assert_eq!(os.files.opens() - opens, 1);
        os.files.set("/proc/self/cgroup", "0::/b\n");
        assert!(cgroup.refresh(&os));
        assert_eq!(place(&cgroup), (Kind::V2, "/sys/fs/cgroup/b"));
        os.files.remove("/proc/self");
        assert!(cgroup.refresh(&os));
        assert_eq!(cgroup.kind(), Kind::None);
    }

    #[test]
    fn the_memory_cgroup_of_this_process_is_found() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let v1 = own.lines().any(|line| line.split(':').nth(1).unwrap_or("").split(',').any(|name| name == "memory"));
        let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        // The root of a machine with version 2 has no file that says what is used.
        let v2 = v2.contains("memory")
            && (!own.contains("0::/\n") || std::path::Path::new("/sys/fs/cgroup/memory.current").exists());
        if !v1 && !v2 {
            skip(format_args!("no memory cgroup is named by {own:?}"));
            return;
        }
        let mut cgroup = Cgroup::new();
        assert!(cgroup.refresh(&Linux));
        let place = place(&cgroup).1.to_string();
        let usage =
            std::fs::read_to_string(format!("{place}/{}", core::str::from_utf8(usage_file(cgroup.kind())).unwrap()));
        assert!(usage.unwrap().trim().parse::<u64>().is_ok(), "{place}");
        let own = cgroup.levels().next().unwrap();
        assert!(own.cache_bytes(&Linux) <= own.usage(&Linux).unwrap().usage_bytes + (64 << 20));
    }
}
