//! What code may do inside of its container.

use std::sync::Arc;

use drivers::docker::{remove_service_bridge, service_bridge};
use planner::identity::Trust;
use planner::names;
use planner::spec::{Container, ImageSource};

use super::engine::{Engine, cli};

/// Runs a script as a job that must end well.
async fn holds(engine: &Engine, spec: Container, script: &str) {
    let mut spec = spec;
    spec.command = Some(["sh", "-ec", script].map(str::to_owned).to_vec());
    let job = engine.job("release", spec);
    if let Err(failure) = engine.ensure(&job).await {
        panic!("{script}: {failure}");
    }
    drivers::Driver::remove(&engine.docker, &job.id).await.unwrap();
}

#[tokio::test]
async fn foreign_code_has_no_root_no_capabilities_and_nothing_to_write_but_its_folders() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    let dockerfile = "FROM $BUSYBOX\nRUN mkdir -p /data /app/tmp && touch /app/tmp/old\nVOLUME /data\nUSER app\n";
    let image = engine.image(Trust::Approved, "ba9876543210", &[("Dockerfile", dockerfile)]);
    engine.ensure(&image).await.unwrap();
    let mut spec = engine.spec(Trust::Approved, &[]);
    spec.image = ImageSource::Built(image.id.clone());
    spec.tmp.insert("/app/tmp".to_owned(), 1 << 20);
    for script in [
        "test $(id -u) = 1234; test $(id -g) = 1235",
        "for file in /file /etc/file /bin/file /dev/file; do if touch $file; then exit 1; fi; done",
        "touch /tmp/file /run/file /data/file /app/tmp/file $HOME/file",
        "! dd if=/dev/zero of=/app/tmp/big bs=1M count=3",
        "grep -q '^CapEff:.0000000000000000$' /proc/self/status; grep -q '^CapBnd:.0000000000000000$' /proc/self/status",
        "grep -q '^NoNewPrivs:.1$' /proc/self/status",
        "grep -q ' /data tmpfs ' /proc/mounts",
        "test \"$(cat /sys/class/net/eth0/mtu)\"; test $(ls /sys/class/net | grep -c .) -le 3",
    ] {
        holds(&engine, spec.clone(), script).await;
    }
    engine.end().await;
}

#[tokio::test]
async fn roots_of_foreign_images_run_as_nobody_and_unknown_users_not_at_all() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    holds(&engine, engine.spec(Trust::Approved, &[]), "test $(id -u):$(id -g) = 10001:10001").await;
    let image = engine.image(Trust::Approved, "ba9876543210", &[("Dockerfile", "FROM $BUSYBOX\nUSER nosuch\n")]);
    engine.ensure(&image).await.unwrap();
    let mut spec = engine.spec(Trust::Approved, &["true"]);
    spec.image = ImageSource::Built(image.id.clone());
    let failure = engine.failure(&engine.job("release", spec)).await.to_string();
    assert!(failure.contains("USER \"nosuch\" is not in its /etc/passwd"), "{failure}");
    engine.end().await;
}

#[tokio::test]
async fn foreign_code_asks_our_name_server_and_is_refused_at_once() {
    let probe = Engine::new();
    let services = service_bridge(&probe.key, None).await.unwrap().address;
    let engine = Engine::with(|settings| settings.services = services);
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    // Stands for our DNS server: refuses every question.
    let socket = Arc::new(tokio::net::UdpSocket::bind((services, 53)).await.unwrap());
    let asked = socket.clone();
    let refuse = tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((size, from)) = asked.recv_from(&mut question).await {
            (question[2], question[3]) = (0x81, 0x05);
            asked.send_to(&question[..size], from).await.unwrap();
        }
    });
    let spec = engine.spec(Trust::Approved, &[]);
    holds(&engine, spec, "nslookup example.org 2>&1 | grep -q REFUSED").await;
    refuse.abort();
    remove_service_bridge(&probe.key).await.unwrap();
    engine.end().await;
    probe.end().await;
}

