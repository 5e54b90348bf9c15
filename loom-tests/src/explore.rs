//! Runs models, and makes sure that mutants fail them.

use std::cell::Cell;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Once};
use std::thread;

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

/// Tells a process that it has one test to run, on one thread.
const ALONE: &str = "LOOM_TESTS_ALONE";

/// Runs the test that calls this in a process of its own, where `body` is all that happens. For every thread of every
/// interleaving loom maps a stack and unmaps it, which interrupts the processors of all other threads of a process:
/// tests side by side in one take more than twice as long.
pub(crate) fn alone(body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return body();
    }
    // The name of the thread is that of its test, or `main` where there is one thread for all.
    let thread = thread::current();
    let Some(test) = thread.name().filter(|name| *name != "main") else { return body() };
    let program = env::current_exe().expect("the kernel knows what it runs");
    let run = Command::new(program).args(["--exact", test, "--test-threads=1"]).env(ALONE, "").output();
    let output = run.expect("a program that runs can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let has_passed = output.status.success() && said.contains("test result: ok. 1 passed");
    assert!(has_passed, "{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Runs `model` in every interleaving.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    alone(|| loom::model::Builder::new().check(model));
}

/// Runs `model` in every interleaving in which at most `preemptions` times a thread is stopped that could go on.
pub(crate) fn explore_bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    alone(|| {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    });
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
    alone(|| {
        let Some(message) = panic_of(model) else { panic!("the model passes over the mutant") };
        assert!(!message.contains(ENDLESS), "the model does not end over the mutant, which shows no fault of its own");
    });
}

/// Runs `model` over a mutant and makes sure that it does not end.
pub(crate) fn assert_endless(model: fn()) {
    alone(|| {
        let Some(message) = panic_of(model) else { panic!("the model passes over the mutant") };
        assert!(message.contains(ENDLESS), "the mutant fails otherwise: {message}");
    });
}
