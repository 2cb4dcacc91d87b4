//! Tries on a server of the operator's what will have to be done there: with a role and a database of the instance's own
//! names, which are gone afterwards. What is refused is told with the statement that would allow it.

use planner::identity::InstanceKey;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::error::{ServerError, code};
use super::tools::{Login, Tools};
use super::{drop_database, drop_role, random_password, registry, run, server_version};

/// The oldest version whose schema `public` belongs to whoever owns the database, and whose parameters can be granted.
const OLDEST: u32 = 150_000;
/// A right is missing.
const DENIED: &str = "42501";

/// What we are allowed on a server of the operator's.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    /// Room for temporary files may be bounded.
    pub(super) temporary: bool,
    /// What the server cannot give, in words that go on after "cannot".
    pub(super) lacks: Vec<String>,
}

/// Who tries it, and with what.
struct Probe<'a> {
    admin: &'a PgConnectOptions,
    tools: &'a Tools,
    connection: PgConnection,
    /// Of the role and database that are made for it.
    login: Login,
}

/// Tries it.
pub(super) async fn probe(admin: &PgConnectOptions, tools: &Tools, key: &InstanceKey) -> Result<Granted, ServerError> {
    let connection = connect(admin).await?;
    let version = server_version(&connection);
    if version < OLDEST {
        let said = format!("it is PostgreSQL {}, and {} or later is needed", version / 10_000, OLDEST / 10_000);
        return Err(refusal(admin, said));
    }
    let login = Login {
        database: format!("sst_{}_probe", key.instance()),
        password: random_password().map_err(|error| refusal(admin, error.to_string()))?,
    };
    let mut probe = Probe { admin, tools, connection, login };
    // Two that start at once would try with the same names.
    done(admin, registry::lock(&mut probe.connection, &probe.login.database).await)?;
    probe.clear().await?;
    let tried = probe.all().await;
    let cleared = probe.clear().await;
    let granted = tried?;
    cleared?;
    let _ = probe.connection.close().await;
    Ok(granted)
}

async fn connect(admin: &PgConnectOptions) -> Result<PgConnection, ServerError> {
    let error = match admin.connect().await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let (role, database) = (admin.get_username(), admin.get_database().unwrap_or_default());
    let said = if code(&error).as_deref() == Some(DENIED) {
        lacking(&format!("{role} may not connect to the database {database}"), &may_connect(database, role))
    } else {
        format!("{role} cannot connect to the database {database}: {}", words(&error))
    };
    Err(refusal(admin, said))
}

