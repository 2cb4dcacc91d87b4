//! Where certificates come from: made and renewed by ourselves, or read from files, and what is refused of those.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use edge::Patience;
use edge::proxy::Side;
use edge::tls::{Source, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use time::OffsetDateTime;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::super::stage::{BOUND, DOMAIN, SHA_A, Stage, host};
use super::{NOWHERE, Own, shake, trusting};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The first certificate that an edge shows.
async fn shown(stage: &Stage, authority: &std::path::Path) -> CertificateDer<'static> {
    let stream = shake(stage.address, &host(SHA_A), &trusting(authority)).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn the_authority_is_kept_and_its_key_is_nobodys() {
    let own = Own::new();
    assert!(!own.open().is_public());
    let first = fs::read(own.published()).unwrap();
    assert_eq!((mode(&own.authority()), mode(&own.published())), (0o600, 0o644));
    assert!(!String::from_utf8_lossy(&first).contains("KEY"), "the key is not published");
    own.open();
    assert_eq!(fs::read(own.published()).unwrap(), first, "whoever trusted it goes on trusting it");

    fs::set_permissions(own.authority(), fs::Permissions::from_mode(0o640)).unwrap();
    let error = Tls::open(own.source(), DOMAIN, SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("authority.pem") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(own.authority(), fs::Permissions::from_mode(0o600)).unwrap();

    Tls::open(own.source(), "other.test", SystemTime::now()).unwrap();
    assert_ne!(fs::read(own.published()).unwrap(), first, "it is for one domain only");
}

#[tokio::test]
async fn our_own_certificate_is_renewed_before_its_end_and_the_authority_too() {
    let (own, now) = (Own::new(), SystemTime::now());
    let tls = Tls::open(own.source(), DOMAIN, now - 61 * DAY).unwrap();
    let stage = Stage::secured([], Side::Outer, Some(tls.clone()), Patience::default(), NOWHERE).await;
    let first = shown(&stage, &own.published()).await;
    let authority = fs::read(own.published()).unwrap();
    assert!(!tls.look(now - 2 * DAY, false), "not before two thirds of its time");
    assert!(tls.look(now, false));
    assert!(!tls.look(now + DAY, false), "and then it is fresh");
    assert_ne!(shown(&stage, &own.published()).await, first);
    assert_eq!(fs::read(own.published()).unwrap(), authority);

    let old = Own::new();
    let tls = Tls::open(old.source(), DOMAIN, now - 3600 * DAY).unwrap();
    let authority = fs::read(old.published()).unwrap();
    assert!(tls.look(now, false));
    assert_ne!(fs::read(old.published()).unwrap(), authority, "what it signs must not outlive it");
}

/// Whoever trusts the authority trusts it for the domain only, even if its key is stolen.
#[tokio::test]
async fn the_authority_is_no_authority_for_other_domains() {
    let (own, other) = (Own::new(), "bank.test");
    own.open();
    let kept = fs::read_to_string(own.authority()).unwrap();
    let at = kept.find("-----BEGIN PRIVATE").unwrap();
    let issuer = Issuer::from_ca_cert_pem(&kept[..at], KeyPair::from_pem(&kept[at..]).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let forged = CertificateParams::new([other.to_owned(), format!("*.{other}")]).unwrap().signed_by(&key, &issuer);
    let files = Files::new();
    files.write(&forged.unwrap().pem(), &key.serialize_pem());
    let tls = Tls::open(files.source(), other, SystemTime::now()).unwrap();
    let stage = Stage::secured([], Side::Outer, Some(tls), Patience::default(), NOWHERE).await;
    assert!(shake(stage.address, other, &trusting(&own.published())).await.is_err());
}

/// Certificate and key of an operator.
struct Files {
    folder: tempfile::TempDir,
    authority: Issuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Files { folder, authority: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> Source {
        Source::Files { certificate: self.path("cert.pem"), key: self.path("key.pem") }
    }

    /// A certificate and its key, valid for days from then on.
    fn make(&self, names: &[&str], from: SystemTime, days: u32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = OffsetDateTime::from(from);
        params.not_after = OffsetDateTime::from(from + days * DAY);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn good(&self) -> (String, String) {
        self.make(&[DOMAIN, &format!("*.{DOMAIN}")], SystemTime::now() - DAY, 90)
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.path("cert.pem"), certificate).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
        fs::set_permissions(self.path("key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn open(&self) -> Result<Tls, String> {
        Tls::open(self.source(), DOMAIN, SystemTime::now()).map_err(|error| error.to_string())
    }
}

#[test]
fn files_that_will_not_do_say_which_and_why() {
    let files = Files::new();
    let (now, both) = (SystemTime::now(), [DOMAIN, "*.staging.test"]);
    let (certificate, key) = files.good();
    let expired = files.make(&both, now - 100 * DAY, 90);
    let future = files.make(&both, now + 10 * DAY, 90);
    let bare = files.make(&[DOMAIN, "www.staging.test"], now - DAY, 90);
    let wildcard = files.make(&["*.staging.test"], now - DAY, 90);
    let other = files.make(&["example.org"], now - DAY, 90);
    let ended = OffsetDateTime::from(now - 10 * DAY).date().to_string();
    let cases: [(&str, &str, &[&str]); 9] = [
        (&expired.0, &expired.1, &["cert.pem", "expired on", &ended]),
        (&future.0, &future.1, &["cert.pem", "not valid before"]),
        (&bare.0, &bare.1, &["does not cover *.staging.test;", "www.staging.test"]),
        (&wildcard.0, &wildcard.1, &["does not cover staging.test;"]),
        (&other.0, &other.1, &["does not cover staging.test and *.staging.test; it has example.org"]),
        (&certificate, &expired.1, &["key.pem", "not the key"]),
        (&certificate, "hello", &["key.pem", "no key in it"]),
        (&key, &key, &["cert.pem", "no certificate in it"]),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, &["cert.pem", "cannot be read"]),
    ];
    for (certificate, key, says) in cases {
        files.write(certificate, key);
        let error = files.open().expect_err(says[0]);
        for part in says {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(!error.contains('\n'), "{error:?}");
    }
    files.write(&certificate, &key);
    files.open().unwrap();
    fs::set_permissions(files.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = files.open().unwrap_err();
    assert!(error.contains("key.pem") && error.contains("chmod 640"), "{error}");
    fs::remove_file(files.path("key.pem")).unwrap();
    let error = files.open().unwrap_err();
    assert!(error.contains("key.pem") && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn files_that_change_are_read_again_and_bad_ones_change_nothing() {
    let files = Files::new();
    let (certificate, key) = files.good();
    files.write(&certificate, &key);
    let tls = files.open().unwrap();
    let stage = Stage::secured([], Side::Outer, Some(tls.clone()), Patience::default(), NOWHERE).await;
    let first = shown(&stage, &files.path("ca.pem")).await;
    assert!(!tls.look(SystemTime::now(), false), "nothing has changed");

    let base = SystemTime::now();
    let touch = |seconds: u64| {
        for name in ["cert.pem", "key.pem"] {
            let file = fs::File::options().write(true).open(files.path(name)).unwrap();
            file.set_modified(base + Duration::from_secs(seconds)).unwrap();
        }
    };
    files.write("half a certif", &key);
    touch(10);
    assert!(!tls.look(SystemTime::now(), false));
    assert_eq!(shown(&stage, &files.path("ca.pem")).await, first, "the old one is shown on");

    let (certificate, key) = files.good();
    files.write(&certificate, &key);
    touch(20);
    assert!(tls.look(SystemTime::now(), false));
    let second = shown(&stage, &files.path("ca.pem")).await;
    assert_ne!(second, first);

    // Without waiting for the next look, and whatever the time of the files says.
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(tls.clone().keep(stop.clone()));
    let (certificate, key) = files.good();
    files.write(&certificate, &key);
    touch(20);
    tls.reload();
    let changed = async {
        while shown(&stage, &files.path("ca.pem")).await == second {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, changed).await.expect("it is not read again");
    stop.cancel();
    keeper.await.unwrap();
}
