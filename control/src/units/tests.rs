//! Units against a made-up Docker: lists, deeds and time, in whatever order.

mod world;

use millrace_boundary::EngineEvidence;

use super::*;
use crate::{
    fleet::docker::{ContainerState, DockerError, FLEET_LABEL, PORTS_LABEL, SPEC_LABEL, Unusable},
    statistics::{Counters, Usage},
    unit::Ail,
};
use world::{TURN, World, host};

/// What engines of these settings are made from.
fn hash() -> String {
    let mut world = World::new(|_| {});
    world.run(1);
    world.units.spec().unwrap().hash().to_string()
}

#[test]
fn engines_that_run_already_are_kept_and_those_made_otherwise_are_replaced_one_at_a_time() {
    let hash = hash();
    let mut world = World::new(|settings| settings.scale.min = 3);
    let ports = |port: u16| format!("http={port}");
    let mut make = |name: &str, port: u16, hash: &str| {
        let (ports, labels) = (ports(port), hash.to_owned());
        world.container(name, ContainerState::Running, &[(PORTS_LABEL, &ports), (SPEC_LABEL, &labels)])
    };
    let kept = make("main-1", 19_000, &hash);
    let [first, second] =
        [("main-2", 19_001), ("main-3", 19_002)].map(|(n, p)| make(n, p, "0123456789abcdef"));
    world.list();
    world.turn();
    assert_eq!(world.names(), ["main-1", "main-2", "main-3"]);
    let drifted: Vec<_> = world.units.all().iter().map(|unit| unit.drifted).collect();
    assert_eq!(drifted, [false, true, true]);
    assert_eq!(world.count("engine_adopted"), 3);
    let mut most = 0;
    for _ in 0..240 * 4 {
        world.turn();
        world.list();
        // Those that were found are looked at first.
        let is_away = |(name, stage): &&(String, Stage)| {
            let is_found = ["main-1", "main-2", "main-3"].contains(&name.as_str());
            *stage != Stage::Ready && !(is_found && *stage == Stage::Booting)
        };
        most = most.max(world.stages().iter().filter(is_away).count());
    }
    assert_eq!(most, 1, "one at a time");
    let made: Vec<_> = world.deeds.iter().map(|(deed, _)| *deed).collect();
    assert_eq!(made, [Deed::Remake, Deed::Remake], "{:?}", world.deeds);
    assert!(world.docker.contains_key(&kept), "what matches is left alone");
    assert!(!world.docker.contains_key(&first) && !world.docker.contains_key(&second));
    assert!(world.units.all().iter().all(|unit| !unit.drifted) && world.all_are(Stage::Ready));
}

#[test]
fn what_does_not_run_and_is_no_units_is_removed_once_and_strangers_never() {
    let mut world = World::ready(|_| {});
    let ours = [(PORTS_LABEL, "http=19500")];
    world.container("main-77", ContainerState::Exited, &ours);
    let kept = world.container("stranger", ContainerState::Exited, &[]);
    let named = world.container("mains", ContainerState::Created, &[(FLEET_LABEL, "other")]);
    world.run(9);
    assert!(world.strays.is_empty(), "it may be a unit's yet");
    world.run(30);
    assert_eq!(world.strays, ["main-77".into()]);
    assert!(world.docker.contains_key(&kept) && world.docker.contains_key(&named));
    assert!(world.units.journal.is_open("label_collision"));
    world.docker.remove(&kept);
    world.run(1);
    assert!(!world.units.journal.is_open("label_collision"));
    assert_eq!(world.count("stray_removed"), 1);

    // At the start nothing is being made.
    let mut world = World::new(|_| {});
    world.container("main-77", ContainerState::Exited, &ours);
    world.run(1);
    assert_eq!(world.strays, ["main-77".into()]);
}