impl Probe<'_> {
    async fn all(&mut self) -> Result<Granted, ServerError> {
        self.role().await?;
        let temporary = self.parameter("temp_file_limit", "'1GB'").await?;
        self.database().await?;
        self.others().await?;
        let role = self.role_name();
        let mut lacks = vec![
            "say whether its file system shares blocks, so copies are whole".to_owned(),
            "be given storage, a pg_hba.conf or durability from here".to_owned(),
            "say how full its disk is, so new copies are not refused before it is".to_owned(),
        ];
        if !temporary {
            lacks.push(format!(
                "bound the temporary files of an environment (allow it: GRANT SET ON PARAMETER temp_file_limit TO {role})"
            ));
        }
        let signals: bool = self.ask("SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE')").await?;
        if !signals {
            lacks.push(format!(
                "end sessions of roles that are not ours, should an environment let them into its database (allow it: \
                 GRANT pg_signal_backend TO {role})"
            ));
        }
        Ok(Granted { temporary, lacks })
    }

    /// A role of ours, whose member we are.
    async fn role(&mut self) -> Result<(), ServerError> {
        let (name, admin) = (self.login.database.clone(), self.role_name());
        let made = format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{}'", self.login.password);
        self.granted(made, "may not make roles", format!("ALTER ROLE {admin} CREATEROLE")).await?;
        let joined = joined(server_version(&self.connection), &name);
        self.granted(joined, "may not join the roles that it makes", format!("ALTER ROLE {admin} CREATEROLE")).await?;
        let usable: bool = self.ask(format!("SELECT pg_has_role(current_user, '{name}', 'USAGE')")).await?;
        if !usable {
            let why = format!("{admin} does not have the rights of roles that it belongs to");
            return Err(refusal(self.admin, lacking(&why, &format!("ALTER ROLE {admin} INHERIT"))));
        }
        Ok(())
    }

    /// A database of that role's, which the role can reach with its password.
    async fn database(&mut self) -> Result<(), ServerError> {
        let (name, admin) = (self.login.database.clone(), self.role_name());
        let made = format!(
            "CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8' OWNER \"{name}\" ALLOW_CONNECTIONS false"
        );
        self.granted(made, "may not make databases", format!("ALTER ROLE {admin} CREATEDB")).await?;
        let opened = run(
            &mut self.connection,
            format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC; ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true"),
        );
        let opened = opened.await;
        done(self.admin, opened)?;
        match self.tools.login(&self.login).connect().await {
            Ok(inside) => {
                let _ = inside.close().await;
                Ok(())
            }
            Err(error) => Err(refusal(
                self.admin,
                format!(
                    "roles that {admin} makes cannot log in with their passwords ({}): let them in from this machine in its \
                     pg_hba.conf (host sameuser all ADDRESS scram-sha-256)",
                    words(&error)
                ),
            )),
        }
    }

    /// No database of anybody else's lets our roles in.
    async fn others(&mut self) -> Result<(), ServerError> {
        let name = self.login.database.clone();
        // Those of other instances are closed as soon as they are made.
        let all: Result<Vec<String>, _> = sqlx::query_scalar(
            "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT starts_with(datname, 'sst_') \
             AND has_database_privilege($1, oid, 'CONNECT') ORDER BY datname",
        )
        .bind(&name)
        .fetch_all(&mut self.connection)
        .await;
        let mut open = Vec::new();
        for database in done(self.admin, all)? {
            // Its pg_hba.conf may keep them out all the same.
            if let Ok(inside) = self.tools.login(&self.login).database(&database).connect().await {
                let _ = inside.close().await;
                open.push(quoted(&database));
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let database = self.admin.get_database().unwrap_or_default();
        let mut statements = format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", open.join(", "));
        if open.contains(&quoted(database)) {
            // We were let in like everybody.
            statements = format!("{statements}; {}", may_connect(database, self.admin.get_username()));
        }
        let why = format!("environments could connect to databases that are not theirs ({})", open.join(", "));
        Err(refusal(self.admin, lacking(&why, &statements)))
    }

    /// Whether a parameter that only superusers may set can be set for roles of ours.
    async fn parameter(&mut self, parameter: &str, value: &str) -> Result<bool, ServerError> {
        let set = format!("ALTER ROLE \"{}\" SET {parameter} = {value}", self.login.database);
        match run(&mut self.connection, set).await {
            Err(error) if code(&error).as_deref() == Some(DENIED) => Ok(false),
            other => done(self.admin, other).map(|()| true),
        }
    }

    /// Leaves nothing of it.
    async fn clear(&mut self) -> Result<(), ServerError> {
        let name = self.login.database.clone();
        let dropped = async {
            drop_database(&mut self.connection, &name).await?;
            drop_role(&mut self.connection, &name).await
        };
        let dropped = dropped.await;
        // Whoever may make no role has none to drop.
        if dropped.as_ref().is_err_and(|error| code(error).as_deref() == Some(DENIED)) {
            return Ok(());
        }
        done(self.admin, dropped)
    }

    async fn granted(&mut self, sql: String, denied: &str, grant: String) -> Result<(), ServerError> {
        match run(&mut self.connection, sql).await {
            Err(error) if code(&error).as_deref() == Some(DENIED) => {
                let why = format!("{} {denied}", self.role_name());
                Err(refusal(self.admin, lacking(&why, &grant)))
            }
            other => done(self.admin, other),
        }
    }

    async fn ask(&mut self, sql: impl Into<String>) -> Result<bool, ServerError> {
        let answer = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.into())).fetch_one(&mut self.connection).await;
        done(self.admin, answer)
    }

    /// As SQL has it.
    fn role_name(&self) -> String {
        quoted(self.admin.get_username())
    }
}

/// Makes us a member of a role of ours, with all that it may do: what it owns is ours to manage. Whoever made a role may do
/// so; since version 16 it has to be said.
pub(super) fn joined(version: u32, role: &str) -> String {
    let with = if version < 160_000 { "" } else { " WITH INHERIT TRUE, SET TRUE" };
    format!("GRANT \"{role}\" TO CURRENT_USER{with}")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn may_connect(database: &str, role: &str) -> String {
    format!("GRANT CONNECT ON DATABASE {} TO {}", quoted(database), quoted(role))
}

fn lacking(why: &str, grant: &str) -> String {
    format!("{why}: run there as its administrator: {grant}")
}

fn done<T>(admin: &PgConnectOptions, result: Result<T, sqlx::Error>) -> Result<T, ServerError> {
    result.map_err(|error| refusal(admin, words(&error)))
}

fn words(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |said| said.message().to_owned()).replace('\n', " ")
}

fn refusal(admin: &PgConnectOptions, said: String) -> ServerError {
    ServerError::Upstream { server: format!("{}:{}", admin.get_host(), admin.get_port()), said }
}
