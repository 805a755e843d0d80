//! In front of a daemon that answers what it is told to.

use std::time::Instant;

use serde_json::json;

use super::{reading::tests::counting, *};
use crate::fleet::docker::{
    Informer,
    fake::{Answer, Fake},
};

const SOON: Duration = Duration::from_secs(8);

async fn client_of(fake: &Fake) -> Docker {
    let mut client = Informer::start(fake.path.uri());
    loop {
        if let Some(daemon) = client.client().daemon() {
            return daemon.docker().clone();
        }
        client.changed().await;
    }
}

fn id(number: usize) -> Arc<str> {
    format!("e{number}").into()
}

/// On a network of its own.
fn engine(number: usize) -> (Arc<str>, Option<Arc<str>>) {
    (id(number), None)
}

fn says(fake: &Fake, id: &str, answer: Answer) {
    fake.said.lock().unwrap().statistics.insert(id.to_owned(), answer);
}

/// Ids that were asked about since this was called last.
fn asked(fake: &Fake) -> Vec<String> {
    let requests = fake.requests().into_iter().filter(|request| request.contains("/stats?"));
    let id = |request: String| {
        assert!(request.contains("stream=false") && request.contains("one-shot=true"), "{request}");
        request.split_once("/stats?").unwrap().0.rsplit('/').next().unwrap().to_owned()
    };
    let mut ids: Vec<_> = requests.map(id).collect();
    ids.sort();
    ids
}

/// Until a round has begun and is over; says how long it took.
async fn round(statistics: &mut Statistics) -> Duration {
    let take = async {
        while statistics.rounds.next_at().is_some() {
            statistics.advance().await;
            // One that has nobody to ask is over at once.
            if statistics.engines.is_empty() || statistics.docker.is_none() {
                return Duration::ZERO;
            }
        }
        let begun = Instant::now();
        while statistics.rounds.next_at().is_none() {
            statistics.advance().await;
        }
        begun.elapsed()
    };
    timeout(SOON, take).await.unwrap()
}

#[tokio::test]
async fn forty_are_asked_thirty_two_at_once_and_one_that_hangs_costs_only_its_own_figures() {
    let fake = Fake::start();
    let mut statistics = Statistics::new(Monotonic::now());
    statistics.ask(Some(client_of(&fake).await));
    statistics.set_engines((0..40).map(engine), Monotonic::now());
    for number in 0..40 {
        says(&fake, &id(number), Answer::Says(counting(100, 0), Duration::from_millis(50)));
    }
    says(&fake, "e3", Answer::Hangs);
    says(&fake, "e5", Answer::Fails);
    says(&fake, "e7", Answer::Says(json!(["nonsense"]), Duration::ZERO));
    fake.requests();
    let took = round(&mut statistics).await;
    let mut all: Vec<_> = (0..40).map(|number| id(number).to_string()).collect();
    all.sort();
    assert_eq!(asked(&fake), all, "each once");
    assert_eq!(fake.said.lock().unwrap().most_asked, MAX_ASKS);
    assert!((ANSWER..ANSWER + Duration::from_secs(1)).contains(&took), "{took:?}");
    for number in 0..40 {
        let expected = (![3, 5, 7].contains(&number)).then_some(Some(100));
        let found = statistics.of(&id(number)).map(|usage| usage.counters.network_rx_bytes);
        assert_eq!(found, expected, "{number}");
    }
    let total = statistics.total();
    assert_eq!((total.engines, total.measured, total.sums.network_rx_bytes), (40, 37, 3_700));
    assert_eq!((total.memory_bytes, total.pids), (37 * 40_000_000, 37 * 4));
    assert_eq!(statistics.interval(), Duration::from_secs(2));
}

#[tokio::test]
async fn figures_outlive_a_miss_or_two_and_counters_outlive_their_engine() {
    let fake = Fake::start();
    let mut statistics = Statistics::new(Monotonic::now());
    let docker = client_of(&fake).await;
    statistics.ask(Some(docker.clone()));
    statistics.set_engines([engine(0), engine(1)], Monotonic::now());
    let now = |bytes, cpu| Answer::Says(counting(bytes, cpu), Duration::ZERO);
    // Without waiting for the time between two rounds.
    async fn next(statistics: &mut Statistics) {
        statistics.rounds = Rounds::new(Monotonic::now());
        round(statistics).await;
    }
    says(&fake, "e0", now(100, 0));
    says(&fake, "e1", now(7, 0));
    next(&mut statistics).await;
    assert_eq!(statistics.of("e0").unwrap().cpu_percent, None);
    says(&fake, "e0", now(150, 1_000_000));
    next(&mut statistics).await;
    assert!(statistics.of("e0").unwrap().cpu_percent.unwrap() > 0.0);
    assert_eq!(statistics.total().sums.network_rx_bytes, 157);

    let read_at = statistics.of("e0").unwrap().at;
    says(&fake, "e0", Answer::Fails);
    for miss in 1..MAX_MISSES {
        next(&mut statistics).await;
        assert_eq!(statistics.of("e0").unwrap().at, read_at, "miss {miss}");
        assert!(statistics.of("e1").unwrap().at > read_at);
    }
    statistics.ask(None);
    next(&mut statistics).await;
    assert!(statistics.of("e0").is_none(), "the third in a row");
    assert!(statistics.of("e1").is_some(), "the first");
    assert_eq!((statistics.total().measured, statistics.total().sums.network_rx_bytes), (1, 157));

    statistics.ask(Some(docker));
    says(&fake, "e0", now(20, 2_000_000));
    next(&mut statistics).await;
    assert_eq!(statistics.total().sums.network_rx_bytes, 177, "restarted meanwhile");
    statistics.set_engines([engine(1)], Monotonic::now());
    assert!(statistics.of("e0").is_none());
    let total = statistics.total();
    assert_eq!((total.engines, total.measured, total.sums.network_rx_bytes), (1, 1, 177));
    // An answer that comes too late is nobody's.
    statistics.answered(&id(0), Some((Reading::default(), Monotonic::now())));
    assert_eq!(statistics.engines.len(), 1);
}

