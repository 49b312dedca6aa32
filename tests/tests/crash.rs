//! The log when processes are killed: servers and Postgres with `kill -9`, at moments swept over the sequencer's steps; two
//! servers at once; a head that somebody moved; an old backup behind a witness.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop where it stands, and says how hard it was"
)]

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use demo::{process::Running, stack::Ports};
use server::{
    jobs::sequencer::{SequenceError, Sequencer},
    service::ledger::Ledger,
};
use store::Store;
use system_tests::log_house::{LEDGER, LogHouse, Onlooker, Writer, check_log, kill, wait_until};
use trace::{hash::Hash, tlog::policy::Policy};

/// Of the sequencer's own backend, which makes Postgres start anew with all others' lost, too.
const BACKENDS: u32 = 200;
/// One of so many kills is that of the whole of Postgres.
const POSTMASTER_EACH: u32 = 20;

/// Sequences as `suyuan serve` does, but without its pauses, so that each kill falls into a step.
async fn sequence(ledger: Arc<Ledger>, stop: Arc<AtomicBool>, cut_off: Arc<AtomicU32>) {
    while !stop.load(Ordering::Relaxed) {
        let mut sequencer = match Sequencer::lead(Arc::clone(&ledger)).await {
            Ok(Some(sequencer)) => sequencer,
            Err(lost @ (SequenceError::LostSwap | SequenceError::RootOfOthers { .. })) => panic!("{lost}"),
            Ok(None) | Err(_) => {
                tokio::time::sleep(Duration::from_millis(3)).await;
                continue;
            }
        };
        loop {
            match sequencer.step().await {
                Ok(Some(_)) => {}
                Ok(None) if stop.load(Ordering::Relaxed) => return,
                Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(lost @ (SequenceError::LostSwap | SequenceError::RootOfOthers { .. })) => {
                    panic!("{lost}")
                }
                Err(_) => break,
            }
        }
        cut_off.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_at_hundreds_of_moments_loses_no_leaf_and_forks_no_head() {
    let mut house = tokio::task::block_in_place(|| LogHouse::open("crash"));
    let store = Store::open(&house.url("app"), 4).unwrap();
    let signer = std::fs::read_to_string(house.file("log")).unwrap().trim_end().parse().unwrap();
    let ledger = Ledger::open(store, "localhost", LEDGER, vec![signer], Policy::default()).await.unwrap();
    let (stop, cut_off) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let sequencing = tokio::spawn(sequence(Arc::new(ledger), Arc::clone(&stop), Arc::clone(&cut_off)));
    let (size, whole) = tokio::task::block_in_place(|| {
        let (writer, onlooker) = (Writer::start(house.url("app")), Onlooker::start(house.url("app")));
        for round in 0..BACKENDS {
            onlooker.wait_for_more();
            let Some((pid, _)) = house.leader() else { continue };
            // Over as long as a step and a half takes, in steps that no rhythm of ours repeats.
            std::thread::sleep(Duration::from_micros(u64::from(round * 7_919 % 101) * 100));
            if round % POSTMASTER_EACH == 0 {
                house.cluster.kill().unwrap();
                house.cluster.restart().unwrap();
            } else {
                kill(pid).unwrap();
            }
        }
        onlooker.wait_for_more();
        let queued = writer.stop();
        house.wait_until_drained();
        let seen = onlooker.stop();
        (check_log(&house, &queued, &seen), seen.len())
    });
    stop.store(true, Ordering::Relaxed);
    sequencing.await.unwrap();
    let cut_off = cut_off.load(Ordering::Relaxed);
    eprintln!("{cut_off} leaders cut off, {whole} heads seen, {size} leaves");
    assert!(cut_off >= BACKENDS / 2, "only {cut_off} leaders were cut off");
    tokio::task::block_in_place(|| drop(house));
}

/// A server takes over from one that was killed, goes on with Postgres when that comes back, and none of them signs after
/// somebody moved the head.
#[test]
fn two_servers_hand_the_log_over_when_either_or_postgres_is_killed() {
    const HANDED_OVER: u32 = 16;
    let mut house = LogHouse::open("handover");
    let ports = [Ports::free().unwrap().http, Ports::free().unwrap().http];
    let names = ["north", "south"];
    let mut servers = [house.serve(names[0], ports[0], &[]), house.serve(names[1], ports[1], &[])];
    let (writer, onlooker) = (Writer::start(house.url("app")), Onlooker::start(house.url("app")));
    let mut led = BTreeSet::new();
    for round in 0..HANDED_OVER {
        onlooker.wait_for_more();
        let mut found = None;
        wait_until("somebody leads", || {
            found = house.leader();
            found.is_some()
        });
        let (_, leader) = found.unwrap();
        let number = names.iter().position(|name| *name == leader).unwrap();
        led.insert(leader);
        std::thread::sleep(Duration::from_micros(u64::from(round * 7_919 % 101) * 300));
        if round % 4 == 3 {
            house.cluster.kill().unwrap();
            house.cluster.restart().unwrap();
        } else {
            servers[number].kill().unwrap();
            onlooker.wait_for_more();
        }
        // As a supervisor does: also what ended because Postgres was away when it started.
        for (server, (name, port)) in servers.iter_mut().zip(names.iter().zip(ports)) {
            if !server.is_alive() {
                *server = house.serve(name, port, &[]);
            }
        }
    }
    assert_eq!(led.len(), 2, "only {led:?} ever led");
    for port in ports {
        wait_until("both servers are there", || readiness(port).is_some());
    }
    onlooker.wait_for_more();

    // Behind both their backs, as nobody may: the one that leads loses its swap and ends; so does whoever would follow.
    house.execute("update head set root = sha256(root)");
    for (name, server) in names.iter().zip(&mut servers) {
        wait_until("the server ends", || !server.is_alive());
        assert!(house.said_by(name).contains("the sequencer had to stop"), "{}", house.said_by(name));
    }
    let queued = writer.stop();
    house.execute(
        "update head set root = c.root from checkpoint c where (c.log_id, c.size) = (head.log_id, head.size)",
    );
    servers[0] = house.serve(names[0], ports[0], &[]);
    house.wait_until_drained();
    check_log(&house, &queued, &onlooker.stop());
    drop(servers);
}

/// What `/health/ready` answers.
fn readiness(port: u16) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/health/ready")).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    })
}

/// The head of the database: what `--head` takes, and its size.
fn head(house: &LogHouse) -> (i64, String) {
    let mut client = postgres::Client::connect(&house.url("auditor"), postgres::NoTls).unwrap();
    let row = client.query_one("select size, root from head", &[]).unwrap();
    let (size, root): (i64, Vec<u8>) = (row.get(0), row.get(1));
    (size, format!("{size}:{}", Hash::from_slice(&root).unwrap()))
}

#[test]
fn an_old_backup_behind_a_witness_is_not_signed_on_until_the_operator_vouches_for_it() {
    let mut house = LogHouse::open("backup");
    let ports = Ports::free().unwrap();
    let (key, state, log) = (house.file("witness.key"), house.file("witness"), house.verifier().to_string());
    let vkey = house.run("suyuan-auditor", &["keygen", "--name", "regulator.example/witness", &key]);
    let witness = ["witness", "--key", &key, "--state", &state, "--log", &log];
    house.run("suyuan-auditor", &[&witness[..], &["--init"]].concat());
    let listen = format!("127.0.0.1:{}", ports.witness);
    let mut command = Command::new(house.programs.join("suyuan-auditor"));
    command.args(witness).args(["--listen", &listen]);
    let _witness = Running::start("witness", &mut command, &house.path().join("witness.log")).unwrap();
    let policy = house.file("policy");
    std::fs::write(&policy, format!("log {log}\nwitness w {vkey} http://{listen}\nquorum w\n")).unwrap();
    let policy = [("SUYUAN_WITNESS_POLICY_FILE", policy)];
    let is_ready = || readiness(ports.http).is_some_and(|(status, _)| status == 200);

    let server = house.serve("first", ports.http, &policy);
    let grow = |house: &LogHouse| {
        let before = head(house).0;
        let writer = Writer::start(house.url("app"));
        wait_until("the log grows", || head(house).0 > before);
        writer.stop();
        house.wait_until_drained();
        let newest = head(house).0;
        wait_until("the witness has cosigned the newest head", || {
            let mut client = postgres::Client::connect(&house.url("auditor"), postgres::NoTls).unwrap();
            let row = client.query_one("select coalesce(max(size), 0) from cosignature", &[]).unwrap();
            row.get::<_, i64>(0) == newest
        });
    };
    wait_until("the server signs", is_ready);
    grow(&house);
    let (old, vouched) = head(&house);
    drop(server);

    // The backup: a copy of the stopped cluster's directory.
    let (data, backup) = (house.file("postgres/data"), house.file("backup"));
    let copy =
        |from: &str, to: &str| assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success());
    house.cluster.kill().unwrap();
    copy(&data, &backup);
    house.cluster.restart().unwrap();
    let server = house.serve("second", ports.http, &policy);
    wait_until("the server signs", is_ready);
    grow(&house);
    let (newest, _) = head(&house);
    assert!(newest > old);
    drop(server);
    house.cluster.kill().unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    std::fs::remove_file(format!("{data}/postmaster.pid")).unwrap_or_default();
    house.cluster.restart().unwrap();
    assert_eq!(head(&house), (old, vouched.clone()), "the old state is back");

    let server = house.serve("restored", ports.http, &policy);
    house.execute("insert into pending (entry) values (sha256('after the restore'))");
    let mut answer = (0, String::new());
    wait_until("the server says that it does not sign", || {
        answer = readiness(ports.http).unwrap_or_default();
        answer.1.contains("not signing")
    });
    assert_eq!(answer.0, 503);
    assert!(answer.1.contains(&format!("w has seen size {newest}")), "{}", answer.1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(head(&house).0, old, "it signed below what a witness has seen");
    drop(server);

    // Another head than the database's is vouched for in vain; the database's own is signed on.
    let wrong = format!("{}:{}", old + 1, vouched.split_once(':').unwrap().1);
    for (vouched, signs) in [(wrong, false), (vouched, true)] {
        let with_head = [policy[0].clone(), ("SUYUAN_HEAD", vouched)];
        let name = if signs { "vouched" } else { "wrong" };
        let server = house.serve(name, ports.http, &with_head);
        if signs {
            wait_until("the server signs", || head(&house).0 > old);
        } else {
            wait_until("it has looked", || house.said_by(name).contains("is not the head of this database"));
            std::thread::sleep(Duration::from_secs(1));
            assert_eq!(head(&house).0, old, "it signed although another head was vouched for");
        }
        drop(server);
    }
}
