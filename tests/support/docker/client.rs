//! What a test asks the daemon: by its command, and by its interface.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{
    super::tool::{self, Outcome},
    daemon::{Dockerd, LIMIT},
    http,
};

/// One container, as the daemon lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// Without the slash.
    pub(crate) name: String,
    /// `created`, `running`, `paused`, `exited`, …
    pub(crate) state: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Dockerd {
    /// Runs `docker` and returns what it prints; panics when it fails.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let outcome = self.try_docker(args);
        assert!(outcome.status.success(), "docker {args:?}: {}\n{}", outcome.stderr, self.log());
        outcome.stdout.trim().to_owned()
    }

    /// Runs `docker`, whatever comes of it.
    pub(crate) fn try_docker(&self, args: &[&str]) -> Outcome {
        let (uri, config) = (self.uri(), self.config().display().to_string());
        let all: Vec<_> = ["--host", &uri, "--config", &config].iter().chain(args).copied().collect();
        tool::run("docker", &all, LIMIT)
    }

    /// Where `docker` keeps its settings, and its passwords.
    pub(super) fn config(&self) -> std::path::PathBuf {
        self.scratch.path().join("config")
    }

    /// Asks the interface; panics when the answer is not 2xx. An empty body is null.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, target: &str, body: Option<&str>) -> Value {
        let text = self.raw_api(method, target, body);
        if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).expect("it is JSON") }
    }

    #[track_caller]
    fn raw_api(&self, method: &str, target: &str, body: Option<&str>) -> String {
        let answer = http::ask(&self.socket(), method, target, body).expect("the daemon answers");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!((200..300).contains(&answer.status), "{method} {target}: {} {text}", answer.status);
        text
    }

    /// All containers, running or not, in order of names.
    #[track_caller]
    pub(crate) fn containers(&self) -> Vec<Container> {
        let answer = self.api("GET", "/containers/json?all=1", None);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let one = |it: &Value| Container {
            id: text(&it["Id"]),
            name: text(&it["Names"][0]).trim_start_matches('/').to_owned(),
            state: text(&it["State"]),
            labels: serde_json::from_value(it["Labels"].clone()).unwrap_or_default(),
        };
        let mut all: Vec<_> = answer.as_array().expect("a list").iter().map(one).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All that the daemon knows of a container, by id or name.
    #[track_caller]
    pub(crate) fn inspect(&self, container: &str) -> Value {
        self.api("GET", &format!("/containers/{container}/json"), None)
    }

    /// The events since then until now, oldest first.
    #[track_caller]
    pub(crate) fn events_since(&self, since: SystemTime) -> Vec<Value> {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
        };
        let target = format!("/events?since={}&until={}", seconds(since), seconds(SystemTime::now()));
        let lines = self.raw_api("GET", &target, None);
        lines.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
    }

    /// The version of control groups here, 1 or 2.
    #[track_caller]
    pub(crate) fn cgroup_version(&self) -> u8 {
        let info = self.api("GET", "/info", None);
        info["CgroupVersion"].as_str().and_then(|text| text.parse().ok()).expect("1 or 2")
    }
}
