//! What is said where too few file descriptors are permitted. A program of its own, as the limit is that of the whole
//! process.

use lock_trace::{Missing, Options, Tracer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[test]
fn too_few_descriptors_are_told_with_how_many_it_takes() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let refused = |limit| {
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        let refused = Tracer::attach(std::process::id(), &Options::default()).map(drop);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        refused.unwrap_err().missing
    };
    // With the last limit not even the threads can be listed.
    for limit in [16, 12, 3] {
        let missing = refused(limit);
        let told = missing.iter().find_map(|missing| match missing {
            Missing::Descriptors { threads, cpus, wanted } => Some((*threads, *cpus, *wanted)),
            _ => None,
        });
        let Some((threads, cpus, wanted)) = told else { panic!("limit {limit}: {missing:?}") };
        assert!(threads > 0 && cpus > 0 && wanted > limit as usize, "limit {limit}: {missing:?}");
        // The main thread and that of the test.
        assert!(threads >= 2 || limit == 3, "limit {limit}: {missing:?}");
    }
}
