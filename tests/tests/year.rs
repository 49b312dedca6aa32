//! New Year's Eve in the middle of a season: the log is sealed and the next one opened while people post and sensors publish.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may stop where it stands"
)]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use demo::{
    season,
    stack::{Options, Ports, Stack, programs_beside_us},
};
use serde_json::Value;
use system_tests::audit::{ask, fsck, said};

async fn log_state(stack: &Stack) -> Value {
    let answer = reqwest::get(format!("{}/api/v1/log", stack.base_url())).await.unwrap();
    answer.json().await.unwrap()
}

async fn checkpoint(stack: &Stack, origin: &str) -> String {
    let (_, path) = origin.split_once('/').unwrap();
    let answer = reqwest::get(format!("{}/{path}/checkpoint", stack.base_url())).await.unwrap();
    answer.error_for_status().unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_ends_in_the_middle_of_the_season() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let data = std::env::temp_dir().join(format!("suyuan-year-{}", std::process::id()));
    let options = Options::local(root, data.clone(), programs_beside_us().unwrap(), Ports::free().unwrap());
    let stack = Stack::start(options, &mut |text| println!("{text}")).await.unwrap();
    let (old, new) = (stack.origin(), stack.next_origin());

    let addresses = stack.addresses();
    let playing = tokio::spawn(async move { season::play(&addresses).await });
    let count = "select count(*) from record where kind = 'event'";
    within_a_minute("work is under way", || ask(&stack, count).trim().parse::<u32>().is_ok_and(|n| n > 5))
        .await;
    println!("{}", stack.end_the_year().unwrap());
    let report = playing.await.unwrap().unwrap();

    let state = log_state(&stack).await;
    assert_eq!(state["origin"], new.as_str());
    assert_eq!((&state["logs"][0]["state"], &state["logs"][1]["state"]), (&"sealed".into(), &"open".into()));
    // Both logs took events, the new one as soon as it has its leader, and the sealed one ends with a roster.
    for log in [1, 2] {
        let events = format!(
            "select count(*) from entry e join record r on r.entry = e.hash where e.log_id = {log} and r.kind = 'event'"
        );
        let took = || ask(&stack, &events).trim().parse::<u32>().is_ok_and(|n| n > 5);
        within_a_minute(&format!("log {log} takes events"), took).await;
    }
    let last = "select r.step from entry e join record r on r.entry = e.hash where e.log_id = 1 order by e.index desc limit 1";
    assert_eq!(ask(&stack, last).trim(), "roster");

    // A reader who trusts only the old log's key follows every story into the new one.
    let mut crossed = 0;
    for commodity in &report.commodities {
        let bundle = stack.valid_bundle(&commodity.lot_path, commodity.name).await.unwrap();
        let text = std::fs::read_to_string(bundle).unwrap();
        crossed += usize::from(text.contains(&old) && text.contains(&new));
    }
    assert!(crossed > 0, "no story crosses the year");
    fsck(&stack);

    // Witness and chain have the last head of the one and a head of the other; a mirror of the one follows into the other.
    let sealed: u64 = checkpoint(&stack, &old).await.lines().nth(1).unwrap().parse().unwrap();
    let entries = ask(&stack, "select count(*) from entry where log_id = 1");
    assert_eq!(sealed, entries.trim().parse::<u64>().unwrap());
    let chain = stack.chain.as_ref().unwrap();
    let until = Instant::now() + Duration::from_mins(1);
    while chain.anchored_size(&old).await.unwrap() != sealed || chain.anchored_size(&new).await.unwrap() == 0
    {
        assert!(Instant::now() < until, "not anchored");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let trust = stack.write_trust().unwrap();
    let (_, path) = old.split_once('/').unwrap();
    let mirrored = Command::new(stack.options.programs.join("suyuan-auditor"))
        .args(["mirror", &format!("{}/{path}", stack.base_url()), "--rpc", &chain.rpc_url, "--trust"])
        .arg(&trust)
        .arg(data.join("mirror"))
        .output()
        .unwrap();
    assert_eq!(mirrored.status.code(), Some(0), "{}", said(&mirrored));
    let sealed = format!("ok         {old} {sealed} entries");
    let followed = [sealed, format!("sealed, followed by {new}\n"), format!("ok         {new} ")];
    for words in followed {
        assert!(said(&mirrored).contains(&words), "no {words}: {}", said(&mirrored));
    }
    tokio::task::spawn_blocking(move || drop(stack)).await.unwrap();
    std::fs::remove_dir_all(data).unwrap_or_default();
}

async fn within_a_minute(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
