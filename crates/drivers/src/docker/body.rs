//! How a container is set up: an ordinary body for trusted code and companions, a strict one for foreign code.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    ImageConfig, MountType, NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use planner::spec::Container;

use super::Settings;
use super::user::User;

/// Everything that a body is made of.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) name: &'a str,
    pub(super) container: &'a Container,
    /// What the engine creates from: an id, or a companion's reference.
    pub(super) image: &'a str,
    pub(super) config: &'a ImageConfig,
    /// Set for foreign code, and where `tmp` needs an owner.
    pub(super) user: Option<User>,
    pub(super) network: &'a str,
    pub(super) env: Vec<String>,
    pub(super) command: Option<Vec<String>>,
    pub(super) labels: HashMap<String, String>,
}

impl Parts<'_> {
    /// Foreign code of the commit's own: the operator chose a companion's image.
    fn is_strict(&self) -> bool {
        self.container.of.trust.is_foreign() && !self.container.companion
    }

    /// The request that creates the container.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let strict = self.is_strict();
        let mut env = self.env.clone();
        let homeless = |env: &[String]| !env.iter().any(|entry| entry.starts_with("HOME="));
        if strict && homeless(&env) && homeless(self.config.env.as_deref().unwrap_or_default()) {
            // The root is read-only, and most tools keep something at home.
            env.push("HOME=/tmp".to_owned());
        }
        let endpoint = EndpointSettings { aliases: Some(vec![self.name.to_owned()]), ..EndpointSettings::default() };
        ContainerCreateBody {
            hostname: Some(self.name.to_owned()),
            user: self.user.filter(|_| strict).map(|user| format!("{}:{}", user.uid, user.gid)),
            env: Some(env),
            cmd: self.command.clone(),
            image: Some(self.image.to_owned()),
            labels: Some(self.labels.clone()),
            // Our own probe decides; an image's costs a process every few seconds.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
            stop_signal: strict.then(|| "SIGTERM".to_owned()),
            stop_timeout: i64::try_from(self.settings.stop_timeout.as_secs()).ok(),
            host_config: Some(if strict { self.strict() } else { self.ordinary() }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.to_owned(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// What both bodies share.
    fn base(&self) -> HostConfig {
        let memory = i64::try_from(self.container.memory).unwrap_or(i64::MAX);
        let log = HashMap::from([("max-size".to_owned(), "5m".to_owned()), ("max-file".to_owned(), "2".to_owned())]);
        let hosts = self.container.hosts.iter().map(|host| format!("{host}:{}", self.settings.services));
        HostConfig {
            network_mode: Some(self.network.to_owned()),
            memory: Some(memory),
            // Swap included: none.
            memory_swap: Some(memory),
            nano_cpus: Some(i64::from(self.container.cpu) * 1_000_000),
            pids_limit: Some(self.settings.pids),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            ipc_mode: Some("private".to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: Some(0) }),
            init: Some(true),
            extra_hosts: Some(hosts.collect()),
            tmpfs: Some(self.tmpfs()),
            ..HostConfig::default()
        }
    }

    fn ordinary(&self) -> HostConfig {
        HostConfig {
            cap_drop: Some(vec!["NET_RAW".to_owned(), "MKNOD".to_owned()]),
            shm_size: Some(64 << 20),
            ..self.base()
        }
    }

    fn strict(&self) -> HostConfig {
        let limit = |name: &str, most: i64| ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(most),
            hard: Some(most),
        };
        HostConfig {
            cap_drop: Some(vec!["ALL".to_owned()]),
            readonly_rootfs: Some(true),
            shm_size: Some(16 << 20),
            oom_score_adj: Some(500),
            cpu_shares: Some(256),
            ulimits: Some(vec![limit("nofile", 4096), limit("core", 0), limit("fsize", 256 << 20)]),
            // Ours refuses names outside at once; the host's resolvers cannot be reached, and asking them takes 20 s.
            dns: Some(vec![self.settings.services.to_string()]),
            ..self.base()
        }
    }

    /// Writable folders. A tmpfs over a folder that the image has would be root's without `uid` and `gid`.
    fn tmpfs(&self) -> HashMap<String, String> {
        let owner = self.user.map(|user| format!(",uid={},gid={}", user.uid, user.gid)).unwrap_or_default();
        let mut all = HashMap::new();
        if self.is_strict() {
            all.insert("/tmp".to_owned(), "rw,noexec,nosuid,nodev,size=64m,nr_inodes=16k,mode=1777".to_owned());
            all.insert("/run".to_owned(), format!("rw,noexec,nosuid,nodev,size=8m{owner}"));
            // An image's volumes would be folders of the host without a limit.
            let volumes: BTreeSet<&String> = self.config.volumes.iter().flatten().collect();
            for volume in volumes {
                all.insert(volume.clone(), format!("rw,nosuid,nodev,size=64m{owner}"));
            }
        }
        for (path, size) in &self.container.tmp {
            all.insert(path.clone(), format!("rw,nosuid,nodev,exec,size={size}{owner}"));
        }
        all
    }
}

/// What is mounted where: a companion's data, and nothing else.
fn mounts(config: &HostConfig) -> Vec<(Option<MountType>, Option<String>, Option<String>)> {
    let all = config.mounts.iter().flatten();
    all.map(|mount| (mount.typ, mount.source.clone(), mount.target.clone())).collect()
}

/// What matters of the settings that the engine kept, against those that were asked for. Each difference is one line.
pub(super) fn differences(asked: &HostConfig, kept: &HostConfig) -> Vec<&'static str> {
    let list = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.iter_mut().for_each(|entry| *entry = entry.trim_start_matches("CAP_").to_owned());
        list.sort();
        list
    };
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    let checks = [
        ("memory", asked.memory == kept.memory),
        ("memory and swap", asked.memory_swap == kept.memory_swap),
        ("cpu", asked.nano_cpus == kept.nano_cpus),
        ("processes", asked.pids_limit == kept.pids_limit),
        ("read-only root", asked.readonly_rootfs.unwrap_or(false) == kept.readonly_rootfs.unwrap_or(false)),
        ("capabilities", list(&asked.cap_drop) == list(&kept.cap_drop) && empty(&kept.cap_add)),
        ("privileges", list(&asked.security_opt) == list(&kept.security_opt) && kept.privileged != Some(true)),
        ("writable folders", asked.tmpfs.clone().unwrap_or_default() == kept.tmpfs.clone().unwrap_or_default()),
        ("network", asked.network_mode == kept.network_mode),
        ("name servers", list(&asked.dns) == list(&kept.dns)),
        ("binds", empty(&kept.binds) && mounts(asked) == mounts(kept) && empty(&kept.volumes_from)),
        ("devices", kept.devices.as_ref().is_none_or(Vec::is_empty)),
        ("ports", kept.port_bindings.as_ref().is_none_or(HashMap::is_empty) && kept.publish_all_ports != Some(true)),
        (
            "namespaces",
            [&kept.pid_mode, &kept.uts_mode, &kept.userns_mode]
                .iter()
                .all(|mode| mode.as_deref().is_none_or(str::is_empty)),
        ),
        ("process isolation", kept.ipc_mode.as_deref() == Some("private")),
        ("file limits", asked.ulimits.clone().unwrap_or_default() == kept.ulimits.clone().unwrap_or_default()),
    ];
    checks.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
}
