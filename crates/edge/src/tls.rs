//! TLS of both edges: one certificate for the domain and everything one label below it, from files or of our own making.
//!
//! | file | what lives there |
//! |---|---|
//! | `own` | the local authority, and the certificates that it signs |
//! | `files` | certificate and key as the operator keeps them |
//! | `judge` | which names a certificate covers, until when, and whether the public trusts it |

mod files;
mod judge;
mod own;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use time::{Date, OffsetDateTime};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether files have changed and whether our own certificate is due for renewal.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A certificate that ends within this is worth a warning, once a day.
const SOON: time::Duration = time::Duration::days(14);

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A local authority of ours signs it.
    Own {
        /// Certificate and key of the authority, mode 0600; made when absent.
        authority: PathBuf,
        /// Where a copy of the authority's certificate is put for people to trust it, readable by all.
        published: PathBuf,
    },
    /// The operator brings it.
    Files {
        /// PEM: the certificate, then those between it and its authority.
        certificate: PathBuf,
        /// PEM: its key, not readable by everybody.
        key: PathBuf,
    },
}

/// Why there is no usable certificate: one line, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Unusable {
    fn at(path: &Path, what: impl fmt::Display) -> Self {
        Unusable(format!("{}: {what}", path.display()))
    }
}

/// The certificate of now, and what is known about it.
struct Current {
    key: Arc<CertifiedKey>,
    ends: OffsetDateTime,
    public: bool,
}

/// Ends TLS with the certificate of now. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    domain: String,
    source: Source,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
    known: Mutex<Known>,
    public: AtomicBool,
    again: Notify,
}

/// What the next look compares with.
struct Known {
    ends: OffsetDateTime,
    stamp: Option<files::Stamp>,
    warned: Option<Date>,
}

/// What a handshake shows, whatever name it asks for: there is one certificate for all names.
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("source", &self.inner.source).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads or makes the certificate for `domain` and `*.<domain>`.
    ///
    /// # Errors
    /// What is missing, unreadable, expired, or does not cover the domain.
    pub fn open(source: Source, domain: &str, now: SystemTime) -> Result<Tls, Unusable> {
        let now = OffsetDateTime::from(now);
        let stamp = files::stamp(&source);
        let current = obtain(&source, domain, now)?;
        let shown = Arc::new(Shown(ArcSwap::new(current.key)));
        let config = config(Arc::clone(&shown)).map_err(|error| Unusable(format!("TLS cannot be set up: {error}")))?;
        let known = Mutex::new(Known { ends: current.ends, stamp, warned: None });
        let (domain, public, again) = (domain.to_owned(), AtomicBool::new(current.public), Notify::new());
        let tls = Tls { inner: Arc::new(Inner { domain, source, shown, config, known, public, again }) };
        tls.warn(now);
        Ok(tls)
    }

    /// Whether clients trust the certificate as they come, without being told of an authority.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.inner.public.load(Ordering::Relaxed)
    }

    /// The authority's certificate that people have to trust, if it is ours.
    #[must_use]
    pub fn published(&self) -> Option<&Path> {
        match &self.inner.source {
            Source::Own { published, .. } => Some(published),
            Source::Files { .. } => None,
        }
    }

    /// Has the files read again now, changed or not.
    pub fn reload(&self) {
        self.inner.again.notify_one();
    }

    /// Keeps the certificate fresh: files that change are read again, our own is made anew before its end.
    pub async fn keep(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            let force = tokio::select! {
                _ = ticks.tick() => false,
                () = self.inner.again.notified() => true,
                () = shutdown.cancelled() => return,
            };
            self.look(SystemTime::now(), force);
        }
    }

    /// One look at this time: true if another certificate is shown from now on. One that cannot be used changes nothing.
    pub fn look(&self, now: SystemTime, force: bool) -> bool {
        let now = OffsetDateTime::from(now);
        self.warn(now);
        let stamp = files::stamp(&self.inner.source);
        {
            let mut known = self.known();
            let due = match self.inner.source {
                Source::Own { .. } => own::is_due(known.ends, now),
                Source::Files { .. } => force || stamp != known.stamp,
            };
            if !due {
                return false;
            }
            known.stamp = stamp;
        }
        match obtain(&self.inner.source, &self.inner.domain, now) {
            Ok(current) => {
                tracing::info!(ends = %current.ends.date(), "another certificate is shown from now on");
                self.known().ends = current.ends;
                self.inner.public.store(current.public, Ordering::Relaxed);
                self.inner.shown.0.store(current.key);
                true
            }
            Err(unusable) => {
                tracing::warn!(%unusable, "the certificate could not be renewed; the one of before is shown on");
                false
            }
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.inner.config).into()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once a day that the operator's certificate is about to end.
    fn warn(&self, now: OffsetDateTime) {
        let mut known = self.known();
        let Source::Files { certificate, .. } = &self.inner.source else { return };
        if known.ends - now < SOON && known.warned != Some(now.date()) {
            known.warned = Some(now.date());
            let (file, ends) = (certificate.display(), known.ends.date());
            tracing::warn!(%file, %ends, "the certificate ends soon; renew the file");
        }
    }
}

fn obtain(source: &Source, domain: &str, now: OffsetDateTime) -> Result<Current, Unusable> {
    match source {
        Source::Own { authority, published } => own::obtain(authority, published, domain, now),
        Source::Files { certificate, key } => files::obtain(certificate, key, domain, now),
    }
}

/// HTTP/1.1 only: what an environment's WebSockets need, and what its application is spoken to in.
fn config(shown: Arc<Shown>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = versions.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// The one provider of cryptography, named wherever it is needed: nothing depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
