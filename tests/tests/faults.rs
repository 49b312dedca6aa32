//! Readings under load while parts are killed and the network between them is cut. In `listen` what a sender heard the PUBACK
//! of is stored, once; in `subscribe` too, until the broker itself is killed: then what a receipt came for is.

#![allow(
    clippy::print_stderr,
    reason = "a test says how hard it was, and how much a broker loses that nobody promised to keep"
)]

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use demo::process::Running;
use system_tests::{
    cable::Network,
    field::Field,
    log_house::wait_until,
    sender::{Device, Keeps, Sender, Told},
    site::{Entrance, Site, has_broker, wait_for_flow},
};
use trace::{keys::SecretKey, pack::DeviceName};

/// Of each sender; four of them together send a few hundred messages a second.
const BEAT: Duration = Duration::from_millis(10);
/// Of the broker for the gateway while that is away: more than comes while the gateway does not notice that it is cut off.
const QUEUED_MAX: u32 = 6_000;
/// Of 512 bytes: a hundred messages or two.
const DISK_BLOCKS: u32 = 64;
const SPAN: Duration = Duration::from_millis(1_200);

#[test]
fn every_puback_of_the_gateway_is_kept_whatever_is_killed_or_cut() {
    let began = Instant::now();
    let mut site = Site::open("faults-listen", Entrance::Listen);
    let devices = [
        site.device("signs1", Some(SecretKey::from_seed(&[11; 32]))),
        site.device("signs2", Some(SecretKey::from_seed(&[12; 32]))),
        site.device("plain1", None),
        site.device("plain2", None),
    ];
    site.start_gateway("north");
    let port = site.to_entrance.port;
    let senders = devices.map(|device| Sender::start(device, port, Keeps::UntilPuback, BEAT));
    let all: Vec<&Sender> = senders.iter().collect();
    wait_for_flow(&all, "the start");

    site.kill_gateway("north");
    site.start_gateway("north");
    wait_for_flow(&all, "the gateway's end");
    kill_server(&mut site);
    wait_for_flow(&all, "the server's end");
    kill_postgres(&mut site);
    wait_for_flow(&all, "the end of Postgres");
    for network in [Network::Cut, Network::Stalled, Network::HalfOpen] {
        for (name, cable) in [("the entrance", &site.to_entrance), ("the server", &site.gateway_to_server)] {
            site.disturb(cable, network, SPAN);
            wait_for_flow(&all, &format!("{network:?} before {name}"));
        }
    }
    for network in [Network::Cut, Network::Stalled] {
        site.disturb(&site.server_to_postgres, network, SPAN);
        wait_for_flow(&all, &format!("{network:?} before Postgres"));
    }

    let told: Vec<_> = senders.into_iter().map(|sender| (sender.device.clone(), sender.finish())).collect();
    for (device, told) in &told {
        site.check(device, told, &told.acknowledged);
        assert_eq!(told.acknowledged.len(), usize::try_from(told.sent).unwrap_or_default());
    }
    say(&told.iter().map(|(_, told)| told).collect::<Vec<_>>(), site.check_log(), began);
}

