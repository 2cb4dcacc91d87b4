//! The local authority, and the certificates that it signs. Only the authority is kept: its certificate is what people
//! trust, so it stays for as long as it can. What it signs lives in memory and is made anew at each start.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use tempfile::NamedTempFile;
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{Current, Unusable, judge, provider};

/// How long the authority lives, and what it signs: less than what some systems take from authorities of one's own (825 days).
const AUTHORITY: Duration = Duration::days(3650);
const SIGNED: Duration = Duration::days(90);

/// What is signed is renewed when less than this is left of it.
const RENEW: Duration = Duration::days(30);

/// Clocks of clients may be behind ours.
const SKEW: Duration = Duration::days(1);

/// The authority as it is kept.
struct Authority {
    certificate: String,
    key: String,
}

pub(super) fn is_due(ends: OffsetDateTime, now: OffsetDateTime) -> bool {
    ends - now < RENEW
}

/// A certificate of the authority at `path`. One that is absent, about to end, or made for another domain is replaced.
///
/// # Errors
/// When it cannot be read or written, or its key may be read by others.
pub(super) fn obtain(path: &Path, published: &Path, domain: &str, now: OffsetDateTime) -> Result<Current, Unusable> {
    let kept = read(path)?;
    let signed = kept.as_ref().and_then(|authority| sign(authority, domain, now).ok()?);
    let (authority, signed) = match (kept, signed) {
        (Some(authority), Some(signed)) => (authority, signed),
        (kept, _) => {
            if kept.is_some() {
                tracing::warn!(file = %published.display(), "a new authority is made; the old one is not valid for {domain}");
            }
            let failed = |error: rcgen::Error| Unusable(format!("a certificate for {domain} cannot be made: {error}"));
            let fresh = make(domain, now).map_err(failed)?;
            write(path, &format!("{}{}", fresh.certificate, fresh.key), 0o600)?;
            let signed = sign(&fresh, domain, now).map_err(failed)?;
            let odd = || Unusable(format!("a certificate for {domain} does not hold against its own authority"));
            (fresh, signed.ok_or_else(odd)?)
        }
    };
    write(published, &authority.certificate, 0o644)?;
    Ok(signed)
}

fn make(domain: &str, now: OffsetDateTime) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("Sidestage for {domain}, {}", now.date()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Whoever trusts it trusts it for this domain, and for nothing else in the world.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ],
    });
    (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY);
    let key = KeyPair::generate()?;
    Ok(Authority { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// A certificate for the domain and its wildcard. None if clients that trust the authority would refuse it.
fn sign(authority: &Authority, domain: &str, now: OffsetDateTime) -> Result<Option<Current>, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let mut params = CertificateParams::new([domain.to_owned(), format!("*.{domain}")])?;
    params.distinguished_name.push(DnType::CommonName, domain);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let ends = now + SIGNED;
    (params.not_before, params.not_after) = (now - SKEW, ends);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.der().clone();

    let Ok(anchor) = CertificateDer::from_pem_slice(authority.certificate.as_bytes()) else { return Ok(None) };
    let lasts = judge::term(&anchor).is_some_and(|(_, last)| last >= ends);
    let mut roots = RootCertStore::empty();
    let chain = vec![certificate, anchor.clone()];
    if !lasts || roots.add(anchor).is_err() || !judge::verifies(roots, &chain, domain, now) {
        return Ok(None);
    }
    let Ok(secret) = PrivateKeyDer::try_from(key.serialize_der()) else { return Ok(None) };
    let certified = CertifiedKey::from_der(chain, secret, &provider());
    Ok(certified.ok().map(|key| Current { key: Arc::new(key), ends, public: false }))
}

/// None if there is no file, or if what is in it is not whole.
fn read(path: &Path) -> Result<Option<Authority>, Unusable> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::at(path, format!("the authority cannot be read: {error}"))),
    };
    let mode = fs::metadata(path).map_err(|error| Unusable::at(path, error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Unusable::at(path, "the authority's key may be read by others: chmod 600 it"));
    }
    let at = text.find("-----BEGIN PRIVATE KEY-----");
    Ok(at.map(|at| Authority { certificate: text[..at].to_owned(), key: text[at..].to_owned() }))
}

/// Whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Unusable> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = NamedTempFile::new_in(folder).and_then(|mut draft| {
        draft.write_all(text.as_bytes())?;
        draft.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        draft.as_file().sync_all()?;
        draft.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(|error| Unusable::at(path, format!("cannot be written: {error}")))
}
