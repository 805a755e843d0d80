//! The disk that a daemon of this machine keeps everything on.

use std::{io, path::Path, time::Duration};

use rustix::fs::{StatVfs, statvfs};

use super::DockerUri;

/// How much room there is, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskLook {
    /// The daemon's directory.
    pub directory: String,
    /// All of its file system, in bytes.
    pub bytes: u64,
    /// What anybody may write.
    pub free: u64,
    /// What root may, and so the daemon as a rule.
    pub free_for_root: u64,
    /// Files that may yet be made; none where they are not counted.
    pub free_inodes: Option<u64>,
}

/// Looks at the daemon's directory from here, or says why that cannot be done.
pub(crate) async fn look(uri: &DockerUri, directory: &str, limit: Duration) -> Result<DiskLook, String> {
    if !matches!(uri, DockerUri::Unix { .. }) {
        return Err("the daemon is elsewhere".to_owned());
    }
    if directory.is_empty() {
        return Err("the daemon does not say where it is".to_owned());
    }
    let path = directory.to_owned();
    // A file system of the network's may not answer.
    let asked = tokio::task::spawn_blocking(move || statvfs(Path::new(&path)).map_err(io::Error::from));
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(Ok(found))) => Ok(of(directory, &found)),
        Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{directory} is not seen from here"))
        }
        Ok(Ok(Err(error))) => Err(format!("{directory}: {error}")),
        Ok(Err(_)) | Err(_) => Err(format!("{directory}: no answer within {limit:?}")),
    }
}

fn of(directory: &str, found: &StatVfs) -> DiskLook {
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    DiskLook {
        directory: directory.to_owned(),
        bytes: bytes(found.f_blocks),
        free: bytes(found.f_bavail),
        free_for_root: bytes(found.f_bfree),
        // btrfs says that it has none at all.
        free_inodes: (found.f_files > 0).then_some(found.f_ffree),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_looked_at_where_it_is_ours() {
        let here = DockerUri::default();
        let there = DockerUri::Tcp { host: "docker.example".into(), port: 2375 };
        let limit = Duration::from_secs(5);
        let found = look(&here, "/", limit).await.unwrap();
        assert_eq!(found.directory, "/");
        assert!(found.bytes > 0 && found.free <= found.free_for_root, "{found:?}");
        assert!(found.free_for_root <= found.bytes, "{found:?}");
        for (uri, directory, why) in [
            (&here, "/nonexistent", "/nonexistent is not seen from here"),
            (&here, "", "the daemon does not say where it is"),
            (&there, "/", "the daemon is elsewhere"),
        ] {
            assert_eq!(look(uri, directory, limit).await, Err(why.to_owned()));
        }
    }
}
