//! Serves a view with one of everything, to look at while working on the pages: `cargo run -p console --example look`.
//! Prints a link to sign in by. What is pressed changes the state, so the pages can be seen live.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use console::{Ask, Doors, Links, Settings};
use planner::identity::{InstanceKey, ProjectName, Ref, Sha, Time, Trust};
use planner::view::{CommitView, ProjectView, RefView, State, View};
use tokio::sync::{mpsc, watch};

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn ago(seconds: u64) -> Time {
    Time(now().0 - seconds * 1000)
}

struct Sample {
    key: InstanceKey,
    project: ProjectName,
    next: u8,
}

impl Sample {
    fn commit(&mut self, subject: &str, author: &str, state: State, since: u64, reason: Option<&str>) -> CommitView {
        self.next = self.next.wrapping_add(1);
        let mut bytes = [0; 20];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(place * 47 % 251 + 3)
                .unwrap_or(1)
                .wrapping_mul(self.next.wrapping_mul(2).wrapping_add(91));
        }
        let sha = Sha::from_bytes(bytes);
        let staged = !matches!(state, State::Unstaged | State::Blocked);
        CommitView {
            sha,
            subject: subject.to_owned(),
            author: author.to_owned(),
            trust: Trust::Trusted,
            env: self.key.env(&self.project, &sha, Trust::Trusted),
            url: format!("http://{sha}.staging.localhost:8080"),
            state,
            reason: reason.map(str::to_owned),
            since: ago(since),
            generation: u32::from(staged),
            next: None,
            asked: staged.then(|| ago(since + 9)),
            took: matches!(state, State::Ready | State::Dozing | State::Asleep).then_some(8_437),
            pinned: false,
            visited: staged.then(|| ago(since / 2)),
            expires: staged.then(|| now().after(Duration::from_secs(4 * 86_400))),
            held: false,
            logs: if staged { vec!["build".into(), "release".into(), "web".into(), "worker".into()] } else { vec![] },
            links: vec![("Admin".into(), "/admin".into(), Some("admin@example.com / 3f9c20aa71be".into()))],
            stale: false,
            approvable: false,
            apps: Vec::new(),
            commands: Vec::new(),
            cron: Vec::new(),
            processes: Vec::new(),
            data: None,
        }
    }
}

fn reference(name: Ref, title: &str, foreign: bool, commits: Vec<CommitView>) -> RefView {
    let slug = name.to_string().replace('/', "-");
    let alias_url = format!("http://{slug}.staging.localhost:8080");
    RefView { name, open: true, title: title.to_owned(), foreign, alias_url, commits }
}

