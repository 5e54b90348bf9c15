//! What the machine and the limits of the process are like, as far as promises depend on it. Read once; called by
//! whoever explains or adapts.
//!
//! Invariant: what cannot be read is unknown, and unknown never makes a promise stronger.

use core::ffi::CStr;

use super::{Limit, Os, RELEASE_BYTES, stall, text_scan};

/// When the kernel gives hugepages (`transparent_hugepage/enabled`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ThpMode {
    Always,
    /// Where `MADV_HUGEPAGE` asks for them.
    Madvise,
    Never,
    Unknown,
}

/// What a page fault does when no hugepage is free (`transparent_hugepage/defrag`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ThpDefrag {
    /// Reclaims and compacts at once.
    Always,
    /// Leaves it to the background.
    Defer,
    /// At once where `MADV_HUGEPAGE` asks, else in the background.
    DeferMadvise,
    /// At once where `MADV_HUGEPAGE` asks, else not.
    Madvise,
    Never,
    Unknown,
}

/// How the kernel counts memory that is promised (`vm.overcommit_memory`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Overcommit {
    /// 0: refuses only what is obviously too much.
    Heuristic,
    /// 1: refuses nothing.
    Always,
    /// 2: promises no more than there is.
    Strict,
    Unknown,
}

/// The machine and the limits of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Machine {
    /// Major and minor number of the kernel's release; zeroes if unknown.
    pub(crate) kernel: (u32, u32),
    pub(crate) thp: ThpMode,
    pub(crate) thp_defrag: ThpDefrag,
    /// Whether khugepaged may reclaim and compact.
    pub(crate) khugepaged_defrag: Option<bool>,
    /// Pages of 2 MiB in the hugetlb pool, and those of them that are free.
    pub(crate) hugetlb_total_pages: u64,
    pub(crate) hugetlb_free_pages: u64,
    pub(crate) overcommit: Overcommit,
    /// Limits of the process in bytes; `None` if there is none.
    pub(crate) limit_as: Option<u64>,
    pub(crate) limit_data: Option<u64>,
    pub(crate) limit_memlock: Option<u64>,
    /// Bytes in a page.
    pub(crate) page_bytes: usize,
    /// Bytes of memory in the machine.
    pub(crate) memory_bytes: usize,
    /// Whether the kernel tells of stalls.
    pub(crate) psi: bool,
    /// Whether a core dump may be made of the process: by a limit other than zero, or because dumps go to a program,
    /// to which the kernel writes them whatever the limit.
    pub(crate) dumps: bool,
}

impl Machine {
    /// What can be known without opening a file: seven system calls.
    pub(crate) fn ask(os: &impl Os) -> Self {
        let facts = os.facts();
        let mut release = [0; RELEASE_BYTES];
        Machine {
            kernel: kernel_version(os.kernel_release(&mut release)).unwrap_or((0, 0)),
            thp: ThpMode::Unknown,
            thp_defrag: ThpDefrag::Unknown,
            khugepaged_defrag: None,
            hugetlb_total_pages: 0,
            hugetlb_free_pages: 0,
            overcommit: Overcommit::Unknown,
            limit_as: os.limit(Limit::AddressSpace),
            limit_data: os.limit(Limit::Data),
            limit_memlock: os.limit(Limit::Locked),
            page_bytes: facts.page_bytes,
            memory_bytes: facts.memory_bytes,
            psi: false,
            dumps: os.limit(Limit::Core) != Some(0),
        }
    }

