//! Submodules: those of the same owner come along when the operator says so, all others are refused, and nothing of a
//! repository beside the project's is handed out by another way.

use std::collections::BTreeMap;

use drivers::git::Context;
use planner::identity::{Sha, Trust};
use planner::policy::SourceSettings;
use planner::resource::Failure;

use super::{DOCKERFILE, EXECUTABLE, Entry, FILE, LINK, Repo, SUBMODULE, bytes, commit, entries, git, origin};

const OFF: SourceSettings = SourceSettings { submodules: false, lfs: false };
const ON: SourceSettings = SourceSettings { submodules: true, lfs: false };

async fn open(repo: &Repo, sha: &Sha, trust: Trust, extras: SourceSettings, folder: &str) -> Result<Context, Failure> {
    repo.forge().with(extras).context(&origin(sha, trust), folder, "Dockerfile").await
}

/// All that a build of the project's own code gets.
async fn files(repo: &Repo, sha: &Sha, folder: &str) -> BTreeMap<String, Entry> {
    entries(&bytes(open(repo, sha, Trust::Trusted, ON, folder).await.unwrap()).await.unwrap())
}

async fn refusal(repo: &Repo, sha: &Sha, trust: Trust, folder: &str) -> String {
    match open(repo, sha, trust, ON, folder).await {
        Err(Failure::Permanent { text }) => text,
        other => panic!("not permanent: {other:?}"),
    }
}

/// A `.gitmodules` of these paths and URLs.
fn gitmodules(modules: &[(&str, &str)]) -> Vec<u8> {
    let section = |(path, url): &(&str, &str)| format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    modules.iter().map(section).collect::<String>().into_bytes()
}

/// A commit of the project with a Dockerfile and this one submodule.
fn with_module(repo: &Repo, path: &str, url: &str, commit: &str) -> Sha {
    let modules = gitmodules(&[(path, url)]);
    repo.commit(&[DOCKERFILE, (FILE, ".gitmodules", &modules), (SUBMODULE, path, commit.as_bytes())], &[], "x")
}

/// A repository beside the project's, with a commit.
fn library(repo: &Repo) -> String {
    commit(
        &repo.beside("lib.git"),
        &[(FILE, "src/lib.py", b"a library"), (EXECUTABLE, "bin/tool", b"#!/bin/sh\n"), (LINK, "link", b"src/lib.py")],
    )
}

#[tokio::test]
async fn without_the_setting_submodules_are_empty_folders_and_counted() {
    let repo = Repo::new();
    let lib = library(&repo);
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 7\n", "ab".repeat(32));
    let sha = repo.commit(
        &[
            DOCKERFILE,
            (FILE, ".gitmodules", &gitmodules(&[("lib/x", "../lib.git"), ("y", "file:///etc")])),
            (SUBMODULE, "lib/x", lib.as_bytes()),
            (SUBMODULE, "y", lib.as_bytes()),
            (FILE, "logo", pointer.as_bytes()),
        ],
        &[],
        "x",
    );
    let context = open(&repo, &sha, Trust::Trusted, OFF, ".").await.unwrap();
    let line =
        "2 submodules, 1 LFS file were not fetched; the operator can set source = { submodules = true, lfs = true }";
    assert_eq!(context.notes, [line]);
    let ours = entries(&bytes(context).await.unwrap());
    let theirs = super::git_bytes(&repo.path(), &["archive", "--format=tar", &sha.to_string()], b"");
    assert_eq!(ours, entries(&theirs), "as in a clone, their folders are there");
    assert!(!repo.mirror().join("modules").exists());
}

