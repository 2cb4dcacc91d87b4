//! Networks, their addresses, and the service address.

use std::net::Ipv4Addr;

use drivers::Driver;
use drivers::docker::{remove_service_bridge, service_bridge};
use planner::identity::Trust;
use planner::names;
use planner::resource::Run;
use planner::spec::Health;

use super::engine::{Engine, cli};

fn subnet_of(engine: &Engine, trust: Trust) -> String {
    let name = names::network(&engine.env(trust), 1);
    cli(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", &name]).trim().to_owned()
}

#[tokio::test]
async fn a_network_avoids_what_is_taken() {
    // A pool of four, of which a network of the engine takes the second and a route of the host the third.
    let base = 64 * (std::process::id() % 4);
    let at = |n: u32| format!("10.217.77.{}/28", base + 16 * n);
    let pool = format!("10.217.77.{base}/26");
    let engine = Engine::with(|settings| settings.pool = pool.parse().unwrap());
    let (taken, dummy) = (format!("taken-{}", engine.key.instance()), names::service_bridge(&engine.key));
    cli(&["network", "create", "--subnet", &at(1), &taken]);
    let ip = |arguments: &[&str]| assert!(std::process::Command::new("ip").args(arguments).status().unwrap().success());
    ip(&["link", "add", &dummy, "type", "bridge"]);
    ip(&["link", "set", &dummy, "up"]);
    ip(&["route", "add", &at(2), "dev", &dummy]);

    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    let mut got = [subnet_of(&engine, Trust::Trusted), subnet_of(&engine, Trust::Approved)];
    got.sort();
    let mut want = [at(0), at(3)];
    want.sort();
    assert_eq!(got, want);
    let mut third = engine.network(Trust::Trusted);
    third.id.generation = 2;
    let failure = engine.failure(&third).await.to_string();
    assert!(failure.contains(&format!("no /28 of the pool {pool} is free")), "{failure}");

    ip(&["link", "del", &dummy]);
    cli(&["network", "rm", &taken]);
    engine.end().await;
}

#[tokio::test]
async fn a_network_is_as_its_trust_says() {
    let engine = Engine::new();
    for trust in [Trust::Trusted, Trust::Approved] {
        engine.ensure(&engine.network(trust)).await.unwrap();
        let name = names::network(&engine.env(trust), 1);
        let format = "{{.Internal}} {{.EnableIPv6}} {{index .Options \"com.docker.network.bridge.name\"}}";
        let seen = cli(&["network", "inspect", "--format", format, &name]);
        let bridge = names::bridge(&engine.key, &engine.env(trust), 1);
        assert_eq!(seen.trim(), format!("{} false {bridge}", trust.is_foreign()));
    }
    engine.end().await;
}

/// The inner edge asks by address, and must know those of containers that no listing has shown yet.
#[tokio::test]
async fn a_network_tells_the_addresses_of_its_containers_before_there_are_any() {
    let engine = Engine::new();
    let network = engine.network(Trust::Trusted);
    let made = engine.ensure(&network).await.unwrap();
    assert_eq!(made.outputs.addresses.len(), 13, "a /28 without the gateway: {:?}", made.outputs.addresses);
    assert_eq!(engine.all().await[&network.id].outputs.addresses, made.outputs.addresses);
    let in_it = names::network(&engine.env(Trust::Trusted), 1);
    let address =
        cli(&["run", "--rm", "--network", &in_it, &engine.busybox.tag, "sh", "-c", "ip -4 -o addr show eth0"]);
    let address = address.split(' ').find_map(|word| word.split_once('/')).unwrap().0.parse().unwrap();
    assert!(made.outputs.addresses.contains(&address), "{address}");
    engine.end().await;
}

#[tokio::test]
async fn removing_a_network_disconnects_what_is_left() {
    let engine = Engine::new();
    let network = engine.network(Trust::Trusted);
    engine.ensure(&network).await.unwrap();
    let name = format!("person-{}", engine.key.instance());
    let in_it = names::network(&engine.env(Trust::Trusted), 1);
    cli(&["run", "-d", "--name", &name, "--network", &in_it, &engine.busybox.tag, "sleep", "1000"]);
    engine.docker.remove(&network.id).await.unwrap();
    assert_eq!(engine.all().await.len(), 0);
    assert_eq!(cli(&["inspect", "--format", "{{.State.Running}}", &name]).trim(), "true");
    cli(&["rm", "-f", &name]);
    engine.end().await;
}

#[tokio::test]
async fn the_service_address_is_reached_from_ordinary_and_internal_networks() {
    let probe = Engine::new();
    let address = service_bridge(&probe.key, None).await.unwrap().address;
    assert_eq!(service_bridge(&probe.key, None).await.unwrap().address, address, "made once, then taken up");
    let other = super::engine::key();
    let refused = service_bridge(&other, Some(address)).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("the service address {address} lies within")), "{refused}");
    let next = service_bridge(&other, None).await.unwrap().address;
    assert_ne!(next, address, "two instances have two addresses");
    remove_service_bridge(&other).await.unwrap();

    let mut engine = Engine::with(|settings| settings.services = address);
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for trust in [Trust::Trusted, Trust::Approved] {
        engine.ensure(&engine.network(trust)).await.unwrap();
        // Reached by name: the hosts file knows it.
        let command = ["sh", "-c", "grep data.internal /etc/hosts; nc data.internal $0 </dev/null; sleep 1000", &port];
        let worker = engine.container("worker", engine.spec(trust, &command));
        let (seen, visitor) = tokio::join!(engine.ensure(&worker), listener.accept());
        let seen = seen.unwrap();
        assert_eq!(Some(visitor.unwrap().1.ip()), seen.outputs.address, "the container's address is unchanged");
        engine.docker.rest(&worker.id, Run::Stopped).await.unwrap();
    }
    engine = {
        remove_service_bridge(&probe.key).await.unwrap();
        remove_service_bridge(&probe.key).await.unwrap();
        engine
    };
    engine.end().await;
    probe.end().await;
}

#[tokio::test]
async fn the_service_address_follows_what_is_asked() {
    let probe = Engine::new();
    let first = service_bridge(&probe.key, None).await.unwrap().address;
    let wanted = Ipv4Addr::new(10, 255, 1, u8::try_from(std::process::id() % 250).unwrap() + 1);
    assert_eq!(service_bridge(&probe.key, Some(wanted)).await.unwrap().address, wanted);
    let bound = tokio::net::TcpListener::bind((first, 0)).await;
    assert!(bound.is_err(), "the former address is given back");
    remove_service_bridge(&probe.key).await.unwrap();
    probe.end().await;
}

#[tokio::test]
async fn containers_of_one_generation_reach_each_other_by_name() {
    let engine = Engine::new();
    for trust in [Trust::Trusted, Trust::Approved] {
        engine.ensure(&engine.network(trust)).await.unwrap();
        let mut cache = engine.spec(trust, &["httpd", "-f", "-p", "6379", "-h", "/"]);
        (cache.companion, cache.port, cache.health) = (true, Some(6379), Health::Port);
        engine.ensure(&engine.container("cache", cache)).await.unwrap();
        let ask = "echo -e 'GET /etc/group HTTP/1.0\\r\\n\\r' | nc cache 6379 | grep app:x:1235";
        let job = engine.job("release", engine.spec(trust, &["sh", "-c", ask]));
        engine.ensure(&job).await.unwrap();
    }
    engine.end().await;
}
