//! As whom foreign code runs: always a number that is not root's, looked up in the image where it has a name.

use std::io::Read;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt;
use planner::resource::Failure;

use super::{Docker, is_absent, labels, lock};

/// A user by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Instead of root.
const NOBODY: User = User { uid: 10_001, gid: 10_001 };

/// The most that is read of an image's passwd or group file.
const LIMIT: u64 = 1 << 20;

impl Docker {
    /// The user that an image names, as numbers; [`NOBODY`] for root.
    pub(super) async fn user(&self, image: &str, named: &str) -> Result<User, Failure> {
        if let Some(known) = lock(&self.inner.users).get(image) {
            return Ok(*known);
        }
        let (user, group) = named.split_once(':').map_or((named, None), |(user, group)| (user, Some(group)));
        let passwd = if user.is_empty() { String::new() } else { self.read_in_image(image, "/etc/passwd").await? };
        let groups = match group {
            Some(group) if group.parse::<u32>().is_err() => self.read_in_image(image, "/etc/group").await?,
            _ => String::new(),
        };
        let found = resolve(user, group, &passwd, &groups).map_err(Failure::permanent)?;
        lock(&self.inner.users).insert(image.to_owned(), found);
        Ok(found)
    }

    /// A small file of an image, empty if there is none. The engine reads files of containers only, so one is created
    /// that never starts.
    async fn read_in_image(&self, image: &str, path: &str) -> Result<String, Failure> {
        // Clearing away after builds would take it for a leftover.
        let _held = self.inner.builds.read().await;
        let labels = [(labels::INSTANCE, self.inner.instance.as_str()), (labels::KIND, labels::PROBE)];
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(vec!["-".to_owned()]),
            network_disabled: Some(true),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ContainerCreateBody::default()
        };
        let engine = self.engine().await?;
        let made = engine.create_container(None::<CreateContainerOptions>, body).await;
        let made = made.map_err(|error| self.fail("looking into the image", &error))?;
        let text = self.download(&made.id, path).await;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match engine.remove_container(&made.id, Some(options)).await {
            Err(error) if !is_absent(&error) => return Err(self.fail("looking into the image", &error)),
            _ => {}
        }
        text
    }

    async fn download(&self, container: &str, path: &str) -> Result<String, Failure> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut chunks = self.engine().await?.download_from_container(container, Some(options));
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Err(error) if is_absent(&error) => return Ok(String::new()),
                chunk => bytes.extend(chunk.map_err(|error| self.fail("looking into the image", &error))?),
            }
            if bytes.len() as u64 > LIMIT {
                return Err(Failure::permanent(format!("{path} of the image is larger than {LIMIT} bytes")));
            }
        }
        let unreadable = |_| Failure::permanent(format!("{path} of the image cannot be read"));
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.header().entry_type().is_file() {
                let mut content = Vec::new();
                entry.take(LIMIT).read_to_end(&mut content).map_err(unreadable)?;
                return Ok(String::from_utf8_lossy(&content).into_owned());
            }
        }
        Ok(String::new())
    }
}

/// Numbers for a user and group, each by name or number.
fn resolve(user: &str, group: Option<&str>, passwd: &str, groups: &str) -> Result<User, String> {
    // name:password:uid:gid:…
    let fields = |line: &str| -> Option<(String, u32, u32)> {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?))
    };
    let known = |by: &dyn Fn(&(String, u32, u32)) -> bool| passwd.lines().filter_map(fields).find(by);
    let (uid, primary) = match user.parse::<u32>() {
        _ if user.is_empty() => return Ok(NOBODY),
        Ok(uid) => (uid, known(&|entry| entry.1 == uid).map_or(uid, |entry| entry.2)),
        Err(_) => {
            let entry = known(&|entry| entry.0 == user);
            let entry = entry.ok_or_else(|| format!("the image's USER {user:?} is not in its /etc/passwd"))?;
            (entry.1, entry.2)
        }
    };
    if uid == 0 {
        return Ok(NOBODY);
    }
    let gid = match group {
        None => primary,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => groups
                .lines()
                .filter_map(|line| line.split_once(':').filter(|(name, _)| *name == group))
                .find_map(|(_, rest)| rest.split(':').nth(1)?.trim().parse().ok())
                .ok_or_else(|| format!("the group {group:?} of the image's USER is not in its /etc/group"))?,
        },
    };
    // Files of root's group are often writable by it.
    Ok(User { uid, gid: if gid == 0 { uid } else { gid } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_becomes_two_numbers_that_are_not_roots() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/app:/bin/sh\ntoor:x:0:0::/:/bin/sh\nzero:x:7:0::/:\n";
        let groups = "root:x:0:\nweb:x:33:app\n";
        let user = |named: &str, group| resolve(named, group, passwd, groups);
        assert_eq!(user("", None), Ok(NOBODY));
        assert_eq!(user("root", None), Ok(NOBODY));
        assert_eq!(user("toor", Some("web")), Ok(NOBODY));
        assert_eq!(user("0", Some("1")), Ok(NOBODY));
        assert_eq!(user("app", None), Ok(User { uid: 1000, gid: 1001 }));
        assert_eq!(user("app", Some("web")), Ok(User { uid: 1000, gid: 33 }));
        assert_eq!(user("1000", None), Ok(User { uid: 1000, gid: 1001 }));
        assert_eq!(user("2000", None), Ok(User { uid: 2000, gid: 2000 }));
        assert_eq!(user("zero", None), Ok(User { uid: 7, gid: 7 }));
        assert!(user("nosuch", None).is_err_and(|why| why.contains("nosuch")));
        assert!(user("app", Some("nosuch")).is_err());
    }
}
