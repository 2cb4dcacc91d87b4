//! Stories of data, end to end through a whole Sidestage: carried over rewrites, reset under load, cut off in the middle.

mod carry;
mod gate;
mod killed;
mod load;
mod server;
mod stopped;

use std::path::{Path, PathBuf};

use planner::identity::Sha;
use planner::resource::Owner;
use planner::view::{BaselineView, CommitView, State};

use crate::kit;
use crate::objects::until;
use crate::stage::Stage;

/// All of its data are the baseline's `shop`, and those of the commit before.
pub(crate) const MANIFEST: &str = "[database]\nbaseline = \"shop\"\ncarry = true\n[objects]\nbaseline = \"shop\"\n";
/// What the operator says of the project.
pub(crate) const PROJECT: &str = "stage = \"automatic\"\nbaselines = [\"default\", \"shop\"]\n";
pub(crate) const GOODS: &str = "select count(*) from goods";

/// A dump of a shop with so many goods.
pub(crate) fn sql(goods: u32) -> String {
    format!(
        "CREATE TABLE goods (id integer PRIMARY KEY, name text);\nCREATE TABLE orders (id integer);\n\
         INSERT INTO goods SELECT n, 'good ' || n FROM generate_series(1, {goods}) n;\n"
    )
}

/// The same, which is not loaded to its end before somebody ends that.
fn endless(goods: u32) -> String {
    format!("{}SELECT pg_sleep(36000);\n", sql(goods))
}

/// A web process that serves `/etc`.
pub(crate) fn dockerfile(image: &kit::Busybox) -> String {
    format!("FROM {}\nCMD [\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n", image.tag)
}

/// A folder with what baselines are made from, readable by PostgreSQL's user.
pub(crate) struct Sources(tempfile::TempDir);

impl Sources {
    pub(crate) fn new() -> Sources {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::Builder::new().prefix("sidestage-data-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        std::fs::write(folder.path().join("files/readme.txt"), "of the baseline").unwrap();
        Sources(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn dump(&self, text: &str) {
        std::fs::write(self.at("shop.sql"), text).unwrap();
    }

    /// The command that makes `shop` of the dump and the files.
    fn create(&self) -> String {
        let (dump, files) = (self.at("shop.sql"), self.at("files"));
        format!("baseline create shop --database {} --objects {}", dump.display(), files.display())
    }
}

/// A stage with such a project and its sources.
async fn opened(image: &kit::Busybox) -> (Stage, Sources) {
    let text = dockerfile(image);
    let stage = Stage::open(&[("Dockerfile", &text), (".sidestage.toml", MANIFEST)], PROJECT).await;
    (stage, Sources::new())
}

/// The same with the baseline made, of three goods and one file.
async fn furnished(image: &kit::Busybox) -> (Stage, Sources) {
    let (stage, sources) = opened(image).await;
    sources.dump(&sql(3));
    ok(&stage, &format!("{} --wait", sources.create())).await;
    (stage, sources)
}

pub(crate) async fn ok(stage: &Stage, words: &str) -> String {
    let ran = stage.type_in(words, "").await;
    assert_eq!(ran.code, 0, "{words}: {}{}", ran.out, ran.err);
    ran.out
}

/// The answer of a commit's database to a query.
pub(crate) async fn query(stage: &Stage, sha: &Sha, folder: &Path, query: &str) -> String {
    let (asked, told) = (folder.join("query.sql"), folder.join("answer.txt"));
    std::fs::write(&asked, query).unwrap();
    ok(stage, &format!("psql shop {sha} -- -v ON_ERROR_STOP=1 -qAt -f {} -o {}", asked.display(), told.display()))
        .await;
    std::fs::read_to_string(told).unwrap().trim().to_owned()
}

fn from(commit: &CommitView) -> &str {
    commit.data.as_ref().map_or("nothing", |data| &data.from)
}

pub(crate) async fn ready_from(stage: &Stage, sha: &Sha, expected: &str) -> CommitView {
    let what = format!("{sha} ready, its data from {expected}");
    let there = |commit: &CommitView| commit.state == State::Ready && from(commit) == expected;
    stage.until(&what, || stage.commit(sha).filter(there)).await
}

/// Pushes a commit on top of `base` to the branch `one`.
async fn pushed(stage: &Stage, base: &str, message: &str) -> Sha {
    let sha = stage.repository.push(base, "refs/heads/one", message, &[]).await.unwrap();
    stage.look().await;
    sha
}

/// The baseline `shop` as it is shown; none once it is removed.
fn shop(stage: &Stage) -> Option<BaselineView> {
    stage.view().baselines.iter().find(|baseline| baseline.name == "shop").cloned()
}

/// Waits until new generations start from this version.
async fn current(stage: &Stage, version: &str) {
    let there = || shop(stage).filter(|shop| shop.current.as_deref() == Some(version));
    stage.until(&format!("{version} is current"), there).await;
}

/// Waits until nothing of this version is left anywhere.
async fn is_gone(stage: &Stage, version: &str) {
    let owner = Owner::Baseline(version.to_owned());
    until(&format!("{version} is gone"), async || stage.world().await.keys().all(|id| id.owner != owner)).await;
}
