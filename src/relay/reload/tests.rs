use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::lane::LaneOptions;
use crate::relay::doors::Address;
use crate::relay::lane_task::LaneEnd;
use crate::relay::lanes::Ended;
use crate::relay::tests::config;
use crate::rules::Matcher;

use super::*;

/// As [`config`], and what there is in it begins.
fn enabled() -> Config {
    let text = "[kafka]\nbrokers = [\"localhost:1\"]\nprefix = \"p\"\nstart_at = \"earliest\"\n\
        [admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"\"\n\
        [destinations.shop]\nwebhook.url = \"http://localhost:1\"\n\
        [destinations.yard]\nwebhook.url = \"http://localhost:1\"\n\
        [[rules]]\nname = \"all\"\ntopics = [\"t\"]\ndeliver_to = [\"shop\", \"yard\"]\n";
    match Config::parse(text, std::path::Path::new("p.toml"), &|_| None) {
        Ok(config) => config,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// A relay whose destinations are all disabled.
async fn relay() -> Relay {
    let (clock, stop) = (Clock::start(), CancellationToken::new());
    Relay::start(&config(), clock, stop).await.unwrap()
}

/// A door behind which somebody listens as long as what comes with it is there.
fn door(number: u64, name: &str) -> (Door, mpsc::Receiver<LaneAsk>) {
    let (asks, heard) = mpsc::channel(1);
    let door = Door {
        number,
        name: name.into(),
        id: name.into(),
        address: address(),
        asks,
        retention_warning: Duration::ZERO,
        rules: String::new(),
        ladder: None,
        watched: None,
    };
    (door, heard)
}

fn address() -> Arc<Address> {
    Arc::new(Address {
        name: "localhost".to_owned(),
        fingerprint: String::new(),
    })
}

/// Has it read this, and gives the answer, and whether the file was read.
async fn ask(relay: &mut Relay, what: Reading) -> (ReloadReport, bool) {
    let read = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&read);
    relay.loader = Some(Arc::new(move |_| {
        seen.store(true, Ordering::Relaxed);
        Ok(config())
    }));
    let (reply, answer) = oneshot::channel();
    let who = "a test".to_owned();
    relay.reload(ReloadAsk { who, what, reply }).await.unwrap();
    (answer.await.unwrap(), read.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_look_at_secrets_that_began_before_another_file_was_taken_changes_nothing() {
    let mut relay = relay().await;
    let before = relay.in_force.config();
    let stale = Reading::Sources(Arc::new(config()));
    let (report, was_read) = ask(&mut relay, stale).await;
    assert_eq!(report.result, OrderResult::Refused);
    assert!(report.notes[0].contains("another file"), "{report:?}");
    assert!(!was_read);
    assert!(Arc::ptr_eq(&before, &relay.in_force.config()));
    let (report, was_read) = ask(&mut relay, Reading::Sources(Arc::clone(&before))).await;
    assert_eq!(report.result, OrderResult::Done);
    assert!(was_read, "one of the file that is in force is");
    assert!(!Arc::ptr_eq(&before, &relay.in_force.config()));
}

#[tokio::test]
async fn a_lane_that_is_stuck_does_not_keep_a_reload_waiting_for_ever() {
    let mut relay = relay().await;
    let new = config();
    let (door, mut heard) = door(7, "stuck");
    let swap = LaneSwap {
        options: LaneOptions::default(),
        matcher: Matcher::for_audit(&new.rule_file()),
        outlet: None,
        address: address(),
        endpoint: EndpointChange::Same,
    };
    let ready = Ready {
        begin: Vec::new(),
        swap: vec![("stuck".into(), swap, door)],
        end: Vec::new(),
        gone: Vec::new(),
    };
    let applied = tokio::time::timeout(3 * SWAP_WAIT, relay.apply(ready, new, true)).await;
    applied.expect("it goes on").unwrap();
    let late = heard.try_recv();
    assert!(matches!(late, Ok(LaneAsk::Swap(..))), "still to be had");
}

#[tokio::test]
async fn a_reload_that_comes_after_the_end_was_asked_for_is_refused() {
    let mut relay = relay().await;
    let before = relay.in_force.config();
    relay.stop.cancel();
    let (report, _) = ask(&mut relay, Reading::File).await;
    assert_eq!(report.result, OrderResult::Refused);
    assert_eq!(report.notes, [ENDING]);
    assert!(Arc::ptr_eq(&before, &relay.in_force.config()));
}

#[tokio::test]
async fn what_a_lane_gives_back_while_a_reload_waits_is_counted_at_the_end() {
    let mut relay = relay().await;
    let drained = |number, released| Ended {
        number,
        name: "shop".into(),
        end: Some(LaneEnd::Drained {
            released,
            in_time: false,
        }),
    };
    relay.ended(drained(1, 5)).unwrap();
    assert!(relay.drained.in_time, "a reload had it end");
    relay.stop.cancel();
    relay.ended(drained(2, 3)).unwrap();
    let whole = relay.wait().await.unwrap();
    assert_eq!((whole.released, whole.in_time), (3, false));
}

/// Exchanges a lane `yard` that hangs for another `yard`, and begins `shop`, for a second; gives who is there then.
async fn exchange(relay: &mut Relay) -> Vec<(u64, String)> {
    let new = enabled();
    let desk = relay.desk.clone().unwrap();
    let (hangs, _heard) = door(99, "yard");
    relay.lanes.hang(99);
    let there = vec![Arc::new(hangs)];
    relay.call_the_roll(&desk, there, &[]).await.unwrap();
    let ready = Ready {
        begin: ["yard", "shop"]
            .map(|name| relay.prepare(&new, name, &Together::of(&new)).unwrap())
            .into(),
        swap: Vec::new(),
        end: vec![99],
        gone: Vec::new(),
    };
    let applying = relay.apply(ready, new, true);
    drop(tokio::time::timeout(Duration::from_secs(1), applying).await);
    let doors = desk.doors.all().into_iter();
    doors
        .map(|door| (door.number, door.name.to_string()))
        .collect()
}

#[tokio::test]
async fn a_lane_that_hangs_in_its_drain_keeps_no_other_from_beginning() {
    let mut relay = relay().await;
    let there = exchange(&mut relay).await;
    let expected = [(1, "shop".to_owned()), (99, "yard".to_owned())];
    assert_eq!(there, expected, "its own successor waits");
    assert_eq!(relay.in_force.config().destinations.len(), 2, "in force");
    relay.stop.cancel();
}

#[tokio::test]
async fn no_lane_begins_when_everything_is_asked_to_end_in_the_middle_of_a_reload() {
    let mut relay = relay().await;
    relay.stop.cancel();
    let there = exchange(&mut relay).await;
    assert_eq!(there, [(99, "yard".to_owned())]);
    assert_eq!(
        relay.in_force.config().destinations.len(),
        0,
        "not in force"
    );
}

#[tokio::test]
async fn a_reload_for_which_there_is_no_place_is_refused_at_once() {
    let (reloads, waiting) = mpsc::channel(1);
    let hand_in = || {
        let (reply, answer) = oneshot::channel();
        let (who, what) = ("a test".to_owned(), Reading::File);
        ReloadAsk { who, what, reply }.hand_in(&reloads);
        answer
    };
    let mut first = hand_in();
    let second = hand_in().await.unwrap();
    assert_eq!(second.result, OrderResult::Refused);
    assert!(second.notes[0].contains("too many reloads wait"));
    assert!(first.try_recv().is_err(), "it has its place");
    drop(waiting);
    assert_eq!(hand_in().await.unwrap().notes, [ENDING]);
}