#[tokio::test]
async fn submodules_of_the_same_owner_come_along() {
    let repo = Repo::new();
    let lib = library(&repo);
    let here = repo.folder.path().display().to_string();
    let odd = repo.beside("a b.git");
    let odd_commit = commit(&odd, &[(FILE, "odd", b"o")]);
    for (url, commit) in [
        ("../lib.git", &lib),
        ("./../lib.git", &lib),
        ("../lib", &lib),
        (&format!("{here}/lib.git"), &lib),
        (&format!("{here}/mirror/../lib.git"), &lib),
        (&format!("file://{here}/lib.git"), &lib),
        (&format!("file://{here}/a%20b.git"), &odd_commit),
    ] {
        let sha = with_module(&repo, "vendor/lib", url, commit);
        let found = files(&repo, &sha, ".").await;
        assert!(found.keys().any(|path| path.starts_with("vendor/lib/")), "{url}");
    }
    let sha = with_module(&repo, "vendor/lib", "../lib.git", &lib);
    let found = files(&repo, &sha, ".").await;
    let expected = [
        ".gitmodules",
        "Dockerfile",
        "vendor",
        "vendor/lib",
        "vendor/lib/bin",
        "vendor/lib/bin/tool",
        "vendor/lib/link",
        "vendor/lib/src",
        "vendor/lib/src/lib.py",
    ];
    assert_eq!(found.keys().collect::<Vec<_>>(), expected);
    assert_eq!(found["vendor/lib/bin/tool"], (tar::EntryType::Regular, true, b"#!/bin/sh\n".to_vec()));
    assert_eq!(found["vendor/lib/src/lib.py"].2, b"a library");
    assert_eq!(found["vendor/lib/link"], (tar::EntryType::Symlink, false, b"src/lib.py".to_vec()));
}

#[tokio::test]
async fn submodules_of_anybody_else_are_refused() {
    let repo = Repo::new();
    let lib = library(&repo);
    let elsewhere = tempfile::tempdir().unwrap();
    let (here, away) = (repo.folder.path().display().to_string(), elsewhere.path().display().to_string());
    let other = elsewhere.path().join("lib.git");
    std::fs::rename(repo.beside("other.git"), &other).unwrap();
    let deeper = repo.beside("group/lib.git");
    std::os::unix::fs::symlink(&other, repo.folder.path().join("linked.git")).unwrap();
    for url in [
        "https://github.com/acme/lib.git".to_owned(),
        "git@github.com:acme/lib.git".to_owned(),
        format!("{away}/lib.git"),
        format!("file://{away}/lib.git"),
        format!("file://somewhere{here}/lib.git"),
        format!("{}", deeper.display()),
        format!("{here}/../lib.git"),
        format!("{here}/%2e%2e/lib.git"),
        "../group/lib.git".to_owned(),
        "../../lib.git".to_owned(),
        "../linked.git".to_owned(),
        "..".to_owned(),
        "lib.git".to_owned(),
        "ext::sh -c touch% /tmp/x".to_owned(),
    ] {
        let sha = with_module(&repo, "vendor/lib", &url, &lib);
        let expected = format!(
            "the submodule vendor/lib comes from {url:?}, which is not of the project's own owner: only repositories \
             right in {here} are fetched"
        );
        assert_eq!(refusal(&repo, &sha, Trust::Trusted, ".").await, expected);
    }
    let sha = with_module(&repo, "vendor/lib", "../none.git", &lib);
    let expected = format!(
        "the submodule vendor/lib comes from \"../none.git\", and there is no repository {here}/none.git: put it there, or \
         correct .gitmodules"
    );
    assert_eq!(refusal(&repo, &sha, Trust::Trusted, ".").await, expected);
    // What the image does not need is not asked for.
    let ignored = repo.commit(
        &[
            DOCKERFILE,
            (FILE, ".dockerignore", b"vendor\n!vendor/README\n"),
            (FILE, ".gitmodules", &gitmodules(&[("vendor/lib", "https://github.com/acme/lib.git")])),
            (FILE, "vendor/README", b"r"),
            (SUBMODULE, "vendor/lib", lib.as_bytes()),
        ],
        &[],
        "x",
    );
    let found = files(&repo, &ignored, ".").await;
    assert!(found.contains_key("vendor/README") && !found.contains_key("vendor/lib"));
}

