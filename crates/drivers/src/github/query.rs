//! Queries, and the shapes of their answers. Each is cheap: GitHub counts connections, a hundred of them a point.

use planner::identity::Sha;
use serde::Deserialize;

/// Most repositories of one query, and most nodes of any connection.
pub(super) const MOST: usize = 100;

/// Open pull requests of many repositories, oldest first: pages do not shift while they are read. One connection a
/// repository, so a hundred of them cost one point.
pub(super) const PULLS: &str = "query Pulls($ids: [ID!]!) { \
    rateLimit { cost } \
    nodes(ids: $ids) { ... on Repository { id databaseId nameWithOwner isPrivate pushedAt \
    pullRequests(states: [OPEN], first: 100, orderBy: {field: CREATED_AT, direction: ASC}) { \
    totalCount pageInfo { hasNextPage endCursor } \
    nodes { id number title updatedAt isDraft url baseRefName headRefOid headRepository { databaseId } \
    author { __typename login ... on User { databaseId } ... on Bot { databaseId } } } } } } }";

/// More of them of one repository.
pub(super) const MORE_PULLS: &str = "query MorePulls($id: ID!, $after: String!) { \
    rateLimit { cost } \
    node(id: $id) { ... on Repository { id databaseId nameWithOwner isPrivate pushedAt \
    pullRequests(states: [OPEN], first: 100, after: $after, orderBy: {field: CREATED_AT, direction: ASC}) { \
    totalCount pageInfo { hasNextPage endCursor } \
    nodes { id number title updatedAt isDraft url baseRefName headRefOid headRepository { databaseId } \
    author { __typename login ... on User { databaseId } ... on Bot { databaseId } } } } } } }";

/// Labels and files of pull requests that changed.
pub(super) const DETAILS: &str = "query Details($ids: [ID!]!) { \
    rateLimit { cost } \
    nodes(ids: $ids) { ... on PullRequest { id headRefOid \
    labels(first: 100) { nodes { name } } \
    files(first: 100) { totalCount nodes { path } } } } }";

/// Branches or tags of one repository. A tag's object may be the tag itself, with the commit behind it.
pub(super) const REFS: &str = "query Refs($id: ID!, $prefix: String!, $after: String) { \
    rateLimit { cost } \
    node(id: $id) { ... on Repository { id refs(refPrefix: $prefix, first: 100, after: $after) { \
    totalCount pageInfo { hasNextPage endCursor } \
    nodes { name target { __typename oid ... on Tag { target { __typename oid } } } } } } } }";

/// What has been said of one commit.
pub(super) const CHECKS: &str = "query Checks($id: ID!, $sha: GitObjectID!) { \
    rateLimit { cost } \
    node(id: $id) { ... on Repository { id object(oid: $sha) { ... on Commit { oid \
    statusCheckRollup { contexts(first: 100) { pageInfo { hasNextPage } nodes { __typename \
    ... on CheckRun { name status conclusion } ... on StatusContext { context state } } } } \
    checkSuites(first: 100) { nodes { status conclusion workflowRun { workflow { name } } } } } } } } }";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Repo {
    pub(super) database_id: u64,
    pub(super) name_with_owner: String,
    pub(super) is_private: bool,
    pub(super) pushed_at: Option<String>,
    pub(super) pull_requests: Connection<PullRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connection<T> {
    pub(super) total_count: usize,
    pub(super) page_info: PageInfo,
    pub(super) nodes: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl PageInfo {
    /// Where the next page begins, if there is one.
    pub(super) fn next(&self) -> Option<&str> {
        self.end_cursor.as_deref().filter(|_| self.has_next_page)
    }

    pub(super) fn has_next(&self) -> bool {
        self.has_next_page
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PullRequest {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) updated_at: String,
    pub(super) is_draft: bool,
    pub(super) url: String,
    pub(super) base_ref_name: String,
    pub(super) head_ref_oid: Sha,
    pub(super) head_repository: Option<Numbered>,
    pub(super) author: Option<Author>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Numbered {
    pub(super) database_id: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Author {
    #[serde(rename = "__typename")]
    pub(super) kind: String,
    pub(super) login: String,
    #[serde(default)]
    pub(super) database_id: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Details {
    pub(super) id: String,
    pub(super) head_ref_oid: Sha,
    pub(super) labels: Option<Nodes<Named>>,
    pub(super) files: Option<Counted<Changed>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Nodes<T> {
    pub(super) nodes: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counted<T> {
    pub(super) total_count: usize,
    pub(super) nodes: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Changed {
    pub(super) path: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct WithRefs {
    pub(super) refs: Option<Connection<GitRef>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct GitRef {
    pub(super) name: String,
    target: Option<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "__typename")]
    kind: String,
    oid: Sha,
    #[serde(default)]
    target: Option<Box<Target>>,
}

impl GitRef {
    /// The commit that it points to, through a tag's object; none if it points to something else.
    pub(super) fn commit(&self) -> Option<Sha> {
        let mut target = self.target.as_ref()?;
        while let Some(behind) = &target.target {
            target = behind;
        }
        (target.kind == "Commit").then_some(target.oid)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WithCommit {
    pub(super) object: Option<Commit>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Commit {
    pub(super) status_check_rollup: Option<Rollup>,
    pub(super) check_suites: Option<Nodes<Suite>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Rollup {
    pub(super) contexts: Contexts,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Contexts {
    pub(super) page_info: PageInfo,
    pub(super) nodes: Vec<Context>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "__typename")]
pub(super) enum Context {
    CheckRun { name: String, status: String, conclusion: Option<String> },
    StatusContext { context: String, state: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Suite {
    pub(super) status: String,
    pub(super) conclusion: Option<String>,
    pub(super) workflow_run: Option<Run>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Run {
    pub(super) workflow: Named,
}