/// Those who forget at the PUBACK rely on the broker, which is therefore not killed while they send; those who keep until the
/// receipt rely on nobody.
#[test]
fn behind_a_broker_every_puback_is_kept_until_the_broker_dies_and_every_receipt_even_then() {
    if !has_broker() {
        return;
    }
    let began = Instant::now();
    let mut site = Site::open("faults-subscribe", Entrance::Subscribe { queued_max: QUEUED_MAX });
    let forgets =
        [site.device("forgets1", Some(SecretKey::from_seed(&[21; 32]))), site.device("forgets2", None)];
    let keeps = [site.device("keeps1", Some(SecretKey::from_seed(&[22; 32]))), site.device("keeps2", None)];
    let floods = site.device("floods", None);
    site.start_broker(&forgets.iter().chain(&keeps).chain([&floods]).collect::<Vec<_>>());
    let port = site.to_entrance.port;
    let keepers = keeps.map(|device| Sender::start(device, port, Keeps::UntilReceipt, BEAT));
    let keeping: Vec<&Sender> = keepers.iter().collect();
    // Before there is a subscription a broker keeps nothing for it.
    site.start_gateway("north");
    wait_for_flow(&keeping, "the start");
    let forgetters = forgets.map(|device| Sender::start(device, port, Keeps::UntilPuback, BEAT));

    site.kill_gateway("north");
    site.start_gateway("north");
    wait_for_flow(&keeping, "the gateway's end");
    kill_server(&mut site);
    wait_for_flow(&keeping, "the server's end");
    kill_postgres(&mut site);
    wait_for_flow(&keeping, "the end of Postgres");
    let to_broker = site.gateway_to_broker.as_ref().unwrap_or(&site.to_entrance);
    for network in [Network::Cut, Network::Stalled, Network::HalfOpen] {
        site.disturb(to_broker, network, SPAN);
        wait_for_flow(&keeping, &format!("{network:?} before the broker"));
    }
    for (name, cable) in [("the server", &site.gateway_to_server), ("Postgres", &site.server_to_postgres)] {
        site.disturb(cable, Network::Cut, SPAN);
        wait_for_flow(&keeping, &format!("a cut before {name}"));
    }
    let forgotten = forgetters.map(|sender| (sender.device.clone(), sender.finish()));
    wait_until("what the broker acknowledged has left it", || site.rests(&forgotten[0].0));
    for (device, told) in &forgotten {
        site.check(device, told, &told.acknowledged);
    }

    kill_broker(&mut site);
    wait_for_flow(&keeping, "the broker's end");
    let flooded = overflow(&site, floods, port);
    wait_for_flow(&keeping, "an overflow");
    let kept = keepers.map(|sender| (sender.device.clone(), sender.finish()));
    for (device, told) in &kept {
        site.check(device, told, &told.receipted);
        assert_eq!(told.receipted.len(), usize::try_from(told.sent).unwrap_or_default());
    }
    let told: Vec<&Told> = kept.iter().chain(&forgotten).map(|(_, told)| told).chain([&flooded]).collect();
    say(&told, site.check_log(), began);
}

/// Two gateways share what comes. One is killed with messages on its way that the broker gave to it alone, and is drained.
#[test]
fn what_a_dead_gateway_of_several_had_in_hand_comes_with_its_draining() {
    if !has_broker() {
        return;
    }
    let began = Instant::now();
    let mut site = Site::open("faults-share", Entrance::Subscribe { queued_max: QUEUED_MAX });
    let devices = [site.device("signs1", Some(SecretKey::from_seed(&[31; 32]))), site.device("plain1", None)];
    let keeper = site.device("keeps1", None);
    site.start_broker(&devices.iter().chain([&keeper]).collect::<Vec<_>>());
    let port = site.to_entrance.port;
    let keeper = Sender::start(keeper, port, Keeps::UntilReceipt, BEAT);
    site.start_gateway("north");
    site.start_gateway("south");
    wait_for_flow(&[&keeper], "the start");
    let senders = devices.map(|device| Sender::start(device, port, Keeps::UntilPuback, BEAT));
    wait_for_flow(&senders.iter().collect::<Vec<_>>(), "the start");
    // Messages are in both gateways' hands, and the server's word does not come.
    site.gateway_to_server.set(Network::Stalled);
    std::thread::sleep(SPAN);
    site.kill_gateway("north");
    site.gateway_to_server.set(Network::Carries);
    wait_for_flow(&[&keeper], "the end of one of two gateways");
    let told = senders.map(|sender| (sender.device.clone(), sender.finish()));
    wait_until("the other has stored what it was given", || site.rests(&told[0].0));
    let missing =
        told.iter().map(|(device, told)| told.acknowledged.len() - site.stored(device).len()).sum::<usize>();
    assert!(missing > 0, "the dead gateway had nothing in hand");
    site.drain_gateway("north");
    for (device, told) in &told {
        site.check(device, told, &told.acknowledged);
    }
    let kept = (keeper.device.clone(), keeper.finish());
    site.check(&kept.0, &kept.1, &kept.1.receipted);
    eprintln!("{missing} messages lay with the dead gateway until it was drained");
    say(&told.iter().chain([&kept]).map(|(_, told)| told).collect::<Vec<_>>(), site.check_log(), began);
}

