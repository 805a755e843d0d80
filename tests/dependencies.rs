//! Walls that the compiler keeps only as long as manifests do.

#![allow(clippy::unwrap_used, reason = "test code, though not inside a test function")]

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Crates that may be depended on directly only by these of ours.
const HOMES: &[(&str, &[&str])] = &[
    ("monoio", &["millrace-dataplane"]),
    ("socket2", &["millrace", "millrace-dataplane"]),
    ("tokio", &["millrace", "millrace-control", "millrace-emulator"]),
    ("hyper", &["millrace-control"]),
    ("axum", &["millrace-control"]),
    ("bollard", &["millrace-control"]),
    ("rustls", &["millrace-control"]),
    ("anyhow", &["millrace"]),
    ("mimalloc", &["millrace"]),
    ("millrace-media", &["millrace", "millrace-dataplane"]),
    ("millrace-emulator", &["millrace", "millrace-control"]),
    ("millrace-dataplane", &["millrace"]),
    ("millrace-control", &["millrace"]),
];

/// What benches and tests of ours use, and nothing else of the package: the
/// runtime bare, to be measured beside the server.
const FOR_DEVELOPMENT: &[(&str, &str)] = &[("millrace", "monoio")];

/// Of a package's licence expression, one alternative has to be made of these.
const LICENCES: &[&str] = &["MIT", "Apache-2.0", "BSD-3-Clause", "Unicode-3.0", "Zlib", "ISC"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Our packages, each with the names of what it depends on.
fn ours(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let members: Vec<_> = metadata["workspace_members"].as_array().unwrap().iter().map(text).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| members.contains(&text(&package["id"])))
        .map(|package| {
            let name = text(&package["name"]);
            let needs = package["dependencies"].as_array().unwrap().iter();
            let counts = |need: &&Value| {
                need["kind"] != "dev" || !FOR_DEVELOPMENT.contains(&(&name, need["name"].as_str().unwrap()))
            };
            let needs = needs.filter(counts).map(|need| text(&need["name"])).collect();
            (name, needs)
        })
        .collect()
}

#[test]
fn each_side_has_its_own_runtime_and_cannot_see_the_other() {
    let ours = ours(&metadata());
    assert_eq!(ours.len(), 6, "{ours:?}");
    for (needed, homes) in HOMES {
        for (package, needs) in &ours {
            let allowed = homes.contains(&package.as_str());
            assert!(allowed || !needs.iter().any(|n| n == needed), "{package} depends on {needed}");
        }
    }
    let control = &ours["millrace-control"];
    assert!(!control.iter().any(|n| n == "millrace-dataplane" || n == "millrace-media"), "{control:?}");
    let emulator = &ours["millrace-emulator"];
    assert!(!emulator.iter().any(|n| n.starts_with("millrace")), "a mistake could be shared: {emulator:?}");
}

/// `A OR B`, `A/B`, `A AND B`, with brackets and `WITH` exceptions.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" OR ").any(|alternative| {
        alternative.split(" AND ").all(|licence| {
            let name = licence.split(" WITH ").next().unwrap_or("").trim();
            LICENCES.contains(&name)
        })
    })
}

#[test]
fn every_licence_is_one_that_asks_for_no_more_than_a_notice() {
    for (expression, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("Unlicense OR MIT", true),
        ("Apache-2.0 / MIT", true),
        ("MIT AND BSD-3-Clause", true),
        ("GPL-3.0-only", false),
        ("MIT AND GPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
    for package in metadata()["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("");
        assert!(is_allowed(licence), "{} is under {licence:?}", package["name"]);
    }
}