#[test]
fn lists_that_are_old_or_come_twice_change_nothing() {
    let mut world = World::ready(|_| {});
    let before = world.seen();
    let (begun, stages) = (world.now, world.stages());
    for (name, seen, begun) in [
        ("the same again", before.clone(), begun),
        ("and again", before.clone(), begun),
        ("one from before anything was made", Vec::new(), Monotonic(Duration::from_secs(1_000))),
    ] {
        world.take(&seen, begun);
        world.turn();
        assert_eq!(world.stages(), stages, "{name}");
        world.list();
    }
    assert!(world.deeds.is_empty(), "{:?}", world.deeds);

    // A list that was begun before a death was mended shows the dead.
    let id = world.identity("main-1");
    world.state(&id, ContainerState::Exited);
    let dead = world.seen();
    let begun = world.now;
    world.list();
    world.turn();
    assert_eq!(world.deeds, [(Deed::Revive, "main-1".into())]);
    world.take(&dead, begun);
    world.turn();
    world.take(&dead, begun);
    world.run(5);
    assert_eq!(world.deeds.len(), 1, "mended once: {:?}", world.deeds);
    assert!(world.all_are(Stage::Ready), "{:?}", world.stages());
}

#[test]
fn one_that_is_paused_when_it_is_found_stays_so_until_it_is_needed() {
    let mut world = World::new(|settings| {
        settings.scale.min = 1;
        settings.scale.paused = 1;
    });
    let hash = hash();
    let labels = |ports| [(PORTS_LABEL, ports), (SPEC_LABEL, hash.as_str())];
    world.container("main-1", ContainerState::Running, &labels("http=19000"));
    let paused = world.container("main-2", ContainerState::Paused, &labels("http=19001"));
    world.run(20);
    let stages = world.stages();
    assert_eq!(stages, [("main-1".into(), Stage::Ready), ("main-2".into(), Stage::Paused)]);
    assert!(world.deeds.is_empty(), "{:?}", world.deeds);
    let engine = world.engines.by_identity(&paused).unwrap();
    assert_eq!(engine.life.state(), millrace_boundary::EngineState::Paused, "it is not picked");
    let _held = world.engines.all()[0].slots.reserve_at(0).unwrap();
    world.units.tick(3, None, &mut world.engines, world.now);
    world.work();
    assert_eq!(
        world.deeds.first(),
        Some(&(Deed::Unpause, "main-2".into())),
        "{:?} {:?}",
        world.units.last_plan,
        world.stages()
    );
}

#[test]
fn a_stream_may_hope_for_a_slot_only_while_one_can_come() {
    fn refused() -> DockerError {
        DockerError::NoSpace("full".into())
    }
    type Change = fn(&mut World);
    for (name, growing, change) in [
        ("nothing is known yet", true, (|_| {}) as Change),
        ("engines are there, and more may be made", true, |world| world.run(5)),
        ("as many as there may be", false, |world| {
            world.units.rescale(Rescale { max: Some(2), ..Rescale::default() }).unwrap();
            world.run(5);
        }),
        ("none is to be made", false, |world| {
            world.units.rescale(Rescale { min: Some(0), max: Some(0), ..Rescale::default() }).unwrap()
        }),
        ("Docker does not answer", false, |world| {
            world.run(5);
            world.units.daemon(Some(("lost".into(), "find it")), false, world.now);
        }),
        ("the image cannot be had", false, |world| {
            world.run(5);
            world.units.image.begun();
            world.units.image.ended(false, world.now);
        }),
        ("none can be made", false, |world| {
            world.refuses = Some(refused);
            world.run(5);
        }),
        ("no port is left", false, |world| {
            world.units.settings.container.ports = 19_000..=19_000;
            world.units.ports = Ports::new(19_000..=19_000);
            world.run(5);
        }),
        ("another server runs the fleet", false, |world| {
            world.units.daemon(None, true, world.now);
            world.units.done(Outcome::Host(Ok((host("one"), None))), &mut world.engines, world.now);
        }),
    ] {
        let mut world = World::new(|_| {});
        change(&mut world);
        // A start has worked on each, so that no more slots come of them.
        for id in world.engines.all().iter().map(|engine| engine.id).collect::<Vec<_>>() {
            world.engines.used(id, EngineEvidence::Started(Duration::from_secs(1)), world.now);
        }
        world.engines.tick(world.now);
        for place in 0..world.units.list.len() {
            world.units.on(place, Event::Order(Order::Wake), &mut world.engines, world.now);
        }
        assert_eq!(world.units.is_growing(), growing, "{name}: {:?}", world.stages());
    }
}

