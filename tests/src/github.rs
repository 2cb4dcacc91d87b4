//! The driver of GitHub: what it believes, whom it lets in, what it makes of bad answers, and that it keeps its secrets.

mod connection;
mod listing;
mod roles;
mod secrecy;
mod waiting;
mod webhooks;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use drivers::github::{Access, GitHub, GitHubForge, Hidden, Settings, Watched};
use globset::GlobSet;

use crate::fakehub::Hub;

const SHOP: &str = "acme/shop";
const INSTANCE: &str = "testtesttesttest";

/// The connection to a hub, as its App.
pub(crate) fn connected(hub: &Hub) -> Arc<GitHub> {
    let (id, key, secret) = hub.world(|world| (world.app.id, world.app.key.clone(), world.app.secret.clone()));
    let access = Access::App { id, key: Hidden(key) };
    let webhook_secrets = vec![Hidden(secret)];
    GitHub::new(Settings { url: hub.url(), access, webhook_secrets, instance: INSTANCE.to_owned() }).unwrap()
}

/// A project of a connection.
pub(crate) fn watched(project: &str, repository: &str, folder: &Path) -> Watched {
    Watched {
        project: project.parse().unwrap(),
        repository: repository.to_owned(),
        bases: vec!["main".to_owned()],
        refs: GlobSet::empty(),
        approvers: "write".parse().unwrap(),
        bots: BTreeSet::new(),
        labels: false,
        skip_paths: None,
        waits: false,
        mirror: folder.join(format!("{project}.git")),
    }
}

/// A hub with one repository, and its forge.
async fn shop() -> (Hub, Arc<GitHubForge>, tempfile::TempDir) {
    let hub = Hub::start().await;
    hub.repository(SHOP, &[("Dockerfile", "FROM scratch\n")]).await;
    hub.grant(SHOP, "ada", "admin");
    let folder = tempfile::tempdir().unwrap();
    let forge = connected(&hub).forge(watched("shop", SHOP, folder.path()));
    (hub, forge, folder)
}
