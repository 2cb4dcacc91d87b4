//! How long databases of environments take, beside `createdb -T` of the same template on the same server. Prints one JSON
//! object a line. `clones FOLDER ROUNDS ONLY [BIN_DIR [SIZE_OF_STORAGE]]`; ONLY: words of the cases wanted, or nothing. As
//! root, since storage is mounted.

mod crowd;

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drivers::postgres::{Allowance, Postgres, Server, ServerSettings, Storage};
use drivers::{Driver, Listing, Log};
use planner::identity::{InstanceKey, Sha, Trust};
use planner::resource::{Backend, Failure, Fingerprint, Kind, Observed, Owner, Resource, ResourceId, Run};
use planner::spec::{DataFrom, DatabaseFrom, Origin, Spec};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Name, and the SQL that makes it.
const BASELINES: [(&str, &str); 4] = [
    ("50 MB", "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 25) AS f FROM generate_series(1, 45000) n;"),
    ("1 GB", "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 25) AS f FROM generate_series(1, 1150000) n;"),
    ("4 GB", "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 25) AS f FROM generate_series(1, 4600000) n;"),
    (
        "500 tables",
        "DO $$ BEGIN FOR n IN 1..500 LOOP EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, what text)', n); \
         EXECUTE format('INSERT INTO t%s (what) VALUES (''x'')', n); END LOOP; END $$;",
    ),
];

/// Whole copies of 4 GB take long; so few rounds show how long.
const OF_LARGE: usize = 3;
/// A claim beside a clone: what is to be won.
const CLAIM: f64 = 0.5;
/// A clone beside the server's own default.
const CLONE: f64 = 1.1;

struct Bench {
    server: Server,
    driver: Arc<Postgres>,
    key: InstanceKey,
    name: String,
    next: u8,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().ok_or("a folder is needed")?);
    let rounds: usize = words.next().unwrap_or_else(|| "5".to_owned()).parse()?;
    let only = words.next().unwrap_or_default();
    let bin_dir = words.next().map(PathBuf::from);
    let size: Option<u64> = words.next().map(|word| word.parse()).transpose()?;
    let home = folder.join("server");
    let file = folder.join("storage.xfs");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let plain = ServerSettings::new(home.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let settings = ServerSettings { port, bin_dir, storage: size.map(|_| file.clone()), ..plain };
    let storage = Storage { file, mounted_at: home.join("storage") };
    if let Some(size) = size {
        storage.create(size)?;
    }
    let server = Server::start(settings).await?;
    let key = InstanceKey::new([7; 32]);
    let driver = Arc::new(Postgres::new(&server, key.clone(), Allowance::default()));
    let version = Command::new(server.programs().join("postgres")).arg("--version").output()?;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    let major: String = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let name = format!("PostgreSQL {major}{}", if size.is_some() { ", storage" } else { "" });
    let mut bench = Bench { server, driver, key, name, next: 0 };
    let mut done = Ok(());
    // Words that name no baseline may be of cases of any.
    let all = !BASELINES.iter().any(|(what, _)| only.contains(what));
    let wanted = BASELINES.iter().filter(|(what, _)| all || only.contains(what));
    for (number, (what, sql)) in (1..).zip(wanted) {
        let script = folder.join("baseline.sql");
        std::fs::write(&script, sql)?;
        let from = DatabaseFrom::File(script);
        done = bench.baseline(&format!("bench@{number}"), what, from, rounds, size.is_some()).await;
        if done.is_err() {
            break;
        }
    }
    bench.server.destroy().await?;
    if size.is_some() {
        storage.remove()?;
    }
    done
}

