//! Baselines from end to end: made from files, refreshed beside what is used, kept back, chosen, carried on, found again.

use planner::view::{State, VersionState};

use crate::data_stories::{GOODS, MANIFEST, PROJECT, Sources, dockerfile, ok, query, ready_from, sql};
use crate::kit;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn environments_start_from_baselines_and_carry_their_data_on() {
    let image = kit::busybox_image();
    let text = dockerfile(&image);
    let files = [("Dockerfile", text.as_str()), (".sidestage.toml", MANIFEST)];
    let mut stage = Stage::open(&files, PROJECT).await;
    let sources = Sources::new();
    sources.dump(&sql(3));

    let one = stage.repository.push("refs/heads/main", "refs/heads/one", "one", &[]).await.unwrap();
    stage.look().await;
    let blocked = stage.reaches(&one, &[State::Blocked]).await.reason.unwrap();
    assert!(blocked.contains("baseline shop") && blocked.contains("sidestage baseline create shop"), "{blocked}");

    let create = format!(
        "baseline create shop --database {} --objects {} --max-shrink 40% --wait",
        sources.at("shop.sql").display(),
        sources.at("files").display()
    );
    let made = ok(&stage, &create).await;
    assert!(made.contains("shop@1 is being made") && made.contains("shop@1: 2 tables"), "{made}");
    ready_from(&stage, &one, "shop@1").await;
    let folder = sources.path();
    assert_eq!(query(&stage, &one, folder, GOODS).await, "3");
    query(&stage, &one, folder, "insert into goods values (99, 'a new one')").await;

    let two = stage.repository.push("refs/heads/one", "refs/heads/one", "two", &[]).await.unwrap();
    stage.look().await;
    ready_from(&stage, &two, &format!("carried on from {}", one.short())).await;
    assert_eq!(query(&stage, &two, folder, GOODS).await, "4");

    sources.dump("CREATE TABLE goods (id integer);");
    let kept = stage.type_in("baseline refresh shop --wait", "").await;
    assert!(kept.code == 1 && kept.err.contains("shop@2 is kept back") && kept.err.contains("2"), "{}", kept.err);
    sources.dump(&sql(5));
    ok(&stage, "baseline refresh shop --wait").await;
    let shown = ok(&stage, "baseline show shop").await;
    assert!(shown.contains("shop@3") && shown.contains("current") && !shown.contains("shop@2"), "{shown}");
    assert!(
        shown.contains("clones") && shown.contains("through the server's log") && shown.contains(" ms and "),
        "{shown}"
    );
    assert_eq!(query(&stage, &two, folder, GOODS).await, "4", "what runs keeps its data");
    let used = stage.type_in("baseline rm shop", "").await;
    assert!(used.code == 1 && used.err.contains("is used by"), "{}", used.err);

    ok(&stage, &format!("reset shop {two} --wait")).await;
    ready_from(&stage, &two, "shop@3").await;
    assert_eq!(query(&stage, &two, folder, GOODS).await, "5");
    ok(&stage, &format!("reset shop {two} --baseline empty --wait")).await;
    ready_from(&stage, &two, "empty").await;
    assert_eq!(query(&stage, &two, folder, "select count(*) from pg_tables where schemaname = 'public'").await, "0");

    let config = stage.stop().await;
    stage.start(config).await;
    let view = stage.view();
    let shop = view.baselines.iter().find(|baseline| baseline.name == "shop").unwrap();
    assert_eq!(shop.current.as_deref(), Some("shop@3"), "{shop:?}");
    let claimed = || {
        let view = stage.view();
        let shop = view.baselines.iter().find(|baseline| baseline.name == "shop")?;
        let current = shop.versions.iter().find(|version| version.state == VersionState::Current)?;
        (current.spares == (1, 1)).then_some(())
    };
    stage.until("a clone made ahead", claimed).await;
    for sha in [one, two] {
        ok(&stage, &format!("remove shop {sha} --wait")).await;
    }
    ok(&stage, "baseline rm shop").await;
    let gone = || stage.view().baselines.iter().all(|baseline| baseline.name != "shop").then_some(());
    stage.until("no baseline any more", gone).await;
    stage.close().await;
}
