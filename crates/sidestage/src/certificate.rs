//! The certificate of both edges, where we end TLS ourselves.

use std::time::SystemTime;

use anyhow::Context;
use edge::tls::{Source, Tls};
use tracing::info;

use crate::config::{Certificate, Config};
use crate::state_dir::{self, StateDir};

/// Looks at the operator's certificate and key, if the configuration names them.
///
/// # Errors
/// What is wrong with them.
pub fn check(config: &Config) -> anyhow::Result<()> {
    let Some(Certificate::Files(certificate, key)) = config.certificate() else { return Ok(()) };
    read(config, Source::Files { certificate: certificate.to_owned(), key: key.to_owned() }).map(drop)
}

/// Opens it; none where TLS is not ours to end.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open(config: &Config, dir: &StateDir) -> anyhow::Result<Option<Tls>> {
    let source = match config.certificate() {
        None => return Ok(None),
        Some(Certificate::Own) => {
            Source::Own { authority: dir.authority(), published: state_dir::authority_certificate(&config.state_dir) }
        }
        Some(Certificate::Files(certificate, key)) => {
            Source::Files { certificate: certificate.to_owned(), key: key.to_owned() }
        }
    };
    let tls = read(config, source)?;
    if !tls.is_public() {
        let endpoint = config.objects_url(false);
        info!(endpoint, "the certificate is not publicly trusted: environments reach the object store in clear");
    }
    Ok(Some(tls))
}

fn read(config: &Config, source: Source) -> anyhow::Result<Tls> {
    Tls::open(source, &config.domain, SystemTime::now()).context("[front] tls")
}
