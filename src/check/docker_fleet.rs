//! What `check` finds where engines are to be run in Docker.

use std::{net::TcpListener, time::Duration};

use millrace_control::{DockerFleet, FleetLook, Pull, look_at_fleet};

use super::{Finding, disk, docker_host, docker_refuses, unusable};

/// The interface of Docker 20.10.
const OLDEST_API: (usize, usize) = (1, 41);
/// Tried ports at most: a range may have all there are.
const MOST_TRIED: usize = 4_096;

/// Looks at the daemon and says what it will and will not do for the fleet.
pub(super) fn examine(fleet: &DockerFleet, limit: Duration) -> Vec<Finding> {
    match look_at_fleet(fleet, limit) {
        Ok(look) => found(fleet, &look, |port| TcpListener::bind(("0.0.0.0", port)).is_ok()),
        Err(error) => vec![docker_refuses(&fleet.uri, &error)],
    }
}

/// What follows from one look; `is_free` tries a port of this host.
fn found(fleet: &DockerFleet, look: &FleetLook, is_free: impl Fn(u16) -> bool) -> Vec<Finding> {
    let mut findings = vec![version(fleet, look)];
    findings.extend(docker_host(&look.docker));
    findings.extend([image(fleet, look), network(look), ports(fleet, look, is_free), memory(fleet, look)]);
    findings.extend([disk::room(&look.disk), containers(fleet, look)]);
    findings.extend(look.colliding.iter().map(|name| {
        Finding::warn(
            "fleet",
            format!(
                "container {name} carries the label of the fleet {:?} and is none of its engines",
                fleet.name
            ),
            "remove it, or its label io.millrace.fleet; or name the fleet otherwise in docker.name",
        )
    }));
    let taken = look.taken_names.iter();
    findings.extend(taken.map(|(wrong, remedy)| Finding::warn("engine name", wrong, remedy)));
    findings.extend(unusable(&look.docker));
    findings
}

fn version(fleet: &DockerFleet, look: &FleetLook) -> Finding {
    let (major, minor) = look.docker.api;
    let found = format!("{} runs Docker {}", fleet.uri, look.docker.version);
    if look.docker.api < OLDEST_API {
        let found = format!("{found}, whose interface is {major}.{minor}");
        Finding::fail(
            "Docker",
            found,
            "upgrade Docker: 20.10, with the interface 1.41, is the oldest that works",
        )
    } else {
        Finding::ok("Docker", found)
    }
}

fn image(fleet: &DockerFleet, look: &FleetLook) -> Finding {
    let what = "engine image";
    match (&look.image, fleet.container.pull) {
        (Err((wrong, remedy)), _) => Finding::fail(what, wrong, remedy),
        (Ok((image, true)), _) => Finding::ok(what, format!("{image} is there")),
        (Ok((image, false)), Pull::Never) => Finding::fail(
            what,
            format!("{image} is not there, and docker.pull = \"never\""),
            format!("docker pull {image}, or set docker.pull = \"missing\""),
        ),
        (Ok((image, false)), Pull::Missing | Pull::Always) => {
            Finding::ok(what, format!("{image} is not there yet, and is pulled at the start"))
        }
    }
}

fn network(look: &FleetLook) -> Finding {
    match &look.network {
        Ok(words) => Finding::ok("engine network", words),
        Err((wrong, remedy)) => Finding::fail("engine network", wrong, remedy),
    }
}

fn ports(fleet: &DockerFleet, look: &FleetLook, is_free: impl Fn(u16) -> bool) -> Finding {
    let what = "engine ports";
    let range = fleet.container.ports.clone();
    let (first, last, each) = (*range.start(), *range.end(), look.ports_of_one);
    let (least, most) = (fleet.scale.min * each, fleet.scale.max * each);
    let all = range.len();
    let usable = if look.ports_are_here {
        range.take(MOST_TRIED).filter(|port| look.ports.contains(port) || is_free(*port)).count()
    } else {
        all
    };
    let found =
        format!("{usable} of {all} from {first} to {last} are free or its own, {each} for each engine");
    let remedy = |key: &str, needed: usize| {
        format!("{key} needs {needed}: widen docker.ports, or end what listens there (ss -ltnp)")
    };
    if usable < least {
        Finding::fail(what, found, remedy("fleet.min", least))
    } else if usable < most {
        Finding::warn(what, found, remedy("fleet.max", most))
    } else {
        Finding::ok(what, found)
    }
}

fn memory(fleet: &DockerFleet, look: &FleetLook) -> Finding {
    let what = "engine memory";
    let mib = |bytes: u64| bytes >> 20;
    let most = u64::try_from(fleet.scale.max).unwrap_or(u64::MAX);
    match (fleet.container.memory, look.host_memory) {
        (None, host) => Finding::ok(what, format!("no limit; the host has {} MiB", mib(host))),
        (Some(each), host) if host > 0 && each.saturating_mul(most) > host => Finding::warn(
            what,
            format!("{most} engines of {} MiB are more than the host's {} MiB", mib(each), mib(host)),
            "lower docker.memory or fleet.max: what is beyond the host's memory ends engines",
        ),
        (Some(each), host) => {
            Finding::ok(what, format!("{most} engines of {} MiB, of {} MiB", mib(each), mib(host)))
        }
    }
}

