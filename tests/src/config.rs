//! The configuration: the documented example is the truth, and every mistake has its line.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sidestage::config::{Config, read_password, read_secrets};

const EXAMPLE: &str = include_str!("../../deploy/sidestage.example.toml");

#[test]
fn the_example_parses_and_shows_the_defaults() {
    let shown = Config::parse(EXAMPLE).expect("the example is valid").policy();
    let bare = "domain = \"staging.example.org\"\n[[project]]\nname = \"shop\"\ngit = \"/srv/git/shop.git\"\n";
    let mut defaults = Config::parse(bare).expect("domain and project are enough").policy();
    defaults.addresses = shown.addresses.clone();
    assert_eq!(shown, defaults);
}

/// The error of the example with one line put in after `anchor`.
fn error_with(anchor: &str, line: &str) -> String {
    assert!(EXAMPLE.contains(anchor), "{anchor}");
    let text = EXAMPLE.replacen(anchor, &format!("{anchor}\n{line}\n"), 1);
    format!("{:#}", Config::parse(&text).expect_err(line))
}

#[test]
fn mistakes_name_line_and_key() {
    for (anchor, line, expected) in [
        ("[limits]", "enviroments = 3", "unknown field `enviroments`"),
        ("[engine]", "foreign = {}", "not yet"),
        ("[[project]]", "egress = [\"pypi.org\"]", "not yet"),
    ] {
        let error = error_with(anchor, line);
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("line ") && !error.contains('\n'), "{error}");
    }
    let error = error_with("[[project]]", "wait_for = [\"ci\"]");
    assert!(error.contains("shop: wait_for is for repositories on GitHub"), "{error}");
}