#[test]
fn another_servers_fleet_is_left_to_it_until_it_ends() {
    let mut world = World::new(|_| {});
    let daemon = host(&format!("{}-shared", std::process::id()));
    let fleet = FleetName::parse("main").unwrap();
    let other = Lease::take(&daemon, &fleet).unwrap();
    let hash = hash();
    let labels = [(PORTS_LABEL, "http=19000"), (SPEC_LABEL, hash.as_str())];
    world.container("main-1", ContainerState::Running, &labels);
    world.container("main-2", ContainerState::Exited, &[(PORTS_LABEL, "http=19001")]);
    let mut asked = 0;
    let mut pass = |world: &mut World, seconds: u32| {
        for _ in 0..seconds * 4 {
            world.now = world.now + TURN;
            world.list();
            world.units.tick(5, None, &mut world.engines, world.now);
            while let Some(work) = world.units.take_work() {
                let outcome = match work {
                    Work::Host { fleet, lease } => {
                        asked += 1;
                        let lease = lease.or_else(|| Lease::take(&daemon, &fleet).map(Arc::new));
                        Outcome::Host(Ok((daemon.clone(), lease)))
                    }
                    work => world.outcome(work),
                };
                world.units.done(outcome, &mut world.engines, world.now);
            }
        }
        asked
    };
    let asked = pass(&mut world, 20);
    assert!((9..=11).contains(&asked), "tried every two seconds: {asked}");
    assert!(world.units.all().is_empty() && world.deeds.is_empty() && world.strays.is_empty());
    assert!(world.units.journal.is_open("fleet_shared") && world.units.has_its_minimum());
    assert_eq!((world.engines.all().len(), world.count("fleet_shared")), (1, 1), "used as it is found");
    drop(other);
    pass(&mut world, 3);
    assert!(!world.units.journal.is_open("fleet_shared"));
    assert_eq!(
        (world.names().first(), world.strays.as_slice()),
        (Some(&"main-1"), ["main-2".into()].as_slice())
    );
}

#[test]
fn ports_go_back_with_the_engine_and_a_lack_of_them_is_no_failure_of_others() {
    let mut world = World::ready(|_| {});
    let each = world.units.ports.taken() / 2;
    let last = 18_999 + u16::try_from(each).unwrap();
    let id = world.units.all()[0].id;
    world.units.rescale(Rescale { min: Some(1), ..Rescale::default() }).unwrap();
    world.units.order(id, Order::Remove(Leave::Asked), &mut world.engines, world.now);
    world.run(2);
    assert_eq!((world.names().len(), world.units.ports.taken()), (1, each));

    let mut world = World::new(|settings| settings.container.ports = 19_000..=last);
    world.run(60);
    assert_eq!(world.names().len(), 1, "ports of one, one engine");
    assert_eq!((world.count("ports_used_up"), world.deeds.len()), (1, 1), "{:?}", world.deeds);
    let breaker = world.units.autoscaler().breaker(world.now);
    assert_eq!((breaker.state, breaker.failures), (crate::autoscale::BreakerState::Closed, 0));
    let incident = world.units.journal.incidents().find(|i| i.code == "ports_used_up").unwrap();
    assert!((5..=7).contains(&incident.times), "tried every ten seconds: {}", incident.times);

    // Somebody removes it: its port is the next one's at once.
    let (id, port) = (world.identity(world.names()[0]), world.units.all()[0].ports.http);
    world.docker.remove(&id);
    world.run(3);
    assert_eq!(world.units.all()[0].ports.http, port);
    assert_eq!((world.names().len(), world.units.ports.taken()), (1, each));
}

