//! Runs models, and makes sure that mutants fail them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;

/// Memory that one thread at a time may touch, as blocks, slices and owner-only fields are. Two touches of which one
/// writes and that no synchronisation orders end the model, whatever their values are.
#[derive(Debug)]
pub(crate) struct Memory<T>(UnsafeCell<T>);

// SAFETY: loom ends the model before the second of two unordered touches is made.
unsafe impl<T: Send> Sync for Memory<T> {}

impl<T: Copy> Memory<T> {
    pub(crate) fn new(value: T) -> Self {
        Memory(UnsafeCell::new(value))
    }

    pub(crate) fn get(&self) -> T {
        // SAFETY: loom has made sure that no other thread writes meanwhile.
        self.0.with(|value| unsafe { *value })
    }

    pub(crate) fn set(&self, value: T) {
        // SAFETY: loom has made sure that no other thread touches it meanwhile.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}

/// Runs `model` in every interleaving.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    loom::model::Builder::new().check(model);
}

/// Runs `model` in every interleaving in which at most `preemptions` times a thread is stopped that could go on.
pub(crate) fn explore_bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Starts a thread of the model.
pub(crate) fn spawn<S, T>(shared: &Arc<S>, body: impl FnOnce(&S) -> T + 'static) -> JoinHandle<T>
where
    S: 'static,
    T: 'static,
{
    // Not loom's `Arc`, whose counts would be worth interleavings of their own.
    let shared = shared.clone();
    loom::thread::spawn(move || body(&shared))
}

/// Waits for threads of the model.
pub(crate) fn join<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().unwrap())
}

thread_local! {
    /// Whether panics of this thread are expected, and not worth a message.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What the panic of `model` says, without a word on the terminal. `None` if it passes.
fn panic_of(model: fn()) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(model));
    QUIET.set(false);
    let payload = outcome.err()?;
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    Some(text.unwrap_or("").to_owned())
}

/// What loom says of an interleaving that does not end.
const ENDLESS: &str = "Model exceeded maximum number of branches";

/// Runs `model` over a mutant and makes sure that an assertion of it fails, or that memory is touched out of order.
pub(crate) fn assert_caught(model: fn()) {
    let Some(message) = panic_of(model) else { panic!("the model passes over the mutant") };
    assert!(!message.contains(ENDLESS), "the model does not end over the mutant, which shows no fault of its own");
}

/// Runs `model` over a mutant and makes sure that it does not end.
pub(crate) fn assert_endless(model: fn()) {
    let Some(message) = panic_of(model) else { panic!("the model passes over the mutant") };
    assert!(message.contains(ENDLESS), "the mutant fails otherwise: {message}");
}
