//! Signing in: links, sessions, cookies.

use super::FORM;
use super::fake::{Fake, pass, sha, usual};
use super::http::{Console, Visitor};

#[tokio::test]
async fn a_link_signs_in_once() {
    let console = Console::start(Fake::new(usual())).await;
    let token = console.fake.links.issue().unwrap();
    let visitor = console.visitor();
    for _ in 0..2 {
        let page = visitor.get(&format!("/login?token={token}")).await;
        assert_eq!(page.status, 200, "a preview of the link does not use it up");
        assert!(page.header("set-cookie").is_none());
    }
    let own = ("origin", console.url.as_str());
    let form = format!("token={token}");
    let stolen = visitor.send("POST", "/login", &[FORM, ("origin", "http://evil.test")], &form).await;
    assert_eq!(stolen.status, 403);
    let signed = visitor.send("POST", "/login", &[FORM, own], &form).await;
    assert_eq!((signed.status.as_u16(), signed.header("location")), (303, Some("/")));
    let cookie = signed.header("set-cookie").unwrap();
    assert!(cookie.starts_with("sidestage_abcdefgh="), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let again = visitor.send("POST", "/login", &[FORM, own], &form).await;
    assert_eq!(again.status, 403);
    assert_eq!(visitor.get(&format!("/login?token={token}")).await.status, 403);
}

#[tokio::test]
async fn a_link_is_valid_for_ten_minutes() {
    let console = Console::start(Fake::new(usual())).await;
    let (early, late) = (console.fake.links.issue().unwrap(), console.fake.links.issue().unwrap());
    let own = ("origin", console.url.as_str());
    let visitor = console.visitor();
    pass(599);
    assert_eq!(visitor.send("POST", "/login", &[FORM, own], &format!("token={early}")).await.status, 303);
    pass(1);
    assert_eq!(visitor.send("POST", "/login", &[FORM, own], &format!("token={late}")).await.status, 403);
}

#[tokio::test]
async fn a_session_ends_without_use_after_twelve_hours_and_when_told() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    for _ in 0..11 {
        pass(3599);
        assert_eq!(ann.get("/").await.status, 200);
    }
    pass(3599);
    assert_eq!(ann.get("/").await.status, 200, "11 h 59 min");
    pass(60);
    assert_eq!(ann.get("/").await.status, 401, "12 hours");

    let bob = console.sign_in().await;
    pass(1800);
    assert_eq!(bob.send("GET", "/", &[("sidestage-live", "1")], "").await.status, 200);
    pass(1800);
    assert_eq!(bob.get("/").await.status, 401, "what the page fetches by itself is no use");

    let cem = console.sign_in().await;
    let token = cem.form_token().await;
    let out = cem.send("POST", "/logout", &[FORM, ("origin", &console.url)], &format!("token={token}")).await;
    assert_eq!(out.status, 303);
    assert_eq!(cem.get("/").await.status, 401);
}

#[tokio::test]
async fn a_cookie_tossed_by_another_host_lets_nobody_in() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let tossed = "sidestage_abcdefgh=tossed";
    for both in [format!("{tossed}; {}", ann.cookie), format!("{}; {tossed}", ann.cookie)] {
        let visitor = Visitor { cookie: both, ..ann.clone() };
        assert_eq!(visitor.get("/").await.status, 401, "there is no telling which is ours");
    }
    let other = Visitor { cookie: ann.cookie.replace("abcdefgh", "abcdefgx"), ..ann.clone() };
    assert_eq!(other.get("/").await.status, 401, "another instance's cookie");
    let beside = Visitor { cookie: format!("other=1; {}", ann.cookie), ..ann };
    assert_eq!(beside.get("/").await.status, 200);
}

#[tokio::test]
async fn a_link_from_elsewhere_asks_once_more_from_here() {
    // The cookie is `Strict`, so the first request after a link on a forge comes without it.
    let console = Console::start(Fake::new(usual())).await;
    let path = format!("/projects/shop/{}", sha(1));
    let nobody = console.visitor();
    let answer = nobody.send("GET", &path, &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains(&format!("content=\"0;url={path}\"")), "{}", answer.body);
    let answer = nobody.send("GET", &path, &[("sec-fetch-site", "same-origin")], "").await;
    assert!(!answer.body.contains("http-equiv"), "and not for ever");
}