#[test]
fn each_container_that_fails_counts_once_and_makes_the_next_one_wait() {
    fn full() -> DockerError {
        DockerError::NoSpace("full".into())
    }
    fn silent() -> DockerError {
        DockerError::Silent(Duration::from_secs(5))
    }
    let mut world = World::new(|_| {});
    world.refuses = Some(full);
    world.run(25);
    let made = world.deeds.len();
    assert!((5..=6).contains(&made), "{made} in the first 25 s");
    assert_eq!(world.count("engine_deed_failed"), made, "each is told");
    assert_eq!(world.count("engines_cannot_be_made"), 1, "and all of them once");
    assert_eq!(world.units.autoscaler().breaker(world.now).failures, made.min(5));
    assert!(world.units.has_its_minimum(), "nobody waits for what does not come");
    world.run(12);
    assert_eq!(world.deeds.len(), made + 1, "one trial after 30 s");
    world.refuses = None;
    world.run(65);
    assert!(world.all_are(Stage::Ready) && world.names().len() == 2, "{:?}", world.stages());
    assert!(!world.units.journal.is_open("engines_cannot_be_made"));

    // Docker's silence is nobody's failure.
    let mut world = World::new(|_| {});
    world.refuses = Some(silent);
    world.run(60);
    assert_eq!(world.units.autoscaler().breaker(world.now).failures, 0);
    assert!(world.deeds.len() <= 20, "with growing pauses: {}", world.deeds.len());
    assert_eq!((world.names().len(), world.count("engine_deed_failed")), (2, 0));

    // One that never answers fails once, when its time to boot is over.
    let mut world = World::new(|settings| settings.scale.min = 1);
    world.silent = (1..100).map(|i| format!("{i:04}")).collect();
    world.run(59);
    assert_eq!(world.units.autoscaler().breaker(world.now).failures, 0);
    world.run(5);
    assert_eq!(world.units.autoscaler().breaker(world.now).failures, 1);
    world.run(50);
    assert_eq!(world.units.autoscaler().breaker(world.now).failures, 1, "its restart is no creation");
}

#[test]
fn whoever_is_ripe_is_replaced_alone() {
    type Change = fn(&mut DockerFleet);
    type Ripens = fn(&mut World);
    let over: Ripens = |world| {
        let ids: Vec<_> = world.docker.keys().cloned().collect();
        for (place, id) in ids.iter().enumerate() {
            let memory = if place == 0 { 89 } else { 90 };
            let usage = Usage {
                cpu_percent: Some(100.0),
                memory_bytes: Some(memory),
                memory_limit_bytes: Some(100),
                counters: Counters::default(),
                pids: Some(1),
                pids_limit: None,
                at: world.now,
            };
            world.units.measured(id, &usage, world.now);
        }
    };
    let plays: Ripens = |world| {
        for id in world.engines.all().iter().map(|engine| engine.id).collect::<Vec<_>>() {
            let started = millrace_boundary::EngineEvidence::Started(Duration::from_secs(1));
            world.engines.used(id, started, world.now);
        }
    };
    let idle: Ripens = |_| {};
    let nothing: Change = |_| {};
    for (name, change, ripens, least, why, replaced) in [
        ("nothing", nothing, idle, 0, "", 0),
        ("age", (|s| s.recycle.max_age = Duration::from_secs(100)) as Change, idle, 90, "age", 3),
        ("sessions", |s| s.recycle.max_sessions = 200, plays, 45, "sessions", 3),
        // The first one stays just below.
        ("memory", nothing, over, 29, "memory", 2),
        ("memory that does not matter", |s| s.recycle.max_memory_percent = 0, over, 0, "", 0),
        ("CPU", |s| (s.recycle.max_memory_percent, s.recycle.max_cpu_percent) = (0, 100), over, 29, "cpu", 3),
    ] {
        let mut world = World::ready(|settings| {
            settings.scale.min = 3;
            change(settings);
        });
        let first: Vec<_> = world.docker.keys().cloned().collect();
        let (mut most, mut begun) = (0, None);
        for turn in 0..150 * 4 {
            ripens(&mut world);
            world.turn();
            let away = world.stages().iter().filter(|(_, stage)| *stage != Stage::Ready).count();
            most = most.max(away);
            if !world.deeds.is_empty() {
                begun = begun.or(Some(turn / 4));
            }
            if turn % 2 == 0 {
                world.list();
            }
            if first.iter().filter(|id| !world.docker.contains_key(*id)).count() == replaced && replaced > 0 {
                break;
            }
        }
        let gone = first.iter().filter(|id| !world.docker.contains_key(*id)).count();
        assert_eq!(gone, replaced, "{name}: {:?}", world.deeds);
        assert!(most <= 1, "{name}: {most} at once");
        assert!(begun.is_none_or(|at| at >= least), "{name}: the first after {begun:?} s");
        assert!(world.deeds.iter().all(|(deed, _)| *deed == Deed::Remake), "{name}: {:?}", world.deeds);
        let told = world.units.journal.events(None, usize::MAX).filter(|e| e.code == "engine_drains");
        let told: Vec<_> = told.map(|event| event.message.clone()).collect();
        assert!(told.iter().all(|message| message.ends_with(&format!("({why})"))), "{name}: {told:?}");
    }
}

