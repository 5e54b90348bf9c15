//! Little servers, on threads that end with the test's process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A server that does the same with every connection.
pub fn serve(act: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = act.clone();
            thread::spawn(move || act(stream));
        }
    });
    address
}

/// Reads a request up to its empty line, and gives its first line.
pub fn request(stream: &mut impl Read) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").to_owned()
}

/// A server that accepts and says nothing until the other side has gone.
pub fn silent() -> String {
    serve(|mut stream| while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {})
}

/// A server whose answer has a head at once, and then a byte now and then, without end.
pub fn trickling() -> String {
    serve(|mut stream| {
        request(&mut stream);
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        while sent.is_ok() {
            thread::sleep(Duration::from_millis(10));
            sent = stream.write_all(b".");
        }
    })
}
