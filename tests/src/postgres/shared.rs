//! One PostgreSQL for all tests of a run, made when the first test asks for it and deleted when the run is over.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use drivers::postgres::{Server, ServerSettings, destroy_at};
use tokio::sync::OnceCell;

const HOME: &str = "SIDESTAGE_TEST_POSTGRES";
const STORAGE: &str = "SIDESTAGE_TEST_STORAGE";

/// The shared server. Instances on it keep apart by their keys: take a key that no other test uses.
pub(crate) async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| start("shared")).await
}

/// A server of a test's own, deleted at the end of the run if the test does not do so.
pub(crate) async fn start(name: &str) -> Server {
    let server = Server::start(settings(name)).await;
    server.unwrap_or_else(|error| panic!("{error}"))
}

/// Settings of a server that is deleted at the end of the run, with a free port of this machine.
pub(crate) fn settings(name: &str) -> ServerSettings {
    let home = std::env::temp_dir().join(format!("sidestage-tests-{}-{name}", std::process::id()));
    guard(&home, None);
    at(&home, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port())
}

/// As [`settings`], of PostgreSQL 18 with storage that shares blocks, whose file is not there yet.
pub(crate) fn with_storage(name: &str) -> ServerSettings {
    let home = std::env::temp_dir().join(format!("sidestage-tests-{}-{name}", std::process::id()));
    let file = home.with_extension("xfs");
    guard(&home, Some(&file));
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let bin_dir = Some(xtask::wheels::POSTGRES18.install().unwrap());
    ServerSettings { bin_dir, storage: Some(file), ..at(&home, port) }
}

fn at(home: &Path, port: u16) -> ServerSettings {
    ServerSettings {
        port,
        max_connections: 100,
        ..ServerSettings::new(home.to_owned(), IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// However this process ends, another one sees its pipe close, and deletes the server.
fn guard(home: &Path, storage: Option<&Path>) {
    static GUARDS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let guard = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::shared::waits_for_the_end_of_the_run"])
        .env(HOME, home)
        .envs(storage.map(|file| (STORAGE, file)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // An interrupt from the terminal is for the tests; the guard has yet to clean up after them.
        .process_group(0)
        .spawn()
        .unwrap();
    GUARDS.lock().unwrap().push(guard);
}

/// Tests nothing by itself: it is the guard's other half.
#[test]
fn waits_for_the_end_of_the_run() {
    let Some(home) = std::env::var_os(HOME) else { return };
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let storage = std::env::var_os(STORAGE).map(std::path::PathBuf::from);
    runtime.block_on(destroy_at(ServerSettings { storage: storage.clone(), ..at(Path::new(&home), 0) })).unwrap();
    if let Some(file) = storage {
        let _ = std::fs::remove_file(file);
    }
}
