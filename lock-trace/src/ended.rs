//! What was counted for threads that ended, in bounded memory: by thread as long as they are few, then by name.

use std::collections::HashMap;

use crate::thread::Counts;

/// So many ended threads are told apart by number.
const THREADS_MOST: usize = 4096;
/// So many names of further threads are told apart.
const NAMES_MOST: usize = 1024;
/// The name under which all others are counted.
const OTHERS: &str = "(others)";

/// Threads that ended.
#[derive(Default)]
pub(crate) struct Ended {
    threads: Vec<Group>,
    by_name: HashMap<(String, bool), Counts>,
}

/// One thread, or with `tid` 0 several of one name.
pub(crate) struct Group {
    pub(crate) tid: i32,
    pub(crate) name: String,
    pub(crate) outsider: bool,
    pub(crate) counts: Counts,
}

impl Ended {
    pub(crate) fn add(&mut self, group: Group) {
        if group.counts.is_empty() {
            return;
        }
        if self.threads.len() < THREADS_MOST {
            self.threads.push(group);
            return;
        }
        let mut key = (group.name, group.outsider);
        if self.by_name.len() >= NAMES_MOST && !self.by_name.contains_key(&key) {
            OTHERS.clone_into(&mut key.0);
        }
        self.by_name.entry(key).or_default().merge(group.counts);
    }

    pub(crate) fn finish(self) -> Vec<Group> {
        let mut groups = self.threads;
        let by_name = self.by_name.into_iter();
        groups.extend(by_name.map(|((name, outsider), counts)| Group { tid: 0, name, outsider, counts }));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_are_counted_by_name() {
        let mut ended = Ended::default();
        let all = THREADS_MOST + 3 * NAMES_MOST;
        for number in 0..all {
            let mut counts = Counts::default();
            counts.add_call(libc::SYS_munmap, Some(1));
            let name = if number % 2 == 0 { String::from("worker") } else { format!("worker {number}") };
            ended.add(Group { tid: number as i32 + 1, name, outsider: false, counts });
        }
        let groups = ended.finish();
        assert_eq!(groups.iter().filter(|group| group.tid != 0).count(), THREADS_MOST);
        assert!(groups.len() <= THREADS_MOST + NAMES_MOST + 1);
        let count = |group: &Group| group.counts.calls[&libc::SYS_munmap].count;
        assert_eq!(groups.iter().map(count).sum::<u64>(), all as u64);
        assert!(groups.iter().any(|group| group.name == OTHERS && count(group) > 1));
    }
}