#[test]
fn many_that_ail_together_are_one_incident_and_mended_one_at_a_time() {
    let mut world = World::ready(|settings| settings.scale.min = 4);
    world.silent = world.docker.keys().cloned().collect();
    let (mut most, mut first) = (0, None);
    for second in 0..60 {
        world.run(1);
        let mended = world.stages().into_iter();
        let mended = mended.filter(|(_, stage)| matches!(stage, Stage::Mending | Stage::Booting)).count();
        most = most.max(mended);
        if world.units.journal.is_open("engines_fail_together") {
            first = first.or(Some(second));
        }
    }
    assert!(first.is_some(), "{:?}", world.codes());
    assert_eq!((most, world.count("engines_fail_together")), (1, 1), "{:?}", world.deeds);

    // Two of four are no storm, and both are mended.
    let mut world = World::ready(|settings| settings.scale.min = 4);
    world.silent = world.docker.keys().take(2).cloned().collect();
    world.run(40);
    assert_eq!(world.count("engines_fail_together"), 0);
    let mended: Vec<_> = world.deeds.iter().filter(|(deed, _)| *deed == Deed::Revive).collect();
    assert_eq!(mended.len(), 2, "{:?}", world.deeds);
}

#[test]
fn one_that_has_its_address_again_is_well_only_once_it_answers_there() {
    for (answers, mends, recovered) in [(true, 0, 1), (false, 1, 0)] {
        let mut world = World::ready(|_| {});
        let name = world.names()[0].to_owned();
        let id = world.identity(&name);
        let lender = Unusable::LenderStopped("vpn".into());
        let address = std::mem::replace(&mut world.docker.get_mut(&id).unwrap().address, Err(lender));
        world.list();
        world.turn();
        assert!(world.stages().contains(&(name.clone(), Stage::Ailing(Ail::Unreachable))), "{answers}");
        world.docker.get_mut(&id).unwrap().address = address;
        world.silent = if answers { Vec::new() } else { vec![id.clone()] };
        world.run(4);
        assert_eq!(world.deeds.iter().filter(|(deed, _)| *deed == Deed::Revive).count(), mends, "{answers}");
        assert_eq!(world.count("engine_recovered"), recovered, "{answers}: {:?}", world.codes());
        world.silent.clear();
        world.run(8);
        assert!(world.all_are(Stage::Ready), "{answers}: {:?}", world.stages());
        assert_eq!(world.engines.all().len(), 2, "{answers}");
    }
}
