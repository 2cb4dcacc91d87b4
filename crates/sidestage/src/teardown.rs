//! Removes everything of an instance from every backend: the end of a demo, and what a killed one left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use drivers::{Driver, Scope};
use planner::resource::{Backend, Kind, ResourceId};
use tokio::time::sleep;

/// What uses comes before what is used.
const ORDER: [Kind; 7] =
    [Kind::Container, Kind::Job, Kind::Network, Kind::Image, Kind::Volume, Kind::Database, Kind::Bucket];
/// Rounds of looking and removing; a removal may go on in the background for a while.
const ROUNDS: u32 = 60;

/// Removes all that listings show of this instance, until they show nothing.
///
/// # Errors
/// When something cannot be listed or is still there in the end: its name and why.
pub async fn remove_everything(drivers: &BTreeMap<Backend, Arc<dyn Driver>>) -> anyhow::Result<()> {
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let mut left: Vec<(Arc<dyn Driver>, ResourceId)> = Vec::new();
        for driver in drivers.values() {
            left.extend(driver.inventory(&Scope::All).await?.into_keys().map(|id| (driver.clone(), id)));
        }
        if left.is_empty() {
            return Ok(());
        }
        left.sort_by_key(|(_, id)| ORDER.iter().position(|kind| *kind == id.kind));
        for (driver, id) in left {
            last = match driver.remove(&id).await {
                Ok(()) => format!("{id} is still being removed"),
                Err(failure) => format!("{id}: {failure}"),
            };
        }
        sleep(Duration::from_millis(200)).await;
    }
    bail!("not everything could be removed: {last}");
}
