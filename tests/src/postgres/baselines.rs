//! Templates of baselines: from every kind of dump, from servers and environments, masked, sealed, and never half made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use drivers::postgres::{Postgres, Server, ServerSettings};
use drivers::{Driver, Listing, Log, Scope};
use planner::identity::InstanceKey;
use planner::resource::{Failure, Fingerprint, Phase, Resource, ResourceId, Run};
use planner::spec::{DataFrom, DatabaseFrom, Spec};
use sqlx::{Connection, PgConnection};

use super::{admin, connect, ensure, instance, login, resource, shared, sql};

/// A template of this version.
pub(super) fn template(version: &str, from: DatabaseFrom) -> Resource {
    Resource {
        id: ResourceId::template(version),
        spec: Spec::Template { from, mask: None, extensions: BTreeSet::new() },
        run: Run::Running,
        needs: Vec::new(),
        deadline: Duration::from_secs(600),
        fingerprint: Fingerprint("00000000000000aa".to_owned()),
    }
}

/// A template whose copy is masked by these statements.
fn masked(version: &str, from: DatabaseFrom, script: &Path) -> Resource {
    let spec = Spec::Template { from, mask: Some(script.to_owned()), extensions: BTreeSet::new() };
    Resource { spec, ..template(version, from_nothing()) }
}

fn from_nothing() -> DatabaseFrom {
    DatabaseFrom::Empty
}

/// An environment's database that begins with this version.
pub(super) fn beginning_with(key: &InstanceKey, sha: u8, version: &str) -> Resource {
    let mut resource = resource(key, sha, 1);
    if let Spec::Database { from, .. } = &mut resource.spec {
        *from = DataFrom::Baseline(version.to_owned());
    }
    resource
}

async fn refusal(driver: &Postgres, resource: &Resource) -> String {
    match driver.ensure(resource, &Listing::new(), &Log::none()).await.unwrap_err() {
        Failure::Permanent { text } if !text.contains('\n') => text,
        other => panic!("{other:?}"),
    }
}

/// What a shop of some years has: 200 tables, sequences, views, large objects, foreign owners, rights, publications.
const SHOP: &str = "
CREATE ROLE shop_owner; CREATE ROLE reporting;
CREATE SCHEMA audit AUTHORIZATION shop_owner;
CREATE EXTENSION citext; CREATE EXTENSION hstore SCHEMA audit; CREATE EXTENSION pg_stat_statements;
GRANT ALL ON SCHEMA public TO shop_owner;
SET ROLE shop_owner;
CREATE TYPE mood AS ENUM ('well', 'unwell');
CREATE TABLE customers (id serial PRIMARY KEY, email public.citext UNIQUE, mood mood DEFAULT 'well');
INSERT INTO customers (email) SELECT 'c' || n || '@example.com' FROM generate_series(1, 500) n;
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customers, note text);
INSERT INTO orders (customer, note) SELECT 1 + n % 500, E'tab\\tand\\\\slash' FROM generate_series(1, 2000) n;
CREATE MATERIALIZED VIEW totals AS SELECT customer, count(*) FROM orders GROUP BY 1;
CREATE VIEW names AS SELECT email FROM customers;
CREATE FUNCTION audit.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := NEW.note || ''; RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit.stamp();
CREATE TABLE days (day date) PARTITION BY RANGE (day); CREATE TABLE days_all PARTITION OF days DEFAULT;
DO $$ BEGIN FOR n IN 1..196 LOOP EXECUTE format('CREATE TABLE audit.log_%s (id serial PRIMARY KEY, what text)', n); END LOOP; END $$;
SELECT lo_from_bytea(4711, 'a large object');
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reporting;
GRANT SELECT ON customers TO reporting;
RESET ROLE;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE FUNCTION ended() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER ended ON ddl_command_end EXECUTE FUNCTION ended();
";

/// A server with a shop in it, whose dumps are somebody else's.
struct Source {
    server: Server,
    folder: tempfile::TempDir,
}

const ROLES: [&str; 2] = ["shop_owner", "reporting"];

fn offered() -> BTreeSet<String> {
    ["citext", "hstore", "pg_stat_statements"].map(str::to_owned).into()
}

impl Source {
    async fn start(name: &str) -> Source {
        let settings = ServerSettings { extensions: offered(), ..shared::settings(name) };
        let server = Server::start(settings).await.unwrap();
        let mut behind = admin(&server, "postgres").await;
        sql(&mut behind, "CREATE DATABASE shop").await.unwrap();
        sql(&mut admin(&server, "shop").await, SHOP).await.unwrap();
        Source { server, folder: tempfile::tempdir().unwrap() }
    }

