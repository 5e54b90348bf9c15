//! The machine's pool of explicit hugepages of 2 MiB. Called by `arena::pool`.

use super::{Os, text_scan};
use crate::limits::CHUNK_BYTES;

/// Bytes of the pool that are free and promised to nobody; 0 if the kernel does not tell. Eight system calls.
pub(crate) fn free_bytes(os: &impl Os) -> usize {
    let number = |path| text_scan::number(os.read_file(path, &mut [0; 32]).ok()?);
    let free = number(c"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or(0);
    let promised = number(c"/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages").unwrap_or(0);
    usize::try_from(free.saturating_sub(promised)).unwrap_or(0).saturating_mul(CHUNK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::FakeOs;

    #[test]
    fn promised_pages_are_not_free() {
        let os = FakeOs::new();
        assert_eq!(free_bytes(&os), 0);
        os.files.set("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "20\n");
        assert_eq!(free_bytes(&os), 20 * CHUNK_BYTES);
        os.files.set("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "3\n");
        assert_eq!(free_bytes(&os), 17 * CHUNK_BYTES);
        os.files.set("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "30\n");
        assert_eq!(free_bytes(&os), 0);
    }
}
