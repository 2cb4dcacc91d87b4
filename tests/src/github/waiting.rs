//! What does not stage itself, and what waits for CI: facts of the forge, decisions of the planner.

use planner::core::Core;
use planner::event::{Event, Head, Step};
use planner::forge::{Check, Checks, Pull};
use planner::identity::{InstanceKey, ProjectName, Ref, Sha, Time};
use planner::resource::Failure;
use planner::view::State;
use sidestage::config::Config;

fn core(keys: &str) -> Core {
    let text = format!(
        "domain = \"staging.example.org\"\n[[project]]\nname = \"shop\"\ngithub = \"acme/shop\"\nstage = \"automatic\"\n{keys}\n"
    );
    let mut core = Core::restore(InstanceKey::new([7; 32]), Config::parse(&text).unwrap().policy(), &[]).unwrap();
    // The first sight is calm: nothing stages itself.
    refs(&mut core, 0, Vec::new());
    core
}

fn shop() -> ProjectName {
    "shop".parse().unwrap()
}

fn sha(byte: u8) -> Sha {
    Sha::from_bytes([byte; 20])
}

fn head(byte: u8, pull: Pull) -> Head {
    let pull = Some(Box::new(Pull { base: "main".to_owned(), ..pull }));
    Head { name: Ref::Pull(1), sha: sha(byte), foreign: false, title: "A change".to_owned(), pull }
}

fn refs(core: &mut Core, at: u64, heads: Vec<Head>) -> Step {
    core.step(Time(at * 1000), vec![Event::Refs { project: shop(), heads }])
}

fn seen(core: &Core, byte: u8) -> (State, String) {
    let view = core.view();
    let commits = view.projects[0].refs.iter().flat_map(|of| &of.commits);
    let commit = commits.into_iter().find(|commit| commit.sha == sha(byte)).unwrap();
    (commit.state, commit.reason.clone().unwrap_or_default())
}

fn says(core: &mut Core, at: u64, checks: Result<&[(&str, Check)], Failure>) -> Step {
    let checks = checks.map(|said| said.iter().map(|(name, check)| ((*name).to_owned(), *check)).collect::<Checks>());
    core.step(Time(at * 1000), vec![Event::Checks { project: shop(), sha: sha(1), checks }])
}

#[test]
fn a_commit_waits_for_ci_and_says_for_what() {
    let mut core = core("wait_for = [\"ci/test\", \"lint\"]");
    let step = refs(&mut core, 10, vec![head(1, Pull::default())]);
    assert_eq!(step.checks, [(shop(), sha(1))], "what is waited for is asked about");
    assert_eq!(seen(&core, 1), (State::Queued, "waiting for ci/test, lint".to_owned()));
    let step = says(&mut core, 11, Ok(&[("lint", Check::Green), ("ci/test", Check::Pending), ("other", Check::Red)]));
    assert!(step.checks.is_empty(), "not again at once");
    assert_eq!(seen(&core, 1), (State::Queued, "waiting for ci/test".to_owned()));
    let step = refs(&mut core, 12, vec![head(1, Pull::default())]);
    assert_eq!(step.checks, [(shop(), sha(1))], "a look is a reason to ask again");
    says(&mut core, 13, Ok(&[("CI", Check::Awaiting)]));
    assert!(seen(&core, 1).1.contains("CI that itself awaits approval"));
    says(&mut core, 14, Ok(&[("lint", Check::Green), ("ci/test", Check::Red)]));
    let (state, reason) = seen(&core, 1);
    assert!(state == State::Blocked && reason.starts_with("ci/test has failed"), "{state:?} {reason}");
    says(&mut core, 15, Err(Failure::transient("GitHub is away")));
    assert_eq!(seen(&core, 1).0, State::Blocked, "what was said last holds");
    let step = says(&mut core, 16, Ok(&[("lint", Check::Green), ("ci/test", Check::Green)]));
    let (_, reason) = seen(&core, 1);
    assert!(!reason.contains("ci/test"), "{reason}");
    assert!(step.checks.is_empty(), "nothing is waited for any more");
}

#[test]
fn what_a_filter_holds_back_stages_itself_once_it_does_no_more() {
    let drafts = "skip = { drafts = true, labels = [\"wip\"] }";
    let skipped: [(Pull, &str); 4] = [
        (Pull { draft: true, ..Pull::default() }, "it is a draft"),
        (Pull { bot: true, ..Pull::default() }, "a bot opened it"),
        (Pull { labels: ["wip".to_owned()].into(), ..Pull::default() }, "it has the label wip"),
        (Pull { skipped_paths: true, ..Pull::default() }, "it changes only files that `skip.paths` names"),
    ];
    for (pull, why) in skipped {
        let mut core = core(drafts);
        refs(&mut core, 10, vec![head(1, pull.clone())]);
        assert_eq!(seen(&core, 1), (State::Unstaged, why.to_owned()));
        refs(&mut core, 20, vec![head(2, pull)]);
        assert_eq!(seen(&core, 2).0, State::Unstaged, "a push changes nothing about it");
        refs(&mut core, 30, vec![head(2, Pull::default())]);
        assert_eq!(seen(&core, 2).0, State::Queued, "{why}: not any more");
    }
    let mut core = core(drafts);
    let marked = Head { title: "[skip staging] A change".to_owned(), ..head(1, Pull::default()) };
    refs(&mut core, 10, vec![marked]);
    assert_eq!(seen(&core, 1).0, State::Unstaged);
}

#[test]
fn the_first_sight_is_calm_whatever_filters_say() {
    let text = "domain = \"staging.example.org\"\n[[project]]\nname = \"shop\"\ngithub = \"acme/shop\"\nstage = \"automatic\"\n";
    let mut core = Core::restore(InstanceKey::new([7; 32]), Config::parse(text).unwrap().policy(), &[]).unwrap();
    let step = refs(&mut core, 1, vec![head(1, Pull { draft: true, ..Pull::default() })]);
    assert!(step.tell.is_empty() && step.checks.is_empty());
    assert_eq!(seen(&core, 1).0, State::Unstaged);
}