fn view() -> Option<View> {
    let project: ProjectName = "shop".parse().ok()?;
    let mut make = Sample { key: InstanceKey::new([7; 32]), project: project.clone(), next: 0 };
    let mut refs = vec![
        reference(Ref::Pull(128), "Split the order cycle report by distributor", false, vec![
            make.commit("Index line items by cycle", "Maikel Linke", State::Building, 74, None),
            make.commit("Report totals per distributor", "Maikel Linke", State::Ready, 3 * 3600, None),
            make.commit("First draft of the report", "Maikel Linke", State::Superseded, 26 * 3600, Some("a newer commit of #128 is ready")),
        ]),
        reference(Ref::Pull(127), "Add a payment provider", true, vec![
            make.commit("Take payments by bank transfer", "newcomer", State::Blocked, 1900,
                Some("from outside the project and not approved at this commit; a maintainer approves it here or with `/stage approve`")),
        ]),
        reference(Ref::Pull(126), "Upgrade to Rails 7.2", false, vec![
            make.commit("Bump rails from 7.1.5 to 7.2.2 and everything that hangs on it, including the asset pipeline", "dependabot[bot]", State::Failed, 5400,
                Some("step 7 of 12, `RUN bundle install`, exited with 18: Bundler could not find compatible versions for gem \"activerecord-import\"; push a fix, or press 'Try again' if the network was to blame")),
            make.commit("Prepare for 7.2", "Rachel", State::Asleep, 30 * 3600, None),
        ]),
        reference(Ref::Pull(125), "Show prices with tax", false, vec![
            make.commit("Round half up", "Filipe", State::Dozing, 1500, None),
        ]),
        reference(Ref::Pull(121), "Import products from CSV", false, vec![
            make.commit("Accept semicolons", "Gaetan", State::Queued, 41,
                Some("20 of 20 places are taken; next in line. Held by #128, #126, #125, main and 16 more")),
        ]),
        reference(Ref::Pull(119), "Translations: \u{202E}gnitset\u{202C} <b>and</b> العربية", false, vec![
            make.commit("Update <script>alert(1)</script> & ar.yml", "Weblate", State::Unstaged, 5 * 86_400, None),
        ]),
        reference(Ref::Branch("main".into()), "main", false, vec![
            make.commit("Merge pull request #124 from acme/stock", "Maikel Linke", State::Ready, 40, None),
        ]),
        reference(Ref::Pull(90), "Retire the old checkout", false, vec![
            make.commit("Drop the legacy controller", "Rachel", State::Removing, 4, Some("closed")),
        ]),
        reference(Ref::Pull(88), "Faster shop front", false, vec![
            make.commit("Cache the product list", "Filipe", State::Expired, 7 * 86_400, Some("removed 5 days after the last visit")),
        ]),
    ];
    if let Some(last) = refs.iter_mut().find(|of| of.name == Ref::Pull(90)) {
        last.open = false;
    }
    refs[1].commits[0].trust = Trust::Untrusted;
    refs[3].commits[0].expires = Some(now().after(Duration::from_secs(5 * 3600)));
    refs[6].commits[0].pinned = true;
    refs[6].commits[0].trust = Trust::Approved;
    Some(View {
        at: now(),
        domain: "staging.localhost:8080".into(),
        projects: vec![
            ProjectView { name: project, refs },
            ProjectView { name: "docs".parse().ok()?, refs: vec![] },
        ],
        places: (7, 20),
        baselines: Vec::new(),
        warnings: vec!["the database server at 10.255.0.1:5432 does not answer since 2 minutes: nothing is created or removed there until it does; look at its log".into()],
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (show, shown) = watch::channel(Arc::new(view().ok_or("the sample does not parse")?));
    let (ask, mut asked) = mpsc::channel(16);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://localhost:{}", listener.local_addr()?.port());
    let links = Links::new(now);
    println!("{url}/login?token={}", links.issue()?);
    let settings = Settings { url, instance: "lookatmelookatme".into(), version: "0", links };
    let doors = Doors { view: shown, ask, now };
    let serving = tokio::spawn(console::serve(listener, settings, doors, std::future::pending()));
    while let Some(ask) = asked.recv().await {
        answer(ask, &show).await;
    }
    serving.await??;
    Ok(())
}

async fn answer(ask: Ask, show: &watch::Sender<Arc<View>>) {
    match ask {
        Ask::Command(_, command, reply) => {
            let Some((project, sha)) = command.commit() else { return };
            let mut view = View::clone(&show.borrow());
            view.at = now();
            for commit in view.projects.iter_mut().flat_map(|p| &mut p.refs).flat_map(|r| &mut r.commits) {
                if commit.sha == *sha {
                    commit.state = State::Building;
                    commit.trust = commit.trust.max(Trust::Approved);
                    commit.since = now();
                    commit.reason = None;
                }
            }
            let _ = reply.send(Ok(format!("{} {project} {sha}", command.verb())));
            show.send_replace(Arc::new(view));
        }
        Ask::StageRef { name, reply, .. } => drop(reply.send(Err(format!("no branch or tag {name}; nearest: main")))),
        Ask::Logs { reply, .. } => {
            let (send, receive) = mpsc::channel(8);
            let _ = reply.send(Ok(receive));
            for step in 1..6 {
                let _ = send.send(format!("\u{1b}[32mStep {step}/12\u{1b}[0m : RUN bin/do-something --with {step}\n ---> Running in 3f9c20aa71be\n")).await;
            }
        }
        Ask::Plan(reply) => drop(reply.send(vec![])),
        Ask::Look(_, reply) => drop(reply.send(Ok(()))),
        // Whoever asks for more hears that nobody answers.
        _ => {}
    }
}
