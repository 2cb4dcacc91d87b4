//! The configuration: the documented example is the truth, and every mistake has its line.

use sidestage::config::Config;

const EXAMPLE: &str = include_str!("../../deploy/sidestage.example.toml");

#[test]
fn the_example_parses_and_shows_the_defaults() {
    let shown = Config::parse(EXAMPLE).expect("the example is valid").policy();
    let bare = "domain = \"staging.example.org\"\n[[project]]\nname = \"shop\"\ngit = \"/srv/git/shop.git\"\n";
    let mut defaults = Config::parse(bare).expect("domain and project are enough").policy();
    defaults.addresses = shown.addresses.clone();
    assert_eq!(shown, defaults);
}

/// The error of the example with one line put in after `anchor`.
fn error_with(anchor: &str, line: &str) -> String {
    assert!(EXAMPLE.contains(anchor), "{anchor}");
    let text = EXAMPLE.replacen(anchor, &format!("{anchor}\n{line}\n"), 1);
    format!("{:#}", Config::parse(&text).expect_err(line))
}

#[test]
fn mistakes_name_line_and_key() {
    for (anchor, line, expected) in [
        ("[limits]", "enviroments = 3", "unknown field `enviroments`"),
        ("[engine]", "foreign = {}", "not yet"),
        ("[[project]]", "wait_for = [\"ci\"]", "not yet"),
        ("[[project]]", "egress = [\"pypi.org\"]", "not yet"),
    ] {
        let error = error_with(anchor, line);
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("line ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn values_out_of_range_say_what_is_allowed() {
    for (from, to, expected) in [
        ("domain = \"staging.example.org\"", "domain = \"Staging\"", "domain name in lower case"),
        ("keep = 2", "keep = 0", "keep must be at least 1"),
        ("git = \"/srv/git/shop.git\"", "git = \"shop.git\"", "absolute path"),
        ("memory = \"512m\"", "memory = \"lots\"", "memory"),
        ("idle = \"15m\"", "idle = 15", "idle"),
        ("dns = \"off\"", "dns = \"authoritative\"", "set [listen] dns"),
        ("access = \"members\"", "access = \"link\"", "not yet"),
        ("stage = \"on request\"", "stage = \"always\"", "on request"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = format!("{:#}", Config::parse(&EXAMPLE.replacen(from, to, 1)).expect_err(to));
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn two_projects_with_one_suffix_collide() {
    let twice = format!("{EXAMPLE}\n[[project]]\nname = \"other\"\ngit = \"/srv/git/other.git\"\n");
    let error = format!("{:#}", Config::parse(&twice).expect_err("same suffix"));
    assert!(error.contains("shop") && error.contains("same suffix"), "{error}");
}
