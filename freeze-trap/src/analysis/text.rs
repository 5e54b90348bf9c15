//! Threads in the words of a sentence.

use crate::event::Thread;

/// Threads that are told one by one if their numbers do not follow each other.
const THREADS_TOLD: usize = 3;

/// A thread with its name, or an outsider's process with the name of the thread that did it.
pub(super) fn person(thread: &Thread, outsider: bool) -> String {
    let who = if outsider { format!("process {}", thread.pid) } else { format!("thread {}", thread.tid) };
    if thread.name.is_empty() { who } else { format!("{who} ({})", thread.name) }
}

/// Several threads: all with their numbers if that is short, or how many they are.
pub(super) fn threads(threads: &[&Thread]) -> String {
    let mut numbers: Vec<i32> = threads.iter().map(|thread| thread.tid).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let follow_each_other = numbers.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
    match numbers[..] {
        [] => "no thread".to_owned(),
        [_] => person(threads[0], false),
        [first, .., last] if follow_each_other && numbers.len() > 2 => format!("threads {first} to {last}"),
        [ref rest @ .., last] if numbers.len() <= THREADS_TOLD => {
            let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
            format!("threads {} and {last}", rest.join(", "))
        }
        _ => format!("{} threads", numbers.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_as_shortly_as_they_can_be() {
        let all: Vec<Thread> = (1..20).map(|tid| Thread { pid: 1, tid, name: "worker".into() }).collect();
        let told = |tids: &[usize]| threads(&tids.iter().map(|tid| &all[tid - 1]).collect::<Vec<_>>());
        assert_eq!(told(&[]), "no thread");
        assert_eq!(told(&[7]), "thread 7 (worker)");
        assert_eq!(told(&[8, 7]), "threads 7 and 8");
        assert_eq!(told(&[9, 8, 7, 8]), "threads 7 to 9");
        assert_eq!(told(&[3, 5, 9]), "threads 3, 5 and 9");
        assert_eq!(told(&[3, 5, 9, 11]), "4 threads");
        let nameless = Thread { pid: 4, tid: 5, name: String::new() };
        assert_eq!((person(&nameless, false), person(&nameless, true)), ("thread 5".into(), "process 4".into()));
    }
}
