//! How visitors reach environments: DNS, TLS, listeners, and the addresses that follow from them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;

use super::Config;
use super::tables::{Dns, Tls};

/// Where TLS ends by ourselves, if nothing else is said.
const HTTPS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);

/// Who certifies what visitors by https meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate<'a> {
    /// A local authority of ours.
    Own,
    /// Whoever the operator went to: certificate and key.
    Files(&'a Path, &'a Path),
}

impl Config {
    pub(super) fn check_front(&self) -> anyhow::Result<()> {
        let front = &self.front;
        if front.dns == Dns::Authoritative && self.listen.dns.is_none() {
            bail!("[front] dns = \"authoritative\" needs an address: set [listen] dns, such as \"203.0.113.7:53\"");
        }
        if front.tls == Tls::Acme {
            bail!(
                "[front] tls = \"acme\": not yet: use \"files\", \"self-signed\", or \"proxy\" with one in front that ends TLS"
            );
        }
        let files = [("cert_file", &front.cert_file), ("key_file", &front.key_file)];
        for (key, file) in files {
            match file {
                None if front.tls == Tls::Files => {
                    bail!("[front] tls = \"files\" needs cert_file and key_file: {key} is missing");
                }
                Some(_) if front.tls != Tls::Files => {
                    bail!("[front] {key} is for tls = \"files\" only: set that, or take {key} out");
                }
                Some(path) if !path.is_absolute() => {
                    bail!("[front] {key}: {} must be an absolute path", path.display());
                }
                _ => {}
            }
        }
        if let Some(address) = self.listen.https
            && self.certificate().is_none()
        {
            bail!(
                "[listen] https = \"{address}\": nobody speaks TLS there: set [front] tls to \"self-signed\" or \"files\", or take https out"
            );
        }
        Ok(())
    }

    /// Where the DNS listens, if it does.
    #[must_use]
    pub fn dns(&self) -> Option<SocketAddr> {
        self.listen.dns.filter(|_| self.front.dns == Dns::Authoritative)
    }

    /// What is shown to visitors by https, where we end TLS ourselves.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate<'_>> {
        match (self.front.tls, &self.front.cert_file, &self.front.key_file) {
            (Tls::SelfSigned, ..) => Some(Certificate::Own),
            (Tls::Files, Some(certificate), Some(key)) => Some(Certificate::Files(certificate, key)),
            _ => None,
        }
    }

    /// Where visitors by https come in, where we end TLS ourselves.
    #[must_use]
    pub fn https(&self) -> Option<SocketAddr> {
        self.certificate().map(|_| self.listen.https.unwrap_or(HTTPS))
    }

    /// `http` or `https`: how visitors reach environments.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.front.tls == Tls::Off { "http" } else { "https" }
    }

    /// The port of visitors' URLs.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self.https() {
            Some(address) => address.port(),
            None if self.front.tls == Tls::Proxy => 443,
            None => self.listen.http.port(),
        }
    }

    /// The port in clear of the inner edge. It is the outer one, so that a name means the same inside and outside; a proxy
    /// in front is taken to listen on 80.
    #[must_use]
    pub fn inner_port(&self) -> u16 {
        if self.front.tls == Tls::Proxy { 80 } else { self.listen.http.port() }
    }

    /// All ports of the inner edge.
    #[must_use]
    pub fn inner_ports(&self) -> BTreeSet<u16> {
        self.https().map(|address| address.port()).into_iter().chain([self.inner_port()]).collect()
    }

    /// The endpoint of the object store for environments: by https only where clients trust the certificate as they come.
    #[must_use]
    pub fn objects_url(&self, public: bool) -> String {
        let (scheme, port, own) = match self.https().filter(|_| public) {
            Some(address) => ("https", address.port(), 443),
            None => ("http", self.inner_port(), 80),
        };
        let port = if port == own { String::new() } else { format!(":{port}") };
        format!("{scheme}://{}{port}", self.domain)
    }
}