#[tokio::test]
async fn without_engines_nothing_is_asked_and_with_more_than_are_kept_the_rest_is_not() {
    let fake = Fake::start();
    let mut statistics = Statistics::new(Monotonic::now());
    statistics.ask(Some(client_of(&fake).await));
    fake.requests();
    round(&mut statistics).await;
    assert!(
        timeout(Duration::from_millis(500), statistics.advance()).await.is_err(),
        "nothing to do for 10 s"
    );
    assert_eq!(asked(&fake), [""; 0]);
    statistics.set_engines((0..MAX_ENGINES + 1).map(engine), Monotonic::now());
    assert_eq!(statistics.total().engines, MAX_ENGINES);

    // Whoever leaves during a round is not asked about any more.
    statistics.set_engines((0..40).map(engine), Monotonic::now());
    for number in 0..40 {
        says(&fake, &id(number), Answer::Says(counting(1, 0), Duration::from_millis(300)));
    }
    statistics.rounds = Rounds::new(Monotonic::now());
    statistics.advance().await;
    statistics.set_engines([engine(0)], Monotonic::now());
    while statistics.rounds.next_at().is_none() {
        timeout(SOON, statistics.advance()).await.unwrap();
    }
    assert_eq!(asked(&fake).len(), MAX_ASKS);
    assert_eq!(statistics.total().sums.network_rx_bytes, 1);
}

#[test]
fn a_network_that_several_use_counts_once_whoever_speaks_for_it() {
    let now = Monotonic::default();
    let mut statistics = Statistics::new(now);
    let on = |number, lender: &str| (id(number), Some(lender.into()));
    let read = |statistics: &mut Statistics, number, bytes| {
        let reading = Reading::of(&serde_json::from_value(counting(bytes, 0)).unwrap());
        statistics.answered(&id(number), reading.map(|reading| (reading, now)));
    };
    let rx = |statistics: &Statistics| statistics.total().sums.network_rx_bytes;
    statistics.set_engines([on(0, "vpn"), on(1, "vpn"), on(2, "other"), engine(3)], now);
    for (number, bytes) in [(0, 100), (1, 90), (2, 10), (3, 1)] {
        read(&mut statistics, number, bytes);
    }
    assert_eq!(rx(&statistics), 111);
    assert_eq!(statistics.total().sums.block_read_bytes, 4 * 20, "disks are each engine's own");
    // Another speaks for it, and goes on where the first one was.
    statistics.set_engines([on(1, "vpn"), on(2, "other"), engine(3)], now);
    assert_eq!(rx(&statistics), 111);
    read(&mut statistics, 1, 120);
    assert_eq!((rx(&statistics), statistics.total().sums.block_read_bytes), (131, 80));
    statistics.set_engines([], now);
    assert_eq!((rx(&statistics), statistics.total().sums.block_read_bytes), (131, 80));
}

#[tokio::test]
async fn a_round_is_told_once_and_has_failed_when_no_engine_answered() {
    let fake = Fake::start();
    let mut statistics = Statistics::new(Monotonic::now());
    let docker = client_of(&fake).await;
    /// Until a round is over: whether it was told of, how it went, how long it took.
    async fn next(statistics: &mut Statistics) -> Option<(Outcome, Duration)> {
        statistics.rounds = Rounds::new(Monotonic::now());
        let mut told = statistics.advance().await;
        while statistics.rounds.next_at().is_none() {
            assert_eq!(told, None, "it is not over");
            told = statistics.advance().await;
        }
        told.map(|round| (round.outcome, Monotonic::now().since(round.began)))
    }
    let slow = Duration::from_millis(100);
    statistics.ask(Some(docker));
    assert_eq!(next(&mut statistics).await, None, "nobody to ask about");
    statistics.set_engines([engine(0), engine(1)], Monotonic::now());
    says(&fake, "e0", Answer::Fails);
    says(&fake, "e1", Answer::Says(counting(1, 0), slow));
    let (outcome, took) = next(&mut statistics).await.unwrap();
    assert_eq!(outcome, Outcome::Worked, "one has answered");
    assert!((slow..ANSWER).contains(&took), "{took:?}");
    says(&fake, "e1", Answer::Fails);
    assert_eq!(next(&mut statistics).await.unwrap().0, Outcome::Failed, "none has");
    statistics.ask(None);
    assert_eq!(next(&mut statistics).await.unwrap().0, Outcome::Failed, "nobody to ask");
}
