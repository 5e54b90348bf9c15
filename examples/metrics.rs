//! A small service that answers numbers over TCP, with its statistics for Prometheus beside it:
//!
//! ```sh
//! cargo run --release --example metrics --features metrics-http             # serves for ever
//! cargo run --release --example metrics --features metrics-http -- --once   # asks itself a few things and ends
//! ```
//!
//! The words of each line that a client sends are counted, and a count comes back: `echo one two | nc 127.0.0.1 7878`.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

/// How often each word was seen.
static WORDS: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

fn serve(client: TcpStream) -> io::Result<()> {
    let mut answers = client.try_clone()?;
    for line in BufReader::new(client).lines() {
        let line = line?;
        let mut words = WORDS.lock().expect("no holder panics");
        let words = words.get_or_insert_default();
        for word in line.split_whitespace() {
            *words.entry(word.to_owned()).or_default() += 1;
        }
        writeln!(answers, "{} words known", words.len())?;
    }
    Ok(())
}

/// Accepts clients, each on a thread of its own; what goes wrong with one is that one's.
fn accept(listener: TcpListener) {
    for client in listener.incoming().flatten() {
        thread::spawn(move || serve(client));
    }
}

/// One exchange with an address of ours: sends `request`, reads to the end.
fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn main() -> io::Result<()> {
    // Into the log, once: what holds on this machine, and what does not.
    let mut buffer = vec![0; 8192];
    match antifreeze::explain(&mut buffer) {
        Ok(text) => println!("{text}"),
        Err(small) => println!("explain() takes {} bytes", small.bytes_needed),
    }

    let once = std::env::args().any(|argument| argument == "--once");
    let [words, metrics] = if once { ["127.0.0.1:0"; 2] } else { ["127.0.0.1:7878", "127.0.0.1:9464"] };
    let (words, metrics) = (TcpListener::bind(words)?, TcpListener::bind(metrics)?);
    let addresses = (words.local_addr()?, metrics.local_addr()?);
    println!("words on {}, http://{}/metrics for Prometheus", addresses.0, addresses.1);
    thread::spawn(move || antifreeze::serve_metrics(metrics));
    if !once {
        accept(words);
        return Ok(());
    }
    thread::spawn(move || accept(words));
    print!("{}", ask(addresses.0, "to be or not to be\nto sleep\n")?);
    let exposition = ask(addresses.1, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")?;
    for line in exposition.lines().filter(|line| line.starts_with("antifreeze_write_lock_calls")) {
        println!("{line}");
    }
    Ok(())
}
