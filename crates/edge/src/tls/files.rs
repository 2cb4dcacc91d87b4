//! Certificate and key from files that the operator keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{Current, Source, Unusable, judge, provider};

/// When the files were last written. A link is followed, since that is how some clients of authorities renew.
pub(super) type Stamp = [Option<SystemTime>; 2];

/// The stamp of now; none where nothing is read from files.
pub(super) fn stamp(source: &Source) -> Option<Stamp> {
    let Source::Files { certificate, key } = source else { return None };
    Some([certificate, key].map(|path| fs::metadata(path).and_then(|found| found.modified()).ok()))
}

/// # Errors
/// The first thing that is wrong with them.
pub(super) fn obtain(certificate: &Path, key: &Path, domain: &str, now: OffsetDateTime) -> Result<Current, Unusable> {
    let chain = chain(certificate)?;
    let wrong = |what: String| Unusable::at(certificate, what);
    let first = chain.first().ok_or_else(|| wrong("there is no certificate in it".to_owned()))?;
    let (begins, ends) =
        judge::term(first).ok_or_else(|| wrong("the first certificate in it cannot be read".to_owned()))?;
    if ends <= now {
        return Err(wrong(format!("the certificate expired on {}; renew it", ends.date())));
    }
    if begins > now {
        return Err(wrong(format!("the certificate is not valid before {}; check the clock", begins.date())));
    }
    let missing = judge::missing(first, domain);
    if !missing.is_empty() {
        let (missing, names) = (missing.join(" and "), judge::names(first));
        return Err(wrong(format!(
            "the certificate does not cover {missing}; it has {names}. It must cover {domain} and *.{domain}"
        )));
    }
    let public = judge::is_public(&chain, domain, now);
    let secret = secret(key)?;
    let certified = CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            Unusable::at(key, format!("this is not the key of the first certificate in {}", certificate.display()))
        }
        error => Unusable::at(key, format!("the key cannot be used: {error}")),
    })?;
    Ok(Current { key: Arc::new(certified), ends, public })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    all.map_err(|error| unreadable(path, error, "certificate"))
}

fn secret(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, error, "key"))?;
    let found = fs::metadata(path).map_err(|error| Unusable::at(path, error))?;
    if found.permissions().mode() & 0o007 != 0 {
        return Err(Unusable::at(path, "the key is open to everybody on this machine: chmod 640 it"));
    }
    Ok(key)
}

fn unreadable(path: &Path, error: pem::Error, what: &str) -> Unusable {
    match error {
        pem::Error::Io(error) => Unusable::at(path, format!("the {what} cannot be read: {error}")),
        pem::Error::NoItemsFound => Unusable::at(path, format!("there is no {what} in it")),
        error => Unusable::at(path, format!("this is no {what} in PEM form: {error}")),
    }
}
