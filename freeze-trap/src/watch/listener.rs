//! Answers `GET /metrics` over HTTP, on threads of its own.
//!
//! Invariant: whatever a client sends or leaves out, the trap goes on and the next client is answered.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, Result, anyhow};
use tiny_http::{Header, Method, Request, Response, Server};

use super::metrics::Metrics;

/// Begins to listen, and gives the address.
/// # Errors
/// The address is taken, or may not be used.
pub fn listen(address: SocketAddr, metrics: Metrics) -> Result<SocketAddr> {
    let server = Server::http(address).map_err(|error| anyhow!("--metrics {address}: {error}"))?;
    let own = server.server_addr().to_ip().context("--metrics: no address")?;
    let serve = move || server.incoming_requests().for_each(|request| answer(request, &metrics));
    thread::Builder::new().name("metrics".into()).spawn(serve).context("no thread for metrics")?;
    Ok(own)
}

fn answer(request: Request, metrics: &Metrics) {
    let path = request.url().split('?').next().unwrap_or_default();
    let plain = |text: &str, status: u16| Response::from_string(text).with_status_code(status);
    let response = match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {
            let page = metrics.figures().page();
            let kind = Header::from_bytes("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
            let response = Response::from_string(page);
            kind.map_or_else(|()| plain("", 500), |kind| response.with_header(kind))
        }
        (Method::Get | Method::Head, _) => plain("there is only /metrics\n", 404),
        _ => plain("only GET is answered\n", 405),
    };
    // A client that has left does not need it.
    let _ = request.respond(response);
}
