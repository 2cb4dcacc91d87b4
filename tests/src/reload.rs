//! A configuration that is read anew: what changes applies and is told; what is wrong changes nothing.

use planner::view::State;
use sidestage::config::Config;
use sidestage::demo::repository::Repository;

use crate::cli;
use crate::kit;
use crate::stage::Stage;

const MANIFEST: &str = "[database]\nbaseline = false\n[objects]\nbaseline = false\n";

/// What `sidestage config reload` does.
async fn reload(stage: &Stage) -> cli::Ran {
    cli::reload(&stage.instance().control_socket()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_applies_and_is_told() {
    let image = kit::busybox_image();
    let dockerfile = format!("FROM {}\nCMD [\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n", image.tag);
    let files = [("Dockerfile", dockerfile.as_str()), (".sidestage.toml", MANIFEST)];
    let stage = Stage::open(&files, "stage = \"automatic\"\n[limits]\nenvironments = 5\n").await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/one", "one", &[]).await.unwrap();
    stage.look().await;
    stage.reaches(&sha, &[State::Ready]).await;
    assert_eq!(reload(&stage).await.out, "nothing has changed\n");

    // Mistakes change nothing, whatever else stands there.
    let sound = std::cell::RefCell::new(String::new());
    stage.rewrite(|text| {
        sound.replace(text.clone());
        text.replace("environments = 5", "environments = 7\nawaek = 3")
    });
    let refused = reload(&stage).await;
    assert!(refused.code == 1 && refused.err.contains("unknown field `awaek`"), "{refused:?}");
    assert!(refused.err.trim_end().ends_with("nothing has changed"), "{refused:?}");
    stage.rewrite(|_| sound.borrow().replace("name = \"shop\"", "name = \"shop\"\nsecrets = \"/nowhere/shop.env\""));
    assert!(reload(&stage).await.err.contains("cannot read /nowhere/shop.env"));
    assert_eq!(stage.view().places.1, 5);

    // Limits apply at once, the domain does not; a project comes.
    let second = tempfile::tempdir().unwrap();
    let other = Repository::create(second.path(), &files).await.unwrap();
    let project = format!("\n[[project]]\nname = \"second\"\nsuffix = \"two\"\ngit = {:?}\n", other.bare());
    stage.rewrite(|_| {
        let text = sound.borrow().replace("environments = 5", "environments = 7");
        text.replace("domain = \"staging.test\"", "domain = \"other.test\"") + &project
    });
    let changed = reload(&stage).await;
    let lines: Vec<&str> = changed.out.lines().collect();
    let domain = "domain: \"staging.test\" -> \"other.test\" (needs a restart)";
    assert_eq!(lines, ["project.second: added", domain, "limits.environments: 5 -> 7"], "{changed:?}");
    let view = stage.view();
    assert_eq!((view.places.1, view.domain.starts_with("staging.test")), (7, true));
    assert!(view.projects.iter().any(|project| project.name.as_str() == "second"));
    stage.until("the second project's refs are known", || {
        let view = stage.view();
        view.warnings.iter().all(|line| !line.contains("second")).then_some(())
    })
    .await;
    let pending = reload(&stage).await.out;
    assert_eq!(pending, format!("{domain}\n"), "told until the restart");
    assert_eq!(stage.reaches(&sha, &[State::Ready]).await.generation, 1);

    a_project_that_is_taken_out_loses_nothing_before_somebody_confirms(&stage, &sha).await;
    stage.close().await;
}

async fn a_project_that_is_taken_out_loses_nothing_before_somebody_confirms(
    stage: &Stage,
    sha: &planner::identity::Sha,
) {
    let before = std::cell::RefCell::new(String::new());
    stage.rewrite(|text| {
        before.replace(text.clone());
        let (head, rest) = text.split_once("[[project]]\nname = \"shop\"").unwrap();
        let (_, tail) = rest.split_once("[limits]").unwrap();
        format!("{head}[limits]{tail}")
    });
    let told = reload(stage).await;
    assert!(told.out.contains("project.shop: taken out; what it has stays until `sidestage gc --confirm`"), "{told:?}");
    let held = stage.until("it is held", || stage.commit(sha).filter(|commit| commit.held)).await;
    assert_eq!(held.state, State::Ready);
    assert_eq!(stage.get(&format!("{}/hostname", held.url)).await.status, 200, "it runs on");

    // Back again, as if nothing had been.
    stage.rewrite(|_| before.take());
    let told = reload(stage).await;
    assert!(told.out.contains("project.shop: added"), "{told:?}");
    stage.look().await;
    let back = stage.until("it is held no more", || stage.commit(sha).filter(|commit| !commit.held)).await;
    assert_eq!((back.state, back.generation), (State::Ready, 1));

    // And out for good.
    stage.rewrite(|text| {
        let (head, rest) = text.split_once("[[project]]\nname = \"shop\"").unwrap();
        let (_, tail) = rest.split_once("[limits]").unwrap();
        format!("{head}[limits]{tail}")
    });
    reload(stage).await;
    stage.until("it is held", || stage.commit(sha).filter(|commit| commit.held)).await;
    let confirmed = stage.type_in("gc --confirm", "").await;
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let gone = || stage.commit(sha).is_none_or(|commit| commit.state == State::Removed).then_some(());
    stage.until("it is gone", gone).await;
}

#[test]
fn differences_are_told_key_by_key() {
    let parse = |text: &str| Config::parse(text).unwrap_or_else(|error| panic!("{error:#}"));
    let shop = "[[project]]\nname = \"shop\"\ngit = \"/srv/shop.git\"\n";
    let old = parse(&format!("domain = \"a.test\"\n[limits]\nawake = 8\npids = 100\n{shop}keep = 2\n"));
    let new =
        parse(&format!("domain = \"a.test\"\n[limits]\nawake = 4\npids = 200\n[lifetime]\nidle = \"5m\"\n{shop}"));
    assert_eq!(
        old.difference(&new),
        [
            "lifetime.idle: (default) -> \"5m\"",
            "limits.awake: 8 -> 4",
            "limits.pids: 100 -> 200 (needs a restart)",
            "project.shop.keep: 2 -> (default)",
        ]
    );
    let applied = old.with(&new).policy();
    assert_eq!((applied.limits.awake, applied.limits.pids), (4, 100));
    assert_eq!(old.with(&new).difference(&new), ["limits.pids: 100 -> 200 (needs a restart)"]);
    assert_eq!(
        old.with(&new).difference(&old),
        ["lifetime.idle: \"5m\" -> (default)", "limits.awake: 4 -> 8", "project.shop.keep: (default) -> 2"]
    );
}
