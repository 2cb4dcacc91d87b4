//! GraphQL: a query is judged by GitHub's schema, priced by GitHub's rule, and answered from the world.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use apollo_compiler::executable::Selection;
use apollo_compiler::resolvers::{Execution, FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::JsonMap;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use serde_json::{Value, json};

use super::server::{Answer, Call, Shared};
use super::shapes::{node_id, parse_node_id};
use super::world::{Bearer, Kind, Pull, Repo, World, timestamp};
use super::{git, oracle};

/// The most nodes that one query may ask for.
const NODES: u64 = 500_000;

fn schema() -> &'static Valid<Schema> {
    static SCHEMA: OnceLock<Valid<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let parsed = match Schema::parse(oracle::file("schema.graphql"), "schema.graphql") {
            Ok(schema) => schema,
            // Two fields of one type are published twice; what is meant is clear.
            Err(with) => with.partial,
        };
        Valid::assume_valid(parsed)
    })
}

/// What git says, asked before the world is locked.
#[derive(Default)]
struct FromGit {
    /// Names and commits, by repository.
    refs: BTreeMap<u64, Vec<(String, String)>>,
    /// Names of files, by pull request.
    files: BTreeMap<u64, Vec<String>>,
}

impl FromGit {
    /// What this query may need.
    async fn ask(inner: &Shared, query: &str, ids: &Value) -> FromGit {
        let (gits, pulls) = {
            let world = &inner.lock().expect("the hub is whole").world;
            let gits: Vec<_> = world.repos.values().map(|repo| (repo.id, repo.git.clone())).collect();
            let pulls =
                world.repos.values().flat_map(|repo| repo.pulls.values().map(|pull| (repo.git.clone(), pull.clone())));
            (gits, pulls.collect::<Vec<_>>())
        };
        let mut from = FromGit::default();
        if query.contains("efs(") || query.contains("ref(") || query.contains("defaultBranchRef") {
            for (id, folder) in gits {
                from.refs.insert(id, git::refs(&folder).await);
            }
        }
        if query.contains("files(") {
            let asked =
                |pull: &Pull| ids.as_array().is_none_or(|ids| ids.contains(&node_id("PullRequest", pull.id).into()));
            for (folder, pull) in pulls.iter().filter(|(_, pull)| asked(pull)) {
                from.files.insert(pull.id, git::changed(folder, &pull.base_sha, &pull.head_sha).await);
            }
        }
        from
    }
}

pub(super) async fn answer(inner: &Shared, call: &Call) -> Answer {
    let sent = call.sent();
    let text = sent["query"].as_str().unwrap_or_default().to_owned();
    if call.bearer == Bearer::Anonymous {
        return Answer::error(401, "This endpoint requires you to be authenticated.");
    }
    let parsed = ExecutableDocument::parse_and_validate(schema(), text.clone(), "query");
    let document = match parsed {
        Ok(document) => document,
        Err(with) => {
            let mut inner = inner.lock().expect("the hub is whole");
            inner.problems.push(format!("a query that GitHub refuses: {}", with.errors));
            return Answer::ok(json!({ "errors": [{ "message": with.errors.to_string() }] }));
        }
    };
    let variables: JsonMap = serde_json::from_value(sent["variables"].clone()).unwrap_or_default();
    let (calls, nodes) = price(&document, &sent["variables"]);
    if nodes > NODES {
        return Answer::ok(
            json!({ "errors": [{ "type": "MAX_NODE_LIMIT_EXCEEDED", "message": format!("{nodes} nodes are more than {NODES}") }] }),
        );
    }
    let git = FromGit::ask(inner, &text, &sent["variables"]["ids"]).await;
    let mut inner = inner.lock().expect("the hub is whole");
    let view = Look {
        world: &inner.world,
        git: &git,
        bearer: &call.bearer,
        points: price_of(calls),
        missing: RefCell::default(),
    };
    let execution = Execution::new(schema(), &document).raw_variable_values(&variables);
    let response = execution.execute_sync(&Thing { look: &view, of: Of::Query });
    let missing = view.missing.into_inner();
    let body = match response {
        Ok(response) => serde_json::to_value(response).unwrap_or_default(),
        Err(error) => {
            json!({ "errors": [serde_json::to_value(error.to_graphql_error(&document.sources)).unwrap_or_default()] })
        }
    };
    inner.problems.extend(missing);
    let mut answer = Answer::ok(body);
    answer.points = price_of(calls);
    answer
}

