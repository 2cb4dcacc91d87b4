//! Django, gunicorn, Celery on Redis, uploads and static files in the bucket by django-storages.

use super::{BRANCH, Story, changed, source};

/// A second commit: a new field of an order, with its migration.
fn noted() -> Vec<(&'static str, String)> {
    let migration = r#"from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orders", "0001_initial")]

    operations = [
        migrations.AddField("order", "note", models.CharField(default="no note", max_length=200)),
    ]
"#;
    let model = source("django", "orders/models.py");
    let field = "    note = models.CharField(default=\"no note\", max_length=200)\n";
    let model = changed(&model, "    created =", &format!("{field}    created ="));
    let page = source("django", "orders/templates/orders/index.html");
    let page = changed(&page, "</a>:", "</a> ({{ order.note }}):");
    vec![
        ("orders/migrations/0002_order_note.py", migration.to_owned()),
        ("orders/models.py", model),
        ("orders/templates/orders/index.html", page),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_django_application_is_staged_by_its_manifest_alone() {
    let (story, first) = Story::begin("django", false).await;
    let commit = story.opens(&first).await;
    order(&story, "Ada", "two pumpkins please").await;
    // Its style comes from the bucket, by a link without a signature.
    story.finds("return getComputedStyle(document.querySelector('.message')).color", &"rgb(0, 102, 0)".into()).await;

    story.shows(&commit, "//li[contains(., 'Ada') and contains(., '3 words')]").await;
    story.browser.click("li.order a").await;
    assert_eq!(story.text().await, "two pumpkins please", "read from the bucket by a link of its own");

    let files = noted();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let second = story.push(BRANCH, "Orders have a note", &files).await;
    let next = story.opens(&second).await;
    assert!(story.text().await.contains("No orders yet."), "each commit has data of its own");
    order(&story, "Grace", "leeks").await;
    story.shows(&next, "//li[contains(., 'Grace (no note): 1 words')]").await;

    story.browser.client.goto(&commit.url).await.unwrap();
    let page = story.text().await;
    assert!(page.contains("Ada") && !page.contains("Grace"), "{page}");
    story.end().await;
}

async fn order(story: &Story, customer: &str, receipt: &str) {
    let file = story.file("receipt.txt", receipt.as_bytes());
    story.fill("input[name=customer]", customer).await;
    story.fill("input[name=receipt]", file.to_str().unwrap()).await;
    story.browser.click("form button").await;
    story.browser.see("p.message").await;
}
