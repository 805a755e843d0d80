//! What is built into the server is what the panel's sources give, and is
//! made of what may be in it.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use support::tool::{has, run};

mod support;

/// For npm to fetch and for TypeScript to check: seconds, on a machine that does nothing else.
const BUILD: Duration = Duration::from_secs(180);
/// Licences that ask for no more than a notice.
const LICENCES: &[&str] = &["MIT", "Apache-2.0"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("control/panel")
}

/// Every file of a directory by its name.
fn files(of: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = of.read_dir().unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

#[test]
fn the_committed_files_are_what_the_sources_build() {
    if !has("npm") {
        return;
    }
    // What npm has fetched stays for the next time; the sources are as they are now.
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panel");
    for old in ["src", "built"] {
        fs::remove_dir_all(place.join(old)).ok();
    }
    copy(&sources(), &place);
    copy(&sources().join("src"), &place.join("src"));
    // With the settings and the cache of whoever runs this.
    let home = format!("HOME={}", std::env::var("HOME").unwrap());
    let prefix = place.display().to_string();
    for args in [&["ci", "--prefer-offline"][..], &["run", "build"]] {
        let outcome = run("env", &[&[&home, "npm", "--prefix", &prefix][..], args].concat(), BUILD);
        assert!(outcome.status.success(), "npm {args:?}: {outcome:#?}");
    }
    let (mut committed, mut built) = (files(&sources().join("built")), files(&place.join("built")));
    // Another zlib packs in other bytes; what is in there is compared in place of them.
    let packed = committed.remove("watch.js.gz").unwrap();
    assert!(built.remove("watch.js.gz").is_some());
    assert!(unpacked(&packed) == committed["watch.js"], "watch.js.gz is not watch.js: npm run build");
    let differing: Vec<_> =
        committed.keys().chain(built.keys()).filter(|&name| committed.get(name) != built.get(name)).collect();
    assert!(differing.is_empty(), "not as built: {differing:?}; in control/panel: npm ci && npm run build");
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panel/unpacked.gz");
    fs::write(&file, bytes).unwrap();
    let output = std::process::Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn packages_of_the_panel_are_pinned_under_free_licences_and_noticed() {
    let json =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(sources().join(name)).unwrap()).unwrap() };
    let wanted = json("package.json");
    let is_exact = |version: &str| version.split('.').all(|part| part.parse::<u32>().is_ok());
    for (name, version) in wanted["devDependencies"].as_object().unwrap() {
        assert!(is_exact(version.as_str().unwrap()), "{name} {version}");
    }
    let lock = json("package-lock.json");
    for (path, package) in lock["packages"].as_object().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(path.is_empty() || LICENCES.contains(&licence), "{path} is under {licence}");
        assert!(path.is_empty() || package["integrity"].is_string(), "{path} may be anything");
        assert!(package.get("resolved").is_none(), "{path} says where it came from");
    }
    let notices = fs::read_to_string(sources().join("built/notices.txt")).unwrap();
    for name in ["hls.js", "mpegts.js", "eventemitter3", "url-toolkit", "es6-promise", "events"] {
        let version = lock["packages"][format!("node_modules/{name}")]["version"].as_str().unwrap();
        assert!(notices.contains(&format!("\n{name} {version} (")), "{name} {version} is not noticed");
    }
}