/// A point a hundred requests that GitHub would need for it, at least one.
fn price_of(calls: u64) -> u64 {
    ((calls + 50) / 100).max(1)
}

/// The requests that GitHub counts, and the nodes: as many as may come, whatever comes.
fn price(document: &ExecutableDocument, variables: &Value) -> (u64, u64) {
    let mut total = (0, 0);
    for operation in document.operations.iter() {
        priced(document, &operation.selection_set.selections, variables, 1, &mut total);
    }
    total
}

fn priced(
    document: &ExecutableDocument,
    selections: &[Selection],
    variables: &Value,
    times: u64,
    total: &mut (u64, u64),
) {
    for selection in selections {
        match selection {
            Selection::Field(field) => {
                let argument = |name: &str| {
                    let value = &field.arguments.iter().find(|argument| argument.name == name)?.value;
                    let variable = value.as_variable().map(|name| variables[name.as_str()].clone());
                    variable.or_else(|| Some(serde_json::from_str(&value.to_string()).unwrap_or_default()))
                };
                let ids = argument("ids").and_then(|ids| ids.as_array().map(Vec::len));
                let first = argument("first").or_else(|| argument("last")).and_then(|first| first.as_u64());
                let inner = match (ids, first) {
                    (Some(ids), _) => times * ids as u64,
                    (_, Some(first)) => {
                        total.0 += times;
                        total.1 += times * first;
                        times * first
                    }
                    _ => times,
                };
                priced(document, &field.selection_set.selections, variables, inner, total);
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = spread.fragment_def(document) {
                    priced(document, &fragment.selection_set.selections, variables, times, total);
                }
            }
            Selection::InlineFragment(inline) => {
                priced(document, &inline.selection_set.selections, variables, times, total);
            }
        }
    }
}

struct Look<'w> {
    world: &'w World,
    git: &'w FromGit,
    bearer: &'w Bearer,
    points: u64,
    missing: RefCell<Vec<String>>,
}

/// One object of the graph.
struct Thing<'w> {
    look: &'w Look<'w>,
    of: Of<'w>,
}