    /// All of it: about 40 system calls, 0.1 ms.
    pub(crate) fn read(os: &impl Os) -> Self {
        let asked = Self::ask(os);
        let mut buffer = [0; 128];
        let number = |path| text_scan::number(os.read_file(path, &mut [0; 32]).ok()?);
        let thp = chosen(os, c"/sys/kernel/mm/transparent_hugepage/enabled", &mut buffer, |choice| match choice {
            b"always" => Some(ThpMode::Always),
            b"madvise" => Some(ThpMode::Madvise),
            b"never" => Some(ThpMode::Never),
            _ => None,
        });
        let thp_defrag =
            chosen(os, c"/sys/kernel/mm/transparent_hugepage/defrag", &mut buffer, |choice| match choice {
                b"always" => Some(ThpDefrag::Always),
                b"defer" => Some(ThpDefrag::Defer),
                b"defer+madvise" => Some(ThpDefrag::DeferMadvise),
                b"madvise" => Some(ThpDefrag::Madvise),
                b"never" => Some(ThpDefrag::Never),
                _ => None,
            });
        Machine {
            thp: thp.unwrap_or(ThpMode::Unknown),
            thp_defrag: thp_defrag.unwrap_or(ThpDefrag::Unknown),
            khugepaged_defrag: match number(c"/sys/kernel/mm/transparent_hugepage/khugepaged/defrag") {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            hugetlb_total_pages: number(c"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").unwrap_or(0),
            hugetlb_free_pages: number(c"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or(0),
            overcommit: match number(c"/proc/sys/vm/overcommit_memory") {
                Some(0) => Overcommit::Heuristic,
                Some(1) => Overcommit::Always,
                Some(2) => Overcommit::Strict,
                _ => Overcommit::Unknown,
            },
            psi: stall::Stalls::read(os, stall::MACHINE_STALLS).is_some(),
            dumps: asked.dumps
                || os
                    .read_file(c"/proc/sys/kernel/core_pattern", &mut [0; 256])
                    .is_ok_and(|text| text.starts_with(b"|")),
            ..asked
        }
    }

    /// Whether page faults take the lock of one mapping only (Linux 6.4, on x86-64 and aarch64).
    pub(crate) fn faults_without_mmap_lock(&self) -> bool {
        self.kernel >= (6, 4)
    }

    /// Whether purges take the lock of one mapping only (Linux 6.17).
    pub(crate) fn purges_without_mmap_lock(&self) -> bool {
        self.kernel >= (6, 17)
    }
}

/// What `meaning` makes of the choice in a file; `None` if there is no such file or choice.
fn chosen<T>(os: &impl Os, path: &CStr, buffer: &mut [u8], meaning: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    meaning(text_scan::choice(os.read_file(path, buffer).ok()?)?)
}

/// The first two numbers of a release such as `6.18.44-generic` or `6.1`.
fn kernel_version(release: &[u8]) -> Option<(u32, u32)> {
    let mut parts = release.splitn(3, |byte| *byte == b'.');
    let (major, minor) = (parts.next()?, parts.next()?);
    // `6.1-rc2` has its name right after the second number.
    let digits = minor.split(|byte| !byte.is_ascii_digit()).next()?;
    let number = |text: &[u8]| u32::try_from(text_scan::number(text)?).ok();
    Some((number(major)?, number(digits)?))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::os::Linux;
    use crate::os::fake::FakeOs;

    const THP: &str = "/sys/kernel/mm/transparent_hugepage";
    const HUGETLB: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

    fn set(os: &FakeOs, directory: &str, name: &str, text: &str) {
        os.files.set(&std::format!("{directory}/{name}"), text);
    }

    #[test]
    fn releases_of_all_kinds_are_understood() {
        for (release, expected) in [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("5.10.0-23-amd64", Some((5, 10))),
            ("6.1", Some((6, 1))),
            ("6.1-rc2", Some((6, 1))),
            ("6.4+", Some((6, 4))),
            ("10.0.1", Some((10, 0))),
            ("", None),
            ("6", None),
            ("6.", None),
            ("6.x", None),
            (".1", None),
            ("six.one", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(kernel_version(release.as_bytes()), expected, "{release:?}");
        }
    }

    #[test]
    fn only_kernels_that_are_new_enough_spare_mmap_lock() {
        for (release, faults, purges) in [
            ("6.3.9", false, false),
            ("6.4.0", true, false),
            ("6.16.12", true, false),
            ("6.17.0", true, true),
            ("7.0.0", true, true),
            ("5.19.0", false, false),
            ("garbled", false, false),
        ] {
            let mut os = FakeOs::new();
            os.release = release;
            let machine = Machine::read(&os);
            let found = (machine.faults_without_mmap_lock(), machine.purges_without_mmap_lock());
            assert_eq!(found, (faults, purges), "{release}");
        }
    }

    #[test]
    fn a_machine_with_all_files_is_known() {
        let mut os = FakeOs::new();
        os.limits = std::vec![(Limit::AddressSpace, 1 << 40), (Limit::Locked, 8 << 20), (Limit::Core, 0)];
        set(&os, THP, "enabled", "always [madvise] never\n");
        set(&os, THP, "defrag", "always defer [defer+madvise] madvise never\n");
        set(&os, THP, "khugepaged/defrag", "1\n");
        set(&os, HUGETLB, "nr_hugepages", "512\n");
        set(&os, HUGETLB, "free_hugepages", "500\n");
        os.files.set("/proc/sys/vm/overcommit_memory", "2\n");
        os.files.set("/proc/pressure/memory", "some total=1\nfull total=0\n");
        let expected = Machine {
            kernel: (6, 18),
            thp: ThpMode::Madvise,
            thp_defrag: ThpDefrag::DeferMadvise,
            khugepaged_defrag: Some(true),
            hugetlb_total_pages: 512,
            hugetlb_free_pages: 500,
            overcommit: Overcommit::Strict,
            limit_as: Some(1 << 40),
            limit_data: None,
            limit_memlock: Some(8 << 20),
            page_bytes: 4096,
            memory_bytes: 1 << 30,
            psi: true,
            dumps: false,
        };
        assert_eq!(Machine::read(&os), expected);
        os.files.set("/proc/sys/kernel/core_pattern", "|/usr/lib/systemd/systemd-coredump %P\n");
        assert_eq!(Machine::read(&os), Machine { dumps: true, ..expected });
        os.files.set("/proc/sys/kernel/core_pattern", "core\n");
        assert_eq!(Machine::read(&os), expected);
        assert_eq!(os.files.open_count(), 0);
        let opens = os.files.opens();
        let asked = Machine::ask(&os);
        assert_eq!((asked.kernel, asked.limit_as, asked.psi), (expected.kernel, expected.limit_as, false));
        assert_eq!(os.files.opens(), opens, "asking opens nothing");
    }

    #[test]
    fn missing_and_garbled_files_leave_things_unknown() {
        let os = FakeOs::new();
        let missing = Machine::read(&os);
        set(&os, THP, "enabled", "always madvise never");
        set(&os, THP, "defrag", "[sometimes]");
        set(&os, THP, "khugepaged/defrag", "2");
        set(&os, HUGETLB, "nr_hugepages", "many");
        set(&os, HUGETLB, "free_hugepages", "");
        os.files.set("/proc/sys/vm/overcommit_memory", "3\n");
        os.files.set("/proc/pressure/memory", "");
        let garbled = Machine::read(&os);
        assert_eq!(missing, garbled);
        assert_eq!((garbled.thp, garbled.thp_defrag), (ThpMode::Unknown, ThpDefrag::Unknown));
        assert_eq!((garbled.khugepaged_defrag, garbled.overcommit), (None, Overcommit::Unknown));
        assert_eq!((garbled.hugetlb_total_pages, garbled.hugetlb_free_pages, garbled.psi), (0, 0, false));
    }

    #[test]
    fn this_kernel_has_a_version() {
        let machine = Machine::read(&Linux);
        assert!(machine.kernel.0 >= 3, "{machine:?}");
        assert!(machine.hugetlb_free_pages <= machine.hugetlb_total_pages, "{machine:?}");
    }
}
