//! What the command line says of baselines and of an environment's data.

use planner::view::DataView;

use super::*;
use crate::console::fake::{now, shop};

fn with_shop() -> Local {
    let mut view = usual();
    view.baselines = vec![shop()];
    Local::start(Fake::new(view))
}

#[tokio::test]
async fn ls_names_what_is_under_way_and_show_every_version() {
    let local = with_shop();
    let ran = local.run("baseline ls").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(
        lines[0].starts_with("shop              shop@2        20 tables of 2.0 GB, 7 objects of 5.0 MB  used by 1"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "  shop@5 is making: waits: 1 before it; 2 baselines at once");

    let ran = local.run("baseline show shop").await;
    for said in [
        "current  shop@2\n",
        "mask     /srv/mask.sql\n",
        "every    0 3 * * *, next ",
        "trouble  the one before was not done yet\n",
        "shrinks  by at most 40 %, else it is kept back\n",
        "shop@4        kept      40 tables of 4.0 GB",
        "              it has 40 tables, and the current one has 50\n",
        "used by shop 0a0a0a0, 1 of 2 clones made ahead\n",
    ] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    let by: Vec<bool> = (1..=5).map(|number| line(&ran.out, number).contains(" by ann, ")).collect();
    assert_eq!(by, [true, true, true, false, true], "the schedule is nobody");
}

/// The line of a version.
fn line(out: &str, number: u32) -> &str {
    out.lines().find(|line| line.starts_with(&format!("shop@{number} "))).unwrap()
}

#[tokio::test]
async fn the_schedule_is_sent_as_it_is_written_and_options_that_need_others_say_so() {
    let local = with_shop();
    // Words are split at spaces, so the five fields are given by an argument of their own.
    let words = ["baseline", "create", "night", "--database", "/dev/null", "--every", "0 3 * * *"];
    let line = Line::try_parse_from(std::iter::once("sidestage").chain(words)).unwrap();
    let ran = on_paper(None, None, async |screen| cli::run(&local.socket(), line.command, screen).await).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let done = local.fake.done();
    let Some((_, Ask::Baseline { name, act: planner::command::BaselineAct::Create(creation) })) = done.last() else {
        panic!("{done:?}")
    };
    assert_eq!((name.as_str(), creation.every.as_deref()), ("night", Some("0 3 * * *")));
    for (words, missing) in
        [("baseline create night --mask m.sql", "--database"), ("baseline create night --region here", "--objects")]
    {
        let refused = Line::try_parse_from(std::iter::once("sidestage").chain(words.split(' '))).unwrap_err();
        assert!(refused.to_string().contains(missing), "{refused}");
    }
}

#[tokio::test]
async fn show_says_where_data_came_from_how_large_they_are_and_what_is_over_the_limit() {
    let fake = Fake::new(usual());
    fake.set(sha(10), |commit| {
        commit.data = Some(DataView {
            from: "carried on from 1a2b3c4".to_owned(),
            at: now(),
            database: Some(3 << 30),
            objects: Some(6 << 30),
            over: Some("its objects: 6.0 GB of 5.0 GB that `[limits] objects` allows".to_owned()),
        });
    });
    let local = Local::start(fake);
    let ran = local.run(&format!("show shop {}", sha(10))).await;
    assert!(ran.out.contains("generation 1 from carried on from 1a2b3c4, "), "{}", ran.out);
    assert!(ran.out.contains("database 3.0 GB") && ran.out.contains("objects 6.0 GB"), "{}", ran.out);
    assert!(ran.out.contains("its objects: 6.0 GB of 5.0 GB that `[limits] objects` allows\n"), "{}", ran.out);
}
