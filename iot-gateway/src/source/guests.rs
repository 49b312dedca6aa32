//! Who is connected, and how much each device may say: connections of one device, one session for a client identifier, a rate.
//!
//! Nothing is thrown away: a device that says more than it may is answered later, and its socket is not read meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use trace::pack::DeviceName;

/// What one device may say at once before its rate holds: so much time's worth.
const BURST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all devices together.
    pub connections: usize,
    /// Of each device, as the two below.
    pub device_connections: usize,
    pub messages_per_s: u32,
    pub bytes_per_s: u32,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("the device has as many connections as it may")]
    Device,
    #[error("there are as many connections as there may be")]
    Gateway,
}

/// All devices that are connected; shared by the threads that serve them.
#[derive(Debug, Clone)]
pub struct Guests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    devices: HashMap<DeviceName, Visits>,
    connections: usize,
    /// Number of the last connection.
    last: u64,
}

/// The connections of one device.
#[derive(Debug)]
struct Visits {
    pace: Arc<Pace>,
    sessions: Vec<Session>,
}

impl Visits {
    fn new(limits: Limits) -> Self {
        Self { pace: Arc::new(Pace::new(limits)), sessions: Vec::new() }
    }
}

#[derive(Debug)]
struct Session {
    number: u64,
    client_id: String,
    over: Arc<Notify>,
}

/// One connection of a device, from its welcome until it is dropped.
#[derive(Debug)]
pub struct Visit {
    guests: Guests,
    device: DeviceName,
    number: u64,
    pace: Arc<Pace>,
    /// Told when another connection of this device comes with the same client identifier, and when this one is gone.
    pub over: Arc<Notify>,
    /// Whether a session ended for this one.
    pub took_over: bool,
}

impl Guests {
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, present: Mutex::default() }))
    }

    /// Lets a device in. A session that it has under this client identifier ends (MQTT 5 §3.1.4-3); an identifier is the
    /// device's own, so that nobody ends another's. An empty one is nobody's: MQTT lets the server name it.
    pub fn enter(&self, device: &DeviceName, client_id: &str) -> Result<Visit, Full> {
        let limits = self.0.limits;
        let mut present = self.present();
        let is_same = |session: &Session| !client_id.is_empty() && session.client_id == client_id;
        let mut visits = present.devices.remove(device).unwrap_or_else(|| Visits::new(limits));
        let earlier = visits.sessions.iter().position(is_same).map(|at| visits.sessions.swap_remove(at));
        present.connections -= usize::from(earlier.is_some());
        let entered = if visits.sessions.len() >= limits.device_connections {
            Err(Full::Device)
        } else if present.connections >= limits.connections {
            Err(Full::Gateway)
        } else {
            if let Some(earlier) = &earlier {
                earlier.over.notify_one();
            }
            present.connections += 1;
            present.last += 1;
            let (number, over) = (present.last, Arc::new(Notify::new()));
            visits.sessions.push(Session { number, client_id: client_id.to_owned(), over: over.clone() });
            let (guests, device, pace) = (self.clone(), device.clone(), visits.pace.clone());
            Ok(Visit { guests, device, number, pace, over, took_over: earlier.is_some() })
        };
        if !visits.sessions.is_empty() {
            present.devices.insert(device.clone(), visits);
        }
        entered
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// How long a message of so many bytes, which came `now`, has to wait. It counts from here on.
    pub fn wait(&self, bytes: usize, now: Instant) -> Duration {
        self.pace.wait(bytes, now)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.over.notify_one();
        let mut present = self.guests.present();
        let Some(visits) = present.devices.get_mut(&self.device) else { return };
        let before = visits.sessions.len();
        visits.sessions.retain(|session| session.number != self.number);
        // Whoever was taken over has left its place already.
        let left = before - visits.sessions.len();
        if visits.sessions.is_empty() {
            present.devices.remove(&self.device);
        }
        present.connections -= left;
    }
}

