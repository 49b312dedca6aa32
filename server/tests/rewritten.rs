//! All of a house's history is written anew with all its keys: what finds that, and what cannot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod anchoring;
mod database;
mod farm;
mod house;
#[path = "../../contracts/tests/node/mod.rs"]
mod node;
mod served;
mod site;
mod witnessing;

use std::sync::Arc;

use anchoring::{AT_ONCE, Dev, World};
use auditor::mirror::{Alarm, Mirror, MirrorError};
use farm::Farm;
use node::{CHAIN_ID, account};
use server::service::fsck;
use site::{OLD, Site, lead, mirror};
use trace::tlog::policy::Policy;

/// What a superuser may do: another database takes the place of the house's.
async fn put_in_place(house: &str, other: &str) {
    let cluster = std::env::var("TEST_DATABASE_URL").unwrap();
    let name = |url: &str| url.rsplit_once('/').unwrap().1.to_owned();
    let (house, other) = (name(house), name(other));
    let (client, connection) = tokio_postgres::connect(&cluster, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for sql in [
        format!("drop database {house} with (force)"),
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{other}'"),
        format!("alter database {other} rename to {house}"),
    ] {
        client.batch_execute(&sql).await.unwrap();
    }
}

/// `suyuan fsck` without anything from outside.
fn fsck(site: &Site, trust: Policy) -> fsck::Report {
    let database_url = site.database.clone();
    let ask = fsck::Ask { database_url, trust, threads: 2, ..fsck::Ask::default() };
    std::thread::spawn(move || fsck::check(&ask, |_| {}).unwrap()).join().unwrap()
}

/// The alarm of a look, and what was kept as evidence.
async fn alarm(mirror: Mirror<'_>) -> (Alarm, String) {
    match mirror.look().await {
        Err(MirrorError::Raised { alarm, evidence }) => (alarm, std::fs::read_to_string(evidence).unwrap()),
        other => panic!("no alarm: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_written_anew_fits_itself_and_no_head_that_mirror_witness_and_chain_kept() {
    let Some(mut site) = Site::open("anew_house", &[], true).await else { return };
    let Some(mut anew) = Site::open("anew_thief", &[], false).await else { return };
    site.harvest("L1").await;
    let dev = Dev::start().await;
    dev.evm.register(&account(1), 0, OLD, account(2).address()).await.unwrap();
    let trust = site.trust("quorum none\n");
    let by_witness = site.trust(&format!("{}quorum none\n", site.witness_line()));
    let by_chain = site.trust(&format!("quorum none\nchain {CHAIN_ID} {:#x}\n", dev.chain.contract));
    let copy = site.copy();
    let looked = mirror(&site.url, &copy, &by_witness).look().await.unwrap();
    assert_eq!((looked.asked.agree, looked.witnesses), (1, 1));
    let head = looked.head;
    let Site { farm: Farm { state, sequencer }, database, directory, witness, .. } = site;
    let world = World { ledger: Arc::clone(&state.ledger), sequencer, entries: 0, url: database.clone() };
    let mut sender = world.lead(&dev.chain).await;
    sender.step(AT_ONCE).await.unwrap();
    let anchored = world.until(&dev, &mut sender, "anchored").await;
    assert_eq!(u64::try_from(anchored.size).unwrap(), head.size);
    drop(sender);
    drop((world, state));

    // With every key of the house: another harvest from the first statement on, and one more.
    for lot in ["L2", "L3"] {
        anew.harvest(lot).await;
    }
    let lies = anew.size().await;
    assert!(lies > head.size);
    drop(anew.farm);
    put_in_place(&database, &anew.database).await;
    let state = house::state(&database).await;
    let sequencer = lead(&state).await;
    let url = served::listen(&state);
    let site = Site { farm: Farm { state, sequencer }, url, database, directory, witness };
    let report = fsck(&site, trust.clone());
    assert!(report.is_clean(), "{:?}", report.misfits);
    let alone = site.directory.join("alone");
    let looked = mirror(&site.url, &alone, &trust).look().await.unwrap();
    assert_eq!(looked.head.size, lies, "who asks nobody and kept nothing finds nothing");

    let root = trace::b64::std(head.root.as_bytes());
    let (found, evidence) = alarm(mirror(&site.url, &copy, &trust)).await;
    assert!(matches!(found, Alarm::OtherRoot { size } if size == head.size), "{found}");
    assert!(evidence.contains(&format!("{OLD}\n{}\n{root}\n", head.size)), "{evidence}");
    assert!(evidence.contains(&format!("{OLD}\n{lies}\n")), "{evidence}");

    let fresh = site.directory.join("witness");
    let (found, evidence) = alarm(mirror(&site.url, &fresh, &by_witness)).await;
    assert!(matches!(&found, Alarm::Witness { name, size } if name == "w1" && *size == lies), "{found}");
    assert!(evidence.contains(&format!("{OLD}\n{lies}\n")), "{evidence}");
    assert_eq!(site.witness.as_ref().unwrap().newest(OLD), head.size, "it cosigned one history");

    let fresh = site.directory.join("chain");
    let asked = Mirror { rpc: Some(&dev.anvil.url), ..mirror(&site.url, &fresh, &by_chain) };
    let (found, evidence) = alarm(asked).await;
    assert!(
        matches!(&found, Alarm::Chain { size, root, .. } if (*size, *root) == (head.size, head.root)),
        "{found}"
    );
    assert!(evidence.contains(&format!("size {}, root {}", head.size, head.root)), "{evidence}");
    for directory in [site.directory, anew.directory] {
        std::fs::remove_dir_all(directory).unwrap();
    }
}
