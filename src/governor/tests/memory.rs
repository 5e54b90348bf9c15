//! Chunks and rooms of the model, each with its state. Used by `model` alone.

extern crate std;

use std::collections::VecDeque;
use std::vec::Vec;

use super::model::CHUNK;
use crate::units::Nanos;

/// Where a chunk lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Area {
    Small,
    Blocks,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Cold,
    Live,
    Retired(Nanos),
}

/// One room: chunks from its start are warm; a block or what is kept covers the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    pub(super) in_use: bool,
    pub(super) live: u32,
    pub(super) warm: u32,
    pub(super) keep: u32,
    pub(super) freed_at: Nanos,
}

impl Room {
    pub(super) fn retired(&self) -> u32 {
        self.warm.saturating_sub(if self.in_use { self.live } else { self.keep })
    }
}

/// One area of chunks.
#[derive(Default)]
pub(super) struct Chunks {
    pub(super) states: Vec<State>,
    /// Retired chunks, the longest free first; entries whose time is not the chunk's any more are void.
    pub(super) queue: VecDeque<(Nanos, u32)>,
    pub(super) cold: Vec<u32>,
    pub(super) retired: u64,
}

impl Chunks {
    pub(super) fn new(count: u32) -> Self {
        Chunks {
            states: (0..count).map(|_| State::Cold).collect(),
            cold: (0..count).rev().collect(),
            ..Self::default()
        }
    }

    fn is_current(&self, (since, chunk): (Nanos, u32)) -> bool {
        self.states[chunk as usize] == State::Retired(since)
    }

    /// The chunk that has been free for the longest.
    pub(super) fn oldest(&mut self) -> Option<(Nanos, u32)> {
        while let Some(entry) = self.queue.front().copied() {
            if self.is_current(entry) {
                return Some(entry);
            }
            self.queue.pop_front();
        }
        None
    }

    /// The chunk that was freed last.
    pub(super) fn take_youngest(&mut self) -> Option<u32> {
        while let Some(entry) = self.queue.pop_back() {
            if self.is_current(entry) {
                self.retired -= CHUNK;
                return Some(entry.1);
            }
        }
        None
    }

    pub(super) fn retire(&mut self, chunk: u32, now: Nanos) {
        self.states[chunk as usize] = State::Retired(now);
        self.queue.push_back((now, chunk));
        self.retired += CHUNK;
    }
}
