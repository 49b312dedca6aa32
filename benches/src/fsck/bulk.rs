//! A ledger of many records and packs, signed with real keys and copied in at once: what a busy year leaves behind.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use demo::postgres::Cluster;
use postgres::NoTls;
use serde_json::json;
use server::{
    jobs::sequencer::Sequencer,
    service::{
        keys::{HeldKey, Keys, NewKey},
        ledger::Ledger,
    },
};
use store::{Store, ledger as rows, party};
use trace::{
    hash::sha256,
    keys::{Custody, KeyRole, Kid, SecretKey},
    pack::{self, senml},
    record::{
        Body, Claims, Conceal, Draft, Record, Visibility, issue,
        statement::{Possession, prove_possession},
    },
    tlog::{note::SignerKey, policy::Policy},
};
use uuid::Uuid;

use crate::Failed;

/// Of the key that signs everything.
pub const SIGNER: [u8; 32] = [7; 32];
const REGISTRAR: [u8; 32] = [1; 32];
const ORIGIN: &str = "bench.example/bench/2026";
const ISS: &str = "https://id.gs1.org/417/9521234000006";
const PLACE: &str = "https://id.gs1.org/414/9521234000006/254/mill";
const BASE_NAME: &str = "urn:dev:org:32473-mill:scale:";
const READINGS: i64 = 100;
const BATCH: usize = 10_000;

pub struct Made {
    pub registrar: Kid,
    pub signed: Vec<Vec<u8>>,
}

impl Made {
    pub fn bytes_each(&self) -> usize {
        let all: usize = self.signed.iter().map(Vec::len).sum();
        all.checked_div(self.signed.len()).unwrap_or_default()
    }
}

pub struct Bulk {
    url: String,
    ledger: Arc<Ledger>,
    store: Store,
    mill: party::Party,
    place: party::Place,
}

/// A row of `record` or `pack` with what hangs on it, as `COPY` reads it.
struct Copied {
    signed: Vec<u8>,
    row: String,
    disclosures: String,
}

impl Bulk {
    pub async fn new(cluster: &Cluster) -> Result<Self, Failed> {
        let store = Store::open(&cluster.url("app", "suyuan"), 4)?;
        let keys = Keys::from_seeds("bench", &REGISTRAR, &[2; 32], &[3; 32]);
        let mut transaction = store.begin().await?;
        let new = party::NewParty {
            slug: "mill",
            role: "operator",
            iss: ISS,
            name: Some("Mill"),
            county: None,
            company_prefix: None,
            person_id: None,
        };
        let mill = party::insert(&mut transaction, &new).await?;
        let new = party::NewPlace {
            party_id: mill.id,
            slug: "mill",
            kind: "mill",
            uri: PLACE,
            name: None,
            county: None,
            parent_id: None,
            person_id: None,
            sealed: None,
        };
        let place = party::insert_place(&mut transaction, &new).await?;
        keys.found(&mut transaction, &mill).await?;
        transaction.commit().await?;
        let signer = SignerKey { name: ORIGIN.parse()?, secret: SecretKey::from_seed(&[4; 32]) };
        let ledger =
            Ledger::open(store.clone(), "bench.example", "bench", [signer], Policy::default()).await?;
        let bulk =
            Self { url: cluster.url("migrator", "suyuan"), ledger: Arc::new(ledger), store, mill, place };
        Ok(bulk)
    }

    /// One key has one role: a ledger of records or one of packs.
    pub async fn make(self, records: u32, packs: u32) -> Result<Made, Failed> {
        let role = if packs > 0 { KeyRole::Pack } else { KeyRole::Record };
        self.enrol(role).await?;
        let (mill, place, url) = (self.mill.id, self.place.id, self.url.clone());
        let signed = tokio::task::spawn_blocking(move || -> Result<Vec<Vec<u8>>, String> {
            let made = if packs > 0 {
                spread(packs, &pack_of)
            } else {
                spread(records, &|number| record_of(number, mill, place))
            };
            copy(&url, &made, packs > 0, (mill, place)).map_err(|error| error.to_string())?;
            Ok(made.into_iter().map(|one| one.signed).collect())
        })
        .await??;
        self.log(&signed).await?;
        Ok(Made { registrar: SecretKey::from_seed(&REGISTRAR).kid(), signed })
    }

