//! TLS to a server of the operator's, as its URL asks for it: what sqlx does for our own connections, for those that are
//! passed through.

use std::path::Path;
use std::sync::Arc;

use sqlx::postgres::PgSslMode;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// What encrypts in this mode; none where it is not asked for. `root`: a file of authorities beside the machine's own.
///
/// # Errors
/// One line: the file cannot be used.
pub(super) fn connector(mode: PgSslMode, root: Option<&Path>) -> Result<Option<TlsConnector>, String> {
    let names = match mode {
        PgSslMode::Disable | PgSslMode::Allow => return Ok(None),
        PgSslMode::Prefer | PgSslMode::Require => None,
        PgSslMode::VerifyCa => Some(false),
        PgSslMode::VerifyFull => Some(true),
    };
    let provider = Arc::new(ring::default_provider());
    let chain = match names {
        Some(name) => {
            let roots = Arc::new(authorities(root)?);
            let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Some((built.map_err(|error| error.to_string())?, name))
        }
        None => None,
    };
    let verifier = Arc::new(Verifier { provider: provider.clone(), chain });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn authorities(root: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(path) = root else { return Ok(store) };
    let failed = |why: String| format!("sslrootcert {}: {why}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        store.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    Ok(store)
}

/// Looks at the server's certificate as far as the mode says: at all, and at its name.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    chain: Option<(Arc<WebPkiServerVerifier>, bool)>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((chain, names)) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !names => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
