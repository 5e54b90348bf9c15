//! What the shipping files import as `crate::atomic`: loom's atomics in place of the processor's.
//!
//! They are wrapped, because loom 0.7 by itself skips interleavings. It decides which operations to try in another
//! order by the *last* access to an atomic, so that a load by one thread is forgotten when another thread loads, even
//! though a later exchange of that other thread would have to be tried before it. Every retry loop looks like that:
//! load, then exchange. Here each load is preceded by an exchange of a word of its own, Relaxed and without a
//! meaning, which makes loads of different threads count as dependent. It orders nothing that the program could see.

#![allow(dead_code, reason = "offers what the shipping module of this name offers")]

use std::ops::Deref;

pub(crate) use loom::sync::atomic::Ordering;

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name {
            inner: loom::sync::atomic::$name,
            order: loom::sync::atomic::AtomicUsize,
        }

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                let inner = loom::sync::atomic::$name::new(value);
                $name { inner, order: loom::sync::atomic::AtomicUsize::new(0) }
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.order.fetch_add(1, Ordering::Relaxed);
                self.inner.load(order)
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut next: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut value = self.load(fetch);
                while let Some(new) = next(value) {
                    match self.compare_exchange_weak(value, new, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(now) => value = now,
                    }
                }
                Err(value)
            }
        }

        impl Deref for $name {
            type Target = loom::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.inner
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);

/// A thread that waits lets the others run; without this loom would explore endless waiting.
pub(crate) fn spin_loop() {
    loom::thread::yield_now();
}
