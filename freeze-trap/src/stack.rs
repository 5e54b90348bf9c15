//! Stacks as raw addresses, each kept once. Filled by `source`, read by `symbols` when a capture is over.
//!
//! Invariant: an id stays what it is until `forget_all_but` has dropped it.

use std::collections::HashMap;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// Names a stack in [`Stacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StackId(pub u32);

/// The kernel's part of a thread's stack, and the program's; `None` where there was none to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StackPair {
    /// Of the kernel.
    pub kernel: Option<StackId>,
    /// Of the program.
    pub user: Option<StackId>,
}

/// Addresses of one stack, the leaf first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawStack {
    /// The process whose memory the addresses are of; 0 for the kernel.
    pub pid: i32,
    /// Where the leaf is and where it and its callers will return to.
    pub addresses: Box<[u64]>,
    /// The word on top of the program's stack: where the leaf will return to, if it is a system call's stub, which
    /// pushes no frame, so that its caller is missing among the addresses. 0 for unknown.
    pub top_word: u64,
    /// The functions, the leaf first, where the source gives names of the kernel's functions instead of addresses.
    pub names: Box<[String]>,
}

/// Every stack that some interval refers to. Memory: some hundred bytes for each.
#[derive(Debug, Default)]
pub struct Stacks {
    by_id: HashMap<StackId, RawStack>,
    ids: HashMap<RawStack, StackId>,
    next: u32,
}

impl Stacks {
    /// Without stacks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of a stack. `None` for an empty one.
    pub fn intern(&mut self, pid: i32, addresses: &[u64], top_word: u64) -> Option<StackId> {
        self.keep(RawStack { pid, addresses: addresses.into(), top_word, names: Box::default() })
    }

    /// The id of a stack of the kernel of which names are known instead of addresses. `None` for an empty one.
    pub fn intern_names(&mut self, names: &[String]) -> Option<StackId> {
        self.keep(RawStack { pid: 0, addresses: Box::default(), top_word: 0, names: names.into() })
    }

    fn keep(&mut self, stack: RawStack) -> Option<StackId> {
        if stack.addresses.is_empty() && stack.names.is_empty() {
            return None;
        }
        if let Some(&id) = self.ids.get(&stack) {
            return Some(id);
        }
        let id = StackId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_id.insert(id, stack.clone());
        self.ids.insert(stack, id);
        Some(id)
    }

    /// The stack of an id.
    #[must_use]
    pub fn get(&self, id: StackId) -> Option<&RawStack> {
        self.by_id.get(&id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A copy of those that are used, under the same ids.
    #[must_use]
    pub fn only(&self, used: &HashSet<StackId>) -> Stacks {
        let by_id: HashMap<_, _> = used.iter().filter_map(|id| Some((*id, self.get(*id)?.clone()))).collect();
        let ids = by_id.iter().map(|(id, stack)| (stack.clone(), *id)).collect();
        Stacks { by_id, ids, next: self.next }
    }

    /// Drops the stacks that are not in use any more.
    pub fn forget_all_but(&mut self, used: &HashSet<StackId>) {
        self.by_id.retain(|id, _| used.contains(id));
        self.ids.retain(|_, id| used.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_kept_once_until_it_is_forgotten() {
        let mut stacks = Stacks::new();
        let [one, other] = [1, 2].map(|address| stacks.intern(7, &[address, 9], 0).unwrap());
        assert_ne!(one, other);
        assert_eq!(stacks.intern(7, &[1, 9], 0), Some(one));
        assert_ne!(stacks.intern(8, &[1, 9], 0), Some(one), "another process has other memory there");
        assert_ne!(stacks.intern(7, &[1, 9], 5), Some(one), "another caller");
        assert_eq!(stacks.intern(7, &[], 0), None);
        assert_eq!(stacks.intern_names(&[]), None);
        assert_eq!(stacks.len(), 4);
        let copy = stacks.only(&HashSet::from([other]));
        assert_eq!((copy.len(), copy.get(other)), (1, stacks.get(other)));
        stacks.forget_all_but(&HashSet::from([other]));
        assert_eq!(stacks.len(), 1);
        assert_eq!(stacks.get(one), None);
        let again = stacks.intern(7, &[1, 9], 0).unwrap();
        assert!(again != one && stacks.get(other).unwrap().addresses[..] == [2, 9]);
    }
}
