//! A load that its admin ends: promptly, without anything left, and the name is free again.

use planner::view::VersionState;

use super::gate::Gate;
use super::server::{Superuser, nothing_leaks};
use super::{current, endless, is_gone, ok, opened, shop, sql};
use crate::kit;

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_ended_by_removing_what_it_makes() {
    let image = kit::busybox_image();
    let (stage, sources) = opened(&image).await;
    let (gate, superuser) = (Gate::start().await, Superuser::of(stage.instance().config()));
    sources.dump(&endless(3));
    let create = gate.create(&sources);

    // Both halves are in the middle.
    ok(&stage, &create).await;
    superuser.sees(1, "pg_sleep").await;
    gate.held().await;
    let again = stage.type_in(&create, "").await;
    assert!(again.code == 1 && again.err.contains("stop it with `sidestage baseline rm shop 1`"), "{}", again.err);
    let told = ok(&stage, "baseline rm shop").await;
    assert_eq!(told, "shop is being removed\n");
    stage.until("no baseline any more", || shop(&stage).is_none().then_some(())).await;
    superuser.sees(0, "pg_sleep").await;
    is_gone(&stage, "shop@1").await;
    nothing_leaks(&stage).await;

    // The name is free, and no number comes twice.
    gate.open();
    sources.dump(&sql(3));
    ok(&stage, &create).await;
    current(&stage, "shop@2").await;

    // So is a refresh ended, and the version before goes on being the one to start from.
    sources.dump(&endless(5));
    ok(&stage, "baseline refresh shop").await;
    superuser.sees(1, "pg_sleep").await;
    ok(&stage, "baseline rm shop 3").await;
    superuser.sees(0, "pg_sleep").await;
    is_gone(&stage, "shop@3").await;
    let shown = shop(&stage).unwrap();
    let versions: Vec<(u32, VersionState)> = shown.versions.iter().map(|of| (of.number, of.state)).collect();
    assert_eq!(versions, [(2, VersionState::Current)]);
    nothing_leaks(&stage).await;
    stage.close().await;
}
