//! The thread that empties the rings, puts their events in order and hands them to the assembler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::assembler::Assembler;
use crate::event::{Event, EventKind};
use crate::kernel::merge::{Merge, SLACK_NS};
use crate::kernel::process;
use crate::kernel::setup::Session;
use crate::kernel::{GOING_ON, now_ns};
use crate::options::Options;
use crate::trace::Trace;

/// How long a pass may be away when no ring is filling up.
const PASS_MS: u8 = 10;

/// Collects events until told to end.
pub(crate) struct Collector<See> {
    session: Session,
    merge: Merge<Event>,
    sink: Sink<See>,
    /// When to end, or `GOING_ON`.
    end_ns: Arc<AtomicU64>,
}

/// Where ordered events go.
struct Sink<See> {
    assembler: Assembler,
    see: See,
    /// Events that the kernel has reported as lost.
    lost: u64,
}

impl<See: FnMut(&Event)> Collector<See> {
    pub(crate) fn new(session: Session, options: &Options, end_ns: Arc<AtomicU64>, see: See) -> Collector<See> {
        let pid = session.process.pid.cast_signed();
        let assembler = Assembler::new(pid, session.start_ns, options);
        let mut sink = Sink { assembler, see, lost: 0 };
        for tid in session.process.threads() {
            sink.name(session.start_ns, tid, pid);
        }
        Collector { session, merge: Merge::default(), sink, end_ns }
    }

    pub(crate) fn run(mut self) -> Trace {
        loop {
            let now_ns = now_ns();
            // Relaxed: the time is all that is handed over.
            let end_ns = self.end_ns.load(Ordering::Relaxed);
            if end_ns != GOING_ON {
                return self.finish(end_ns);
            }
            self.read();
            self.merge.pop_until(now_ns.saturating_sub(SLACK_NS), |event| self.sink.push(event));
            self.session.rings.wait(PASS_MS);
        }
    }

    fn read(&mut self) {
        let Collector { session, merge, .. } = self;
        let decoder = &mut session.decoder;
        session.rings.read(|record| {
            if let Some(event) = decoder.decode(record) {
                merge.push(event.time_ns, event);
            }
        });
    }

    fn finish(mut self, end_ns: u64) -> Trace {
        self.session.rings.stop();
        // A ring tells of losses only with the next record that has room.
        let lost = self.session.rings.lost();
        self.read();
        self.merge.pop_until(end_ns, |event| self.sink.push(event));
        self.sink.lose(end_ns, self.session.process.pid.cast_signed(), lost);
        self.sink.assembler.finish(end_ns)
    }
}

impl<See: FnMut(&Event)> Sink<See> {
    fn push(&mut self, event: Event) {
        match event.kind {
            EventKind::Lost { count } => self.lost += count,
            EventKind::Start { .. } | EventKind::Acquired { .. } if !self.assembler.knows(event.tid) => {
                self.name(event.time_ns, event.tid, event.pid);
            }
            _ => {}
        }
        (self.see)(&event);
        self.assembler.push(event);
    }

    /// Looks up the name of a thread.
    fn name(&mut self, time_ns: u64, tid: i32, pid: i32) {
        let kind = EventKind::Comm { name: process::thread_name(tid), exec: false };
        let event = Event { time_ns, tid, pid, cpu: None, kind };
        (self.see)(&event);
        self.assembler.push(event);
    }

    /// Takes note of losses that no record has told of.
    fn lose(&mut self, time_ns: u64, pid: i32, all: u64) {
        let count = all.saturating_sub(self.lost);
        if count > 0 {
            self.push(Event { time_ns, tid: pid, pid, cpu: None, kind: EventKind::Lost { count } });
        }
    }
}
