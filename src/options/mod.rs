//! Layer 2: what can be chosen, in code or by variables named `ANTIFREEZE_*`, key by key. Called by `front`: by its
//! setters while the program is compiled, then once at start.
//!
//! Invariant: every value is in the range that `table` gives for its key. What is in force comes from
//! [`Options::with_environment`]; before that, options are only what was written down.

mod environment;
mod nearest;
mod notation;
pub(crate) mod table;

#[cfg(test)]
mod tests;

pub(crate) use crate::choices::{Commit, Governor};
use crate::text::Text;
use crate::units::Nanos;
use table::{Key, TABLE, Value, row};

/// Where the value of an option came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Default,
    Code,
    Environment,
}

/// A set of keys: bit `key as u32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Keys(u32);
const _: () = assert!(TABLE.len() <= u32::BITS as usize);

impl Keys {
    const NONE: Keys = Keys(0);

    const fn has(self, key: Key) -> bool {
        self.0 & (1 << key as u32) != 0
    }

    const fn with(self, key: Key) -> Keys {
        Keys(self.0 | (1 << key as u32))
    }
}

/// The options of an allocator. `None` is no limit, never, or nothing of it, as docs/OPTIONS.md says for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) commit: Commit,
    pub(crate) governor: Governor,
    pub(crate) hold_budget: Nanos,
    pub(crate) pause: Nanos,
    pub(crate) linger: Nanos,
    /// Never less than `linger`, once settled.
    pub(crate) decay: Option<Nanos>,
    /// Bytes per second.
    pub(crate) purge_rate: Option<u64>,
    /// Calls per second.
    pub(crate) purge_calls: Option<u64>,
    /// Bytes.
    pub(crate) warm_reserve: Option<usize>,
    pub(crate) prewarm_hold: Option<Nanos>,
    /// Bytes.
    pub(crate) forecast: Option<usize>,
    pub(crate) pressure: bool,
    /// Bytes.
    pub(crate) hugetlb: Option<usize>,
    /// Bytes, a power of two once settled; `None` leaves it to the machine.
    pub(crate) reservation: Option<usize>,
    /// Keys that setters have set.
    from_code: Keys,
    /// Keys that variables have set, whatever setters did.
    from_environment: Keys,
}

/// The defaults of the table.
const DEFAULTS: Options = {
    let mut options = Options {
        commit: Commit::Auto,
        governor: Governor::Thread,
        hold_budget: Nanos(0),
        pause: Nanos(0),
        linger: Nanos(0),
        decay: None,
        purge_rate: None,
        purge_calls: None,
        warm_reserve: None,
        prewarm_hold: None,
        forecast: None,
        pressure: false,
        hugetlb: None,
        reservation: None,
        from_code: Keys::NONE,
        from_environment: Keys::NONE,
    };
    let mut rows: &[table::Row] = &TABLE;
    while let [row, rest @ ..] = rows {
        options.set(row.key, row.default);
        rows = rest;
    }
    options
};

impl Options {
    /// The defaults.
    pub(crate) const fn new() -> Self {
        DEFAULTS
    }

    /// These options with a value that the program chose.
    /// # Panics
    /// The value is out of range. Setters are called while constants are evaluated, where this is an error of the
    /// compiler; nothing in the allocator calls them.
    #[track_caller]
    pub(crate) const fn choose(mut self, key: Key, value: Value) -> Self {
        assert!(
            row(key).kind.accepts(value),
            "antifreeze: this option's value is out of range: see the documentation of the setter"
        );
        self.set(key, value);
        self.from_code = self.from_code.with(key);
        self
    }

    /// Where the value of `key` came from.
    pub(crate) const fn source(&self, key: Key) -> Source {
        if self.from_environment.has(key) {
            Source::Environment
        } else if self.from_code.has(key) {
            Source::Code
        } else {
            Source::Default
        }
    }

    /// The value of `key`.
    const fn get(&self, key: Key) -> Value {
        match key {
            Key::Commit => Some(self.commit as u64),
            Key::Governor => Some(self.governor as u64),
            Key::HoldBudget => Some(self.hold_budget.0),
            Key::Pause => Some(self.pause.0),
            Key::Linger => Some(self.linger.0),
            Key::Decay => from_nanos(self.decay),
            Key::PurgeRate => self.purge_rate,
            Key::PurgeCalls => self.purge_calls,
            Key::WarmReserve => from_bytes(self.warm_reserve),
            Key::PrewarmHold => from_nanos(self.prewarm_hold),
            Key::Forecast => from_bytes(self.forecast),
            Key::Pressure => Some(self.pressure as u64),
            Key::Hugetlb => from_bytes(self.hugetlb),
            Key::Reservation => from_bytes(self.reservation),
        }
    }

    /// Sets `key` to a value that its row accepts.
    const fn set(&mut self, key: Key, value: Value) {
        // `None` comes only where a row has a word for it.
        let amount = match value {
            Some(amount) => amount,
            None => 0,
        };
        match key {
            Key::Commit => {
                self.commit = match amount {
                    1 => Commit::Ready,
                    2 => Commit::Stepped,
                    _ => Commit::Auto,
                }
            }
            Key::Governor => self.governor = if amount == 1 { Governor::Tick } else { Governor::Thread },
            Key::HoldBudget => self.hold_budget = Nanos(amount),
            Key::Pause => self.pause = Nanos(amount),
            Key::Linger => self.linger = Nanos(amount),
            Key::Decay => self.decay = to_nanos(value),
            Key::PurgeRate => self.purge_rate = value,
            Key::PurgeCalls => self.purge_calls = value,
            Key::WarmReserve => self.warm_reserve = to_bytes(value),
            Key::PrewarmHold => self.prewarm_hold = to_nanos(value),
            Key::Forecast => self.forecast = to_bytes(value),
            Key::Pressure => self.pressure = amount == 1,
            Key::Hugetlb => self.hugetlb = to_bytes(value),
            Key::Reservation => self.reservation = to_bytes(value),
        }
    }

    /// These options as they will be in force: what two keys say together, and what is rounded.
    fn settled(mut self) -> Self {
        if self.decay.is_some_and(|decay| decay < self.linger) {
            self.decay = Some(self.linger);
            match self.source(Key::Linger) {
                Source::Environment => self.from_environment = self.from_environment.with(Key::Decay),
                Source::Code => self.from_code = self.from_code.with(Key::Decay),
                Source::Default => {}
            }
        }
        self.reservation = self.reservation.map(usize::next_power_of_two);
        self
    }

    /// Prints a line per option: `decay = 5s (default)`.
    pub(crate) fn print(&self, out: &mut Text) {
        for row in &TABLE {
            out.str(row.name);
            out.str(" = ");
            notation::print(&row.kind, self.get(row.key), out);
            out.str(match self.source(row.key) {
                Source::Default => " (default)\n",
                Source::Code => " (code)\n",
                Source::Environment => " (environment)\n",
            });
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        DEFAULTS
    }
}

const fn from_nanos(time: Option<Nanos>) -> Value {
    match time {
        Some(Nanos(ns)) => Some(ns),
        None => None,
    }
}

const fn to_nanos(value: Value) -> Option<Nanos> {
    match value {
        Some(ns) => Some(Nanos(ns)),
        None => None,
    }
}

const fn from_bytes(bytes: Option<usize>) -> Value {
    match bytes {
        Some(bytes) => Some(bytes as u64),
        None => None,
    }
}

const fn to_bytes(value: Value) -> Option<usize> {
    match value {
        Some(bytes) => Some(bytes as usize),
        None => None,
    }
}
