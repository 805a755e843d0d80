//! What Docker tells of one container and of its host.

use std::time::{Duration, SystemTime};

use bollard::models::{ContainerInspectResponse, SystemInfo};

use super::error::brief;

/// How a container is, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Autopsy {
    /// Of its last end; 137 after SIGKILL, 127 and 126 when there is no such
    /// program or it cannot be run. None if it never ended.
    pub(crate) exit_code: Option<i64>,
    /// Whether the kernel killed something in it for want of memory.
    pub(crate) oom_killed: bool,
    /// Why Docker could not start it; empty as a rule.
    pub(crate) error: String,
    /// Last start, by the daemon's clock.
    pub(crate) started_at: Option<SystemTime>,
    /// Last end, by the daemon's clock. Docker may note it before the start of
    /// one that is quick to end.
    pub(crate) finished_at: Option<SystemTime>,
    /// Paused ones run, too.
    pub(crate) running: bool,
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// Restarts by Docker, not those that were asked for.
    pub(crate) restart_count: u64,
}

impl Autopsy {
    pub(super) fn of(container: &ContainerInspectResponse) -> Self {
        let state = container.state.clone().unwrap_or_default();
        let finished_at = state.finished_at.as_deref().and_then(moment);
        Self {
            exit_code: state.exit_code.filter(|_| finished_at.is_some()),
            oom_killed: state.oom_killed.unwrap_or_default(),
            error: brief(&state.error.unwrap_or_default()),
            started_at: state.started_at.as_deref().and_then(moment),
            finished_at,
            running: state.running.unwrap_or_default(),
            paused: state.paused.unwrap_or_default(),
            restart_count: container.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        }
    }
}

/// Whose control groups a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// The first version, or one that Docker does not tell.
    V1,
    /// The unified one.
    V2,
}

/// The host of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostLook {
    /// The daemon's own, kept over its restarts; empty when it does not say.
    pub(crate) id: String,
    /// As images call it, such as `amd64`, `arm64` or `arm/v7`.
    pub(crate) architecture: String,
    /// Its control groups.
    pub(crate) cgroup: Cgroup,
    /// Whether containers outlive the daemon.
    pub(crate) live_restore: bool,
    /// CPUs.
    pub(crate) ncpu: u32,
    /// Memory in bytes.
    pub(crate) mem_total: u64,
    /// The driver of images and layers, such as `overlay2`.
    pub(crate) driver: String,
    /// Where the daemon keeps everything.
    pub(crate) root_dir: String,
}

impl HostLook {
    pub(super) fn of(info: SystemInfo) -> Self {
        let is_v2 = info.cgroup_version.is_some_and(|version| version.to_string() == "2");
        let text = |text: Option<String>| brief(&text.unwrap_or_default());
        Self {
            id: text(info.id),
            architecture: architecture(&text(info.architecture)).to_owned(),
            cgroup: if is_v2 { Cgroup::V2 } else { Cgroup::V1 },
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            ncpu: info.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            mem_total: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            driver: text(info.driver),
            root_dir: text(info.docker_root_dir),
        }
    }

    /// What images are asked for.
    pub(crate) fn platform(&self) -> String {
        format!("linux/{}", self.architecture)
    }
}

/// From the kernel's word to that of images.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv8l" => "arm/v7",
        "armv6l" => "arm/v6",
        "i386" | "i686" => "386",
        other => other,
    }
}

/// Reads `2026-11-29T22:50:21.123456789Z`. Docker's zero, the year 1, is none.
fn moment(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between: char| {
        let mut parts = text.split(between).map(|part| part.parse::<u32>().ok());
        let [a, b, c] = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some([a, b, c])
    };
    let [year, month, day] = numbers(date, '-')?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(whole, ':')?;
    let is_sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && (1..=9).contains(&fraction.len());
    let nanos: u32 = format!("{fraction:0<9}").parse().ok().filter(|_| is_sound)?;
    // Days of the civil calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = u64::from(y) * 365 + u64::from(y / 4) - u64::from(y / 100)
        + u64::from(y / 400)
        + u64::from((153 * m + 2) / 5 + day - 1);
    let days = days.checked_sub(719_468)?;
    let seconds = days * 86_400 + u64::from(hour * 3_600 + minute * 60 + second);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let at = |seconds: u64, nanos: u32| Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("2000-02-29T12:34:56Z", at(951_827_696, 0)),
            ("2024-12-31T23:59:59.999999999Z", at(1_735_689_599, 999_999_999)),
            ("2026-03-01T00:00:00.5Z", at(1_772_323_200, 500_000_000)),
            ("0001-01-01T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:00:00.0000000001Z", None),
            ("2024-01-01T00:00:00+01:00", None),
            ("2024-01-01", None),
            ("9999999999-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn an_autopsy_tells_of_the_last_end() {
        let of = |value| Autopsy::of(&serde_json::from_value(value).unwrap());
        let never = "0001-01-01T00:00:00Z";
        let nothing = Autopsy {
            exit_code: None,
            oom_killed: false,
            error: String::new(),
            started_at: None,
            finished_at: None,
            running: false,
            paused: false,
            restart_count: 0,
        };
        assert_eq!(of(json!({})), nothing);
        let created = json!({ "State": { "ExitCode": 0, "StartedAt": never, "FinishedAt": never } });
        assert_eq!(of(created), nothing);
        let killed = json!({ "RestartCount": 2, "State": {
            "ExitCode": 137, "OOMKilled": true, "Error": "a\nb", "Running": false, "Paused": false,
            "StartedAt": "1970-01-01T00:00:01Z", "FinishedAt": "1970-01-01T00:00:03Z" } });
        let second = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let expected = Autopsy {
            exit_code: Some(137),
            oom_killed: true,
            error: "ab".into(),
            started_at: second(1),
            finished_at: second(3),
            restart_count: 2,
            ..nothing
        };
        assert_eq!(of(killed), expected);
    }

    #[test]
    fn a_host_is_called_as_images_call_it() {
        let of = |value| HostLook::of(serde_json::from_value(value).unwrap());
        for (machine, platform) in [
            ("x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armv7l", "linux/arm/v7"),
            ("riscv64", "linux/riscv64"),
        ] {
            assert_eq!(of(json!({ "Architecture": machine })).platform(), platform);
        }
        for (version, cgroup) in
            [(json!("1"), Cgroup::V1), (json!("2"), Cgroup::V2), (json!(null), Cgroup::V1)]
        {
            assert_eq!(of(json!({ "CgroupVersion": version })).cgroup, cgroup);
        }
        let host = of(
            json!({ "NCPU": 4, "MemTotal": 8, "Driver": "vfs", "DockerRootDir": "/d", "LiveRestoreEnabled": true }),
        );
        assert_eq!((host.ncpu, host.mem_total, host.live_restore), (4, 8, true));
        assert_eq!((host.driver.as_str(), host.root_dir.as_str()), ("vfs", "/d"));
    }
}
