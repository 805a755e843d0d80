//! Connections have the congestion control that the settings name, and the
//! kernel's default when they name none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, process::Command};

use support::{
    Viewer,
    pool::{engines, healthy, path_of, serve_ready},
    wait_until,
};

mod support;

const SOON: std::time::Duration = std::time::Duration::from_secs(10);

fn kernel(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim().to_owned()
}

/// The congestion control of each connection whose own port is `port`.
fn in_use(port: u16) -> Vec<String> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-Htin", "state", "established", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // A line of addresses, then an indented one that begins with the name.
    let details = text.lines().filter(|line| line.starts_with(char::is_whitespace));
    details.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_connection_has_the_congestion_control_of_the_settings() {
    let default = kernel("tcp_congestion_control");
    let allowed = kernel("tcp_allowed_congestion_control");
    for (setting, expected) in allowed.split(' ').map(|name| (name, name)).chain([("", default.as_str())]) {
        let emulator = engines(1);
        let server = serve_ready(&emulator, &format!("[viewers]\ncongestion = \"{setting}\"\n"));
        let mut viewers: Vec<_> =
            (0..4).map(|_| Viewer::ask(server.address(), &path_of(healthy(1))).unwrap()).collect();
        for viewer in &mut viewers {
            assert_eq!(viewer.head(SOON).unwrap().0, 200);
            viewer.read_exact(188, SOON).unwrap();
        }
        let port = server.address().port();
        assert!(wait_until(SOON, || in_use(port).len() >= viewers.len()), "{:?}", in_use(port));
        let names = in_use(port);
        assert!(names.iter().all(|name| name == expected), "{setting:?}: {names:?}");
    }
}
