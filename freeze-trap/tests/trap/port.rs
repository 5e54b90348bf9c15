//! Ports for servers that are started later, or never.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives out by itself, which others could take in the meantime.
const FIRST: u16 = 16_384;
const COUNT: u16 = 16_384;

/// A port of this machine that nobody listens at, and that no other test of this program gets.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs that run at once begin at different places.
    let first = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    loop {
        // Relaxed: a number alone, which hands nothing over.
        let port = FIRST + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
