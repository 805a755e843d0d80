//! Engines of our own: from none to as many as are needed, and back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use millrace_emulator::Scenario;
use support::{
    crowd::{Crowd, assert_unbroken},
    own_fleet::{self, OwnFleet, engines, wait_ready},
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);
const RUN: Duration = Duration::from_secs(8);

#[test]
fn from_nothing_to_the_least_engines_ready_and_playing() {
    let config =
        format!("network = \"host\"\nports = \"{}\"\n[fleet]\nmin = 2\nmax = 4\n", own_fleet::ports());
    let Some(fleet) = OwnFleet::new(&config) else { return };
    let begun = Instant::now();
    let server = fleet.serve(None, &["--keep-engines"]);
    wait_ready(&server, 2);
    println!("two engines ready {:?} after the start", begun.elapsed());
    let crowd = Crowd::new();
    let id = signed(RATE, Scenario::healthy(), 1);
    let place = crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
    assert!(
        wait_until(SOON, || crowd.seen(place).run(RATE) >= RUN),
        "{:#?}\n{}",
        crowd.seen(place),
        server.log()
    );
    assert_unbroken("the viewer", &crowd.seen(place), RATE, RUN);
    assert_eq!(engines(&server, "ready").len(), 2);
}
