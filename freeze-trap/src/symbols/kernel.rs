//! Cuts a kernel stack to the kernel's own work: what the tracepoint and the program on it do is not the thread's.

/// Frames from the leaf that are looked at; the machinery is the leaf-ward end of a stack, and never longer.
const MACHINERY_FRAMES_MAX: usize = 16;

/// How functions of that machinery begin.
const MACHINERY: [&str; 11] = [
    "__traceiter_",
    "bpf_trace_run",
    "bpf_prog_",
    "perf_trace_",
    "trace_event_raw_event_",
    "__bpf_",
    "bpf_get_stack",
    "bpf_trampoline_",
    "bpf_overflow_handler",
    "__mmap_lock_do_trace_",
    "get_perf_callchain",
];

/// How many frames from the leaf belong to the tracepoint.
pub(super) fn machinery<'a>(leaf_first: impl Iterator<Item = &'a str>) -> usize {
    let is_machinery = |name: &str| MACHINERY.iter().any(|start| name.starts_with(start));
    let near = leaf_first.take(MACHINERY_FRAMES_MAX).enumerate();
    near.filter(|(_, name)| is_machinery(name)).last().map_or(0, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut<'a>(frames: &[&'a str]) -> Vec<&'a str> {
        frames[machinery(frames.iter().copied())..].to_vec()
    }

    #[test]
    fn the_first_frame_is_the_kernels_own() {
        let switch =
            ["bpf_prog_6deef7357e7b4530_on_switch", "bpf_prog_1", "bpf_trace_run4", "__traceiter_sched_switch"];
        assert_eq!(cut(&[&switch[..], &["__schedule", "schedule"]].concat()), ["__schedule", "schedule"]);
        let hidden = ["0xffffffffc0001234", "bpf_trace_run3", "__traceiter_mmap_lock_released"];
        let released = [&hidden[..], &["__mmap_lock_do_trace_released", "__vm_munmap"]].concat();
        assert_eq!(cut(&released), ["__vm_munmap"]);
        assert_eq!(cut(&["perf_trace_sched_switch", "__schedule"]), ["__schedule"]);
    }

    #[test]
    fn a_stack_without_machinery_stays_whole() {
        assert_eq!(cut(&[]), Vec::<&str>::new());
        assert_eq!(cut(&["schedule", "do_nanosleep"]), ["schedule", "do_nanosleep"]);
        let mut deep = vec!["frame"; MACHINERY_FRAMES_MAX];
        deep.push("bpf_trace_run1");
        assert_eq!(cut(&deep).len(), deep.len(), "a caller far away is no tracepoint");
    }
}