#[derive(Clone)]
enum Of<'w> {
    Query,
    Repo(&'w Repo),
    Pull(&'w Repo, &'w Pull),
    Account(u64),
    Ref(&'w Repo, String, String),
    Commit(&'w Repo, String),
    /// Anything that is only its fields.
    Plain(&'static str, Value),
    Connection(&'static str, Vec<Of<'w>>, usize, usize),
}

impl<'w> Thing<'w> {
    fn of(&self, of: Of<'w>) -> ResolvedValue<'w> {
        ResolvedValue::object(Thing { look: self.look, of })
    }

    fn maybe(&self, of: Option<Of<'w>>) -> ResolvedValue<'w> {
        of.map_or_else(ResolvedValue::null, |of| self.of(of))
    }

    /// A page of a list. Cursors are places in it.
    fn connection(&self, kind: &'static str, all: Vec<Of<'w>>, arguments: &Value) -> ResolvedValue<'w> {
        let place = |key: &str| arguments[key].as_str().and_then(|cursor| cursor.parse::<usize>().ok());
        let first =
            arguments["first"].as_u64().map_or(usize::MAX, |first| usize::try_from(first).unwrap_or(usize::MAX));
        let from = place("after").unwrap_or(0);
        let last = arguments["last"].as_u64().and_then(|last| usize::try_from(last).ok());
        let from = last.map_or(from, |last| all.len().saturating_sub(last));
        let until = from.saturating_add(first).min(all.len());
        self.of(Of::Connection(kind, all, from.min(until), until))
    }

    fn node(&self, id: &str) -> Option<Of<'w>> {
        let world = self.look.world;
        let (kind, id) = parse_node_id(id)?;
        let seen = |repo: &&Repo| world.sees(self.look.bearer, repo);
        match kind.as_str() {
            "Repository" => world.repos.get(&id).filter(seen).map(Of::Repo),
            "PullRequest" => {
                let mut all = world
                    .repos
                    .values()
                    .filter(seen)
                    .flat_map(|repo| repo.pulls.values().map(move |pull| (repo, pull)));
                all.find(|(_, pull)| pull.id == id).map(|(repo, pull)| Of::Pull(repo, pull))
            }
            "User" => world.accounts.contains_key(&id).then_some(Of::Account(id)),
            _ => None,
        }
    }

    fn query(&self, field: &str, arguments: &Value) -> Option<ResolvedValue<'w>> {
        let world = self.look.world;
        Some(match field {
            "nodes" => {
                let ids: Vec<String> = arguments["ids"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
                ResolvedValue::list(ids.into_iter().map(|id| self.maybe(self.node(&id))).collect::<Vec<_>>())
            }
            "node" => self.maybe(self.node(arguments["id"].as_str()?)),
            "repository" => {
                let name = format!("{}/{}", arguments["owner"].as_str()?, arguments["name"].as_str()?);
                self.maybe(world.repo(&name).filter(|repo| world.sees(self.look.bearer, repo)).map(Of::Repo))
            }
            "viewer" => self.of(Of::Account(world.writer(self.look.bearer)?)),
            "rateLimit" => self.of(Of::Plain(
                "RateLimit",
                json!({ "cost": self.look.points, "limit": 5000, "remaining": 4900, "used": 100, "nodeCount": 0, "resetAt": timestamp(world.now() + 3600) }),
            )),
            _ => return None,
        })
    }

    fn repo(&self, repo: &'w Repo, field: &str, arguments: &Value) -> Option<ResolvedValue<'w>> {
        let world = self.look.world;
        let refs = || self.look.git.refs.get(&repo.id).into_iter().flatten();
        Some(match field {
            "id" => ResolvedValue::leaf(node_id("Repository", repo.id)),
            "databaseId" => leaf(repo.id),
            "name" => ResolvedValue::leaf(repo.name.clone()),
            "nameWithOwner" => ResolvedValue::leaf(world.full_name(repo)),
            "url" => ResolvedValue::leaf(format!("{}/{}", world.base, world.full_name(repo))),
            "isPrivate" => ResolvedValue::leaf(repo.private),
            "isArchived" => ResolvedValue::leaf(repo.archived),
            "isFork" => ResolvedValue::leaf(repo.fork_of.is_some()),
            "isDisabled" | "isLocked" => ResolvedValue::leaf(false),
            "visibility" => ResolvedValue::leaf(if repo.private { "PRIVATE" } else { "PUBLIC" }),
            "owner" => self.of(Of::Account(repo.owner)),
            "updatedAt" | "pushedAt" | "createdAt" => ResolvedValue::leaf("2024-01-01T00:00:00Z"),
            "defaultBranchRef" => {
                let main = refs().find(|(name, _)| name == "refs/heads/main");
                self.maybe(main.map(|(name, sha)| Of::Ref(repo, name.clone(), sha.clone())))
            }
            "ref" => {
                let name = arguments["qualifiedName"].as_str()?;
                let found = refs().find(|(known, _)| known == name || known.strip_prefix("refs/heads/") == Some(name));
                self.maybe(found.map(|(name, sha)| Of::Ref(repo, name.clone(), sha.clone())))
            }
            "refs" => {
                let prefix = arguments["refPrefix"].as_str()?;
                let all = refs().filter(|(name, _)| name.starts_with(prefix));
                let all = all.map(|(name, sha)| Of::Ref(repo, name.clone(), sha.clone())).collect();
                self.connection("RefConnection", all, arguments)
            }
            "object" => self.maybe(
                arguments["oid"]
                    .as_str()
                    .or(arguments["expression"].as_str())
                    .map(|oid| Of::Commit(repo, oid.to_owned())),
            ),
            "pullRequest" => self.maybe(
                arguments["number"]
                    .as_u64()
                    .and_then(|number| repo.pulls.get(&number))
                    .map(|pull| Of::Pull(repo, pull)),
            ),
            "pullRequests" => {
                let states: Vec<&str> =
                    arguments["states"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let base = arguments["baseRefName"].as_str();
                let shown = |pull: &&Pull| {
                    (states.is_empty() || states.contains(&state(pull)))
                        && base.is_none_or(|base| base == pull.base_ref)
                };
                let mut pulls: Vec<&Pull> = repo.pulls.values().filter(shown).collect();
                if arguments["orderBy"]["field"] == "UPDATED_AT" {
                    pulls.sort_by_key(|pull| (pull.updated, pull.number));
                }
                if arguments["orderBy"]["direction"] == "DESC" {
                    pulls.reverse();
                }
                let all = pulls.into_iter().map(|pull| Of::Pull(repo, pull)).collect();
                self.connection("PullRequestConnection", all, arguments)
            }
            _ => return None,
        })
    }

    fn pull(&self, repo: &'w Repo, pull: &'w Pull, field: &str, arguments: &Value) -> Option<ResolvedValue<'w>> {
        let world = self.look.world;
        Some(match field {
            "id" => ResolvedValue::leaf(node_id("PullRequest", pull.id)),
            "databaseId" | "fullDatabaseId" => leaf(pull.id),
            "number" => leaf(pull.number),
            "title" => ResolvedValue::leaf(pull.title.clone()),
            "state" => ResolvedValue::leaf(state(pull)),
            "closed" => ResolvedValue::leaf(!pull.open),
            "merged" => ResolvedValue::leaf(pull.merged),
            "isDraft" => ResolvedValue::leaf(pull.draft),
            "isCrossRepository" => ResolvedValue::leaf(pull.head_repo != Some(repo.id)),
            "headRefOid" => ResolvedValue::leaf(pull.head_sha.clone()),
            "headRefName" => ResolvedValue::leaf(pull.head_ref.clone()),
            "baseRefName" => ResolvedValue::leaf(pull.base_ref.clone()),
            "baseRefOid" => ResolvedValue::leaf(pull.base_sha.clone()),
            "url" => ResolvedValue::leaf(format!("{}/{}/pull/{}", world.base, world.full_name(repo), pull.number)),
            "updatedAt" => ResolvedValue::leaf(timestamp(pull.updated)),
            "createdAt" => ResolvedValue::leaf(timestamp(pull.created)),
            "headRepository" => self.maybe(pull.head_repo.and_then(|id| world.repos.get(&id)).map(Of::Repo)),
            "baseRepository" | "repository" => self.of(Of::Repo(repo)),
            "headRepositoryOwner" => {
                self.maybe(pull.head_repo.and_then(|id| world.repos.get(&id)).map(|repo| Of::Account(repo.owner)))
            }
            "author" => self.maybe(world.accounts.contains_key(&pull.author).then_some(Of::Account(pull.author))),
            "labels" => {
                let all =
                    pull.labels.iter().map(|name| Of::Plain("Label", json!({ "name": name, "id": name }))).collect();
                self.connection("LabelConnection", all, arguments)
            }
            "files" => {
                let names = self.look.git.files.get(&pull.id).into_iter().flatten();
                let all = names.map(|path| Of::Plain("PullRequestChangedFile", json!({ "path": path }))).collect();
                self.connection("PullRequestChangedFileConnection", all, arguments)
            }
            _ => return None,
        })
    }

    fn commit(&self, repo: &'w Repo, sha: &str, field: &str, arguments: &Value) -> Option<ResolvedValue<'w>> {
        Some(match field {
            "oid" => ResolvedValue::leaf(sha.to_owned()),
            "id" => ResolvedValue::leaf(format!("C{sha}")),
            "statusCheckRollup" => {
                let checks = repo.checks.iter().filter(|check| check.sent["head_sha"] == *sha).map(|check| {
                    let shown = self.look.world.show_check(repo, check);
                    let upper = |key: &str| shown[key].as_str().map(str::to_uppercase);
                    Of::Plain(
                        "CheckRun",
                        json!({ "name": shown["name"], "status": upper("status"), "conclusion": upper("conclusion") }),
                    )
                });
                let statuses = repo.statuses.iter().filter(|status| status.sha == sha).map(|status| {
                    let state = status.sent["state"].as_str().map(str::to_uppercase);
                    Of::Plain("StatusContext", json!({ "context": status.sent["context"], "state": state }))
                });
                let all: Vec<Of<'w>> = checks.chain(statuses).collect();
                self.maybe((!all.is_empty()).then_some(Of::Connection("StatusCheckRollup", all, 0, 0)))
            }
            // Workflows that nobody let begin have a suite, and no run.
            "checkSuites" => {
                let waiting = repo
                    .checks
                    .iter()
                    .filter(|check| check.sent["head_sha"] == *sha && check.sent["conclusion"] == "action_required");
                let all = waiting.map(|check| {
                    let run = json!({ "workflow": { "name": check.sent["name"] } });
                    Of::Plain(
                        "CheckSuite",
                        json!({ "status": "COMPLETED", "conclusion": "ACTION_REQUIRED", "workflowRun": run }),
                    )
                });
                self.connection("CheckSuiteConnection", all.collect(), arguments)
            }
            _ => return None,
        })
    }

    fn field(&self, field: &str, arguments: &Value) -> Option<ResolvedValue<'w>> {
        let world = self.look.world;
        match &self.of {
            Of::Query => self.query(field, arguments),
            Of::Repo(repo) => self.repo(repo, field, arguments),
            Of::Pull(repo, pull) => self.pull(repo, pull, field, arguments),
            Of::Commit(repo, sha) => self.commit(repo, sha, field, arguments),
            Of::Plain(_, fields) => {
                let value = fields.get(field)?;
                match field {
                    "workflowRun" => return Some(self.of(Of::Plain("WorkflowRun", value.clone()))),
                    "workflow" => return Some(self.of(Of::Plain("Workflow", value.clone()))),
                    _ => {}
                }
                Some(ResolvedValue::Leaf(serde_json::from_value(value.clone()).ok()?))
            }
            Of::Account(id) => {
                let account = &world.accounts[id];
                Some(match field {
                    "login" => ResolvedValue::leaf(account.login.trim_end_matches("[bot]").to_owned()),
                    "databaseId" => leaf(*id),
                    "id" => ResolvedValue::leaf(node_id("User", *id)),
                    "url" => ResolvedValue::leaf(format!("{}/{}", world.base, account.login)),
                    _ => return None,
                })
            }
            Of::Ref(repo, name, sha) => Some(match field {
                "name" => ResolvedValue::leaf(name.splitn(3, '/').nth(2)?.to_owned()),
                "prefix" => {
                    ResolvedValue::leaf(name.splitn(3, '/').take(2).map(|part| format!("{part}/")).collect::<String>())
                }
                "id" => ResolvedValue::leaf(name.clone()),
                "target" => self.of(Of::Commit(repo, sha.clone())),
                _ => return None,
            }),
            Of::Connection("StatusCheckRollup", all, ..) => match field {
                "contexts" => Some(self.connection("StatusCheckRollupContextConnection", all.clone(), arguments)),
                _ => None,
            },
            Of::Connection(_, all, from, until) => Some(match field {
                "totalCount" => leaf(all.len() as u64),
                "nodes" => {
                    ResolvedValue::list(all[*from..*until].iter().map(|of| self.of(of.clone())).collect::<Vec<_>>())
                }
                "pageInfo" => {
                    let (next, before) = (*until < all.len(), *from > 0);
                    let page = json!({ "hasNextPage": next, "hasPreviousPage": before, "endCursor": until.to_string(), "startCursor": from.to_string() });
                    self.of(Of::Plain("PageInfo", page))
                }
                _ => return None,
            }),
        }
    }
}

impl ObjectValue for Thing<'_> {
    fn type_name(&self) -> &str {
        match &self.of {
            Of::Query => "Query",
            Of::Repo(_) => "Repository",
            Of::Pull(..) => "PullRequest",
            Of::Account(id) => match self.look.world.accounts[id].kind {
                Kind::User => "User",
                Kind::Bot => "Bot",
                Kind::Organization => "Organization",
            },
            Of::Ref(..) => "Ref",
            Of::Commit(..) => "Commit",
            Of::Plain(kind, _) | Of::Connection(kind, ..) => kind,
        }
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        let arguments = serde_json::to_value(info.arguments()).unwrap_or_default();
        let me: &'a Thing<'a> = self;
        me.field(info.field_name(), &arguments).ok_or_else(|| {
            let missing = format!("the fake GitHub does not resolve {}.{} yet", self.type_name(), info.field_name());
            self.look.missing.borrow_mut().push(missing);
            self.unknown_field_error(info)
        })
    }
}

fn leaf<'a>(number: u64) -> ResolvedValue<'a> {
    ResolvedValue::leaf(number)
}

fn state(pull: &Pull) -> &'static str {
    match (pull.open, pull.merged) {
        (true, _) => "OPEN",
        (false, true) => "MERGED",
        (false, false) => "CLOSED",
    }
}
