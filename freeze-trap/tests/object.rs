//! The compiled BPF programs are those of the sources beside them.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

#[test]
fn the_object_was_made_of_these_sources() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
    let mut digest = Sha256::new();
    for name in ["freeze_trap.bpf.c", "mini.h"] {
        digest.update(fs::read(dir.join(name)).unwrap());
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let noted = fs::read_to_string(dir.join("freeze_trap.bpf.o.sources")).unwrap();
    assert_eq!(noted.trim(), digest, "run freeze-trap/src/bpf/build.sh and commit the object");
}