#[test]
fn values_out_of_range_say_what_is_allowed() {
    for (from, to, expected) in [
        ("domain = \"staging.example.org\"", "domain = \"Staging\"", "domain name in lower case"),
        ("keep = 2", "keep = 0", "keep must be at least 1"),
        ("keep = 2", "wait_for = [\"ci\"]", "for repositories on GitHub"),
        ("keep = 2", "github = \"acme/shop\"", "git or github, not both"),
        ("git = \"/srv/git/shop.git\"", "github = \"shop\"", "must be \"owner/name\""),
        ("git = \"/srv/git/shop.git\"", "github = \"../x/y\"", "must be \"owner/name\""),
        ("git = \"/srv/git/shop.git\"", "github = \"a/b\"\napprovers = \"team:x\"", "team:ORGANISATION/TEAM"),
        ("#url = \"https://github.com\"", "url = \"http://github.example.org\"", "must be https://"),
        ("#app_id = 1234", "app_id = 1234", "app_id needs private_key_file"),
        ("git = \"/srv/git/shop.git\"", "git = \"shop.git\"", "absolute path"),
        ("memory = \"512m\"", "memory = \"lots\"", "memory"),
        ("idle = \"15m\"", "idle = 15", "idle"),
        ("dns = \"off\"", "dns = \"authoritative\"", "set [listen] dns"),
        ("access = \"members\"", "access = \"link\"", "not yet"),
        ("stage = \"on request\"", "stage = \"always\"", "on request"),
        ("pids = 256", "pids = 2", "pids must be at least 16"),
        ("connections = 20", "connections = 0", "connections at least 1"),
        ("disk = \"2g\"", "disk = \"2\"", "disk"),
        ("image_wait = \"30m\"", "image_wait = \"long\"", "image_wait"),
        ("submodules = false", "submodule = true", "unknown field"),
        ("[database]", "[database]\nurl = \"postgres://a@db/x\"\nbin_dir = \"/x\"", "take out bin_dir, or url"),
        ("[database]", "[database]\nurl = \"postgres://a@db/x\"\nstorage = \"/x\"", "take out storage, or url"),
        ("[database]", "[database]\nurl = \"postgres://a@db/x\"\ndurable = true", "take out durable, or url"),
        ("[database]", "[database]\nurl = \"postgres://a:p@db/x\"", "name it in password_file"),
        ("[database]", "[database]\nurl = \"mysql://a@db/x\"", "must look like"),
        ("[database]", "[database]\npassword_file = \"/x\"", "name that in url"),
        ("[database]", "[database]\nurl = \"postgres://a@db/x\"\npassword_file = \"x\"", "an absolute path"),
        (
            "#secrets = \"/etc/sidestage/shop.env\"",
            "secrets = \"shop.env\"",
            "secrets = \"shop.env\" must be an absolute path",
        ),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = format!("{:#}", Config::parse(&EXAMPLE.replacen(from, to, 1)).expect_err(to));
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn two_projects_with_one_suffix_collide() {
    let twice = format!("{EXAMPLE}\n[[project]]\nname = \"other\"\ngit = \"/srv/git/other.git\"\n");
    let error = format!("{:#}", Config::parse(&twice).expect_err("same suffix"));
    assert!(error.contains("shop") && error.contains("same suffix"), "{error}");
}

#[test]
fn registries_are_hosts_with_an_account_each() {
    let table = |host: &str, file: &str| {
        let text = format!("{EXAMPLE}\n[[registry]]\nhost = \"{host}\"\nuser = \"bot\"\npassword_file = \"{file}\"\n");
        (text.clone(), Config::parse(&text).map_err(|error| format!("{error:#}")))
    };
    let (text, config) = table("ghcr.io", "/etc/ghcr");
    assert_eq!(config.unwrap().registry[0].user, "bot");
    let refused = |host: &str, file: &str| table(host, file).1.unwrap_err();
    assert!(refused("https://ghcr.io", "/etc/ghcr").contains("without scheme"));
    assert!(refused("ghcr.io", "ghcr").contains("password_file must be an absolute path"));
    let twice = format!("{text}{}", &text[EXAMPLE.len()..]);
    assert!(format!("{:#}", Config::parse(&twice).unwrap_err()).contains("ghcr.io: the host stands twice"));
}

/// A file with this content and mode, read by `read`.
fn with_file<T>(content: &str, mode: u32, read: impl Fn(&std::path::Path) -> anyhow::Result<T>) -> Result<T, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.env");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    read(&path).map_err(|error| format!("{error:#}").replace(&path.display().to_string(), "FILE"))
}

#[test]
fn a_file_of_secrets_is_read_line_by_line() {
    let text = "# dummies\n\nA=b=c # not a comment\r\nNPM_TOKEN=\"quoted\"\n";
    let secrets = with_file(text, 0o600, read_secrets).unwrap();
    assert_eq!(
        secrets.into_iter().collect::<Vec<_>>(),
        [("A".to_owned(), "b=c # not a comment".to_owned()), ("NPM_TOKEN".to_owned(), "\"quoted\"".to_owned()),]
    );
}

#[test]
fn a_file_of_secrets_that_others_can_read_is_refused_with_the_line_to_type() {
    for mode in [0o644, 0o640, 0o604] {
        let why = with_file("A=b", mode, read_secrets).unwrap_err();
        let mode = format!("{mode:04o}");
        assert_eq!(why, format!("FILE has mode {mode}, so others can read the secrets in it: chmod 0600 FILE"));
        assert!(with_file("b", 0o644, read_password).unwrap_err().contains("chmod 0600 FILE"));
    }
    assert_eq!(with_file("hunter2\n", 0o400, read_password).unwrap(), "hunter2");
    assert!(with_file("\n", 0o600, read_password).unwrap_err().contains("is empty"));
}

#[test]
fn what_is_wrong_in_a_file_of_secrets_has_its_line_and_shows_nothing_of_it() {
    for (text, expected) in [
        ("A=b\n-----BEGIN", "FILE line 2: write NAME=value"),
        ("export CANARY=x", "FILE line 1: what stands before `=` is no name of a secret"),
        ("9CANARY==", "FILE line 1: what stands before `=` is no name of a secret"),
        ("\nCANARY=", "FILE line 2: behind `=` is no value"),
        ("STAGING_CANARY=x", "FILE line 1: what stands before `=` is given by Sidestage"),
        ("CANARY=x\nCANARY=y", "FILE line 2: this secret is there already"),
    ] {
        let why = with_file(text, 0o600, read_secrets).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
        assert!(!why.contains("CANARY") && !why.contains('\n'), "{why}");
    }
}

/// The example with these lines in its tables `listen` and `front`.
fn fronted(listen: &str, front: &str) -> anyhow::Result<Config> {
    let text = EXAMPLE.replacen("tls = \"off\"", front, 1).replacen("[listen]", &format!("[listen]\n{listen}\n#"), 1);
    Config::parse(&text)
}

#[test]
fn who_ends_tls_decides_scheme_ports_and_the_endpoint_of_objects() {
    let files = "tls = \"files\"\ncert_file = \"/etc/c.pem\"\nkey_file = \"/etc/k.pem\"";
    for (listen, front, url, ports, endpoints) in [
        ("", "tls = \"off\"", "http://h:8080", &[8080][..], ["http://staging.example.org:8080"; 2]),
        ("", "tls = \"proxy\"", "https://h", &[80], ["http://staging.example.org"; 2]),
        (
            "",
            "tls = \"self-signed\"",
            "https://h:8443",
            &[8080, 8443],
            ["http://staging.example.org:8080", "https://staging.example.org:8443"],
        ),
        (
            "https = \"192.0.2.1:443\"",
            files,
            "https://h",
            &[443, 8080],
            ["http://staging.example.org:8080", "https://staging.example.org"],
        ),
    ] {
        let config = fronted(listen, front).unwrap();
        assert_eq!(config.policy().url("h"), url, "{front}");
        assert_eq!(config.inner_ports().into_iter().collect::<Vec<_>>(), ports, "{front}");
        assert_eq!([config.objects_url(false), config.objects_url(true)], endpoints, "{front}");
    }
}

#[test]
fn a_front_that_does_not_fit_together_says_what_to_do() {
    for (listen, front, expected) in [
        ("", "tls = \"acme\"", "not yet"),
        ("", "tls = \"files\"", "cert_file is missing"),
        ("", "tls = \"files\"\ncert_file = \"/c.pem\"", "key_file is missing"),
        ("", "tls = \"files\"\ncert_file = \"c.pem\"\nkey_file = \"/k.pem\"", "absolute path"),
        ("", "tls = \"self-signed\"\ncert_file = \"/c.pem\"", "for tls = \"files\" only"),
        ("https = \"127.0.0.1:8443\"", "tls = \"off\"", "nobody speaks TLS there"),
        ("https = \"127.0.0.1:8443\"", "tls = \"proxy\"", "nobody speaks TLS there"),
        ("", "tls = \"maybe\"", "self-signed"),
    ] {
        let error = format!("{:#}", fronted(listen, front).expect_err(front));
        assert!(error.contains(expected) && !error.contains('\n'), "{front}: {error}");
    }
}

#[test]
fn half_of_a_bucket_says_what_the_other_half_is() {
    let with = |lines: &str| Config::parse(&EXAMPLE.replacen("[objects]", &format!("[objects]\n{lines}"), 1));
    let (bucket, file) = ("bucket = \"acme\"", "credentials_file = \"/k\"");
    for (lines, expected) in [
        ("endpoint = \"https://s3.example.org\"".to_owned(), "endpoint needs bucket"),
        ("region = \"eu-west-1\"".to_owned(), "region needs bucket"),
        (file.to_owned(), "credentials_file needs bucket"),
        (bucket.to_owned(), "bucket needs credentials_file"),
        (format!("{bucket}\n{file}"), "needs endpoint, or for Amazon's own S3 region"),
        (format!("{bucket}\ncredentials_file = \"k\"\nregion = \"x\""), "must be an absolute path"),
        (format!("bucket = \"a/b\"\n{file}"), "no name of a bucket"),
        (format!("{bucket}\n{file}\nendpoint = \"s3.example.org\""), "scheme and host"),
        (format!("{bucket}\n{file}\nendpoint = \"https://h/path\""), "scheme and host"),
    ] {
        let error = format!("{:#}", with(&lines).expect_err(&lines));
        assert!(error.contains("[objects]") && error.contains(expected) && !error.contains('\n'), "{lines}: {error}");
    }
    let whole = with(&format!("{bucket}\n{file}\nendpoint = \"http://10.0.0.1:9000\"")).unwrap();
    assert_eq!(whole.objects_upstream().map(|upstream| upstream.region).as_deref(), Some("us-east-1"));
    assert_eq!(with("").unwrap().objects_upstream(), None);

    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let config = with(&format!("{bucket}\ncredentials_file = {key:?}\nregion = \"eu-west-1\"")).unwrap();
    let wrong = || format!("{:#}", sidestage::config::check_secrets(&config).unwrap_err());
    assert!(wrong().contains("[objects] credentials_file"), "{}", wrong());
    fs::write(&key, "access_key_id = a\nsecret_access_key = b\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(wrong().contains("chmod 600"), "{}", wrong());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    sidestage::config::check_secrets(&config).unwrap();
    fs::write(&key, "access_key_id = a\n").unwrap();
    assert!(wrong().contains("secret_access_key"), "{}", wrong());
}

#[test]
fn storage_in_which_databases_lie_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let with = |lines: &str| {
        let state = format!("state_dir = {:?}\n", dir.path().join("state"));
        Config::parse(&format!("domain = \"staging.example.org\"\n{state}[database]\n{lines}\n")).unwrap()
    };
    let home = sidestage::state_dir::services(&dir.path().join("state")).join("postgres");
    let check = |lines: &str| sidestage::storage::check(&with(lines)).map_err(|error| format!("{error:#}"));
    check("").unwrap();
    fs::create_dir_all(home.join("data/pg_tblspc")).unwrap();
    check("").unwrap();
    std::os::unix::fs::symlink(home.join("storage/postgres"), home.join("data/pg_tblspc/16390")).unwrap();
    let wrong = check("").unwrap_err();
    assert!(
        wrong.starts_with("[database] storage: databases may lie in the storage at ") && !wrong.contains('\n'),
        "{wrong}"
    );
    fs::create_dir_all(home.join("storage/postgres/PG_18_202506291/pgsql_tmp")).unwrap();
    check("").unwrap();
    fs::create_dir_all(home.join("storage/postgres/PG_18_202506291/16391")).unwrap();
    let wrong = check("").unwrap_err();
    assert!(
        wrong.contains("a database lies in") && wrong.contains("remove the baselines and environments first"),
        "{wrong}"
    );
    check("storage = \"/srv/file\"").unwrap();
    check("url = \"postgres://a@db/x\"").unwrap();
}

#[tokio::test]
async fn what_github_names_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (key, hook, token) = (dir.path().join("key"), dir.path().join("hook"), dir.path().join("token"));
    let with = |lines: String| {
        let text = EXAMPLE.replacen("[github]", &format!("[github]\n{lines}"), 1);
        let config = Config::parse(&text).unwrap();
        sidestage::config::check_secrets(&config).map_err(|error| format!("{error:#}"))
    };
    let app = || with(format!("app_id = 1\nprivate_key_file = {key:?}\nwebhook_secret_file = {hook:?}"));
    let write = |path: &std::path::Path, text: &str, mode: u32| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |checked: Result<(), String>, what: &str| {
        let why = checked.expect_err(what);
        assert!(why.starts_with("[github]") && why.contains(what) && !why.contains('\n'), "{what}: {why}");
        assert!(!why.contains("CANARY"), "{why}");
    };
    refused(app(), "private_key_file: cannot read");
    let (pem, _) = crate::fakehub::signed::key();
    write(&key, &pem, 0o644);
    refused(app(), "chmod 0600");
    write(&key, "CANARY, which is no key", 0o600);
    write(&hook, "CANARY-of-sixteen", 0o600);
    refused(app(), "private_key_file holds no RSA key");
    write(&key, &pem, 0o600);
    app().unwrap();
    write(&hook, "CANARY", 0o600);
    refused(app(), "one secret of at least 16 characters");
    write(&hook, "CANARY-of-sixteen", 0o640);
    refused(app(), "webhook_secret_file");
    fs::remove_file(&hook).unwrap();
    refused(app(), "webhook_secret_file: cannot read");
    let token_file = || with(format!("token_file = {token:?}"));
    refused(token_file(), "token_file: cannot read");
    write(&token, "\n", 0o600);
    refused(token_file(), "is empty");
    write(&token, "CANARY\n", 0o600);
    token_file().unwrap();
}