fn containers(fleet: &DockerFleet, look: &FleetLook) -> Finding {
    let found = format!(
        "{:?} has {} containers that run and {} that do not, and shall have {} to {}",
        fleet.name, look.running, look.stopped, fleet.scale.min, fleet.scale.max
    );
    Finding::ok("fleet", found)
}

#[cfg(test)]
mod tests {
    use millrace_control::{DiskLook, DockerLook, UnusableContainer};

    use super::{super::Level, *};
    use crate::config::{Config, Flags};

    /// The fleet of these settings, each as a variable.
    fn fleet(variables: &[(&str, &str)]) -> DockerFleet {
        let given = variables.iter().map(|(name, value)| (format!("MILLRACE_{name}"), (*value).to_owned()));
        let settings = Config::from_sources(&Flags::default(), &given.collect::<Vec<_>>()).unwrap().settings;
        settings.fleet.at(millrace_control::DockerUri::default(), None)
    }

    /// All is well, with a hundred ports of which none is taken.
    fn well() -> FleetLook {
        FleetLook {
            docker: DockerLook {
                version: "20.10.24".into(),
                api: (1, 41),
                architecture: Some("x86_64".into()),
                cgroup_version: Some("2".into()),
                live_restore: Some(true),
                tells_events: true,
                engines: 2,
                paused: 0,
                stopped: 0,
                unusable: Vec::new(),
            },
            image: Ok(("a/engine:1".into(), true)),
            network: Ok("the host's".into()),
            ports_of_one: 2,
            ports_are_here: true,
            ports: Vec::new(),
            host_memory: 8 << 30,
            running: 2,
            stopped: 0,
            colliding: Vec::new(),
            taken_names: Vec::new(),
            disk: Ok(DiskLook {
                directory: "/var/lib/docker".into(),
                bytes: 100 << 30,
                free: 1 << 30,
                free_for_root: 6 << 30,
                free_inodes: Some(10_000),
            }),
        }
    }

    /// Its disk.
    fn disk(look: &mut FleetLook) -> &mut DiskLook {
        look.disk.as_mut().unwrap()
    }

