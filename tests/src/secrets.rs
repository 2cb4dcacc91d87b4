//! Secrets from end to end: processes get them, and nobody reads them anywhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use data_encoding::{BASE64, BASE64_NOPAD};
use planner::identity::{InstanceKey, Sha, Trust};
use planner::policy::Policy;
use planner::secrets::{Place, SecretClass};
use planner::view::State;
use sidestage::config::Config;
use sidestage::instance::Instance;
use sidestage::vault::{Files, Vault};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::kit;
use crate::stage::{Stage, workshop};

const CANARY: &str = "c4n4ry/Very+Secret=1";
const SECOND: &str = "an0ther-c4n4ry-value";
const DUMMY: &str = "a-dummy-for-forks";

/// A release job and a web process that say what they know in every way.
const MANIFEST: &str = r#"
start_timeout = "20s"
[database]
baseline = false
[objects]
baseline = false
[env]
COMBINED = "x:${CANARY}:y"
[release]
command = ["sh", "-c", "echo plain $CANARY; echo $COMBINED; printf 'user:%s' $CANARY | busybox base64; echo end of release"]
"#;

fn dockerfile(tag: &str) -> String {
    format!("FROM {tag}\nCMD [\"sh\",\"-c\",\"echo web knows $CANARY; exec httpd -f -p 8080 -h /etc\"]\n")
}

/// What of a value, in whatever form, is in the text.
fn leaks(text: &str, value: &str) -> Option<String> {
    let mut forms = vec![value.to_owned(), value.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D")];
    for before in ["", "u", "us"] {
        let encoded = BASE64_NOPAD.encode(format!("{before}{value}").as_bytes());
        forms.push(encoded[4..encoded.len() - 2].to_owned());
    }
    forms.into_iter().find(|form| text.contains(form.as_str()))
}

fn assert_clean(text: &str, wher: &str) {
    for value in [CANARY, SECOND] {
        assert_eq!(leaks(text, value), None, "{wher}: {text}");
    }
}

/// Every file below a folder, as bytes.
fn files_below(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), found);
        } else if entry.file_type().unwrap().is_file() {
            found.insert(entry.path().display().to_string(), std::fs::read(entry.path()).unwrap());
        }
    }
}