/// Two token buckets, of messages and of bytes, each kept as the moment at which it is full again.
#[derive(Debug)]
struct Pace {
    message: Duration,
    byte: Duration,
    full_at: Mutex<(Instant, Instant)>,
}

impl Pace {
    fn new(limits: Limits) -> Self {
        let each = |a_second: u32| Duration::from_secs(1) / a_second.max(1);
        let now = Instant::now();
        Self {
            message: each(limits.messages_per_s),
            byte: each(limits.bytes_per_s),
            full_at: Mutex::new((now, now)),
        }
    }

    fn wait(&self, bytes: usize, now: Instant) -> Duration {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, volume) = *full_at;
        *full_at = (messages.max(now) + self.message, volume.max(now) + self.byte * bytes);
        full_at.0.max(full_at.1).saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { connections: 4, device_connections: 2, messages_per_s: 100, bytes_per_s: 10_000 };

    fn probe(name: &str) -> DeviceName {
        DeviceName::new("mill", name).unwrap()
    }

    #[test]
    fn a_device_has_so_many_connections_and_gets_them_back() {
        let guests = Guests::new(LIMITS);
        let one = guests.enter(&probe("a"), "one").unwrap();
        let _two = guests.enter(&probe("a"), "").unwrap();
        assert_eq!(guests.enter(&probe("a"), "").unwrap_err(), Full::Device);
        guests.enter(&probe("b"), "one").unwrap();
        drop(one);
        guests.enter(&probe("a"), "").unwrap();
    }

    #[test]
    fn all_devices_together_have_so_many_and_one_that_comes_again_needs_no_place_of_its_own() {
        let guests = Guests::new(LIMITS);
        let mut all: Vec<Visit> =
            ["a", "b", "c", "d"].map(|name| guests.enter(&probe(name), "id").unwrap()).into();
        assert_eq!(guests.enter(&probe("e"), "id").unwrap_err(), Full::Gateway);
        all.push(guests.enter(&probe("a"), "id").unwrap());
        assert_eq!(guests.enter(&probe("e"), "id").unwrap_err(), Full::Gateway);
        drop(all);
        assert!(guests.present().devices.is_empty());
        assert_eq!(guests.present().connections, 0);
    }

    #[tokio::test]
    async fn a_second_session_of_one_client_identifier_takes_the_firsts_place_and_no_other_devices() {
        let guests = Guests::new(LIMITS);
        let (other, _full) =
            (guests.enter(&probe("b"), "id").unwrap(), guests.enter(&probe("a"), "x").unwrap());
        let first = guests.enter(&probe("a"), "id").unwrap();
        let second = guests.enter(&probe("a"), "id").unwrap();
        assert!(second.took_over && !first.took_over);
        first.over.notified().await;
        drop(first);
        assert_eq!(
            guests.enter(&probe("a"), "y").unwrap_err(),
            Full::Device,
            "the second is there when the first has gone"
        );
        for visit in [&second, &other] {
            tokio::time::timeout(Duration::from_millis(10), visit.over.notified()).await.unwrap_err();
        }
    }

    #[test]
    fn messages_and_bytes_wait_once_a_second_of_them_is_spent_and_never_longer_than_their_turn() {
        let guests = Guests::new(LIMITS);
        let (visit, start) = (guests.enter(&probe("a"), "1").unwrap(), Instant::now());
        assert!((0..100).all(|_| visit.wait(1, start).is_zero()));
        assert!(visit.wait(1, start).as_millis() >= 9);
        assert!(visit.wait(1, start).as_millis() >= 19);
        let later = start + Duration::from_secs(5);
        assert!(
            visit.wait(10_000, later).is_zero(),
            "all tokens are there again, and no more than a second's"
        );
        assert!(visit.wait(5_000, later).as_millis() >= 499);
        let beside = guests.enter(&probe("a"), "2").unwrap();
        assert!(beside.wait(5_000, later).as_millis() >= 999, "a device's connections share its rate");
    }
}
