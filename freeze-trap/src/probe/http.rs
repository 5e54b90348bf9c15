//! Whether an HTTP server answers GET with a good status, in time. Each request has a connection of its own, follows no
//! redirection, and goes through no proxy: the service itself is asked.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration as Bound;
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error};

use super::step::{Progress, Step};
use super::{Ask, Failure, Probe};

/// How much of a body is read: a health check that is longer is no health check.
const BODY_BYTES: u64 = 64 << 10;

/// Buffers of a connection.
const BUFFER_BYTES: usize = 16 << 10;

/// Such a probe.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    url: String,
    status: RangeInclusive<u16>,
}

/// Looks names up on the thread that asks. The usual resolver starts a thread each time, and leaves it behind if it
/// hangs.
#[derive(Debug)]
struct OnThisThread {
    resolver: DefaultResolver,
    progress: Arc<Progress>,
}

impl Resolver for OnThisThread {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &Config,
        mut timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        self.progress.set(Step::Lookup);
        timeout.after = Bound::NotHappening;
        self.resolver.resolve(uri, config, timeout)
    }
}

/// Says what comes next, between two connectors.
#[derive(Debug)]
struct Next(Arc<Progress>, Step);

impl<In: Transport> Connector<In> for Next {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<In>, Error> {
        // To look up the name may have taken all of the time; the connectors would still take a second.
        if details.timeout.after.is_zero() {
            return Err(Error::Timeout(details.timeout.reason));
        }
        self.0.set(self.1);
        Ok(chained)
    }
}

impl Http {
    /// Leaves word of its steps at `progress`.
    pub(super) fn new(
        url: String,
        status: RangeInclusive<u16>,
        insecure: bool,
        within: Duration,
        progress: &Arc<Progress>,
    ) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).disable_verification(insecure).build();
        let config = Agent::config_builder()
            .timeout_global(Some(within))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("freeze-trap/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(0)
            .tls_config(tls)
            .build();
        let next = |step| Next(Arc::clone(progress), step);
        // A request is short: to send it takes no time, wherever it goes.
        let connector = next(Step::Connect)
            .chain(TcpConnector::default())
            .chain(next(Step::Handshake))
            .chain(RustlsConnector::default())
            .chain(next(Step::Answer));
        let resolver = OnThisThread { resolver: DefaultResolver::default(), progress: Arc::clone(progress) };
        let agent = Agent::with_parts(config, connector, resolver);
        Http { agent, url, status }
    }
}

impl Probe for Http {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        let failed = |error: Error| match error {
            Error::Timeout(_) => ask.late(),
            other => other.to_string().into(),
        };
        let mut response = self.agent.get(&self.url).call().map_err(failed)?;
        ask.progress.set(Step::Body);
        let status = response.status().as_u16();
        let mut body = response.body_mut().as_reader().take(BODY_BYTES);
        io::copy(&mut body, &mut io::sink()).map_err(|error| failed(Error::from(error)))?;
        if self.status.contains(&status) { Ok(()) } else { Err(format!("status {status}").into()) }
    }
}