fn docker(arguments: &[&str]) -> String {
    let out = Command::new("docker").args(arguments).output().unwrap();
    assert!(out.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The variables of an environment's web process, as the engine has them.
fn variables(stage: &Stage, sha: &Sha) -> String {
    let commit = stage.commit(sha).unwrap();
    let name = planner::names::container(&commit.env, commit.generation, "web");
    docker(&["inspect", "--format", "{{json .Config.Env}}", &name])
}

/// The whole log, as the command line prints it.
async fn log(stage: &Stage, sha: &Sha, name: &str) -> String {
    let ran = stage.type_in(&format!("logs shop {sha} --name {name}"), "").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

#[test]
fn the_test_would_see_a_leak() {
    for text in [
        format!("a {CANARY} b"),
        BASE64.encode(format!("user:{CANARY}").as_bytes()),
        BASE64.encode(format!("me:{CANARY}").as_bytes()),
        BASE64.encode(format!("you:{CANARY}\n").as_bytes()),
        "c4n4ry%2FVery%2BSecret%3D1".to_owned(),
    ] {
        assert!(leaks(&text, CANARY).is_some(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_its_processes_and_nobody_else() {
    let image = kit::busybox_image();
    let text = dockerfile(&image.tag);
    let files = [("Dockerfile", text.as_str()), (".sidestage.toml", MANIFEST)];
    let mut stage = Stage::open(&files, "stage = \"automatic\"\nforks = \"approve\"\n").await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/one", "one", &[]).await.unwrap();
    stage.look().await;
    let blocked = stage.reaches(&sha, &[State::Blocked]).await.reason.unwrap();
    let command = "sidestage secret set shop CANARY --for trusted";
    assert!(blocked.contains("secret CANARY is not set for trusted code") && blocked.contains(command), "{blocked}");

    let set = stage.type_in(&command["sidestage ".len()..], &format!("{CANARY}\n")).await;
    assert_eq!((set.code, set.out.as_str()), (0, "CANARY of shop is set for trusted code\n"), "{}", set.err);
    let commit = stage.reaches(&sha, &[State::Ready]).await;
    assert!(
        variables(&stage, &sha).contains(&format!("CANARY={CANARY}")),
        "it reaches the process, without the newline"
    );
    assert!(variables(&stage, &sha).contains(&format!("COMBINED=x:{CANARY}:y")));

    // What people read.
    let release = log(&stage, &sha, "release").await;
    assert!(release.contains("plain ***\nx:***:y\n") && release.contains("end of release"), "{release}");
    assert_clean(&release, "the job's log");
    let web = log(&stage, &sha, "web").await;
    assert!(web.contains("web knows ***"), "{web}");
    assert_clean(&log(&stage, &sha, "build").await, "the build's log");
    assert_clean(&serde_json::to_string(&*stage.view()).unwrap(), "the view");
    for words in ["plan", "secret ls shop", "secret ls shop --json", "ls --json"] {
        let ran = stage.type_in(words, "").await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_clean(&ran.out, words);
    }
    let listed = stage.type_in("secret ls shop", "").await.out;
    assert!(listed.starts_with("CANARY  trusted  cli, "), "{listed}");

    // What is on the disk, and in the image.
    let mut found = BTreeMap::new();
    files_below(&stage.instance().config().state_dir, &mut found);
    assert!(found.keys().any(|path| path.contains("sidestage.db")));
    found.iter().for_each(|(path, bytes)| assert_clean(&String::from_utf8_lossy(bytes), path));
    let name = planner::names::container(&commit.env, 1, "web");
    let built = docker(&["inspect", "--format", "{{.Image}}", &name]);
    assert_clean(&docker(&["history", "--no-trunc", built.trim()]), "the image's history");
    assert_clean(&docker(&["image", "inspect", built.trim()]), "the image");

    // A reason that quotes a process.
    let broken = "FROM {}\nCMD [\"sh\",\"-c\",\"echo giving up: $CANARY; exit 3\"]\n".replace("{}", &image.tag);
    let broken = [("Dockerfile", broken.as_str())];
    let fails = stage.repository.push("refs/heads/main", "refs/heads/two", "two", &broken).await.unwrap();
    stage.look().await;
    let reason = stage.reaches(&fails, &[State::Failed]).await.reason.unwrap();
    assert!(reason.contains("giving up: ***"), "{reason}");
    assert_clean(&reason, "the reason");

    foreign_code_gets_its_own(&stage).await;
    a_changed_one_applies_at_the_next_start(&mut stage, &sha).await;

    let audit = audit(&stage.instance().config().state_dir).await;
    let entry = audit.iter().find(|entry| entry["verb"] == "secret set").unwrap();
    assert_eq!((entry["actor"].as_str(), entry["what"].as_str()), (Some("cli"), Some("CANARY for trusted code")));
    assert_clean(&format!("{audit:?}"), "the audit log");
    stage.close().await;
}

async fn foreign_code_gets_its_own(stage: &Stage) {
    let sha = stage.repository.push("refs/heads/main", "refs/pull/9/head", "from outside", &[]).await.unwrap();
    stage.look().await;
    let approved = stage.type_in(&format!("approve shop {sha}"), "").await;
    assert_eq!(approved.code, 0, "{}", approved.err);
    let blocked = stage.until("blocked for the lack of a dummy", || {
        stage.commit(&sha).filter(|commit| commit.trust == Trust::Approved && commit.state == State::Blocked)
    });
    let reason = blocked.await.reason.unwrap();
    assert!(reason.contains("secret set shop CANARY --for foreign"), "{reason}");
    let set = stage.type_in("secret set shop CANARY --for foreign", DUMMY).await;
    assert_eq!(set.code, 0, "{}", set.err);
    stage.reaches(&sha, &[State::Ready]).await;
    let given = variables(stage, &sha);
    assert!(given.contains(&format!("CANARY={DUMMY}")), "{given}");
    assert_clean(&given, "foreign code");
    assert!(log(stage, &sha, "web").await.contains("web knows ***"));
}

async fn a_changed_one_applies_at_the_next_start(stage: &mut Stage, sha: &Sha) {
    let set = stage.type_in("secret set shop CANARY", SECOND).await;
    assert!(set.out.contains("changed for trusted code; processes get it when they next start"), "{set:?}");
    stage.until("it is stale", || stage.commit(sha).filter(|commit| commit.stale)).await;
    let config = stage.stop().await;
    stage.start(config).await;
    stage.reaches(sha, &[State::Ready]).await;
    assert!(variables(stage, sha).contains(CANARY), "what runs has the former value");
    assert_clean(&log(stage, sha, "web").await, "the log of what runs with the former value");

    let asleep = stage.type_in(&format!("sleep shop {sha} --wait"), "").await;
    assert_eq!(asleep.code, 0, "{}", asleep.err);
    let awake = stage.type_in(&format!("wake shop {sha} --wait"), "").await;
    assert_eq!(awake.code, 0, "{}", awake.err);
    stage.until("it has the new value", || variables(stage, sha).contains(SECOND).then_some(())).await;
    stage.until("it is fresh", || stage.commit(sha).filter(|commit| !commit.stale)).await;

    let gone = stage.type_in("secret rm shop CANARY", "").await;
    assert_eq!(gone.out, "CANARY of shop is not set any more for trusted code\n");
    let again = stage.type_in("secret rm shop CANARY", "").await;
    assert!(again.err.contains("shop has no secret \"CANARY\" for trusted code"), "{again:?}");
}

async fn audit(state_dir: &Path) -> Vec<serde_json::Value> {
    let options = SqliteConnectOptions::new().filename(state_dir.join("sidestage.db")).read_only(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar("SELECT value FROM audit ORDER BY key").fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_secrets_are_told_in_a_line() {
    let stage = Stage::open(&[("README", "a shop\n")], "").await;
    for (words, input, says) in [
        ("secret set shop NPM_TOKEN", "", "no value came in"),
        ("secret set shop NPM_TOKEN", "\n", "no value came in"),
        ("secret set shop NPM_TOKEN", "a\0b", "NUL"),
        ("secret set other NPM_TOKEN", "value", "no project of that name; there are: shop"),
        ("secret set shop 9LIVES", "value", "not a digit first"),
        ("secret set shop NPM-TOKEN", "value", "letters, digits and `_`"),
        ("secret set shop PORT", "value", "is given by Sidestage"),
        ("secret set shop STAGING_URL", "value", "is given by Sidestage"),
        ("secret rm shop NPM_TOKEN", "", "no secret \"NPM_TOKEN\" for trusted code"),
        ("secret ls other", "", "no project of that name"),
    ] {
        let ran = stage.type_in(words, input).await;
        assert!(ran.code > 0 && ran.err.contains(says) && ran.err.trim_end().lines().count() == 1, "{words}: {ran:?}");
        assert!(!ran.err.contains("value\"") && ran.out.is_empty(), "{ran:?}");
    }
    let long = stage.type_in("secret set shop LONG", &"x".repeat(33 << 10)).await;
    assert!(long.err.contains("32 KB are the most"), "{long:?}");
    let short = stage.type_in("secret set shop SHORT", "on").await;
    assert!(short.code == 0 && short.out.contains("logs show it"), "{short:?}");
    let empty = stage.type_in("secret ls shop", "").await;
    assert!(empty.out.starts_with("SHORT"), "{empty:?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_secrets_is_private_or_nothing_starts() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _repository, config) = workshop(&[("README", "a shop\n")], "", "").await;
    let file = folder.path().join("shop.env");
    let path = config.file.clone().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("name = \"shop\"", &format!("name = \"shop\"\nsecrets = {file:?}"))).unwrap();
    let config = Config::read(&path).unwrap();
    let check =
        || sidestage::config::check_secrets(&config).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(check().contains("[[project]] shop: secrets: cannot read"), "{}", check());
    std::fs::write(&file, format!("# ours\nCANARY={CANARY}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Instance::start(config.clone()).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("has mode 0644") && refused.contains("chmod 0600"), "{refused}");
    assert_eq!(check(), refused);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, format!("CANARY={CANARY}\nPORT={CANARY}\n")).unwrap();
    assert!(check().contains("line 2"), "{}", check());
    assert_clean(&check(), "the error");
    std::fs::write(&file, format!("CANARY={CANARY}\n")).unwrap();

    let instance = Instance::start(config).await.unwrap_or_else(|error| panic!("{error:#}"));
    let mut view = instance.doors().view;
    view.wait_for(|view| !view.projects.is_empty()).await.unwrap();
    let socket = instance.control_socket();
    let listed = crate::cli::run(&socket, "secret ls shop", None, None).await;
    assert!(listed.out.contains("CANARY") && listed.out.contains("shop.env"), "{listed:?}");
    let refused = crate::cli::run(&socket, "secret set shop CANARY", None, Some("mine")).await;
    assert!(refused.code == 1 && refused.err.contains("stands in") && refused.err.contains("shop.env"), "{refused:?}");
    instance.destroy().await.unwrap();
}

fn place(name: &str) -> Place {
    Place { project: "shop".parse().unwrap(), class: SecretClass::Trusted, name: name.to_owned() }
}

fn names(vault: &Vault) -> Vec<String> {
    vault.list(&"shop".parse().unwrap()).into_iter().map(|secret| secret.name).collect()
}

#[test]
fn what_was_sealed_opens_only_where_it_belongs() {
    let key = InstanceKey::new([7; 32]);
    let vault = Vault::open(key.clone(), &[], drivers::Secrets::default()).unwrap();
    let (one, two) = (place("ONE"), place("TWO"));
    let row = vault.seal(one.clone(), CANARY, "ann", planner::identity::Time(1)).unwrap();
    assert_clean(row.value.as_deref().unwrap(), "the row");
    let again = vault.seal(one.clone(), CANARY, "ann", planner::identity::Time(1)).unwrap();
    assert_ne!(row.value, again.value, "no two seals are alike");

    let secrets = drivers::Secrets::default();
    let opened = Vault::open(key.clone(), std::slice::from_ref(&row), secrets.clone()).unwrap();
    assert_eq!(names(&opened), ["ONE"]);
    assert_eq!(secrets.of(&one.project, one.class)["ONE"], CANARY);
    let other =
        Vault::open(InstanceKey::new([8; 32]), std::slice::from_ref(&row), drivers::Secrets::default()).unwrap();
    assert_eq!(names(&other), [""; 0], "another instance's key");
    let mut moved = row.clone();
    moved.key = two.to_string();
    moved.value = moved.value.map(|value| value.replace("\"ONE\"", "\"TWO\""));
    let moved = Vault::open(key, &[moved], drivers::Secrets::default()).unwrap();
    assert_eq!(names(&moved), [""; 0], "under another name it is nothing");
}

#[test]
fn the_planner_gets_versions_that_tell_nothing() {
    let config = |text: &str| {
        let text =
            format!("domain = \"staging.test\"\n{text}\n[[project]]\nname = \"shop\"\ngit = \"/srv/shop.git\"\n");
        Config::parse(&text).unwrap()
    };
    let mut vault = Vault::open(InstanceKey::new([7; 32]), &[], drivers::Secrets::default()).unwrap();
    let mut set = |name: &str, value: &str| {
        let row = vault.seal(place(name), value, "ann", planner::identity::Time(1)).unwrap();
        vault.take(&place(name), &row);
        let mut policy: Policy = config("").policy();
        vault.fill(&mut policy);
        policy.projects.into_values().next().unwrap().secrets.remove(&SecretClass::Trusted).unwrap()
    };
    let first = set("ONE", CANARY);
    let both = set("TWO", CANARY);
    assert_eq!(first["ONE"], both["ONE"]);
    assert_ne!(both["ONE"], both["TWO"], "that two values are alike is not told");
    let changed = set("ONE", SECOND);
    assert_ne!(changed["ONE"], both["ONE"]);
    assert_eq!(set("ONE", CANARY)["ONE"], first["ONE"]);
    assert_clean(&format!("{both:?}"), "the policy");
    vault.take_files(Files::default(), &config(""));
    assert_eq!(names(&vault), ["ONE", "TWO"]);
    assert_eq!(vault.forgotten(|_| false).len(), 2);
    assert!(vault.forgotten(|_| true).is_empty());
}