#[tokio::test]
async fn a_submodule_is_named_in_gitmodules_and_its_commit_is_there() {
    let repo = Repo::new();
    let lib = library(&repo);
    let link = (SUBMODULE, "vendor/lib", lib.as_bytes());
    let unnamed = repo.commit(&[DOCKERFILE, link], &[], "x");
    assert_eq!(
        refusal(&repo, &unnamed, Trust::Trusted, ".").await,
        "the commit has a submodule at vendor/lib that .gitmodules does not name; add it there, or take it out"
    );
    let gone = "0123456789abcdef0123456789abcdef01234567";
    let sha = with_module(&repo, "vendor/lib", "../lib.git", gone);
    let here = repo.folder.path().display();
    assert_eq!(
        refusal(&repo, &sha, Trust::Trusted, ".").await,
        format!("the submodule vendor/lib: the commit {gone} is gone from {here}/lib.git; push it again")
    );
    let broken = repo.commit(&[DOCKERFILE, (FILE, ".gitmodules", b"[submodule \"x\"\n"), link], &[], "x");
    let text = refusal(&repo, &broken, Trust::Trusted, ".").await;
    assert!(text.starts_with(".gitmodules cannot be read: bad config line "), "{text}");
}

/// A file that git's configuration would include reads what is not in the commit.
#[tokio::test]
async fn gitmodules_is_data_of_the_commit_alone() {
    let repo = Repo::new();
    let lib = library(&repo);
    let outside = repo.folder.path().join("outside");
    std::fs::write(&outside, gitmodules(&[("vendor/lib", "../lib.git")])).unwrap();
    let include = format!("[include]\n\tpath = {}\n", outside.display());
    let files: &[(&str, &str, &[u8])] =
        &[DOCKERFILE, (FILE, ".gitmodules", include.as_bytes()), (SUBMODULE, "vendor/lib", lib.as_bytes())];
    let sha = repo.commit(files, &[], "x");
    assert!(refusal(&repo, &sha, Trust::Trusted, ".").await.contains(".gitmodules does not name"));
}

#[tokio::test]
async fn submodules_nest_and_bring_their_own_lfs_objects() {
    let repo = Repo::new();
    let (outer, inner) = (repo.beside("outer.git"), repo.beside("inner.git"));
    let oid = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"; // of "content"
    let place = inner.join("lfs/objects/ed/70").join(oid);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, b"content").unwrap();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 7\n");
    let innermost = commit(&inner, &[(FILE, "data", pointer.as_bytes()), (LINK, "up", b"../../Dockerfile")]);
    let modules = gitmodules(&[("deep/inner", "../inner.git")]);
    let middle = commit(&outer, &[(FILE, ".gitmodules", &modules), (SUBMODULE, "deep/inner", innermost.as_bytes())]);
    let sha = with_module(&repo, "outer", "../outer.git", &middle);
    let both = SourceSettings { submodules: true, lfs: true };
    let context = open(&repo, &sha, Trust::Trusted, both, ".").await.unwrap();
    assert_eq!(context.notes, [] as [&str; 0]);
    let found = entries(&bytes(context).await.unwrap());
    assert_eq!(found["outer/deep/inner/data"].2, b"content");
    let line = "1 LFS file was not fetched; the operator can set source = { submodules = true, lfs = true }";
    assert_eq!(open(&repo, &sha, Trust::Trusted, ON, ".").await.unwrap().notes, [line]);
}

/// Two repositories that are submodules of each other, generation by generation, as far as one likes.
#[tokio::test]
async fn cycles_end() {
    let repo = Repo::new();
    let lib = repo.beside("lib.git");
    let mut last = commit(&lib, &[(FILE, "end", b"e")]);
    for depth in 1..=6 {
        let (place, url) = if depth % 2 == 1 { (repo.path(), "../lib.git") } else { (lib.clone(), "../shop.git") };
        let modules = gitmodules(&[("m", url)]);
        let files: &[(&str, &str, &[u8])] =
            &[DOCKERFILE, (FILE, ".gitmodules", &modules), (SUBMODULE, "m", last.as_bytes())];
        last = commit(&place, files);
        if depth == 5 {
            let found = files_of(&repo, &last).await;
            assert_eq!(found["m/m/m/m/m/end"].2, b"e");
        }
    }
    let sha = with_module(&repo, "m", "../lib.git", &last);
    assert_eq!(
        refusal(&repo, &sha, Trust::Trusted, ".").await,
        "the submodule m lies more than 5 submodules deep; name it in .dockerignore"
    );
}