#[tokio::test]
async fn trusted_code_and_companions_run_as_their_image_says() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    let mut companion = engine.spec(Trust::Approved, &[]);
    companion.companion = true;
    for spec in [engine.spec(Trust::Trusted, &[]), companion] {
        holds(&engine, spec.clone(), "test $(id -u) = 0; touch /file; mkdir -p /tmp").await;
        // All of Docker's capabilities but NET_RAW and MKNOD.
        holds(
            &engine,
            spec.clone(),
            "grep -q '^CapEff:.00000000a00405fb$' /proc/self/status || { grep Cap /proc/self/status; false; }",
        )
        .await;
        for script in [
            "grep -q '^NoNewPrivs:.1$' /proc/self/status",
            "busybox df -k /dev/shm | grep -q ' 65536 '",
            "mkdir -p /tmp; echo '#!/bin/sh' > /tmp/tool; busybox chmod 755 /tmp/tool; /tmp/tool",
            // As images do that prepare their data as root and then step down.
            "mkdir /own; busybox chown app:app /own; \
             busybox su app -s /bin/sh -c 'test $(id -u):$(id -g) = 1234:1235 && touch /own/file && ! touch /file'",
        ] {
            holds(&engine, spec.clone(), script).await;
        }
    }
    let image = engine.image(
        Trust::Trusted,
        "0123456789ab-ba9876543210",
        &[("Dockerfile", "FROM $BUSYBOX\nRUN mkdir /mine\nUSER app\n")],
    );
    engine.ensure(&image).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &[]);
    spec.image = ImageSource::Built(image.id.clone());
    spec.tmp.insert("/mine".to_owned(), 1 << 20);
    holds(&engine, spec, "test $(id -u) = 1234; touch /mine/file; ! touch /file").await;
    engine.end().await;
}

#[tokio::test]
async fn limits_are_those_of_the_spec() {
    let engine = Engine::new();
    for trust in [Trust::Trusted, Trust::Approved] {
        engine.ensure(&engine.network(trust)).await.unwrap();
        let mut spec = engine.spec(trust, &["sleep", "1000"]);
        (spec.memory, spec.cpu) = (48 << 20, 250);
        engine.ensure(&engine.container("web", spec)).await.unwrap();
        let format = "{{with .HostConfig}}{{.Memory}} {{.MemorySwap}} {{.NanoCpus}} {{.PidsLimit}} {{.RestartPolicy.Name}} {{.Init}}{{end}}";
        let seen = cli(&["inspect", "--format", format, &format!("sst-{}-1-web", engine.env(trust))]);
        assert_eq!(seen.trim(), "50331648 50331648 250000000 256 no true");
    }
    engine.end().await;
}

/// A stand-in for the world: a network namespace behind the host, where somebody answers `outside`.
struct Outside {
    namespace: String,
    link: String,
    address: String,
    answers: std::process::Child,
}

fn ip(arguments: &[&str]) {
    let status = std::process::Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

impl Outside {
    fn new(engine: &Engine) -> Outside {
        let namespace = format!("outside-{}", engine.key.instance());
        let link = format!("{}out", names::interface_prefix(&engine.key));
        let n = std::process::id() % 250;
        let (here, address) = (format!("10.218.{n}.1"), format!("10.218.{n}.2"));
        ip(&["netns", "add", &namespace]);
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "world", "netns", &namespace]);
        ip(&["address", "add", &format!("{here}/30"), "dev", &link]);
        ip(&["link", "set", &link, "up"]);
        ip(&["-n", &namespace, "address", "add", &format!("{address}/30"), "dev", "world"]);
        ip(&["-n", &namespace, "link", "set", "world", "up"]);
        ip(&["-n", &namespace, "route", "add", "default", "via", &here]);
        let answer = ["netns", "exec", &namespace, "busybox", "nc", "-ll", "-p", "8080", "-e", "echo", "outside"];
        let answers = std::process::Command::new("ip").args(answer).spawn().unwrap();
        Outside { namespace, link, address, answers }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.answers.kill();
        let _ = self.answers.wait();
        ip(&["link", "del", &self.link]);
        ip(&["netns", "del", &self.namespace]);
    }
}

#[tokio::test]
async fn foreign_code_reaches_nothing_outside() {
    let engine = Engine::new();
    let outside = Outside::new(&engine);
    let reach = format!("nc -w 3 {} 8080 </dev/null | grep -q outside", outside.address);
    for (trust, script) in [(Trust::Trusted, reach.clone()), (Trust::Approved, format!("! {{ {reach}; }}"))] {
        engine.ensure(&engine.network(trust)).await.unwrap();
        holds(&engine, engine.spec(trust, &[]), &script).await;
    }
    drop(outside);
    engine.end().await;
}