    #[test]
    fn each_finding_names_what_is_wrong_and_what_helps() {
        const PORTS: [(&str, &str); 3] =
            [("DOCKER_PORTS", "100-119"), ("FLEET_MIN", "2"), ("FLEET_MAX", "10")];
        type Change = fn(&mut FleetLook);
        let same: Change = |_| {};
        for (name, settings, change, taken, level, what, words) in [
            (
                "Docker",
                &[][..],
                same,
                0,
                Level::Ok,
                "Docker",
                &["unix:///var/run/docker.sock runs Docker 20.10.24"][..],
            ),
            (
                "an old Docker",
                &[],
                |look| look.docker.api = (1, 40),
                0,
                Level::Fail,
                "Docker",
                &["1.40", "upgrade Docker: 20.10"],
            ),
            ("its host", &[], same, 0, Level::Ok, "Docker host", &["x86_64, control groups 2"]),
            (
                "no live restore",
                &[],
                |look| look.docker.live_restore = Some(false),
                0,
                Level::Warn,
                "Docker live-restore",
                &["end when Docker is restarted", "\"live-restore\": true in /etc/docker/daemon.json"],
            ),
            ("the image", &[], same, 0, Level::Ok, "engine image", &["a/engine:1 is there"]),
            (
                "an image to be pulled",
                &[],
                |look| look.image = Ok(("a/engine:1".into(), false)),
                0,
                Level::Ok,
                "engine image",
                &["is pulled at the start"],
            ),
            (
                "an image that is not pulled",
                &[("DOCKER_PULL", "never")],
                |look| look.image = Ok(("a/engine:1".into(), false)),
                0,
                Level::Fail,
                "engine image",
                &["docker.pull = \"never\"", "docker pull a/engine:1"],
            ),
            (
                "no image",
                &[],
                |look| look.image = Err(("no engine runs on \"mips\"".into(), "use a host".into())),
                0,
                Level::Fail,
                "engine image",
                &["mips", "use a host"],
            ),
            (
                "no network",
                &[],
                |look| look.network = Err(("there is no network x".into(), "docker network create x".into())),
                0,
                Level::Fail,
                "engine network",
                &["there is no network x", "docker network create x"],
            ),
            ("ports for all", &PORTS, same, 0, Level::Ok, "engine ports", &["20 of 20 from 100 to 119"]),
            (
                "ports for all but one",
                &PORTS,
                same,
                1,
                Level::Warn,
                "engine ports",
                &["19 of 20", "fleet.max needs 20", "ss -ltnp"],
            ),
            (
                "ports that are its own",
                &PORTS,
                |look| look.ports = vec![100],
                1,
                Level::Ok,
                "engine ports",
                &["20 of 20"],
            ),
            (
                "ports for fewer than the least",
                &PORTS,
                same,
                17,
                Level::Fail,
                "engine ports",
                &["3 of 20", "fleet.min needs 4", "widen docker.ports"],
            ),
            (
                "ports elsewhere",
                &PORTS,
                |look| look.ports_are_here = false,
                20,
                Level::Ok,
                "engine ports",
                &["20 of 20"],
            ),
            ("no limit of memory", &[], same, 0, Level::Ok, "engine memory", &["no limit", "8192 MiB"]),
            (
                "memory for all",
                &[("DOCKER_MEMORY", "1GiB"), ("FLEET_MAX", "8")],
                same,
                0,
                Level::Ok,
                "engine memory",
                &["8 engines of 1024 MiB"],
            ),
            (
                "too little memory",
                &[("DOCKER_MEMORY", "1GiB"), ("FLEET_MAX", "9")],
                same,
                0,
                Level::Warn,
                "engine memory",
                &["9 engines of 1024 MiB are more than the host's 8192 MiB", "lower docker.memory"],
            ),
            (
                "room on the disk",
                &[],
                same,
                0,
                Level::Ok,
                "Docker disk",
                &["1024 of 102400 MiB and 10000 inodes are free in /var/lib/docker"],
            ),
            (
                "a disk whose inodes are not counted",
                &[],
                |look| disk(look).free_inodes = None,
                0,
                Level::Ok,
                "Docker disk",
                &["1024 of 102400 MiB are free"],
            ),
            (
                "a disk elsewhere",
                &[],
                |look| look.disk = Err("the daemon is elsewhere".into()),
                0,
                Level::Ok,
                "Docker disk",
                &["not looked at: the daemon is elsewhere"],
            ),
            (
                "little room",
                &[],
                |look| disk(look).free = (1 << 30) - 1,
                0,
                Level::Warn,
                "Docker disk",
                &["1023 of 102400 MiB", "want 1024 MiB", "docker system df"],
            ),
            (
                "few inodes",
                &[],
                |look| disk(look).free_inodes = Some(9_999),
                0,
                Level::Warn,
                "Docker disk",
                &["9999 inodes are free", "10000 inodes", "docker system df"],
            ),
            (
                "room for root alone",
                &[],
                |look| (disk(look).free, disk(look).free_for_root) = (0, 64 << 20),
                0,
                Level::Warn,
                "Docker disk",
                &["0 of 102400 MiB", "docker system df"],
            ),
            (
                "no room",
                &[],
                |look| (disk(look).free, disk(look).free_for_root) = (0, (64 << 20) - 1),
                0,
                Level::Fail,
                "Docker disk",
                &["no container can be made", "docker system df"],
            ),
            (
                "no inodes",
                &[],
                |look| disk(look).free_inodes = Some(0),
                0,
                Level::Fail,
                "Docker disk",
                &["0 inodes are free", "no container can be made", "docker system df"],
            ),
            (
                "a name that is taken",
                &[],
                |look| look.taken_names = vec![("millrace-1 is taken".into(), "rename it".into())],
                0,
                Level::Warn,
                "engine name",
                &["millrace-1 is taken", "rename it"],
            ),
            (
                "its containers",
                &[("DOCKER_NAME", "main")],
                |look| look.stopped = 1,
                0,
                Level::Ok,
                "fleet",
                &["\"main\" has 2 containers that run and 1 that do not, and shall have 2 to 6"],
            ),
        ] {
            let mut look = well();
            change(&mut look);
            let all = found(&fleet(settings), &look, |port| port >= 100 + taken);
            let of_it: Vec<_> = all.iter().filter(|finding| finding.what == what).collect();
            let [finding] = of_it[..] else { panic!("{name}: {all:#?}") };
            assert_eq!(finding.level, level, "{name}: {finding:?}");
            let remedy = finding.remedy.clone().unwrap_or_default();
            assert_eq!(remedy.is_empty(), level == Level::Ok, "{name}: {finding:?}");
            let text = format!("{} ({remedy})", finding.found);
            assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
            let others = all.iter().filter(|finding| finding.what != what);
            let bad: Vec<_> = others.filter(|finding| finding.level != Level::Ok).collect();
            assert!(bad.is_empty(), "{name}: {bad:?}");
        }
    }

    #[test]
    fn containers_that_are_not_as_they_should_be_are_named() {
        let mut look = well();
        look.colliding = vec!["stranger".into()];
        look.docker.unusable =
            vec![UnusableContainer { name: "lame".into(), why: "it limps".into(), remedy: "a stick" }];
        let all = found(&fleet(&[]), &look, |_| true);
        let warned: Vec<_> = all.iter().filter(|finding| finding.level == Level::Warn).collect();
        let [stranger, lame] = warned[..] else { panic!("{all:#?}") };
        assert!(stranger.found.contains("container stranger carries the label of the fleet \"millrace\""));
        assert!(lame.found.contains("container lame cannot be used: it limps"));
        assert_eq!(lame.remedy.as_deref(), Some("a stick"));
    }
}
