//! Commits as people really push them: every mistake has its state and reason in the view and on the URL, and leaves nothing.

use planner::identity::Sha;
use planner::view::State;

use crate::kit;
use crate::stage::Stage;

const MANIFEST: &str =
    "start_timeout = \"4s\"\nmemory = \"64m\"\n[database]\nbaseline = false\n[objects]\nbaseline = false\n";

/// A Dockerfile on the tests' base image, with these lines behind `FROM`.
fn dockerfile(tag: &str, lines: &str) -> String {
    format!("FROM {tag}\n{lines}\n")
}

struct Case {
    branch: &'static str,
    files: Vec<(&'static str, String)>,
    /// Parts of the reason.
    says: &'static [&'static str],
}

fn case(branch: &'static str, files: Vec<(&'static str, String)>, says: &'static [&'static str]) -> Case {
    Case { branch, files, says }
}

fn serving(tag: &str, command: &str) -> String {
    dockerfile(tag, &format!("CMD {command}"))
}

fn cases(tag: &str) -> Vec<Case> {
    let manifest = |text: &str| (".sidestage.toml", text.to_owned());
    let plain = || manifest(MANIFEST);
    let docker = |text: String| ("Dockerfile", text);
    let fine = || docker(serving(tag, r#"["busybox","httpd","-f","-p","8080"]"#));
    vec![
        case("no-dockerfile", vec![plain(), ("README", "nothing else".to_owned())], &["Dockerfile"]),
        case(
            "build-fails",
            vec![plain(), docker(dockerfile(tag, "RUN [\"busybox\",\"false\"]"))],
            &["busybox", "false"],
        ),
        case(
            "network-of-the-host",
            vec![plain(), docker(dockerfile(tag, "RUN --network=host true"))],
            &["line 2", "--network"],
        ),
        case("unknown-key", vec![fine(), manifest("prot = 8080\n")], &["prot", "line 1"]),
        case("wrong-type", vec![fine(), manifest("\nport = \"http\"\n")], &["port", "line 2"]),
        case(
            "unknown-name",
            vec![fine(), manifest("[env]\nA = \"${NOWHERE}\"\n")],
            &["NOWHERE", "sidestage secret set shop NOWHERE"],
        ),
        case("ten-megabytes", vec![fine(), manifest(&"# filler\n".repeat(1_200_000))], &["at most 65536"]),
        case(
            "exits",
            vec![plain(), docker(serving(tag, r#"["busybox","sh","-c","echo giving up; exit 3"]"#))],
            &["3", "giving up"],
        ),
        case(
            "wrong-port",
            vec![plain(), docker(serving(tag, r#"["busybox","httpd","-f","-p","3000"]"#))],
            &["8080", "3000"],
        ),
        case("never-listens", vec![plain(), docker(serving(tag, r#"["busybox","sleep","600"]"#))], &["8080"]),
        case(
            "memory",
            vec![plain(), docker(serving(tag, r#"["busybox","sh","-c","busybox tail -c 200m /dev/zero"]"#))],
            &["memory", "64"],
        ),
        case("too-much-memory", vec![fine(), manifest("memory = \"64g\"\n")], &["64g", "512m"]),
        case(
            "release-fails",
            vec![
                fine(),
                manifest(&format!(
                    "{MANIFEST}[release]\ncommand = [\"busybox\", \"sh\", \"-c\", \"echo no such table; exit 7\"]\n"
                )),
            ],
            &["7", "no such table"],
        ),
        case(
            "release-hangs",
            vec![
                fine(),
                manifest(&format!(
                    "{MANIFEST}[release]\ncommand = [\"busybox\", \"sleep\", \"600\"]\ntimeout = \"3s\"\n"
                )),
            ],
            &["release did not end within 3 s"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_told_where_people_look() {
    let image = kit::busybox_image();
    let stage = Stage::open(&[("README", "a shop\n")], "stage = \"automatic\"\n[limits]\nbuilds = 2\n").await;
    let mut pushed: Vec<(Sha, Case)> = Vec::new();
    for case in cases(&image.tag) {
        let files: Vec<(&str, &str)> = case.files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let target = format!("refs/heads/{}", case.branch);
        let sha = stage.repository.push("refs/heads/main", &target, case.branch, &files).await.unwrap();
        pushed.push((sha, case));
    }
    stage.look().await;
    for (sha, case) in &pushed {
        let commit = stage.reaches(sha, &[State::Failed, State::Blocked]).await;
        let reason = commit.reason.clone().unwrap_or_default();
        for part in case.says {
            assert!(reason.contains(part), "{}: {part:?} is not in {reason:?}", case.branch);
        }
        let page = stage.get(&commit.url).await;
        assert!(!page.status.is_success(), "{}: {}", case.branch, page.status);
        assert!(page.body.contains(commit.state.as_str()), "{}: {}", case.branch, page.body);
        assert!(page.body.contains(case.says[0]), "{}: the URL tells the reason: {}", case.branch, page.body);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_branch_names_are_staged_like_any_other() {
    let image = kit::busybox_image();
    let tag = &image.tag;
    let files = [
        ("Dockerfile", serving(tag, r#"["busybox","httpd","-f","-p","8080","-h","/"]"#)),
        (".sidestage.toml", MANIFEST.to_owned()),
        ("index.html", "hello\n".to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let stage = Stage::open(&files, "stage = \"automatic\"\n").await;
    let names = ["main;curl|sh", "--upload-pack=touch", "$(id)", "feature/ünï-cödé", "a'b\"c", "x--y", "pr-7"];
    for name in names {
        let sha = stage.repository.push("refs/heads/main", &format!("refs/heads/{name}"), name, &[]).await.unwrap();
        stage.look().await;
        let commit = stage.reaches(&sha, &[State::Ready, State::Failed]).await;
        assert_eq!(commit.state, State::Ready, "{name}: {:?}", commit.reason);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_vanishes_takes_nothing_with_it() {
    let image = kit::busybox_image();
    let dockerfile = serving(&image.tag, r#"["busybox","httpd","-f","-p","8080","-h","/etc"]"#);
    let files = [("Dockerfile", dockerfile.as_str()), (".sidestage.toml", MANIFEST)];
    let stage = Stage::open(&files, "stage = \"automatic\"\n").await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/stays", "stays", &[]).await.unwrap();
    stage.look().await;
    stage.reaches(&sha, &[State::Ready]).await;
    let away = stage.repository.bare().with_extension("away");
    std::fs::rename(stage.repository.bare(), &away).unwrap();
    stage
        .until("a warning names the project", || {
            stage.view().warnings.iter().any(|line| line.contains("shop")).then_some(())
        })
        .await;
    assert_eq!(stage.commit(&sha).unwrap().state, State::Ready);
    std::fs::rename(&away, stage.repository.bare()).unwrap();
    stage.close().await;
}