/// A field site's devices forget at the PUBACK of its own broker, which holds what the uplink does not take, also while it is
/// restarted; receipts come back over the bridge.
#[test]
fn what_a_field_site_s_broker_took_arrives_when_the_uplink_is_back() {
    if !has_broker() {
        return;
    }
    let began = Instant::now();
    let mut site = Site::open("faults-field", Entrance::Subscribe { queued_max: QUEUED_MAX });
    let devices = [site.device("signs1", Some(SecretKey::from_seed(&[41; 32]))), site.device("plain1", None)];
    let keeper = site.device("keeps1", None);
    let all: Vec<&Device> = devices.iter().chain([&keeper]).collect();
    site.start_broker(&all);
    let mut field = Field::open(&site, QUEUED_MAX, &all);
    let keeper = Sender::start(keeper, field.port, Keeps::UntilReceipt, BEAT);
    site.start_gateway("north");
    wait_for_flow(&[&keeper], "the start");
    let senders = devices.map(|device| Sender::start(device, field.port, Keeps::UntilPuback, BEAT));
    for network in [Network::Cut, Network::Stalled, Network::HalfOpen] {
        field.to_centre.set(network);
        wait_for_flow(&senders.iter().collect::<Vec<_>>(), &format!("{network:?} before the centre"));
        std::thread::sleep(SPAN);
        field.to_centre.set(Network::Carries);
        wait_for_flow(&[&keeper], &format!("{network:?} before the centre"));
    }
    field.to_centre.set(Network::Cut);
    wait_for_flow(&senders.iter().collect::<Vec<_>>(), "another cut");
    let told = senders.map(|sender| (sender.device.clone(), sender.finish()));
    let before: Vec<usize> = told.iter().map(|(device, _)| site.stored(device).len()).collect();
    field.restart();
    field.to_centre.set(Network::Carries);
    wait_for_flow(&[&keeper], "the restart of the site's broker");
    wait_until("what the site's broker held has left it", || site.rests(&told[0].0));
    for ((device, told), before) in told.iter().zip(before) {
        assert!(before < told.acknowledged.len(), "{device}: nothing waited for the uplink");
        site.check(device, told, &told.acknowledged);
    }
    let kept = (keeper.device.clone(), keeper.finish());
    site.check(&kept.0, &kept.1, &kept.1.receipted);
    say(&told.iter().chain([&kept]).map(|(_, told)| told).collect::<Vec<_>>(), site.check_log(), began);
}

/// The disk of the broker is full: it goes on from memory and acknowledges, and whoever kept until the receipt loses nothing
/// even when it dies.
#[test]
fn a_broker_whose_disk_is_full_loses_nothing_until_it_dies_and_no_receipted_message_then() {
    if !has_broker() {
        return;
    }
    let began = Instant::now();
    let mut site = Site::open("faults-disk", Entrance::Subscribe { queued_max: QUEUED_MAX });
    site.broker_disk = Some(DISK_BLOCKS);
    let devices = ["first", "second"].map(|name| site.device(name, None));
    let keeper = site.device("keeps1", None);
    site.start_broker(&devices.iter().chain([&keeper]).collect::<Vec<_>>());
    let port = site.to_entrance.port;
    let keeper = Sender::start(keeper, port, Keeps::UntilReceipt, BEAT);
    site.start_gateway("north");
    wait_for_flow(&[&keeper], "the start");
    let [first, second] = devices;

    let (first, told) = fill_disk(&site, first, port);
    carry_on(&site);
    wait_until("what the broker queued has left it", || site.rests(&first));
    site.check(&first, &told, &told.acknowledged);

    let (second, lost) = fill_disk(&site, second, port);
    kill_broker(&mut site);
    carry_on(&site);
    wait_for_flow(&[&keeper], "the end of a broker whose disk was full");
    let kept = (keeper.device.clone(), keeper.finish());
    site.check(&kept.0, &kept.1, &kept.1.receipted);
    assert_eq!(kept.1.receipted.len(), usize::try_from(kept.1.sent).unwrap_or_default());
    site.check(&second, &lost, &BTreeSet::new());
    let stored = site.stored(&second).len();
    eprintln!(
        "a broker with a full disk acknowledged {} before its end, {stored} came",
        lost.acknowledged.len()
    );
    say(&[&told, &lost, &kept.1], site.check_log(), began);
}

