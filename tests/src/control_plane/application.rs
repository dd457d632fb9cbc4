//! An application as small as can be.

use std::io::{Read, Write};
use std::net::TcpListener;

/// Answers each request with these words, one request on each connection. Gives its port; it ends with the test.
pub fn application(words: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            // A test's request comes in one segment.
            if stream.read(&mut head).is_ok_and(|bytes| bytes > 0) {
                let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
                write!(stream, "{answer}content-length: {}\r\n\r\n{words}", words.len()).ok();
            }
        }
    });
    port
}
