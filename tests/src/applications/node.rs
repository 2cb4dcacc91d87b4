//! Express, PostgreSQL, the AWS SDK with its defaults, BullMQ on Redis.

use super::{BRANCH, Story, changed, source};

/// A second commit: what the board's people change, with its migration.
fn signed() -> Vec<(&'static str, String)> {
    let migration = r#"exports.up = (pgm) => {
  pgm.addColumn("notices", { author: { type: "text", notNull: true, default: "somebody" } });
};

exports.down = (pgm) => {
  pgm.dropColumn("notices", "author");
};
"#;
    let view = source("node", "views/index.ejs");
    let view = changed(&view, "</a>: <%=", "</a> by <%= notice.author %>: <%=");
    vec![("migrations/1704800000000_add-author.cjs", migration.to_owned()), ("views/index.ejs", view)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_application_is_staged_by_its_manifest_alone() {
    let (story, first) = Story::begin("node", false).await;
    let commit = story.opens(&first).await;
    assert_eq!(
        story.browser.see("link[rel=canonical]").await.attr("href").await.unwrap().unwrap(),
        commit.url.clone() + "/"
    );

    post(&story, "Flea market", "at ten\nin the yard\n").await;
    story.shows(&commit, "//li[contains(., 'Flea market') and contains(., '2 lines')]").await;
    story.browser.click("li.notice a").await;
    assert_eq!(story.text().await, "at ten\nin the yard", "read from the bucket by a link of its own");

    let files = signed();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let second = story.push(BRANCH, "Notices are signed", &files).await;
    let next = story.opens(&second).await;
    assert!(!story.text().await.contains("Flea market"), "each commit has data of its own");
    post(&story, "Lost: one glove", "red\n").await;
    story.shows(&next, "//li[contains(., 'Lost: one glove by somebody: 1 lines')]").await;

    story.browser.client.goto(&commit.url).await.unwrap();
    let page = story.text().await;
    assert!(page.contains("Flea market") && !page.contains("glove"), "{page}");
    story.end().await;
}

async fn post(story: &Story, title: &str, content: &str) {
    let file = story.file("notice.txt", content.as_bytes());
    story.fill("input[name=title]", title).await;
    story.fill("input[name=file]", file.to_str().unwrap()).await;
    story.browser.click("form button").await;
    story.browser.see("li.notice").await;
}