async fn files_of(repo: &Repo, sha: &str) -> BTreeMap<String, Entry> {
    files(repo, &sha.parse().unwrap(), ".").await
}

#[tokio::test]
async fn a_context_may_lie_above_and_within_a_submodule() {
    let repo = Repo::new();
    let lib = commit(&repo.beside("lib.git"), &[(FILE, "app/Dockerfile", b"FROM lib\n"), (FILE, "app/src/x", b"x")]);
    let modules = gitmodules(&[("services/api/vendor/lib", "../lib.git")]);
    let sha = repo.commit(
        &[
            DOCKERFILE,
            (FILE, ".gitmodules", &modules),
            (FILE, "services/api/Dockerfile", b"FROM api\n"),
            (SUBMODULE, "services/api/vendor/lib", lib.as_bytes()),
        ],
        &[],
        "x",
    );
    let found = files(&repo, &sha, "services/api").await;
    assert_eq!(found["vendor/lib/app/src/x"].2, b"x");
    assert!(!found.contains_key("services"));
    let context = open(&repo, &sha, Trust::Trusted, ON, "services/api/vendor/lib/app").await.unwrap();
    assert_eq!(context.dockerfile, b"FROM lib\n");
    let found = entries(&bytes(context).await.unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["Dockerfile", "src", "src/x"]);
    let forge = repo.forge().with(ON);
    let of = origin(&sha, Trust::Trusted);
    let context = forge.context(&of, "services/api", "vendor/lib/app/Dockerfile").await.unwrap();
    assert_eq!(context.dockerfile, b"FROM lib\n");
    for folder in ["services/api/vendor/lib/none", "services/api/vendor/none"] {
        let text = refusal(&repo, &sha, Trust::Trusted, folder).await;
        assert_eq!(text, format!("there is no folder {folder:?} in the commit: look at [build] context"));
    }
    let off = open(&repo, &sha, Trust::Trusted, OFF, "services/api/vendor/lib/app").await.unwrap_err().to_string();
    assert!(off.contains("lies in the submodule services/api/vendor/lib, which is not fetched"), "{off}");
}

#[tokio::test]
async fn foreign_code_gets_no_repository_that_the_project_itself_does_not_use() {
    let repo = Repo::new();
    let lib = library(&repo);
    let secret = commit(&repo.beside("secret.git"), &[(FILE, "key", b"k")]);
    repo.point("refs/heads/main", &with_module(&repo, "lib", "../lib.git", &lib));
    let fork = with_module(&repo, "other/place", "../lib", &lib);
    open(&repo, &fork, Trust::Approved, ON, ".").await.unwrap();
    let hostile = with_module(&repo, "lib", "../secret.git", &secret);
    assert_eq!(
        refusal(&repo, &hostile, Trust::Approved, ".").await,
        "the submodule lib comes from \"../secret.git\", which the project's own branches do not have as a submodule; \
         foreign code gets no other"
    );
    // A commit of a repository is not handed out as one of another, though both have been fetched.
    open(&repo, &hostile, Trust::Trusted, ON, ".").await.unwrap();
    let swapped = with_module(&repo, "lib", "../lib.git", &secret);
    let text = refusal(&repo, &swapped, Trust::Approved, ".").await;
    assert!(text.starts_with(&format!("the submodule lib: the commit {secret} is gone from ")), "{text}");
    // Nor through a folder that git itself would follow, had it the commit.
    let mirror = repo.mirror();
    git(&mirror, &["fetch", "--quiet", &repo.folder.path().join("secret.git").display().to_string(), &secret], b"");
    let text = refusal(&repo, &swapped, Trust::Approved, "lib").await;
    assert!(text.starts_with(&format!("the submodule lib: the commit {secret} is gone from ")), "{text}");
}
