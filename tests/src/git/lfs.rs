//! Files behind LFS pointers: in the build when the operator says so, else counted; never something else.

use std::path::{Path, PathBuf};

use planner::identity::{Sha, Trust};
use planner::policy::SourceSettings;
use planner::resource::Failure;

use super::{DOCKERFILE, EXECUTABLE, FILE, Repo, bytes, entries, origin};

const ON: SourceSettings = SourceSettings { submodules: false, lfs: true };

fn oid(content: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text that git keeps instead of this content.
fn pointer(content: &[u8]) -> Vec<u8> {
    let (oid, size) = (oid(content), content.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n").into_bytes()
}

fn place(repository: &Path, oid: &str) -> PathBuf {
    repository.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
}

/// Puts content where git-lfs keeps it in a repository.
fn store(repository: &Path, content: &[u8]) -> PathBuf {
    let place = place(repository, &oid(content));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, content).unwrap();
    place
}

async fn open(repo: &Repo, sha: &Sha, extras: SourceSettings) -> Result<drivers::git::Context, Failure> {
    repo.forge().with(extras).context(&origin(sha, Trust::Trusted), ".", "Dockerfile").await
}

async fn refusal(repo: &Repo, sha: &Sha) -> String {
    match open(repo, sha, ON).await {
        Err(Failure::Permanent { text }) => text,
        other => panic!("not permanent: {other:?}"),
    }
}

#[tokio::test]
async fn pointers_become_what_they_point_to() {
    let repo = Repo::new();
    let (large, tool) = (vec![7; 3 << 20], b"#!/bin/sh\necho a tool\n".to_vec());
    store(&repo.path(), &large);
    store(&repo.path(), &tool);
    let (one, two) = (pointer(&large), pointer(&tool));
    // Near misses are files like any other.
    let near = String::from_utf8(one.clone()).unwrap().replace("size", "ext-0-x sha256:00\nsize");
    let sha = repo.commit(
        &[DOCKERFILE, (FILE, "a/model.bin", &one), (EXECUTABLE, "a/tool", &two), (FILE, "near", near.as_bytes())],
        &[],
        "x",
    );
    let context = open(&repo, &sha, ON).await.unwrap();
    assert!(context.notes.is_empty());
    let found = entries(&bytes(context).await.unwrap());
    assert!(found["a/model.bin"] == (tar::EntryType::Regular, false, large));
    assert_eq!(found["a/tool"], (tar::EntryType::Regular, true, tool));
    assert_eq!(found["near"].2, near.as_bytes());
}

#[tokio::test]
async fn without_the_setting_pointers_stay_and_are_counted() {
    let repo = Repo::new();
    let pointers: Vec<Vec<u8>> = (0..14u8).map(|n| pointer(&[n])).collect();
    let names: Vec<String> = (0..14).map(|n| format!("assets/{n}.png")).collect();
    let mut files = vec![DOCKERFILE];
    files.extend(names.iter().zip(&pointers).map(|(name, text)| (FILE, name.as_str(), text.as_slice())));
    let sha = repo.commit(&files, &[], "x");
    let context = open(&repo, &sha, SourceSettings::default()).await.unwrap();
    assert_eq!(context.notes, ["14 LFS files were not fetched; the operator can set source = { lfs = true }"]);
    assert_eq!(entries(&bytes(context).await.unwrap())["assets/3.png"].2, pointers[3]);
    files.push((FILE, ".dockerignore", b"assets\n!assets/3.png\n"));
    let sha = repo.commit(&files, &[], "x");
    let notes = open(&repo, &sha, SourceSettings::default()).await.unwrap().notes;
    assert_eq!(notes, ["1 LFS file was not fetched; the operator can set source = { lfs = true }"]);
}

#[tokio::test]
async fn an_object_is_what_its_pointer_says_or_the_build_does_not_begin() {
    let repo = Repo::new();
    let text = pointer(b"content");
    let sha = repo.commit(&[DOCKERFILE, (FILE, "logo.png", &text)], &[], "x");
    let (oid, lfs) = (oid(b"content"), repo.path().join("lfs").display().to_string());
    let start = format!("logo.png is an LFS file, and its object {oid} ");
    let absent =
        format!("{start}is not in {lfs}; push it (git lfs push --all origin), or name the file in .dockerignore");
    assert_eq!(refusal(&repo, &sha).await, absent);
    let place = store(&repo.path(), b"content");
    std::fs::write(&place, b"contents").unwrap();
    assert_eq!(refusal(&repo, &sha).await, format!("{start}has 8 bytes instead of 7 in {lfs}; push it again"));
    std::fs::write(&place, b"c0ntent").unwrap();
    assert_eq!(
        refusal(&repo, &sha).await,
        format!("{start}is damaged in {lfs}: its SHA-256 is another; push it again")
    );
    std::fs::remove_file(&place).unwrap();
    std::fs::create_dir(&place).unwrap();
    assert_eq!(refusal(&repo, &sha).await, absent);
    let ignored = repo.commit(&[DOCKERFILE, (FILE, "logo.png", &text), (FILE, ".dockerignore", b"*.png")], &[], "x");
    open(&repo, &ignored, ON).await.unwrap();
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_ends_the_tar_with_an_error() {
    let repo = Repo::new();
    // The first is more than a pipe holds, so the second is opened only after it was read.
    let large = vec![1; 4 << 20];
    store(&repo.path(), &large);
    let place = store(&repo.path(), b"content");
    let (first, second) = (pointer(&large), pointer(b"content"));
    let sha = repo.commit(&[DOCKERFILE, (FILE, "a", &first), (FILE, "b", &second)], &[], "x");
    for instead in [&b"c0ntent"[..], b"con"] {
        std::fs::write(&place, b"content").unwrap();
        let context = open(&repo, &sha, ON).await.unwrap();
        std::fs::write(&place, instead).unwrap();
        let error = bytes(context).await.unwrap_err().to_string();
        assert_eq!(error, format!("the LFS object {} changed while it was read", oid(b"content")));
    }
}

#[tokio::test]
async fn objects_count_towards_the_size_of_a_context() {
    let repo = Repo::new();
    let huge = std::fs::File::create(store(&repo.path(), b"")).unwrap();
    huge.set_len((512 << 20) + 1).unwrap();
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", oid(b""), (512 << 20) + 1);
    let sha = repo.commit(&[DOCKERFILE, (FILE, "huge", text.as_bytes())], &[], "x");
    assert_eq!(
        refusal(&repo, &sha).await,
        "the commit's files have more than 536870912 bytes; name in .dockerignore what the image does not need"
    );
}
