//! What a build gets to see: the commit's files and nothing else, or a clear refusal.

use std::collections::{BTreeMap, BTreeSet};

use drivers::git::Context;
use planner::identity::{Sha, Trust};
use planner::resource::Failure;

use super::{DOCKERFILE, EXECUTABLE, Entry, FILE, FOLDER, LINK, Repo, bytes, entries, git, origin};

async fn open(repo: &Repo, sha: &Sha, folder: &str, dockerfile: &str) -> Result<Context, Failure> {
    repo.forge().context(&origin(sha, Trust::Trusted), folder, dockerfile).await
}

async fn files(repo: &Repo, files: &[(&str, &str, &[u8])]) -> BTreeMap<String, Entry> {
    let sha = repo.commit(files, &[], "x");
    entries(&bytes(open(repo, &sha, ".", "Dockerfile").await.unwrap()).await.unwrap())
}

async fn refusal(repo: &Repo, sha: &Sha, folder: &str, dockerfile: &str) -> String {
    match open(repo, sha, folder, dockerfile).await {
        Err(Failure::Permanent { text }) => text,
        other => panic!("not permanent: {other:?}"),
    }
}

#[tokio::test]
async fn the_tar_holds_what_git_archive_holds() {
    let repo = Repo::new();
    let long = format!("{}/{}", "deep/".repeat(40).trim_end_matches('/'), "long-name-".repeat(20));
    let target = format!("./{}", "x/../".repeat(60));
    let large: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let sha = repo.commit(
        &[
            DOCKERFILE,
            (EXECUTABLE, "bin/run", b"#!/bin/sh\n"),
            (FILE, "empty", b""),
            (FILE, "block", &[7; 512]),
            (FILE, "large", &large),
            (FILE, "-rf", b"leading dash"),
            (FILE, "größe/日本.txt", b"utf-8"),
            (FILE, "a b/c'd\"e;$(id)", b"odd"),
            (FILE, &long, b"long"),
            (LINK, "bin/link", b"../empty"),
            (LINK, "dangling", b"nowhere/at/all"),
            (LINK, "x/long-link", target.as_bytes()),
            (FILE, "x/y", b""),
        ],
        &[],
        "x",
    );
    let ours = bytes(open(&repo, &sha, ".", "Dockerfile").await.unwrap()).await.unwrap();
    let theirs = super::git_bytes(&repo.path(), &["archive", "--format=tar", &sha.to_string()], b"");
    assert_eq!(entries(&ours), entries(&theirs));
    let again = bytes(open(&repo, &sha, ".", "Dockerfile").await.unwrap()).await.unwrap();
    assert!(ours == again, "the same commit gives the same bytes");
    for entry in tar::Archive::new(&*ours).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 1_700_000_000));
        let mode = header.mode().unwrap();
        assert!(
            [0o644, 0o755].contains(&mode) || header.entry_type().is_symlink() || header.entry_type().is_gnu_longname()
        );
    }
}

#[tokio::test]
async fn attributes_of_the_repository_change_nothing() {
    let repo = Repo::new();
    let attributes = b"secret export-ignore\nversion export-subst\n*.txt text eol=crlf filter=evil\n";
    let found = files(
        &repo,
        &[
            DOCKERFILE,
            (FILE, ".gitattributes", attributes),
            (FILE, "secret", b"s"),
            (FILE, "version", b"$Format:%H$"),
            (FILE, "a.txt", b"a\nb\n"),
        ],
    )
    .await;
    let content = |path: &str| found[path].2.as_slice();
    assert_eq!(
        (content("secret"), content("version"), content("a.txt")),
        (&b"s"[..], &b"$Format:%H$"[..], &b"a\nb\n"[..])
    );
}

