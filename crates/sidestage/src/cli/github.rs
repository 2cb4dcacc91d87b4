//! `github`: connecting GitHub, and looking what a connection lacks.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::{Failed, Screen, print_json, say};

/// What can be done about GitHub.
#[derive(Debug, Subcommand)]
pub enum GitHub {
    /// Print the link where a GitHub App is made, with the least permissions
    Connect(Connect),
    /// Say what is missing: permissions, events, deliveries, an environment that is free
    Check(Check),
}

/// Options of `github connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// The organisation that is to own the App; your own account if none
    #[arg(long)]
    org: Option<String>,
}

/// Options of `github check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &Client, github: GitHub, screen: &mut Screen) -> Result<(), Failed> {
    match github {
        GitHub::Connect(connect) => {
            let link: Value = client.post("/api/v1/login-link", &json!({})).await?;
            let link = link["url"].as_str().unwrap_or_default();
            let console = link.split("/login?").next().unwrap_or(link);
            let org = connect.org.map(|org| format!("?org={}", segment(&org))).unwrap_or_default();
            say(screen, &format!("Sign in: {link}\nThen open: {console}/github/connect{org}"))
        }
        GitHub::Check(check) => {
            let told: Value = client.get("/api/v1/github").await?;
            if check.json {
                return print_json(screen, &told);
            }
            let findings = told["findings"].as_array().cloned().unwrap_or_default();
            let mut bad = 0;
            for finding in &findings {
                let good = finding["good"].as_bool().unwrap_or_default();
                bad += usize::from(!good);
                let line = console::text::clean(finding["line"].as_str().unwrap_or_default());
                say(screen, &format!("{} {line}", if good { "ok " } else { "!! " }))?;
            }
            if bad == 0 { Ok(()) } else { Err(Failed::Refused(format!("{bad} of {} want attention", findings.len()))) }
        }
    }
}
