//! Rails behind https, Sidekiq, Redis under three URLs, a live page, and photos that the browser sends to the bucket itself.

use planner::view::CommitView;

use super::{BRANCH, Story, changed, source};

/// A photo, of one pixel.
const PHOTO: &[u8] = b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0cIDATx\x9cchPp\x00\x00\x02\x04\x00\xe1\xa5\xdf\x7f\x0d\x00\x00\x00\x00IEND\xaeB`\x82";

/// A second commit: a new column, with its migration.
fn sourced() -> Vec<(&'static str, String)> {
    let migration = r#"class AddOriginToProducts < ActiveRecord::Migration[6.1]
  def change
    add_column :products, :origin, :string, null: false, default: "our own field"
  end
end
"#;
    let card = source("rails", "app/views/products/_product.html.erb");
    let origin = "<span class=\"origin\">from <%= product.origin %></span>\n  <span class=\"price\">";
    let schema = source("rails", "db/schema.rb");
    let schema = changed(&schema, "2024_01_08_090002", "2024_02_01_090000");
    let column = "    t.string \"photo_digest\"\n";
    let origin_column = "    t.string \"origin\", default: \"our own field\", null: false\n";
    vec![
        ("db/migrate/20240201090000_add_origin_to_products.rb", migration.to_owned()),
        ("db/schema.rb", changed(&schema, column, &format!("{column}{origin_column}"))),
        ("app/views/products/_product.html.erb", changed(&card, "<span class=\"price\">", origin)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rails_application_is_staged_by_its_manifest_alone() {
    let (story, first) = Story::begin("rails", true).await;
    let commit = story.opens(&first).await;
    assert!(commit.url.starts_with("https://"), "{}", commit.url);
    story.sees(&commit, "//div[@class='product' and contains(., 'Carrots')]").await;

    // Two people: one watches, the other puts something on the shelf.
    story.browser.see("body[data-live=yes]").await;
    let watching = story.browser.client.window().await.unwrap();
    let other = story.browser.client.new_window(true).await.unwrap();
    story.browser.client.switch_to_window(other.handle).await.unwrap();
    story.browser.client.goto(&commit.url).await.unwrap();
    shelve(&story, &commit, "Beetroot").await;
    story.browser.client.switch_to_window(watching).await.unwrap();
    let card = "//div[@class='product' and contains(., 'Beetroot')]";
    let digest = format!("{card}//code");
    story.sees(&commit, &digest).await;
    assert_eq!(story.shows(&commit, &digest).await, DIGEST, "the worker read what the browser sent");
    // The page shows it: from https, by way of the application, at the bucket's own host.
    story.finds("return document.querySelector('.product img').naturalWidth", &1.into()).await;

    let files = sourced();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let second = story.push(BRANCH, "Where products come from", &files).await;
    let next = story.opens(&second).await;
    story.sees(&next, "//span[@class='origin' and contains(., 'from our own field')]").await;
    let page = story.text().await;
    assert!(page.contains("Carrots") && !page.contains("Beetroot"), "each commit has data of its own: {page}");

    story.shows(&commit, card).await;
    story.end().await;
}

/// The photo's SHA-256.
const DIGEST: &str = "9ae101f55e6751d0979decf5f71357290fac14e91e7c4f117b9bf07fd45415ce";

async fn shelve(story: &Story, commit: &CommitView, name: &str) {
    let photo = story.file("photo.png", PHOTO);
    // Counts what the page itself sends to the bucket.
    story
        .browser
        .run("sent = 0; addEventListener('direct-upload:end', () => { sent += 1; sessionStorage.sent = sent })")
        .await;
    story.fill("#product_name", name).await;
    story.fill("#product_price", "1.20").await;
    story.fill("#product_photo", photo.to_str().unwrap()).await;
    story.browser.click("input[type=submit]").await;
    story.sees(commit, &format!("//p[@class='notice' and contains(., '{name}')]")).await;
    assert_eq!(story.browser.run("return sessionStorage.sent").await, "1", "the browser sent the photo itself");
}
