//! Branches and tags that nobody watches, staged because a person named them.

use console::Ask;
use planner::command::{Actor, Role};
use planner::identity::Sha;
use planner::view::State;
use tokio::sync::oneshot;

use crate::kit;
use crate::stage::Stage;

async fn stage_by_name(stage: &Stage, name: &str) -> Result<Sha, String> {
    let (reply, staged) = oneshot::channel();
    let actor = Actor { name: "ann".to_owned(), role: Role::Write };
    let ask = Ask::StageRef { actor, project: "shop".to_owned(), name: name.to_owned(), reply };
    stage.instance().doors().ask.send(ask).await.unwrap();
    staged.await.unwrap().map(|(sha, _)| sha)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_staged_by_name_and_says_so_when_it_has_moved() {
    let image = kit::busybox_image();
    let dockerfile =
        format!("FROM {}\nCMD [\"busybox\",\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n", image.tag);
    let manifest = "[database]\nbaseline = false\n[objects]\nbaseline = false\n";
    let stage = Stage::open(&[("Dockerfile", &dockerfile), (".sidestage.toml", manifest)], "").await;
    let tagged = stage.repository.push("refs/heads/main", "refs/tags/v5.2.1", "Release", &[]).await.unwrap();
    stage.look().await;
    assert_eq!(stage.commit(&tagged), None, "nobody watches tags");

    let unknown = stage_by_name(&stage, "v5.2").await.unwrap_err();
    assert_eq!(unknown, "no branch or tag v5.2; nearest: v5.2.1");
    assert_eq!(stage_by_name(&stage, "v5.2.1").await, Ok(tagged));
    stage.reaches(&tagged, &[State::Ready]).await;
    stage.look().await;
    stage.reaches(&tagged, &[State::Ready]).await;

    let moved = stage.repository.push("refs/tags/v5.2.1", "refs/tags/v5.2.1", "Release again", &[]).await.unwrap();
    stage.look().await;
    let told = stage.until("it says so", || stage.commit(&tagged).filter(|commit| commit.reason.is_some())).await;
    assert_eq!(told.state, State::Ready, "what was staged goes on");
    let reason = told.reason.unwrap();
    assert!(reason.contains(&format!("v5.2.1 has moved to {}", moved.short())), "{reason}");
    let state = stage.commit(&moved).map(|commit| commit.state);
    assert_eq!(state, Some(State::Unstaged), "the new one waits until it is asked for");
    stage.close().await;
}
