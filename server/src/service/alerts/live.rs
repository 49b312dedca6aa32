//! Who looks at alerts now, and that there is something new for them: never what. They read that as themselves.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use store::{Store, StoreError, alert};
use tokio::sync::broadcast::{self, error::RecvError};
use uuid::Uuid;

/// Streams open at once, of one account and of all.
const OF_ONE_MAX: usize = 4;
const MAX: usize = 1_000;
/// Changes that a slow reader may be behind; further behind it is told once.
const BEHIND_MAX: usize = 256;

/// Those who look.
#[derive(Debug)]
pub struct Live {
    changed: broadcast::Sender<i64>,
    watching: Mutex<HashMap<Uuid, usize>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { changed: broadcast::channel(BEHIND_MAX).0, watching: Mutex::default() }
    }
}

impl Live {
    /// `None` where too many look already. `scope` is the party whose alerts are looked at; `None` is everybody's.
    pub fn watch(self: &Arc<Self>, account: Uuid, scope: Option<i64>) -> Option<Watch> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let own = watching.get(&account).copied().unwrap_or_default();
        if own >= OF_ONE_MAX || watching.values().sum::<usize>() >= MAX {
            return None;
        }
        watching.insert(account, own + 1);
        drop(watching);
        Some(Watch { changed: self.changed.subscribe(), live: Arc::clone(self), account, scope })
    }

    fn leave(&self, account: Uuid) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = watching.get_mut(&account) {
            *own -= 1;
            if *own == 0 {
                watching.remove(&account);
            }
        }
    }
}

/// One who looks, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changed: broadcast::Receiver<i64>,
    live: Arc<Live>,
    account: Uuid,
    scope: Option<i64>,
}

impl Watch {
    /// Waits until an alert in the scope was raised, seen or cleared. `false`: the server stops.
    pub async fn changed(&mut self) -> bool {
        loop {
            match self.changed.recv().await {
                Ok(party) if self.scope.is_none_or(|own| own == party) => return true,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.live.leave(self.account);
    }
}

/// What was told already. Changes are committed in another order than they are numbered: so the newest minutes are looked through.
#[derive(Debug, Default)]
pub struct Told(Option<BTreeSet<i64>>);

/// Tells those who look of changes by any server; costs nothing while nobody does.
pub async fn tell(store: &Store, live: &Live, told: &mut Told) -> Result<(), StoreError> {
    if live.changed.receiver_count() == 0 {
        told.0 = None;
        return Ok(());
    }
    let recent = alert::recent_changes(&mut *store.connection().await?).await?;
    // Whoever came since the last look may have missed what is in it: then all of it is news.
    let known = told.0.take().unwrap_or_default();
    let new = recent.iter().filter(|change| !known.contains(&change.id));
    let parties: BTreeSet<i64> = new.map(|change| change.party_id).collect();
    for party in parties {
        // Nobody listens any more: then nobody is told.
        live.changed.send(party).unwrap_or_default();
    }
    told.0 = Some(recent.into_iter().map(|change| change.id).collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_who_looks_is_told_of_the_own_party_alone_and_an_authority_of_all() {
        let live = Arc::new(Live::default());
        let (mut own, mut all) =
            (live.watch(Uuid::from_u128(1), Some(7)).unwrap(), live.watch(Uuid::from_u128(2), None).unwrap());
        live.changed.send(8).unwrap();
        live.changed.send(7).unwrap();
        assert!(own.changed().await && own.changed.is_empty());
        assert!(all.changed().await && all.changed().await);
    }

    #[test]
    fn an_account_has_so_many_streams_and_a_closed_one_makes_room() {
        let live = Arc::new(Live::default());
        let one = Uuid::from_u128(1);
        let mut open: Vec<Watch> =
            std::iter::repeat_with(|| live.watch(one, None)).take(OF_ONE_MAX).flatten().collect();
        assert_eq!(open.len(), OF_ONE_MAX);
        assert!(live.watch(one, None).is_none());
        assert!(live.watch(Uuid::from_u128(2), None).is_some());
        open.pop();
        assert!(live.watch(one, None).is_some());
    }
}