/// The gateway is away, and more waits for it than the broker can write down.
fn fill_disk(site: &Site, device: Device, port: u16) -> (DeviceName, Told) {
    let name = device.name.clone();
    site.gateway_to_broker.as_ref().unwrap_or(&site.to_entrance).set(Network::Cut);
    let errors = || {
        let log = std::fs::read_to_string(site.broker_log()).unwrap_or_default();
        log.lines().filter(|line| line.contains("File too large")).count()
    };
    let (before, sender) = (errors(), Sender::start(device, port, Keeps::UntilPuback, Duration::ZERO));
    wait_until("more waits than the disk takes", || sender.done() > 1_500);
    let told = sender.finish();
    let pid = site.broker.as_ref().map_or(0, Running::pid).to_string();
    // Mosquitto writes its store when it is told to.
    assert!(Command::new("kill").args(["-USR1", &pid]).status().is_ok_and(|status| status.success()));
    wait_until("the broker's disk is full", || errors() > before);
    (name, told)
}

fn carry_on(site: &Site) {
    site.gateway_to_broker.as_ref().unwrap_or(&site.to_entrance).set(Network::Carries);
}

fn kill_broker(site: &mut Site) {
    if let Some(mut broker) = site.broker.take() {
        broker.kill().unwrap_or_default();
    }
    site.start_broker(&[]);
}

/// More than the broker may queue, from one who forgets at the PUBACK, while the gateway is away.
fn overflow(site: &Site, device: Device, port: u16) -> Told {
    let to_broker = site.gateway_to_broker.as_ref().unwrap_or(&site.to_entrance);
    let name = device.name.clone();
    to_broker.set(Network::Cut);
    let flooding = Sender::start(device, port, Keeps::UntilPuback, Duration::ZERO);
    wait_until("the broker's queue is full", || {
        flooding.done() > usize::try_from(2 * QUEUED_MAX).unwrap_or(0)
    });
    let told = flooding.finish();
    to_broker.set(Network::Carries);
    // The queue is shared: what the keepers sent in the meantime stands in it, too.
    wait_until("what the broker queued has left it", || site.rests(&name));
    site.check(&name, &told, &BTreeSet::new());
    let stored = site.stored(&name).len();
    assert!(stored < told.acknowledged.len(), "the broker's limit was not reached");
    eprintln!(
        "a broker that may queue {QUEUED_MAX} acknowledged {} and kept {stored}",
        told.acknowledged.len()
    );
    told
}

fn kill_server(site: &mut Site) {
    if let Some(mut server) = site.server.take() {
        server.kill().unwrap_or_default();
    }
    site.start_server();
}

fn kill_postgres(site: &mut Site) {
    assert!(site.house.cluster.kill().is_ok());
    assert!(site.house.cluster.restart().is_ok());
}

fn say(told: &[&Told], packs: i64, began: Instant) {
    let sent: u32 = told.iter().map(|told| told.sent).sum();
    let (acknowledged, receipted) = told.iter().fold((0, 0), |(acknowledged, receipted), told| {
        (acknowledged + told.acknowledged.len(), receipted + told.receipted.len())
    });
    eprintln!(
        "{sent} sent, {acknowledged} acknowledged, {receipted} receipts, {packs} packs stored and logged, in {:.0} s",
        began.elapsed().as_secs_f64()
    );
}
