//! How often somebody may try something, within bounded memory.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is allowed to one who tries, and how many of them are remembered at once.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub attempts: u32,
    pub window: Duration,
    pub remembered: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts")]
pub struct TooMany;

/// Attempts by who tries. While as many as are remembered try within one window, nobody new may: a flood of invented
/// names pushes nobody's count out.
#[derive(Debug)]
pub struct Attempts<K> {
    allowance: Allowance,
    /// How many, since when.
    counts: Mutex<HashMap<K, (u32, Instant)>>,
}

impl<K: Eq + Hash> Attempts<K> {
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, counts: Mutex::new(HashMap::new()) }
    }

    /// Counts an attempt before the work is done.
    pub fn count(&self, who: K) -> Result<(), TooMany> {
        self.count_at(who, Instant::now())
    }

    fn count_at(&self, who: K, now: Instant) -> Result<(), TooMany> {
        let Allowance { attempts, window, remembered } = self.allowance;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= remembered {
            counts.retain(|_, (_, since)| now.duration_since(*since) < window);
        }
        if counts.len() >= remembered && !counts.contains_key(&who) {
            return Err(TooMany);
        }
        let (count, since) = counts.entry(who).or_insert((0, now));
        if now.duration_since(*since) >= window {
            (*count, *since) = (0, now);
        }
        if *count >= attempts {
            return Err(TooMany);
        }
        *count += 1;
        Ok(())
    }

    pub fn forget(&self, who: &K) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }
}

/// One connection has 2⁶⁴ addresses of IPv6 (RFC 6177), and is counted as one.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => four.into(),
            None => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(10);

    #[test]
    fn who_tried_too_often_waits_for_the_next_window_and_nobody_else_does() {
        let attempts = Attempts::new(Allowance { attempts: 2, window: WINDOW, remembered: 10 });
        let start = Instant::now();
        assert_eq!([(); 3].map(|()| attempts.count_at("a", start)), [Ok(()), Ok(()), Err(TooMany)]);
        assert_eq!(attempts.count_at("b", start), Ok(()));
        assert_eq!(attempts.count_at("a", start + WINDOW), Ok(()));
        attempts.forget(&"b");
        assert_eq!([(); 2].map(|()| attempts.count_at("b", start)), [Ok(()), Ok(())]);
    }

    #[test]
    fn a_flood_of_names_is_held_in_bounds_and_frees_nobody_who_waits() {
        let attempts = Attempts::new(Allowance { attempts: 1, window: WINDOW, remembered: 3 });
        let start = Instant::now();
        for name in 0..100 {
            assert_eq!(attempts.count_at(name, start).is_ok(), name < 3);
        }
        assert_eq!(attempts.counts.lock().unwrap().len(), 3);
        assert_eq!(attempts.count_at(0, start), Err(TooMany));
        assert_eq!(attempts.count_at(50, start + WINDOW), Ok(()));
    }

    #[test]
    fn a_connection_is_counted_as_one_whichever_of_its_addresses_it_uses() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