impl Bench {
    async fn baseline(
        &mut self,
        version: &str,
        what: &str,
        from: DatabaseFrom,
        rounds: usize,
        shares: bool,
    ) -> Result<()> {
        let id = ResourceId::template(version);
        let template = Spec::Template { from, mask: None, extensions: BTreeSet::new() };
        let made = ensured(&self.driver, resource(id.clone(), template)).await?;
        let choice = self.driver.strategy(version).await?;
        let source = self.database_of_template()?;
        let rounds = if what == "4 GB" { rounds.min(OF_LARGE) } else { rounds };
        let (mut clones, mut claims, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let env = self.environment(version);
            clones.push(self.ensure(env.clone()).await?);
            self.driver.remove(&env.id).await?;
            self.ensure(spare(version, "spare-1")).await?;
            let env = self.environment(version);
            claims.push(self.ensure(env.clone()).await?);
            self.driver.remove(&env.id).await?;
            peers.push(self.createdb(&source)?);
        }
        let peer = median(peers);
        for (verb, times, goal) in [("clone", clones, CLONE), ("claim", claims, CLAIM)] {
            let row = serde_json::json!({
                "case": format!("{verb} {what}, {}", self.name),
                "ours": median(times),
                "peer": peer,
                "peer_name": "createdb -T",
                "unit": "ms",
                "goal": goal,
                "strategy": choice.strategy,
                "why": choice.why,
            });
            println!("{row}");
        }
        if what == "50 MB" {
            self.at_once(version, what, &source).await?;
        }
        if what == "1 GB" && shares {
            self.many(version, what, made.outputs.bytes.unwrap_or_default()).await?;
        }
        self.driver.remove(&id).await?;
        Ok(())
    }

    async fn remove(&self, environment: &Resource) -> Result<()> {
        self.driver.remove(&environment.id).await?;
        Ok(())
    }

    async fn ensure(&self, resource: Resource) -> Result<f64> {
        let begun = Instant::now();
        ensured(&self.driver, resource).await?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    fn environment(&mut self, version: &str) -> Resource {
        self.next = self.next.wrapping_add(1);
        let sha = Sha::from_bytes([self.next; 20]);
        let of = Origin { project: "bench".parse().unwrap_or_else(|_| unreachable!()), sha, trust: Trust::Trusted };
        let owner = Owner::Env(self.key.env(&of.project, &of.sha, of.trust));
        let id =
            ResourceId { backend: Backend::Postgres, owner, generation: 1, kind: Kind::Database, name: "main".into() };
        let from = DataFrom::Baseline(version.to_owned());
        resource(id, Spec::Database { of, from, extensions: BTreeSet::new() })
    }

    fn program(&self, name: &str) -> Command {
        let settings = self.server.settings();
        let mut command = Command::new(self.server.programs().join(name));
        command.env("PGHOST", settings.home.join("run")).env("PGPORT", settings.port.to_string());
        command.env("PGUSER", "sidestage").env("PGDATABASE", "postgres");
        command
    }

    fn database_of_template(&self) -> Result<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname LIKE '%\\_base\\_%' AND datname NOT LIKE '%default%'";
        let output = self.program("psql").args(["-XAtc", sql]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What one would do by hand.
    fn createdb(&self, from: &str) -> Result<f64> {
        let begun = Instant::now();
        let made = self.program("createdb").args(["--template", from, "by_hand"]).status()?;
        let taken = begun.elapsed().as_secs_f64() * 1e3;
        let gone = self.program("dropdb").arg("by_hand").status()?;
        if made.success() && gone.success() { Ok(taken) } else { Err("createdb failed".into()) }
    }
}

async fn ensured(driver: &Postgres, resource: Resource) -> std::result::Result<Observed, Failure> {
    driver.ensure(&resource, &Listing::new(), &Log::none()).await
}

fn spare(version: &str, name: &str) -> Resource {
    resource(ResourceId::spare(version, name.to_owned()), Spec::Spare { extensions: BTreeSet::new() })
}

fn resource(id: ResourceId, spec: Spec) -> Resource {
    let fingerprint = Fingerprint("00000000000000bb".to_owned());
    Resource { id, spec, run: Run::Running, needs: Vec::new(), deadline: Duration::from_secs(600), fingerprint }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