    /// A dump in this format. The roles that it names exist nowhere else.
    fn dump(&self, format: &str) -> PathBuf {
        let file = self.folder.path().join(format);
        let settings = self.server.settings();
        let made = Command::new(self.server.programs().join("pg_dump"))
            .args(["--username=sidestage", "--dbname=shop", &format!("--format={format}"), "--file"])
            .arg(&file)
            .arg("--host")
            .arg(settings.home.join("run"))
            .arg(format!("--port={}", settings.port))
            .status()
            .unwrap();
        assert!(made.success());
        if format == "directory" {
            // A folder is read by the server's user; a file need not be open to it.
            use std::os::unix::fs::PermissionsExt;
            for folder in [self.folder.path(), &file] {
                std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        file
    }

    async fn forget_roles(&self) {
        let mut behind = admin(&self.server, "postgres").await;
        sql(&mut behind, "DROP DATABASE shop").await.unwrap();
        for role in ROLES {
            sql(&mut behind, &format!("DROP ROLE {role}")).await.unwrap();
        }
    }
}

/// All of it is there, and all of it is the environment's.
async fn holds_the_shop(inside: &mut PgConnection) {
    let counted: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders WHERE note = E'tab\\tand\\\\slash'), \
         (SELECT count(*) FROM totals), nextval('customers_id_seq')",
    )
    .fetch_one(&mut *inside)
    .await
    .unwrap();
    assert_eq!(counted, (500, 2000, 500, 501));
    let object: Vec<u8> = sqlx::query_scalar("SELECT lo_get(4711)").fetch_one(&mut *inside).await.unwrap();
    assert_eq!(object, b"a large object");
    let foreign: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE nspname IN ('public', 'audit') AND pg_get_userbyid(relowner) <> 'pg_database_owner' \
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
    )
    .fetch_all(&mut *inside)
    .await
    .unwrap();
    assert_eq!(foreign, Vec::<String>::new());
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_event_trigger) + \
         (SELECT count(*) FROM pg_default_acl)",
    )
    .fetch_one(&mut *inside)
    .await
    .unwrap();
    assert_eq!(left, 0, "publications, event triggers or default rights came along");
    for text in [
        "ALTER TABLE orders ADD COLUMN m text; DROP TABLE days; REFRESH MATERIALIZED VIEW totals",
        "ALTER TYPE mood ADD VALUE 'so-so'; SELECT lo_unlink(4711)",
        "INSERT INTO customers (email) VALUES ('new@example.com'); DROP SCHEMA audit CASCADE",
    ] {
        sql(inside, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[tokio::test]
async fn a_dump_of_any_format_becomes_a_baseline_whose_clones_are_their_owners() {
    let source = Source::start("dumps").await;
    let dumps: Vec<_> = ["custom", "directory", "tar", "plain"].map(|format| source.dump(format)).into();
    source.forget_roles().await;
    let (driver, key) = instance(&source.server, 1);
    for (n, dump) in (1..).zip(&dumps) {
        let version = format!("shop@{n}");
        let template = template(&version, DatabaseFrom::File(dump.clone()));
        let log = source.folder.path().join(format!("log-{n}"));
        let made = driver.ensure(&template, &Listing::new(), &Log::create(&log).unwrap()).await;
        let made = made.unwrap_or_else(|error| panic!("{}: {error}", dump.display()));
        assert_eq!((made.phase, made.outputs.tables), (Phase::Whole, Some(199)), "{}", dump.display());
        assert!(made.outputs.bytes.unwrap() > 8_000_000);
        let env = beginning_with(&key, n, &version);
        ensure(&driver, &env).await;
        let (name, password) = login(&key, &env);
        let mut inside = connect(&source.server, &name, &password, &name).await.unwrap();
        sql(&mut inside, "SELECT * FROM pg_stat_statements LIMIT 1; SELECT 'a=>1'::audit.hstore").await.unwrap();
        holds_the_shop(&mut inside).await;
        inside.close().await.unwrap();
        let told = std::fs::read_to_string(&log).unwrap();
        assert!(told.contains("sealed: 199 tables"), "{told}");
    }
    // Nobody can look into a template, and no role that filled one is left.
    let mut behind = admin(&source.server, "postgres").await;
    let roles: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname LIKE '%\\_base\\_%'")
        .fetch_one(&mut behind)
        .await
        .unwrap();
    assert_eq!(roles, 0);
    driver.clear().await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
    source.server.destroy().await.unwrap();
}

#[tokio::test]
async fn a_script_can_reach_nothing_but_its_own_copy() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 30);
    let victim = resource(&key, 1, 1);
    ensure(&driver, &victim).await;
    let (other, _) = login(&key, &victim);
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    std::fs::write(folder.path().join("empty.sql"), "CREATE TABLE t (n int);\n").unwrap();
    for (n, text) in [
        format!("\\! touch {}", mark.display()),
        format!("\\o {}", mark.display()),
        format!("\\connect {other}"),
        format!("SELECT 1 \\g | touch {}", mark.display()),
        format!("COPY (SELECT 1) TO '{}';", mark.display()),
        format!("COPY (SELECT 1) TO PROGRAM 'touch {}';", mark.display()),
        format!("DROP DATABASE {other};"),
        format!("ALTER ROLE {other} PASSWORD 'known';"),
        "SET SESSION AUTHORIZATION sidestage;".to_owned(),
        "CREATE ROLE friend SUPERUSER;".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let script = folder.path().join(format!("{n}.sql"));
        std::fs::write(&script, format!("SELECT 1;\n{text}\n")).unwrap();
        let dump = template("evil@1", DatabaseFrom::File(script.clone()));
        let mask = masked("evil@1", DatabaseFrom::File(folder.path().join("empty.sql")), &script);
        for (resource, known) in [(dump, script.display().to_string()), (mask, "the masking script".to_owned())] {
            let said = refusal(&driver, &resource).await;
            assert!(said.starts_with(&known) && said.contains(", line 2: "), "{text}: {said}");
            assert_eq!(driver.inventory(&Scope::All).await.unwrap()[&resource.id].phase, Phase::Partial, "{text}");
            assert!(!mark.exists(), "{text}");
        }
    }
    driver.remove(&ResourceId::template("evil@1")).await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap().len(), 1);
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn a_mask_is_run_whole_before_anybody_sees_the_copy() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 31);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let data = file("data.sql", "CREATE TABLE people (mail text);\nINSERT INTO people VALUES ('ann@example.com');\n");
    let mask = file("mask.sql", "UPDATE people SET mail = md5(mail);\nRESET ROLE;\nCREATE TABLE masked (at date);\n");
    let good = masked("people@1", DatabaseFrom::File(data.clone()), &mask);
    ensure(&driver, &good).await;
    let env = beginning_with(&key, 1, "people@1");
    ensure(&driver, &env).await;
    let (name, password) = login(&key, &env);
    let mut inside = connect(server, &name, &password, &name).await.unwrap();
    let mail: String = sqlx::query_scalar("SELECT mail FROM people").fetch_one(&mut inside).await.unwrap();
    assert_eq!(mail.len(), 32, "{mail}");
    // Also what the script made as the loading role itself.
    sql(&mut inside, "DROP TABLE masked").await.unwrap();
    inside.close().await.unwrap();

    let wrong = file("wrong.sql", "UPDATE people SET mail = '';\n\nUPDATE peple SET mail = '';\n");
    let said = refusal(&driver, &masked("people@2", DatabaseFrom::File(data), &wrong)).await;
    assert!(said.contains("wrong.sql, line 3: relation \"peple\" does not exist"), "{said}");
    let said = refusal(&driver, &beginning_with(&key, 2, "people@2")).await;
    assert!(said.contains("there is no baseline people@2"), "half made, so it is none: {said}");
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_loaded_is_said_and_leaves_no_row() {
    let server = shared::server().await;
    let (driver, _) = instance(server, 32);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        DatabaseFrom::File(path)
    };
    for (from, said) in [
        (file("packed", b"\x1f\x8b\x08\0"), "is packed"),
        (file("empty", b""), "is empty"),
        (file("picture", b"\x89PNG\r\n\0\0"), "is neither SQL nor a dump"),
        (file("all", b"--\n-- PostgreSQL database cluster dump\n--\n"), "pg_dumpall"),
        (file("newer", b"--\n-- Dumped from database version 99.1\n"), "PostgreSQL 99, and this server is PostgreSQL"),
        (file("needs", b"CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;\n"), "extension dblink"),
        (DatabaseFrom::File(folder.path().join("nowhere")), "cannot be read"),
        (DatabaseFrom::File(folder.path().to_owned()), "without toc.dat"),
        (
            DatabaseFrom::Server { url: "postgresql://me:secret@db/shop".into(), password_file: None },
            "holds a password",
        ),
    ] {
        let text = refusal(&driver, &template("odd@1", from)).await;
        assert!(text.contains(said), "{text}");
        assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
    }
    // An archive of a version that these programs cannot read at all.
    let mut head = b"PGDMP\x01\x63\x00\x04\x08\x01\x00".to_vec();
    for number in [0_i32; 7] {
        head.push(0);
        head.extend(number.to_le_bytes());
    }
    for text in ["shop", "99.2", "99.2"] {
        head.push(0);
        head.extend(i32::try_from(text.len()).unwrap().to_le_bytes());
        head.extend(text.as_bytes());
    }
    let text = refusal(&driver, &template("odd@1", file("archive", &head))).await;
    assert!(text.contains("PostgreSQL 99, and this server is PostgreSQL"), "{text}");
    driver.clear().await.unwrap();
}
