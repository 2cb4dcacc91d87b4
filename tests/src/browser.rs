//! The console in a real browser: signing in, staging, and following, with the script and without it.
#![allow(clippy::unwrap_used)]

use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use planner::identity::Ref;
use planner::view::State;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::console::fake::{Fake, commit, reference, sha, usual};
use crate::console::http::{Console, bounded};
use crate::stage::Stage;

/// A browser with a profile of its own, and the driver that steers it.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn start(scripts: bool) -> Browser {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver is installed");
        let port = bounded(port(&mut driver)).await;
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900",
                "--host-resolver-rules=MAP *.staging.test 127.0.0.1,MAP staging.test 127.0.0.1", folder],
            "prefs": { "profile.managed_default_content_settings.javascript": if scripts { 1 } else { 2 } },
        });
        // Nobody has taught this profile an authority of ours.
        let capabilities = [("goog:chromeOptions", options), ("acceptInsecureCerts", json!(true))];
        let capabilities = capabilities.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        Browser { client, driver, _profile: profile }
    }

    /// Closes the window; the rest ends when this is dropped.
    pub(crate) async fn stop(self) {
        self.client.clone().close().await.unwrap();
    }

    /// Uses a link as a person would.
    async fn sign_in(&self, console: &Console) {
        self.enter(&format!("{}/login?token={}", console.url, console.fake.links.issue().unwrap())).await;
    }

    async fn enter(&self, link: &str) {
        self.client.goto(link).await.unwrap();
        self.click("form button").await;
        self.see("main .refs").await;
    }

    /// Waits for an element.
    pub(crate) async fn see(&self, css: &str) -> fantoccini::elements::Element {
        let waiting = self.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css));
        waiting.await.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    pub(crate) async fn click(&self, css: &str) {
        self.see(css).await.click().await.unwrap();
    }

    pub(crate) async fn run(&self, script: &str) -> serde_json::Value {
        self.client.execute(script, vec![]).await.unwrap()
    }
}

impl Drop for Browser {
    /// A test that fails leaves no browser behind either: the driver leads a process group of its own, and the browser is in it.
    fn drop(&mut self) {
        if let Some(id) = self.driver.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// The port that the driver chose, from what it prints.
async fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return port.trim_end_matches('.').parse().unwrap();
        }
    }
    panic!("chromedriver ended without naming its port");
}

/// The button of that commit's form.
fn button(byte: u8) -> String {
    format!("form:has(input[value=\"{}\"]) button.primary", sha(byte))
}

/// The row of that commit in that state.
fn row(byte: u8, state: &str) -> String {
    format!("li.commit.was-{state}:has(a[title=\"{}\"])", sha(byte))
}

#[tokio::test]
async fn stage_it_and_follow_live() {
    let mut shown = usual();
    let title = "<img src=x onerror='window.pwned = 1'><script>window.pwned = 1</script>";
    shown.projects[0].refs.push(reference(
        Ref::Branch(title.to_owned()),
        title,
        vec![commit(5, title, State::Unstaged)],
    ));
    let fake = Fake::new(shown);
    fake.logs(&["Step 1/2 : <b>FROM</b>\n"]);
    let console = Console::start(fake).await;
    let browser = Browser::start(true).await;
    browser.sign_in(&console).await;
    browser.see("#link:not([hidden])").await;
    browser.run("window.mark = 1").await;

    // A menu that is open stays so while other rows change.
    browser.click(&format!("{} details.menu summary", row(10, "ready"))).await;
    browser.click(&button(1)).await;
    browser.see(&row(1, "building")).await;
    browser.see("#said .said:not(.bad)").await;
    browser.click(&format!("{} details.menu summary", row(10, "ready"))).await;
    console.fake.set(sha(1), |commit| commit.state = State::Ready);
    browser.see(&format!("{} a.open", row(1, "ready"))).await;
    browser.see(&format!("{} details.menu[open]", row(10, "ready"))).await;
    assert_eq!(browser.run("return document.activeElement.nodeName").await, "SUMMARY", "and keeps the focus");
    assert_eq!(browser.run("return window.mark").await, 1, "all of it without loading the page again");
    assert_eq!(browser.run("return String(window.pwned)").await, "undefined");

    // Foreign code is approved and staged by one press.
    browser.click(&button(9)).await;
    browser.see(&row(9, "building")).await;

    // The log of a commit goes on in its page.
    browser.client.goto(&format!("{}/projects/shop/{}", console.url, sha(10))).await.unwrap();
    browser.click("#log-build summary").await;
    let pre = browser.see("#log-build pre").await;
    holds(&browser, "FROM").await;
    console.fake.log_more("Successfully built\n").await;
    holds(&browser, "Successfully built").await;
    assert!(pre.text().await.unwrap().contains("<b>FROM</b>"), "as text");
    browser.stop().await;
}

/// Waits until the log holds this.
async fn holds(browser: &Browser, text: &str) {
    let path = format!("//pre[contains(., '{text}')]");
    browser.client.wait().at_most(Duration::from_secs(20)).for_element(Locator::XPath(&path)).await.unwrap();
}

#[tokio::test]
async fn without_scripts_the_browser_stages_too() {
    let console = Console::start(Fake::new(usual())).await;
    let browser = Browser::start(false).await;
    browser.sign_in(&console).await;
    browser.click(&button(1)).await;
    browser.see(&row(1, "building")).await;
    browser.see("#said .said:not(.bad)").await;
    browser.see("#link[hidden]").await;
    browser.click(".out button").await;
    browser.see(".ask pre").await;
    browser.stop().await;
}

/// A newcomer's first minute, on a whole Sidestage: sign in, press 'Stage it', open the running copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_stages_a_commit_and_opens_it() {
    let image = crate::kit::busybox_image();
    let dockerfile = format!(
        "FROM {}\nCOPY page.html /www/index.html\nCMD [\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/www\"]\n",
        image.tag
    );
    let files = [("Dockerfile", dockerfile.as_str()), ("page.html", "<h1>before</h1>\n")];
    let stage = Stage::open(&files, "").await;
    let page = [("page.html", "<h1 id=\"new\">after</h1>\n")];
    let sha = stage.repository.push("refs/heads/main", "refs/heads/feature", "A page", &page).await.unwrap();
    stage.look().await;
    let browser = Browser::start(true).await;
    browser.enter(&stage.instance().login_link()).await;
    browser.click(&format!("form:has(input[value=\"{sha}\"]) button.primary")).await;
    let open = browser.see(&format!("li.commit.was-ready:has(a[title=\"{sha}\"]) a.open")).await;
    let url = open.attr("href").await.unwrap().unwrap();
    browser.client.goto(&url).await.unwrap();
    assert_eq!(browser.see("h1#new").await.text().await.unwrap(), "after");
    browser.stop().await;
    stage.close().await;
}
