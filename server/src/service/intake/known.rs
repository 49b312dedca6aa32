//! What judging a batch needs to know. It is read once for many batches: a gateway's batches name the same devices again and again.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use store::{Connection, Store, StoreError, device::Device, key::Key};
use tokio::sync::Mutex;
use trace::{
    hash::Hash,
    keys::PublicKey,
    pack::{
        Frame, Topic,
        carriage::{Body, Item},
    },
};

use crate::service::profiles::Profiles;

/// A device or key that was retired is refused this much later at most. One that is new is known at once: what is not known
/// here is looked for.
const LIFE: Duration = Duration::from_secs(1);
/// Keys and parties that are kept beyond the batch that named them.
const KEPT_MAX: usize = 20_000;

/// A key and what it verifies with, `None` where it verifies nothing.
#[derive(Clone)]
pub(super) struct Verifier {
    pub key: Arc<Key>,
    pub public: Option<PublicKey>,
}

#[derive(Clone, Default)]
pub(super) struct Registered {
    pub devices: HashMap<(String, String), Arc<Device>>,
    pub parties: HashMap<String, i64>,
    pub keys: HashMap<Hash, Verifier>,
    pub operators: HashSet<i64>,
}

/// For one batch.
pub(super) struct Known<'a> {
    pub profiles: &'a Profiles,
    pub pen: u32,
    registered: Arc<Registered>,
}

impl Deref for Known<'_> {
    type Target = Registered;
    fn deref(&self) -> &Registered {
        &self.registered
    }
}

struct Held {
    registered: Arc<Registered>,
    /// Of what was read first.
    read_at: Instant,
}

/// Shared by all batches.
#[derive(Default)]
pub struct Register(Mutex<Option<Held>>);

/// What a batch names.
#[derive(Default)]
struct Named {
    devices: HashSet<(String, String)>,
    slugs: HashSet<String>,
    kids: HashSet<Hash>,
}

impl Register {
    /// A device or key was changed through this server: its next pack is judged by what stands now. Other servers follow within
    /// [`LIFE`].
    pub async fn forget(&self) {
        self.0.lock().await.take();
    }

    pub(super) async fn known<'a>(
        &self,
        store: &Store,
        profiles: &'a Profiles,
        pen: u32,
        items: &[Item<'_>],
    ) -> Result<Known<'a>, StoreError> {
        let named = Named::by(items);
        // Held while it reads: batches that come meanwhile wait for one answer instead of asking as well.
        let mut held = self.0.lock().await;
        let now = Instant::now();
        let last = held.take();
        let current = match last {
            Some(last) if now.duration_since(last.read_at) < LIFE => {
                let missing = named.beyond(&last.registered);
                if missing.is_empty() {
                    last
                } else {
                    let mut registered = Registered::clone(&last.registered);
                    registered.read(&mut *store.connection().await?, missing, None).await?;
                    Held { registered: Arc::new(registered), ..last }
                }
            }
            last => {
                let last = last.map(|last| last.registered);
                let named = named.and_kept(last.as_deref());
                let mut registered = Registered::default();
                registered.read(&mut *store.connection().await?, named, last.as_deref()).await?;
                Held { registered: Arc::new(registered), read_at: now }
            }
        };
        let registered = Arc::clone(&held.insert(current).registered);
        Ok(Known { profiles, pen, registered })
    }
}

impl Named {
    fn by(items: &[Item<'_>]) -> Self {
        let mut named = Self::default();
        for item in items {
            if let Ok(topic) = item.topic.parse::<Topic>() {
                let (party, device) = (topic.device.party().to_owned(), topic.device.device().to_owned());
                named.devices.insert((party, device));
            }
            if let Body::Bytes(bytes) = item.body
                && let Ok(frame) = Frame::parse(bytes)
            {
                named.kids.insert(frame.kid);
            }
        }
        named.slugs = named.devices.iter().map(|(slug, _)| slug.clone()).collect();
        named
    }

    /// What of it is not known yet.
    fn beyond(mut self, known: &Registered) -> Self {
        self.devices.retain(|device| !known.devices.contains_key(device));
        self.slugs = self.devices.iter().map(|(slug, _)| slug.clone()).collect();
        self.kids.retain(|kid| !known.keys.contains_key(kid));
        self
    }

    /// With what was known until now, as long as that is not too much.
    fn and_kept(mut self, last: Option<&Registered>) -> Self {
        if let Some(last) = last.filter(|last| last.keys.len() + last.parties.len() <= KEPT_MAX) {
            self.kids.extend(last.keys.keys());
            self.slugs.extend(last.parties.keys().cloned());
        }
        self
    }

    fn is_empty(&self) -> bool {
        self.slugs.is_empty() && self.kids.is_empty()
    }
}

impl Registered {
    /// Adds what the database says in this moment. `last` spares taking a key's bytes apart again: they are what its kid says.
    async fn read(
        &mut self,
        conn: &mut Connection,
        named: Named,
        last: Option<&Self>,
    ) -> Result<(), StoreError> {
        let slugs: Vec<String> = named.slugs.into_iter().collect();
        let parties = store::party::by_slugs(conn, &slugs).await?;
        self.parties.extend(parties.into_iter().map(|party| (party.slug, party.id)));
        let devices = store::device::of_parties(conn, &slugs).await?.into_iter();
        self.devices.extend(devices.map(|(slug, device)| ((slug, device.name.clone()), Arc::new(device))));
        let kids: Vec<Vec<u8>> = named.kids.into_iter().map(|kid| kid.as_bytes().to_vec()).collect();
        for key in store::key::by_kids(conn, &kids).await? {
            let Some(kid) = Hash::from_slice(&key.kid) else { continue };
            let before =
                last.and_then(|last| last.keys.get(&kid)).filter(|before| before.key.public == key.public);
            let public =
                before.map_or_else(|| PublicKey::from_bytes(&key.public).ok(), |before| before.public);
            self.keys.insert(kid, Verifier { key: Arc::new(key), public });
        }
        let operators = store::party::with_roles(conn, &["operator".to_owned()], 100).await?;
        self.operators = operators.into_iter().map(|party| party.id).collect();
        Ok(())
    }
}

/// As the database has it in this moment.
pub(super) async fn read_known<'a>(
    conn: &mut Connection,
    profiles: &'a Profiles,
    pen: u32,
    items: &[Item<'_>],
) -> Result<Known<'a>, StoreError> {
    let mut registered = Registered::default();
    registered.read(conn, Named::by(items), None).await?;
    Ok(Known { profiles, pen, registered: Arc::new(registered) })
}
