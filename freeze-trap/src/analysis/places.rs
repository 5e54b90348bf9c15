//! Stacks that are the same by their names, whatever their addresses. Made by `case`, used by all of `analysis`.
//!
//! Invariant: two intervals have the same place if and only if all frames of their stacks are equal.

use std::collections::HashMap;

use super::class::Class;
use crate::event::Sleep;
use crate::freeze::{Frame, Stack};
use crate::stack::StackPair;
use crate::symbols::NamedStacks;

/// A place in [`Places`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PlaceId(usize);

/// The kernel's frames and the program's.
type Frames<'a> = (&'a [Frame], &'a [Frame]);

/// All that a class depends on: a place, the state of the thread, and its system call.
type Situation = (PlaceId, Sleep, Option<u64>);

/// All places.
pub(super) struct Places<'a> {
    named: &'a NamedStacks,
    by_pair: HashMap<StackPair, PlaceId>,
    by_frames: HashMap<Frames<'a>, PlaceId>,
    all: Vec<Frames<'a>>,
    classes: HashMap<Situation, Class>,
}

impl<'a> Places<'a> {
    pub(super) fn new(named: &'a NamedStacks) -> Self {
        let (by_pair, by_frames, classes) = (HashMap::new(), HashMap::new(), HashMap::new());
        Places { named, by_pair, by_frames, all: Vec::new(), classes }
    }

    /// The place of a stack.
    pub(super) fn of(&mut self, pair: StackPair) -> PlaceId {
        if let Some(&known) = self.by_pair.get(&pair) {
            return known;
        }
        let frames = (self.named.kernel(pair), self.named.user(pair));
        let place = *self.by_frames.entry(frames).or_insert_with(|| {
            self.all.push(frames);
            PlaceId(self.all.len() - 1)
        });
        self.by_pair.insert(pair, place);
        place
    }

    /// The class of a situation, found out once.
    pub(super) fn class(&mut self, situation: Situation, find: impl FnOnce() -> Class) -> Class {
        *self.classes.entry(situation).or_insert_with(find)
    }

    pub(super) fn kernel(&self, place: PlaceId) -> &'a [Frame] {
        self.all[place.0].0
    }

    pub(super) fn user(&self, place: PlaceId) -> &'a [Frame] {
        self.all[place.0].1
    }

    pub(super) fn stack(&self, place: PlaceId) -> Stack {
        Stack { kernel: self.kernel(place).to_vec(), user: self.user(place).to_vec() }
    }
}