    async fn enrol(&self, role: KeyRole) -> Result<(), Failed> {
        let keys = Keys::from_seeds("bench", &REGISTRAR, &[2; 32], &[3; 32]);
        let (secret, jti) = (SecretKey::from_seed(&SIGNER), Uuid::now_v7());
        let custody = Custody::Device;
        let possession =
            Possession { aud: "bench".to_owned(), jti, kid: secret.kid(), party: ISS.to_owned(), custody };
        let held = HeldKey {
            jti,
            public: secret.public(),
            custody,
            pop: prove_possession(&possession, &secret),
            account: None,
        };
        let base_name = (role == KeyRole::Pack).then(|| "urn:dev:org:32473-".to_owned());
        let new = NewKey { party: &self.mill, role, device_id: None, base_name, replaces: None };
        let mut transaction = self.store.begin().await?;
        keys.enrol_held(&mut transaction, &new, &held).await?;
        Ok(transaction.commit().await?)
    }

    /// What was enrolled stands before what it signed.
    async fn log(self, signed: &[Vec<u8>]) -> Result<(), Failed> {
        let mut sequencer = Sequencer::lead(Arc::clone(&self.ledger)).await?.ok_or("somebody else leads")?;
        while sequencer.step().await?.is_some() {}
        let mut conn = self.store.connection().await?;
        for batch in signed.chunks(BATCH) {
            let entries: Vec<Vec<u8>> = batch.iter().map(|bytes| sha256(bytes).as_bytes().to_vec()).collect();
            rows::queue_all(&mut conn, &entries).await?;
            while sequencer.step().await?.is_some() {}
        }
        Ok(())
    }
}

