//! What a certificate is worth: which names it covers, until when, and whether the public trusts it.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::provider;

/// The first and the last moment of a certificate; none if it is none.
pub(super) fn term(certificate: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some((parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime()))
}

/// Which of the domain and its wildcard the certificate does not cover.
pub(super) fn missing(certificate: &CertificateDer<'_>, domain: &str) -> Vec<String> {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return vec![domain.to_owned()] };
    let covers = |host: String| ServerName::try_from(host).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok());
    // Whatever covers the host of any commit is a wildcard.
    let wanted = [(domain.to_owned(), domain.to_owned()), (format!("*.{domain}"), any_below(domain))];
    wanted.into_iter().filter(|(_, probe)| !covers(probe.clone())).map(|(name, _)| name).collect()
}

/// A host that no certificate names.
fn any_below(domain: &str) -> String {
    format!("{}.{domain}", "0".repeat(40))
}

/// The names that stand in the certificate, for a person.
pub(super) fn names(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return "no name at all".to_owned() };
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let all = alternative.iter().flat_map(|found| &found.value.general_names);
    let names: Vec<&str> =
        all.filter_map(|name| if let GeneralName::DNSName(dns) = name { Some(*dns) } else { None }).collect();
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

/// Whether browsers and containers trust it as they come: by Mozilla's list of authorities, which nearly all use.
pub(super) fn is_public(chain: &[CertificateDer<'_>], domain: &str, now: OffsetDateTime) -> bool {
    verifies(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }, chain, domain, now)
}

/// Whether a client that trusts these authorities takes the chain for a host below the domain, and for the domain.
pub(super) fn verifies(roots: RootCertStore, chain: &[CertificateDer<'_>], domain: &str, now: OffsetDateTime) -> bool {
    let Some((certificate, between)) = chain.split_first() else { return false };
    let Ok(since) = u64::try_from(now.unix_timestamp()) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(since));
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build() else {
        return false;
    };
    [domain.to_owned(), any_below(domain)].into_iter().all(|host| {
        let name = ServerName::try_from(host);
        name.is_ok_and(|name| verifier.verify_server_cert(certificate, between, &name, &[], now).is_ok())
    })
}
