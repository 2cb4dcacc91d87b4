//! Heads of many repositories in few queries. What is not known in full is an error: a page, a node or a field that is
//! missing never reads as 'closed'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use planner::event::Head;
use planner::forge::{Person, Pull};
use planner::identity::{ProjectName, Ref};
use planner::resource::Failure;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{As, graph_error};
use super::forge::{Detail, GitHubForge};
use super::query::{self, Details, MOST, PullRequest, Repo};
use super::repository::Repository;
use super::{GitHub, refs};
use crate::git::clean;

/// Repositories that are looked up by name at once, at the start.
const AT_ONCE: usize = 4;

type Answers = BTreeMap<ProjectName, Result<Vec<Head>, Failure>>;
type Asked<'a> = (Arc<GitHubForge>, &'a BTreeSet<Ref>);

pub(super) async fn heads(github: &GitHub, asked: &[Asked<'_>]) -> Answers {
    let looked_up = |forge: Arc<GitHubForge>| async move { forge.repository().await };
    let forges: Vec<_> = asked.iter().map(|(forge, _)| looked_up(forge.clone())).collect();
    let found: Vec<Result<Repository, Failure>> = futures_util::stream::iter(forges).buffered(AT_ONCE).collect().await;
    let mut answers = Answers::new();
    let mut groups: BTreeMap<As, Vec<(&Asked<'_>, Repository)>> = BTreeMap::new();
    for (asked, found) in asked.iter().zip(found) {
        match found {
            Ok(repository) => groups.entry(repository.who).or_default().push((asked, repository)),
            Err(failure) => drop(answers.insert(asked.0.watched.project.clone(), Err(failure))),
        }
    }
    for (who, group) in groups {
        for some in group.chunks(MOST) {
            let ids: Vec<&str> = some.iter().map(|(_, repository)| repository.node.as_str()).collect();
            let listed = nodes(github, who, query::PULLS, &ids).await;
            for (at, ((forge, also), repository)) in some.iter().enumerate() {
                let listed = match &listed {
                    Ok(nodes) => nodes[at].clone(),
                    Err(failure) => Err(failure.clone()),
                };
                let heads = of_one(github, forge, also, repository, listed).await;
                answers.insert(forge.watched.project.clone(), heads);
            }
        }
    }
    answers
}

/// The heads of one repository, given its first page.
async fn of_one(
    github: &GitHub,
    forge: &GitHubForge,
    also: &BTreeSet<Ref>,
    repository: &Repository,
    listed: Result<Option<Value>, Failure>,
) -> Result<Vec<Head>, Failure> {
    let Some(listed) = listed? else {
        // Deleted, made private, or moved to an owner who has not installed us: its name says which, the next time.
        forge.forget_repository();
        return Err(Failure::transient(format!(
            "{} is not there for us any more: it was deleted, made private, or handed to another owner; nothing of it is \
             removed for that",
            repository.full()
        )));
    };
    let first: Repo = shaped(listed)?;
    if first.database_id != repository.id {
        return Err(Failure::transient("GitHub answers for another repository than was asked for"));
    }
    forge.is_now(&first);
    let (pushed, total) = (first.pushed_at.clone(), first.pull_requests.total_count);
    let mut next = first.pull_requests.page_info.next().map(str::to_owned);
    let mut pulls = first.pull_requests.nodes;
    while let Some(after) = next {
        let variables = json!({ "id": repository.node, "after": after });
        let page: Repo = node(github, repository.who, query::MORE_PULLS, variables).await?;
        next = page.pull_requests.page_info.next().map(str::to_owned);
        pulls.extend(page.pull_requests.nodes);
    }
    if pulls.len() != total {
        return Err(Failure::transient(format!(
            "GitHub lists {} of {total} pull requests of {}; asked again",
            pulls.len(),
            repository.full()
        )));
    }
    pulls.retain(|pull| forge.watched.bases.contains(&pull.base_ref_name));
    details(github, forge, repository, &pulls).await?;
    let mut heads: Vec<Head> = pulls.iter().map(|pull| head(forge, repository, pull)).collect();
    heads.extend(refs::heads(github, forge, repository, also, pushed).await?);
    Ok(heads)
}

/// Labels and files of those that changed since they were looked at last, if anybody wants to know.
async fn details(
    github: &GitHub,
    forge: &GitHubForge,
    repository: &Repository,
    pulls: &[PullRequest],
) -> Result<(), Failure> {
    if !forge.watched.labels && forge.watched.skip_paths.is_none() {
        return Ok(());
    }
    let changed: Vec<&PullRequest> = pulls.iter().filter(|pull| forge.detail(pull).is_none()).collect();
    for some in changed.chunks(MOST) {
        let ids: Vec<&str> = some.iter().map(|pull| pull.id.as_str()).collect();
        let nodes = nodes(github, repository.who, query::DETAILS, &ids).await?;
        for (pull, node) in some.iter().zip(nodes) {
            // Gone since it was listed: the next listing says so.
            let Some(node) = node? else { continue };
            let told: Details = shaped(node)?;
            if told.id == pull.id && told.head_ref_oid == pull.head_ref_oid {
                let labels = told.labels.map(|labels| labels.nodes.into_iter().map(|label| label.name).collect());
                let skipped = forge.watched.skip_paths.as_ref().is_some_and(|skip| {
                    told.files.is_some_and(|files| {
                        let all = files.total_count == files.nodes.len() && files.total_count > 0;
                        all && files.nodes.iter().all(|file| skip.is_match(&file.path))
                    })
                });
                let labels = labels.unwrap_or_default();
                forge.keep(pull, Detail { of: Detail::key(pull), labels, skipped_paths: skipped });
            }
        }
    }
    forge.keep_only(pulls);
    Ok(())
}

/// A pull request as the planner knows it.
fn head(forge: &GitHubForge, repository: &Repository, pull: &PullRequest) -> Head {
    let from = pull.head_repository.as_ref().and_then(|from| from.database_id);
    let (bot, listed) = match &pull.author {
        Some(author) => {
            let bare = |login: &str| login.trim_end_matches("[bot]").to_lowercase();
            let login = bare(&author.login);
            (author.kind == "Bot", forge.watched.bots.iter().any(|known| bare(known) == login))
        }
        None => (false, false),
    };
    let author = pull
        .author
        .as_ref()
        .and_then(|author| author.database_id.map(|id| Person { id, login: clean(&author.login, 100) }));
    let detail = forge.detail(pull);
    Head {
        name: Ref::Pull(pull.number),
        sha: pull.head_ref_oid,
        // By number, never by name: and a repository that is gone is somebody else's.
        foreign: from != Some(repository.id) || (bot && !listed),
        title: clean(&pull.title, 200),
        pull: Some(Box::new(Pull {
            author,
            bot: bot && !listed,
            draft: pull.is_draft,
            labels: detail.as_ref().map(|detail| detail.labels.clone()).unwrap_or_default(),
            base: pull.base_ref_name.clone(),
            repository: from,
            skipped_paths: detail.is_some_and(|detail| detail.skipped_paths),
            url: clean(&pull.url, 300),
        })),
    }
}

/// Nodes by their ids, in this order: none for one that is not there, an error for one that an error is about. An error
/// about none in particular is one of all.
pub(super) async fn nodes(
    github: &GitHub,
    who: As,
    query: &str,
    ids: &[&str],
) -> Result<Vec<Result<Option<Value>, Failure>>, Failure> {
    let (mut data, errors) = github.client.query(who, query, json!({ "ids": ids })).await?;
    let nodes = match data.get_mut("nodes").map(Value::take) {
        Some(Value::Array(nodes)) if nodes.len() == ids.len() => nodes,
        _ => return Err(Failure::transient(format!("GitHub's answer is not whole: {}", graph_error(&errors)))),
    };
    let mut about: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    for error in errors {
        let path = error.get("path").and_then(Value::as_array);
        let at = path.filter(|path| path.first().and_then(Value::as_str) == Some("nodes"));
        let at = at.and_then(|path| usize::try_from(path.get(1)?.as_u64()?).ok());
        match at {
            Some(at) => about.entry(at).or_default().push(error),
            None => return Err(Failure::transient(format!("GitHub's answer is not whole: {}", graph_error(&[error])))),
        }
    }
    let judged = nodes.into_iter().enumerate().map(|(at, node)| {
        let errors = about.remove(&at).unwrap_or_default();
        let gone = |error: &Value| error.get("type").and_then(Value::as_str) == Some("NOT_FOUND");
        match node {
            Value::Null if errors.iter().all(gone) => Ok(None),
            node if errors.is_empty() => Ok(Some(node)),
            _ => Err(Failure::transient(format!("GitHub's answer is not whole: {}", graph_error(&errors)))),
        }
    });
    Ok(judged.collect())
}

/// One node; an error of any kind is one of all.
pub(super) async fn node<T: DeserializeOwned>(
    github: &GitHub,
    who: As,
    query: &str,
    variables: Value,
) -> Result<T, Failure> {
    let (mut data, errors) = github.client.query(who, query, variables).await?;
    match data.get_mut("node").map(Value::take) {
        Some(node) if errors.is_empty() && !node.is_null() => shaped(node),
        _ => Err(Failure::transient(format!("GitHub's answer is not whole: {}", graph_error(&errors)))),
    }
}

fn shaped<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| Failure::transient(format!("GitHub's answer is not what its documentation says: {error}")))
}
