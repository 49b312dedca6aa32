//! Packs from the gateways: judge → one transaction of packs, readings, alerts and dead letters → strict check → leaf.
//!
//! A gateway is not trusted: every signature is verified here. What can't be accepted becomes a dead letter with its
//! reason in the same transaction, so that it neither vanishes nor blocks what follows.

mod judge;
mod known;
mod replay;

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use store::{
    Connection, Store, StoreError,
    alert::NewAlert,
    dead_letter::NewDeadLetter,
    device::Device,
    pack::{Pack, PackKey, StrictBatch},
};
use trace::{
    hash::sha256,
    keys::PublicKey,
    pack::{
        Frame, Topic,
        carriage::{Body, Item, Outcome},
        verify_batch,
    },
};

use crate::{
    metrics,
    service::{alerts, profiles::Profiles, rollups},
};
pub use judge::Reason;
use judge::{Candidate, Judged};
pub use known::Register;
use known::{Known, read_known};
pub(super) use replay::{Again, judge_again};

/// What one transaction checks strictly: a fraction of a second's work, and sums that most of its packs share.
const STRICT_BATCH: StrictBatch = StrictBatch { packs: 2_000, readings: 50_000 };

/// Takes a batch in, durably: when this returns `Ok`, each item may be acknowledged.
pub async fn take(
    store: &Store,
    profiles: &Profiles,
    (register, pen): (&Register, u32),
    items: &[Item<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<Outcome>, StoreError> {
    let known = register.known(store, profiles, pen, items).await?;
    let mut judged: Vec<Judged<'_>> = items.iter().map(|item| known.judge(item, now)).collect();
    refuse_bad_signatures(&mut judged);

    let mut transaction = store.begin().await?;
    keep(&mut transaction, profiles, &mut judged, now).await?;
    write_dead_letters(&mut transaction, &known, items, &judged, now).await?;
    transaction.commit().await?;
    metrics::DEAD_LETTERS.add(judged.iter().filter_map(|judged| Some(judged.reason()?.as_str())));
    Ok(judged.iter().map(Judged::outcome).collect())
}

/// Writes what may be stored: packs, their readings, and the alerts that these raise.
async fn keep(
    conn: &mut Connection,
    profiles: &Profiles,
    judged: &mut [Judged<'_>],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    settle(conn, judged).await?;
    let stored: Vec<&Candidate<'_>> = judged.iter().filter_map(Judged::stored).collect();
    let readings: Vec<_> = stored.iter().flat_map(|candidate| &candidate.readings).collect();
    store::reading::insert(conn, &readings).await?;
    let packs: Vec<alerts::Measured<'_>> = stored
        .iter()
        .filter(|candidate| candidate.is_news(now))
        .map(|candidate| alerts::Measured { device: candidate.device, readings: &candidate.readings })
        .collect();
    alerts::watch(conn, profiles, &packs).await
}

/// One pass for the whole batch; only if it fails, one by one to learn which.
fn refuse_bad_signatures(judged: &mut [Judged<'_>]) {
    let signed: Vec<(Frame<'_>, &PublicKey)> = judged
        .iter()
        .filter_map(|judged| judged.stored().map(|candidate| (candidate.frame, &candidate.public)))
        .collect();
    if verify_batch(&signed) {
        return;
    }
    for judged in judged {
        let passes = judged.stored().is_none_or(|c| c.frame.verify(&c.public).is_ok());
        if !passes {
            judged.refuse(Reason::Signature);
        }
    }
}

/// Writes the packs that are new; tells duplicates and equivocations apart from them.
async fn settle(conn: &mut Connection, judged: &mut [Judged<'_>]) -> Result<(), StoreError> {
    // Ascending keys, so that two batches with the same packs wait for one another instead of deadlocking.
    let mut first: BTreeMap<(i64, &[u8]), Pack> = BTreeMap::new();
    for candidate in judged.iter().filter_map(Judged::stored) {
        first.entry((candidate.device.id, candidate.frame.cti)).or_insert_with(|| candidate.pack());
    }
    let packs: Vec<Pack> = first.into_values().collect();
    let mut new: HashSet<PackKey> = store::pack::insert_new(conn, &packs).await?.into_iter().collect();

    let (written, old): (Vec<Pack>, Vec<Pack>) =
        packs.into_iter().partition(|pack| new.contains(&pack.key()));
    let old: Vec<PackKey> = old.iter().map(Pack::key).collect();
    let mut entries: HashMap<PackKey, Vec<u8>> =
        store::pack::entries(conn, &old).await?.into_iter().collect();
    entries.extend(written.into_iter().map(|pack| (pack.key(), pack.entry)));
    for judged in judged {
        let Some(candidate) = judged.stored() else { continue };
        let key = candidate.key();
        // The first of its key in this batch is the one that was written.
        if new.remove(&key) {
            continue;
        }
        let is_same = entries.get(&key).is_some_and(|entry| entry == candidate.frame.entry().as_bytes());
        if is_same || candidate.by_gateway {
            judged.is_duplicate();
        } else {
            raise(conn, candidate.device, "equivocation", candidate.received_at).await?;
            judged.refuse(Reason::Equivocation);
        }
    }
    Ok(())
}

async fn raise(
    conn: &mut Connection,
    device: &Device,
    rule: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let alert = NewAlert {
        party_id: device.party_id,
        place_id: device.place_id,
        device_id: Some(device.id),
        profile: &device.profile,
        rule,
        subject: "",
        metric: "",
        unit: "",
        threshold: 0.0,
        source: "",
        value: 0.0,
        raised_at: at,
        lots: &[],
    };
    store::alert::raise(conn, &alert).await?;
    tracing::warn!(device_id = device.id, rule, "a signer's packs do not hold");
    Ok(())
}

async fn write_dead_letters(
    conn: &mut Connection,
    known: &Known<'_>,
    items: &[Item<'_>],
    judged: &[Judged<'_>],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut letters: Vec<NewDeadLetter> = items
        .iter()
        .zip(judged)
        .filter_map(|(item, judged)| Some(known.dead_letter(item, judged.reason()?, now)))
        .collect();
    if letters.is_empty() {
        return Ok(());
    }
    // What a gateway took up again and could not read stays one letter.
    let again: HashSet<usize> =
        store::dead_letter::fail_again(conn, &letters, now).await?.into_iter().collect();
    let mut position = 0..;
    letters.retain(|_| !position.next().is_some_and(|position| again.contains(&position)));
    store::dead_letter::insert(conn, &letters).await
}

impl Known<'_> {
    fn dead_letter(&self, item: &Item<'_>, reason: Reason, now: DateTime<Utc>) -> NewDeadLetter {
        let party = item.topic.parse::<Topic>().ok();
        let party_id = party.and_then(|topic| self.parties.get(topic.device.party()).copied());
        let (payload, size, digest) = match item.body {
            Body::Bytes(bytes) => {
                let size = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
                (Some(bytes.to_vec()), size, sha256(bytes))
            }
            Body::Oversize { size, sha256 } => (None, i32::try_from(size).unwrap_or(i32::MAX), sha256),
        };
        NewDeadLetter {
            party_id,
            // A NUL is the one character that Postgres can't keep.
            topic: item.topic.replace('\0', "\u{fffd}"),
            received_at: judge::arrival(item.received_ms, now),
            reason: reason.as_str().to_owned(),
            payload,
            size,
            sha256: digest.as_bytes().to_vec(),
        }
    }
}

/// Checks strictly what a passed batch let in, queues the leaves of what holds, and adds its readings to their sums. Returns how
/// many were checked.
///
/// A crash before the commit leaves the checks due; nothing is queued twice.
pub async fn check_strictly(store: &Store) -> Result<usize, StoreError> {
    let mut transaction = store.begin().await?;
    let due = store::pack::take_strict_checks(&mut transaction, STRICT_BATCH).await?;
    let taken = due.len();
    let kids: HashSet<Vec<u8>> = due.iter().map(|pack| pack.kid.clone()).collect();
    let keys = store::key::by_kids(&mut transaction, &kids.into_iter().collect::<Vec<_>>()).await?;
    let keys: HashMap<Vec<u8>, PublicKey> = keys
        .into_iter()
        .filter_map(|key| Some((key.kid, PublicKey::from_bytes(&key.public).ok()?)))
        .collect();
    // A thread of its own: what else this one has to do is not kept waiting.
    let verified = tokio::task::spawn_blocking(move || verify(due, &keys)).await;
    let Verified { entries, readings, bad } = verified.map_err(|_| StoreError::Corrupt("packs due"))?;
    if !entries.is_empty() {
        store::ledger::queue_all(&mut transaction, &entries).await?;
        rollups::add(&mut transaction, &readings).await?;
        let heard: HashSet<i64> = readings.iter().map(|reading| reading.device_id).collect();
        store::alert::ask(&mut transaction, &heard.into_iter().collect::<Vec<_>>()).await?;
    }
    for pack in &bad {
        refuse_stored(&mut transaction, pack).await?;
    }
    transaction.commit().await?;
    Ok(taken)
}

/// What the strict check found.
struct Verified {
    entries: Vec<Vec<u8>>,
    readings: Vec<store::reading::Reading>,
    bad: Vec<Pack>,
}

fn verify(due: Vec<Pack>, keys: &HashMap<Vec<u8>, PublicKey>) -> Verified {
    let holds = |pack: &Pack| {
        let frame = Frame::parse(&pack.bytes).ok();
        frame.zip(keys.get(&pack.kid)).is_some_and(|(frame, key)| frame.verify(key).is_ok())
    };
    let (good, bad): (Vec<Pack>, Vec<Pack>) = due.into_iter().partition(holds);
    let readings = good.iter().flat_map(judge::rows_of).collect();
    Verified { entries: good.into_iter().map(|pack| pack.entry).collect(), readings, bad }
}

/// A pack that only a batch let through: it stays as evidence, gets no leaf, and its signer an alert.
async fn refuse_stored(conn: &mut Connection, pack: &Pack) -> Result<(), StoreError> {
    let Some((party, device)) = store::device::by_id(conn, pack.device_id).await? else { return Ok(()) };
    let letter = NewDeadLetter {
        party_id: Some(device.party_id),
        topic: format!("suyuan/v1/{party}/{}/up", device.name),
        received_at: pack.received_at,
        reason: Reason::Signature.as_str().to_owned(),
        payload: Some(pack.bytes.clone()),
        size: i32::try_from(pack.bytes.len()).unwrap_or(i32::MAX),
        sha256: sha256(&pack.bytes).as_bytes().to_vec(),
    };
    store::dead_letter::insert(conn, &[letter]).await?;
    raise(conn, &device, "signature", pack.received_at).await
}
