//! As `grow.c`, in Rust; the memory goes by way of the allocator.

use std::hint::black_box;
use std::io::stdin;

const BYTES: usize = 256 << 20;

mod index {
    #[inline(never)]
    pub fn grow() {
        let mut pages = vec![0_u8; super::BYTES];
        pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        drop(super::black_box(pages));
    }
}

#[inline(never)]
fn serve(number: u32) {
    let text = format!("request {number}");
    index::grow();
    black_box(text);
}

fn main() {
    println!("ready");
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    for number in 0..3 {
        serve(number);
    }
    println!("done");
    stdin().read_line(&mut line).unwrap();
}
