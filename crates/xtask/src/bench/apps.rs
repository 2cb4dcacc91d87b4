//! The ordinary applications of the tests: from push to page, cold and warm, memory, and what the manifest had to say.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::by_hand::{Application, ByHand, await_page, forget, memory};
use super::site::Site;
use super::{Options, Row, median, rounds, timed};
use crate::run::workspace;
use crate::{engine, images, needs};

/// An operator's word for them. The proxy that ends TLS is the bench itself.
const FURTHER: &str =
    "images = [\"redis:7\"]\n[front]\ntls = \"proxy\"\n[database]\nextensions = [\"pg_stat_statements\"]\n";

const APPLICATIONS: [Application; 3] = [
    Application {
        name: "rails",
        port: 3000,
        page: "Carrots",
        release: &["bin/rails", "db:prepare", "db:seed"],
        worker: &["bundle", "exec", "sidekiq"],
        env: &[
            "RAILS_ENV=staging",
            "SECRET_TOKEN=by-hand-by-hand-by-hand-by-hand-by-hand-by-hand",
            "SITE_URL=app.staging.localhost",
            "REDIS_URL=redis://redis:6379/0",
            "REDIS_JOBS_URL=redis://redis:6379/1",
            "REDIS_CABLE_URL=redis://redis:6379/2",
            "S3_ENDPOINT=http://nowhere.localhost",
            "S3_BUCKET=none",
            "S3_REGION=none",
        ],
        extension: Some("pg_stat_statements"),
    },
    Application {
        name: "django",
        port: 8000,
        page: "No orders yet",
        // Static files would need a bucket, which nobody has at hand.
        release: &["python", "manage.py", "migrate"],
        worker: &["celery", "-A", "market", "worker"],
        env: &[
            "SECRET_KEY=by-hand",
            "ALLOWED_HOSTS=app.staging.localhost",
            "REDIS_URL=redis://redis:6379/0",
            "AWS_STORAGE_BUCKET_NAME=none",
            "AWS_ACCESS_KEY_ID=none",
            "AWS_SECRET_ACCESS_KEY=none",
        ],
        extension: None,
    },
    Application {
        name: "node",
        port: 3000,
        page: "Notice board",
        release: &["npm", "run", "migrate"],
        worker: &["npm", "run", "worker"],
        env: &[
            "SESSION_SECRET=by-hand",
            "PUBLIC_URL=https://app.staging.localhost",
            "REDIS_URL=redis://redis:6379/0",
            "BUCKET=none",
            "PORT=3000",
        ],
        extension: None,
    },
];

/// The file that a commit changes.
const CHANGED: &str = "CHANGES.txt";

pub(crate) fn all(options: &Options) -> Result<Vec<Row>> {
    needs::install(needs::FOR_DEMO)?;
    let _engine = engine::answering()?;
    images::make(&images::FOR_TESTS)?;
    let mut rows = Vec::new();
    for of in APPLICATIONS.iter().filter(|of| options.wants(of.name)) {
        let manifest = fs::read_to_string(workspace().join("deploy/examples").join(format!("{}.toml", of.name)))?;
        let site = Site::serving(options.dev, FURTHER, |tree| {
            copy(&workspace().join("tests/apps").join(of.name), tree)?;
            Ok(fs::write(tree.join(".sidestage.toml"), &manifest)?)
        })?;
        let measured = one(options, of, &site);
        forget();
        rows.extend(measured?);
        site.end()?;
        rows.push(lines(of, &manifest));
    }
    Ok(rows)
}

/// Cold once, since the second build of an instance has the first one's layers; warm as often as asked for.
fn one(options: &Options, of: &Application, site: &Site) -> Result<Vec<Row>> {
    let row = |what: &str, ours, peer, unit, goal| Row {
        case: format!("{}: {what}", of.name),
        ours,
        peer,
        peer_name: "build, database, redis, release, worker, web".to_owned(),
        unit,
        goal,
    };
    let push = |what: &str| {
        let sha = site.change(CHANGED, &format!("{what}\n"))?;
        let took = timed(|| {
            site.push(what)?;
            await_page(&site.edge, &site.host(&sha), of.page)
        })?;
        anyhow::Ok((sha, took))
    };
    let by_hand = |what: &str, cache: bool| {
        fs::write(site.tree().join(CHANGED), format!("{what}, by hand\n"))?;
        let begun = Instant::now();
        let hand = ByHand::up(site, of, cache)?;
        let took = begun.elapsed();
        anyhow::Ok((hand, took))
    };
    eprintln!("xtask: {}: cold", of.name);
    let ((sha, ours), (hand, peer)) = (push("cold")?, by_hand("cold", false)?);
    let cold = row("push to page, nothing built yet", median(vec![ours]), median(vec![peer]), "ms", 1.1);
    let (ours, peer) = (memory(&format!("label=sidestage.sha={sha}"))?, memory("name=by_hand_")?);
    let held = row("memory of its containers", ours, peer, "MB", 1.1);
    drop(hand);
    let ours = |round: usize| {
        let branch = format!("warm-{round}");
        let (_, took) = push(&branch)?;
        site.delete(&branch)?;
        site.await_left(1)?;
        Ok(took)
    };
    let peer = |round: usize| by_hand(&format!("warm {round}"), true).map(|(_, took)| took);
    let (ours, peer) = rounds(options.rounds.min(7), ours, peer)?;
    let warm = row("push to page, one file changed", ours, peer, "ms", 1.1);
    site.delete("cold")?;
    site.await_nothing()?;
    Ok(vec![cold, warm, held])
}

/// Lines of the manifest that say something.
fn lines(of: &Application, manifest: &str) -> Row {
    let said = manifest.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    let ours = f64::from(u32::try_from(said).unwrap_or(u32::MAX));
    let case = format!("{}: lines of the manifest", of.name);
    Row { case, ours, peer: 10.0, peer_name: "ten lines".to_owned(), unit: "lines", goal: 1.6 }
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
