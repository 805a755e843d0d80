//! What stands in `deploy/` and README.md is true of the binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, fs, process::Command};

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn millrace(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace")).env_clear().args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `table.key` → value as TOML.
fn settings(toml: &str) -> BTreeMap<String, String> {
    let tables: toml::Table = toml.parse().unwrap();
    let keys = |(table, keys): (&String, &toml::Value)| -> Vec<(String, String)> {
        let keys = keys.as_table().unwrap().iter();
        keys.map(|(key, value)| (format!("{table}.{key}"), value.to_string())).collect()
    };
    tables.iter().flat_map(keys).collect()
}

#[test]
fn the_example_file_holds_every_key_with_its_default_and_its_meaning() {
    let example = read("deploy/millrace.toml");
    let printed = millrace(&["config", "print"]);
    assert_eq!(settings(&example), settings(&printed));
    let (_, body) = example.split_once("\n\n").unwrap();
    assert_eq!(body, printed, "renew it: keep the head, then `millrace config print`");
    let path = format!("{}/deploy/millrace.toml", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(millrace(&["config", "check", &path]), format!("{path}: ok\n"));
}

#[test]
fn readme_tells_every_key_with_its_default() {
    let readme = read("README.md");
    for (key, value) in settings(&read("deploy/millrace.toml")) {
        let row = format!("| `{key}` | `{}` |", value.trim_matches('"'));
        assert!(readme.contains(&row), "README.md lacks {row}");
    }
}

/// `Key=value` of the unit, by key; a key may stand several times.
fn unit() -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in read("deploy/millrace.service").lines() {
        if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            keys.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    keys
}

#[test]
fn the_unit_starts_the_binary_restarts_a_lost_one_and_allows_io_uring() {
    let unit = unit();
    for (key, value) in [
        ("Type", "notify"),
        ("ExecStart", "/usr/local/bin/millrace serve"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("DynamicUser", "yes"),
    ] {
        assert_eq!(unit.get(key).map(Vec::as_slice), Some(&[value.to_owned()][..]), "{key}");
    }
    for key in ["WatchdogSec", "TimeoutStopSec", "LimitNOFILE", "LimitMEMLOCK"] {
        assert!(unit.contains_key(key), "{key}");
    }
    let calls = unit["SystemCallFilter"].join(" ");
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(calls.contains(call), "{call}");
    }
    // What it sets for us is a setting of ours.
    let known = settings(&read("deploy/millrace.toml"));
    for variable in &unit["Environment"] {
        let (name, _) = variable.split_once('=').unwrap();
        let known = known.keys().any(|k| name == format!("MILLRACE_{}", k.replace('.', "_").to_uppercase()));
        assert!(known, "{name}");
    }
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    // The binary need not be installed for this.
    let text =
        read("deploy/millrace.service").replace("/usr/local/bin/millrace", env!("CARGO_BIN_EXE_millrace"));
    let path = format!("{}/millrace.service", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&path, text).unwrap();
    match Command::new("systemd-analyze").args(["verify", "--man=no", &path]).output() {
        Err(error) => println!("SKIP: systemd-analyze does not run: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            // Complaints about other units of the machine name those.
            let ours: Vec<_> = said.lines().filter(|l| l.contains("millrace")).collect();
            assert!(ours.is_empty(), "{ours:#?}");
        }
    }
}
