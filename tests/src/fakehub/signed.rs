//! The App's key, and what it signs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

/// A fresh private key as PEM, and its public half as PKCS#1.
pub(crate) fn key() -> (String, Vec<u8>) {
    let openssl = |arguments: &[&str], input: &[u8]| {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = openssl.spawn().expect("no openssl: install the package openssl");
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        let output = child.wait_with_output().expect("openssl ends");
        assert!(output.status.success(), "openssl {arguments:?}");
        output.stdout
    };
    let private = openssl(&["genrsa", "2048"], b"");
    let public = openssl(&["rsa", "-RSAPublicKey_out", "-outform", "DER"], &private);
    (String::from_utf8(private).expect("PEM is text"), public)
}

/// What the App states of itself, if the signature is right and the time is now.
pub(super) fn statement(token: &str, public: &[u8], now: i64) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    key.verify(signed.as_bytes(), &signature).ok()?;
    let (_, claims) = signed.split_once('.')?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let (from, until) = (claims["iat"].as_i64()?, claims["exp"].as_i64()?);
    (from <= now + 5 && now < until && until - from <= 660).then_some(claims)
}