#[tokio::test]
async fn dockerignore_leaves_files_out_and_the_dockerfile_is_handed_over_all_the_same() {
    let repo = Repo::new();
    let ignore = (FILE, ".dockerignore", &b"*\n!src\nsrc/*.log\n"[..]);
    let sha = repo.commit(
        &[
            DOCKERFILE,
            ignore,
            (FILE, "README", b""),
            (FILE, "src/a", b"a"),
            (FILE, "src/b.log", b""),
            (FILE, "x/y", b""),
        ],
        &[],
        "x",
    );
    let context = open(&repo, &sha, ".", "Dockerfile").await.unwrap();
    assert_eq!(context.dockerfile, DOCKERFILE.2);
    let found = entries(&bytes(context).await.unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["src", "src/a"]);
    let own = (FILE, "Dockerfile.dockerignore", &b"README\n"[..]);
    let found = files(&repo, &[DOCKERFILE, ignore, own, (FILE, "README", b""), (FILE, "x/y", b"")]).await;
    let expected = [".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "x", "x/y"];
    assert_eq!(found.keys().collect::<Vec<_>>(), expected, "one of the Dockerfile's own goes before");
}

#[tokio::test]
async fn a_context_is_a_folder_of_the_commit() {
    let repo = Repo::new();
    let sha = repo.commit(
        &[
            (FILE, "api/docker/Dockerfile", b"FROM api\n"),
            (FILE, "api/src/main", b"m"),
            (FILE, "web/x", b""),
            (FILE, ".dockerignore", b"**"),
            (LINK, "link", b"api"),
            (LINK, "api/out", b"../web/x"),
        ],
        &[],
        "x",
    );
    let context = open(&repo, &sha, "api", "docker/Dockerfile").await.unwrap();
    assert_eq!(context.dockerfile, b"FROM api\n");
    let note = "left out: out is a link that leads out of the repository, to \"../web/x\"";
    assert_eq!(context.notes, [note], "the context is all that a build sees");
    let found = entries(&bytes(context).await.unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["docker", "docker/Dockerfile", "src", "src/main"]);
    for folder in ["nowhere", "web/x", "link"] {
        let text = refusal(&repo, &sha, folder, "Dockerfile").await;
        assert_eq!(text, format!("there is no folder {folder:?} in the commit: look at [build] context"));
    }
}

#[tokio::test]
async fn a_dockerfile_is_a_regular_file_that_is_there() {
    let repo = Repo::new();
    let large = vec![b'#'; (256 << 10) + 1];
    let sha = repo.commit(
        &[(LINK, "link", b"real"), (FILE, "real", b"FROM x"), (FILE, "folder/x", b""), (FILE, "large", &large)],
        &[],
        "x",
    );
    for (path, line) in [
        ("Dockerfile", "no Dockerfile in the commit: add one, or name it by [build] dockerfile"),
        ("docker/app.Dockerfile", "no docker/app.Dockerfile in the commit: add one, or name it by [build] dockerfile"),
        ("real/x", "no real/x in the commit: add one, or name it by [build] dockerfile"),
        ("link", "link is a symbolic link; make it a regular file"),
        ("folder", "folder is a folder; make it a regular file"),
        ("large", "large has 262145 bytes, and at most 262144 are read; shorten it"),
    ] {
        assert_eq!(refusal(&repo, &sha, ".", path).await, line);
    }
    let bad = repo.commit(&[DOCKERFILE, (FILE, ".dockerignore", b"a\n[")], &[], "x");
    assert_eq!(refusal(&repo, &bad, ".", "Dockerfile").await, ".dockerignore line 2: \"[\" is not a pattern");
}

#[tokio::test]
async fn links_stay_inside_or_stay_out() {
    let repo = Repo::new();
    let inside = [
        ("a/in", "../Dockerfile"),
        ("a/self", "."),
        ("a/b/up", "../.."),
        ("top", "a/b/up/a/b"),
        ("a/dangling", "../nowhere"),
        ("slash", "a//b/"),
    ];
    let outside = [
        ("abs", "/etc/passwd"),
        ("up", ".."),
        ("a/b/far", "../../../x"),
        // Word by word inside, and out through another link.
        ("through", "a/b/up/../x"),
        ("chain", "up"),
        ("loop1", "loop2"),
        ("loop2", "loop1"),
        ("ctrl", "a\nb"),
    ];
    let mut commit = vec![DOCKERFILE, (FILE, "a/b/c", b"")];
    commit.extend(inside.iter().chain(&outside).map(|(path, target)| (LINK, *path, target.as_bytes())));
    let sha = repo.commit(&commit, &[], "x");
    let context = open(&repo, &sha, ".", "Dockerfile").await.unwrap();
    let mut noted: Vec<_> = context.notes.iter().map(|note| note.split(' ').nth(2).unwrap().to_owned()).collect();
    noted.sort();
    let mut expected = outside.map(|(path, _)| path.to_owned());
    expected.sort();
    assert_eq!(noted, expected);
    let found = entries(&bytes(context).await.unwrap());
    let links = found.iter().filter(|(_, entry)| entry.0.is_symlink());
    let links: Vec<_> = links.map(|(path, entry)| (path.as_str(), std::str::from_utf8(&entry.2).unwrap())).collect();
    let mut expected = inside;
    expected.sort_unstable();
    assert_eq!(links, expected);
}

/// Makes a commit of any tree right in the mirror, behind the back of git's own checks.
async fn smuggle(repo: &Repo, tree: &str) -> Sha {
    let _ = drivers::Forge::heads(&repo.forge(), &BTreeSet::new()).await;
    let sha = git(&repo.mirror(), &["commit-tree", tree, "-m", "x"], b"");
    git(&repo.mirror(), &["update-ref", &format!("refs/sidestage/{sha}"), &sha], b"");
    sha.parse().unwrap()
}

/// A tree in the mirror of lines as `git mktree` takes them, with a Dockerfile.
fn raw_tree(repo: &Repo, lines: &[String]) -> String {
    let dockerfile = git(&repo.mirror(), &["hash-object", "-w", "--stdin"], b"FROM scratch\n");
    let mut text = format!("{FILE} blob {dockerfile}\tDockerfile\0");
    text.extend(lines.iter().map(|line| format!("{line}\0")));
    git(&repo.mirror(), &["mktree", "-z"], text.as_bytes())
}

#[tokio::test]
async fn hostile_trees_are_refused_even_if_git_would_have_them() {
    let repo = Repo::new();
    let _ = drivers::Forge::heads(&repo.forge(), &BTreeSet::new()).await;
    let blob = git(&repo.mirror(), &["hash-object", "-w", "--stdin"], b"x");
    let file = |name: &str| format!("{FILE} blob {blob}\t{name}");
    let inner = raw_tree(&repo, &[]);
    let mut deep = git(&repo.mirror(), &["mktree", "-z"], format!("{}\0", file("x")).as_bytes());
    for _ in 0..64 {
        deep = git(&repo.mirror(), &["mktree", "-z"], format!("{FOLDER} tree {deep}\td\0").as_bytes());
    }
    let folder = |name: &str| format!("{FOLDER} tree {inner}\t{name}");
    let wide = "w".repeat(1025);
    for (lines, what) in [
        (vec![folder("..")], "the commit holds \"../Dockerfile\", which is no path within a tree"),
        (vec![folder(".")], "the commit holds \"./Dockerfile\", which is no path within a tree"),
        (vec![folder(".git")], "the commit holds \".git/Dockerfile\", which would be a repository of its own"),
        (vec![folder(".GIT")], "the commit holds \".GIT/Dockerfile\", which would be a repository of its own"),
        (vec![file("a\nb")], "the commit holds \"a\\nb\", whose name holds a control character; rename it"),
        (vec![file("a\x1b[2J")], "the commit holds \"a\\u{1b}[2J\", whose name holds a control character; rename it"),
        (vec![file(&wide)], "whose path has more than 1024 bytes; shorten it"),
        (vec![format!("{FOLDER} tree {deep}\tdeep")], "which lies more than 64 folders deep"),
        (vec![file("twice"), file("twice")], "the commit holds \"twice\" twice; such a tree cannot be used"),
        (
            vec![format!("{LINK} blob {blob}\tboth"), folder("both")],
            "the commit holds \"both\" twice; such a tree cannot be used",
        ),
    ] {
        let sha = smuggle(&repo, &raw_tree(&repo, &lines)).await;
        let text = refusal(&repo, &sha, ".", "Dockerfile").await;
        assert!(text.contains(what) && !text.contains(char::is_control), "{text:?} says {what:?}");
    }
    let latin = [FILE.as_bytes(), b" blob ", blob.as_bytes(), b"\tgr\xfc\xdfe\0"].concat();
    let dockerfile = git(&repo.mirror(), &["hash-object", "-w", "--stdin"], b"FROM scratch\n");
    let latin = [latin, format!("{FILE} blob {dockerfile}\tDockerfile\0").into_bytes()].concat();
    let sha = smuggle(&repo, &git(&repo.mirror(), &["mktree", "-z"], &latin)).await;
    assert!(refusal(&repo, &sha, ".", "Dockerfile").await.contains("whose name is not UTF-8; rename it"));
}

#[tokio::test]
async fn trees_beyond_the_limits_are_refused_unless_dockerignore_names_what_is_too_much() {
    let repo = Repo::new();
    let _ = drivers::Forge::heads(&repo.forge(), &BTreeSet::new()).await;
    let blob =
        |content: &[u8]| git(&repo.mirror(), &["-c", "core.compression=1", "hash-object", "-w", "--stdin"], content);
    let small = blob(b"");
    let many: Vec<String> = (0..50_000).map(|n| format!("{FILE} blob {small}\tmany{n}")).collect();
    let at_most = blob(&vec![0; 100 << 20]);
    let larger = blob(&vec![0; (100 << 20) + 1]);
    let sum: Vec<String> = (0..6).map(|n| format!("{FILE} blob {at_most}\tmany{n}")).collect();
    let ignore = blob(b"many*\n");
    for (mut lines, what) in [
        (many, "the commit has more than 50000 files; name in .dockerignore what the image does not need"),
        (
            vec![format!("{FILE} blob {larger}\tmany")],
            "the commit holds \"many\", which has 104857601 bytes of at most 104857600; name it in .dockerignore",
        ),
        (sum, "the commit's files have more than 536870912 bytes; name in .dockerignore what the image does not need"),
    ] {
        let sha = smuggle(&repo, &raw_tree(&repo, &lines)).await;
        assert_eq!(refusal(&repo, &sha, ".", "Dockerfile").await, what);
        lines.push(format!("{FILE} blob {ignore}\t.dockerignore"));
        let sha = smuggle(&repo, &raw_tree(&repo, &lines)).await;
        let found = entries(&bytes(open(&repo, &sha, ".", "Dockerfile").await.unwrap()).await.unwrap());
        assert_eq!(found.keys().collect::<Vec<_>>(), [".dockerignore", "Dockerfile"]);
    }
}

#[tokio::test]
async fn a_tar_that_cannot_be_finished_is_an_error_and_not_a_shorter_tar() {
    let repo = Repo::new();
    let _ = drivers::Forge::heads(&repo.forge(), &BTreeSet::new()).await;
    let blob = |content: &[u8]| git(&repo.mirror(), &["hash-object", "-w", "--stdin"], content);
    let (large, last) = (blob(&vec![b'x'; 4 << 20]), blob(b"lost"));
    let lines = [format!("{FILE} blob {large}\ta"), format!("{FILE} blob {last}\tz")];
    let sha = smuggle(&repo, &raw_tree(&repo, &lines)).await;
    // The first file is more than a pipe holds, so the last is asked for only after that one was read.
    let context = open(&repo, &sha, ".", "Dockerfile").await.unwrap();
    std::fs::remove_file(repo.mirror().join("objects").join(&last[..2]).join(&last[2..])).unwrap();
    let error = bytes(context).await.unwrap_err().to_string();
    assert_eq!(error, format!("git does not hand out the object {last}"));
}

#[tokio::test]
async fn a_tar_that_nobody_wants_ends_its_writer() {
    let repo = Repo::new();
    let large = vec![b'x'; 4 << 20];
    let sha = repo.commit(&[DOCKERFILE, (FILE, "a", &large)], &[], "x");
    // Dropping waits for the writer, which is stuck in a full pipe until then.
    drop(open(&repo, &sha, ".", "Dockerfile").await.unwrap());
}

#[tokio::test]
async fn a_lost_mirror_is_fetched_again() {
    let repo = Repo::new();
    let sha = repo.commit(&[DOCKERFILE], &[], "x");
    let forge = repo.forge();
    drivers::Forge::read(&forge, &sha).await.unwrap();
    std::fs::remove_dir_all(repo.mirror()).unwrap();
    forge.context(&origin(&sha, Trust::Trusted), ".", "Dockerfile").await.unwrap();
}