/// `count` of them, made on all cores, in order.
fn spread(count: u32, make: &(dyn Fn(u32) -> Copied + Sync)) -> Vec<Copied> {
    let threads = u32::try_from(server::service::fsck::threads()).unwrap_or(1);
    let share = count.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let part = |thread: u32| (thread * share..((thread + 1) * share).min(count)).map(make).collect();
        let running: Vec<std::thread::ScopedJoinHandle<'_, Vec<Copied>>> =
            (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// A weighing: an event of about 2 kB signed, three of whose members are concealed.
fn record_of(number: u32, party: i64, place: i64) -> Copied {
    let jti = Uuid::now_v7();
    let at = moment(number);
    let id = format!("urn:uuid:{jti}");
    let event = json!({
        "type": "ObjectEvent", "action": "OBSERVE", "bizStep": "inspecting", "gx:step": "gx:cane_lab",
        "disposition": "in_progress", "eventID": id, "eventTime": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "eventTimeZoneOffset": "+08:00", "epcList": [], "readPoint": {"id": PLACE}, "bizLocation": {"id": PLACE},
        "bizTransactionList": [{"type": "inv", "bizTransaction": format!("https://mill.example/documents/{number}")}],
        "sensorElementList": [{"sensorReport": [
            {"type": "https://ns.suyuan.example/gx/Brix", "value": 18.4, "uom": "E43"},
            {"type": "Mass", "value": f64::from(number % 20_000) + 0.5, "uom": "KGM"}]}],
        "gx:farmer": {"name": "甘桂生", "telephone": "13800000000", "village": "Longzhou"},
        "gx:vehicle": {"plate": format!("A{number:05}"), "driver": "农秀兰"},
        "gx:price": {"amount": 512.5, "currency": "CNY"},
    });
    let conceal = |pointer: &str| Conceal { pointer: pointer.to_owned(), visibility: Visibility::Private };
    let claims = Claims {
        iss: ISS.to_owned(),
        iat: at.timestamp(),
        jti,
        aud: "bench".to_owned(),
        profile: "sugar/3#00112233445566778899aabbccddeeff".to_owned(),
        seen: None,
        refs: Vec::new(),
    };
    let context = json!([trace::profile::build::EPCIS_CONTEXT, {"gx": trace::profile::build::GX}]);
    let draft = Draft { claims, body: Body::Event { context, event }, act: None, event_hash: None };
    let concealed = ["/gx:farmer", "/gx:vehicle", "/gx:price"].map(conceal);
    let key = SecretKey::from_seed(&SIGNER);
    let salt = || *sha256(Uuid::now_v7().as_bytes()).0.first_chunk::<16>().unwrap_or(&[0; 16]);
    let Ok(issued) = issue(draft, &concealed, salt, 6, &key) else { return Copied::nothing() };
    let public = Record::parse(&issued.signed).ok().and_then(|record| record.process(&[]).ok());
    let public = public.map(|public| public.to_string()).unwrap_or_default();
    let entry = hex(issued.entry.as_bytes());
    let row = [
        jti.to_string(),
        entry.clone(),
        "event".to_owned(),
        party.to_string(),
        ISS.to_owned(),
        hex(key.kid().as_bytes()),
        "sugar/3#00112233445566778899aabbccddeeff".to_owned(),
        "lab".to_owned(),
        "documented".to_owned(),
        "ObjectEvent".to_owned(),
        id,
        at.to_rfc3339(),
        "+08:00".to_owned(),
        place.to_string(),
        at.to_rfc3339(),
        at.to_rfc3339(),
        issued.signed.clone(),
        public.replace('\\', "\\\\"),
    ];
    let disclosures =
        (0..).zip(&issued.disclosures).fold(String::new(), |text, (position, one): (u32, _)| {
            let sealed = hex(one.text.as_bytes());
            text + &format!("{entry}\t{position}\t{}\tprivate\t{sealed}\n", hex(one.digest.as_bytes()))
        });
    Copied { signed: issued.signed.into_bytes(), row: row.join("\t") + "\n", disclosures }
}

/// A hundred readings of a scale.
fn pack_of(number: u32) -> Copied {
    let at = moment(number);
    let readings: Vec<senml::Reading> = (0..READINGS)
        .map(|second| senml::Reading {
            name: format!("{BASE_NAME}mass"),
            unit: Some("kg".to_owned()),
            time_us: (at.timestamp() + second) * 1_000_000,
            value: senml::Number::parse(&format!("{second}.{}", number % 10)).map(senml::Value::Number),
            sum: None,
        })
        .collect();
    let (key, cti) = (SecretKey::from_seed(&SIGNER), number.to_be_bytes());
    let payload = senml::write_cbor(BASE_NAME, &readings).unwrap_or_default();
    let Ok(bytes) = pack::sign(&cti, &payload, &key) else { return Copied::nothing() };
    let last = at + chrono::TimeDelta::seconds(READINGS - 1);
    let row = [
        "1".to_owned(),
        hex(&cti),
        hex(sha256(&bytes).as_bytes()),
        hex(key.kid().as_bytes()),
        hex(&bytes),
        READINGS.to_string(),
        at.to_rfc3339(),
        last.to_rfc3339(),
        last.to_rfc3339(),
    ];
    Copied { signed: bytes, row: row.join("\t") + "\n", disclosures: String::new() }
}

impl Copied {
    /// A row that Postgres refuses: the bench then ends with its error.
    const fn nothing() -> Self {
        Self { signed: Vec::new(), row: String::new(), disclosures: String::new() }
    }
}

/// Seconds of 2026, from spring on.
fn moment(number: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(1_775_000_000 + i64::from(number), 0).unwrap_or_default()
}

/// As `COPY` reads a bytea.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold("\\\\x".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn copy(url: &str, made: &[Copied], packs: bool, (party, place): (i64, i64)) -> Result<(), Failed> {
    use std::io::Write as _;
    let mut client = postgres::Client::connect(url, NoTls)?;
    let (into, attached) = if packs {
        let device = "insert into device (party_id, name, kind, profile, format, signing, token_hash, place_id) \
            values ($1, 'scale', 'scale', 'sugar', 'cose', 'gateway', '', $2)";
        client.execute(device, &[&party, &place])?;
        ("pack (device_id, cti, entry, kid, bytes, readings, first_at, last_at, received_at)", false)
    } else {
        let columns = "record (jti, entry, kind, party_id, iss, kid, profile, step, grade, event_type, event_id, \
            event_time, event_offset, place_id, iat, accepted_at, signed, public)";
        (columns, true)
    };
    let mut rows = client.copy_in(&format!("copy {into} from stdin"))?;
    for one in made {
        rows.write_all(one.row.as_bytes())?;
    }
    rows.finish()?;
    if attached {
        let into = "copy disclosure (entry, position, digest, visibility, sealed) from stdin";
        let mut rows = client.copy_in(into)?;
        for one in made {
            rows.write_all(one.disclosures.as_bytes())?;
        }
        rows.finish()?;
    }
    client.batch_execute("analyze")?;
    Ok(())
}
