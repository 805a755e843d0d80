//! What the control thread says to shards, however they listen.

mod support;

use std::{
    sync::{atomic::Ordering, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use millrace_boundary::{Epoch, FromShard, Inbox, Monotonic, ShardId, ToShard};
use support::{
    Obedient, Options, Server,
    engine::{Behaviour, FakeEngine, GOOD},
    eventually, sample,
};

const SOON: Duration = Duration::from_secs(5);

fn next_epoch(inbox: &Inbox<ToShard>) -> u64 {
    eventually("a table", SOON, || match inbox.take()? {
        ToShard::Table(table) => Some(table.epoch.0),
        _ => None,
    })
}

#[test]
fn a_table_comes_again_until_it_is_adopted_and_never_an_older_one() {
    let engine = FakeEngine::new(GOOD);
    let (server, inboxes) =
        Server::start(Options { engines: vec![engine.address], probe_interval: SOON, ..Options::default() });
    let inbox = &inboxes[0];
    let mut newest = next_epoch(inbox);
    assert_eq!(newest, 1);
    // Unadopted, it repeats, or a newer one comes.
    let begun = Instant::now();
    let mut offers = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        let epoch = next_epoch(inbox);
        assert!(epoch >= newest, "{epoch} after {newest}");
        newest = epoch;
        offers += 1;
    }
    assert!((3..=14).contains(&offers), "{offers} offers in a second");
    assert_eq!(newest, 2, "booting, then ready");

    let adopted = FromShard::Adopted { shard: ShardId(0), epoch: Epoch(1) };
    server.control.offer(adopted).unwrap();
    assert_eq!(next_epoch(inbox), 2, "an older one in use is not enough");
    server.control.offer(FromShard::Adopted { shard: ShardId(0), epoch: Epoch(2) }).unwrap();
    server.ready.recv_timeout(SOON).unwrap();
    while inbox.take().is_some() {}
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(400) {
        assert!(inbox.take().is_none(), "silence once adopted");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.stop();
}

#[test]
fn ready_is_said_once_and_not_before_every_shard_has_a_table() {
    let engine = FakeEngine::new(GOOD);
    let (server, mut inboxes) =
        Server::start(Options { engines: vec![engine.address], shards: 2, ..Options::default() });
    let _first = Obedient::new(0, inboxes.remove(0), server.control.clone());
    eventually("the engine is ready", SOON, || (server.engine(0)["state"] == "ready").then_some(()));
    assert_eq!(server.ready.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.problem().as_str()), (503, "shards_starting"));
    let _second = Obedient::new(1, inboxes.remove(0), server.control.clone());
    assert_eq!(server.ready.recv_timeout(SOON), Ok(1));
    assert_eq!(server.get("/readyz").status, 200);
    // The callback can be called once only; its sender is gone after that.
    assert_eq!(server.ready.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Disconnected));
    server.stop();
}

#[test]
fn a_probe_that_hangs_does_not_hold_ready_back_for_long() {
    let hung = FakeEngine::new(Behaviour::Hang);
    let begun = Instant::now();
    let (server, _shard) = Server::with_engines(vec![hung.address]);
    assert_eq!(server.ready.recv_timeout(SOON), Ok(0));
    assert!(begun.elapsed() < Duration::from_millis(3_200), "{:?}", begun.elapsed());
    server.stop();
}

#[test]
fn a_drain_ends_as_soon_as_the_last_shard_has_drained() {
    let (server, mut inboxes) = Server::start(Options { shards: 3, drain_limit: SOON, ..Options::default() });
    let _shards: Vec<_> =
        (0u16..3).map(|i| Obedient::new(i, inboxes.remove(0), server.control.clone())).collect();
    server.ready.recv_timeout(SOON).unwrap();
    let took = server.stop();
    println!("drain of three obedient shards: {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_deaf_shard_is_offered_the_drain_again_and_waited_for_until_the_limit() {
    let engine = FakeEngine::new(GOOD);
    let (mut server, mut inboxes) = Server::start(Options {
        engines: vec![engine.address],
        shards: 2,
        drain_limit: Duration::from_secs(1),
        ..Options::default()
    });
    let deaf = inboxes.pop().unwrap();
    let _obedient = Obedient::new(0, inboxes.remove(0), server.control.clone());
    server.control.offer(FromShard::Adopted { shard: ShardId(1), epoch: Epoch(1) }).unwrap();
    server.ready.recv_timeout(SOON).unwrap();
    while deaf.take().is_some() {}
    let (begun, latest) = (Instant::now(), Monotonic::now() + Duration::from_secs(1));
    server.shutdown();
    eventually("readyz falls", SOON, || {
        let ready = server.get("/readyz");
        (ready.status == 503 && ready.problem() == "draining").then_some(())
    });
    let mut offers = 0;
    while server.is_running() {
        match deaf.take() {
            Some(ToShard::Drain { deadline }) => {
                assert!(deadline < latest + Duration::from_millis(50), "within the limit");
                offers += 1;
            }
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(begun.elapsed() < SOON, "ends");
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(950)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
    assert!((10..=24).contains(&offers), "{offers} offers in a second");
}

#[test]
fn a_shard_that_is_gone_holds_nobody_up() {
    let (server, inboxes) = Server::start(Options { drain_limit: SOON, ..Options::default() });
    drop(inboxes);
    assert!(server.stop() < Duration::from_secs(1));
}

#[test]
fn a_server_with_a_silent_shard_stops_saying_that_it_is_alive() {
    let ((heard, _first), (unheard, _second)) =
        (Server::start(Options::default()), Server::start(Options::default()));
    let beats = |server: &Server| server.alive.load(Ordering::Relaxed);
    let began = Instant::now();
    let mut when_silent = 0;
    while began.elapsed() < Duration::from_secs(8) {
        heard.control.offer(FromShard::Sample(Box::new(sample(0, Epoch(0))))).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        if began.elapsed() < Duration::from_secs(6) {
            when_silent = beats(&unheard);
        }
    }
    assert!((1..=6).contains(&when_silent), "{when_silent} beats before the silence was noticed");
    assert_eq!(beats(&unheard), when_silent, "none after that");
    assert!(beats(&heard) > when_silent, "{} beats with a shard that reports", beats(&heard));
    heard.stop();
    unheard.stop();
}
