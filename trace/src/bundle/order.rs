//! Which of two entries came first. Within a log its index tells; across logs only a `new-log` statement does.

use std::collections::BTreeMap;

/// Where an entry stands: which of the bundle's checkpoints, and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub log: usize,
    pub index: u64,
}

/// Entries of `from` below index `before` came before the entries of `to` from index `after` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub from: usize,
    pub to: usize,
    pub before: u64,
    pub after: u64,
}

/// What is known of the order between the bundle's logs.
#[derive(Debug, Default)]
pub(super) struct Order {
    links: Vec<Link>,
}

impl Order {
    /// Keeps of each pair of logs the link that reaches furthest and the one that starts earliest: a registrar may say the
    /// same a thousand times.
    pub fn new(stated: impl IntoIterator<Item = Link>) -> Self {
        let mut furthest: BTreeMap<(usize, usize), Link> = BTreeMap::new();
        let mut earliest: BTreeMap<(usize, usize), Link> = BTreeMap::new();
        for link in stated {
            let pair = (link.from, link.to);
            let best = furthest.entry(pair).or_insert(link);
            if link.before > best.before {
                *best = link;
            }
            let best = earliest.entry(pair).or_insert(link);
            if link.after < best.after {
                *best = link;
            }
        }
        Self { links: furthest.into_values().chain(earliest.into_values()).collect() }
    }

    /// Whether it is shown that `one` came before `other`.
    pub fn precedes(&self, one: Place, other: Place) -> bool {
        if one.log == other.log {
            return one.index < other.index;
        }
        // Log → the first index that is known not to be before `one`.
        let mut reached = BTreeMap::from([(one.log, one.index)]);
        loop {
            let further = self.links.iter().find_map(|link| {
                let from = reached.get(&link.from)?;
                let is_news = reached.get(&link.to).is_none_or(|known| link.after < *known);
                (*from < link.before && is_news).then_some((link.to, link.after))
            });
            match further {
                Some((log, index)) => reached.insert(log, index),
                None => break,
            };
        }
        reached.get(&other.log).is_some_and(|first| other.index >= *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(log: usize, index: u64) -> Place {
        Place { log, index }
    }

    #[test]
    fn order_across_logs_follows_links_and_nothing_else() {
        let order = Order::new([
            Link { from: 0, to: 1, before: 5, after: 0 },
            Link { from: 1, to: 2, before: 3, after: 2 },
        ]);
        assert!(order.precedes(at(0, 1), at(0, 2)));
        assert!(order.precedes(at(0, 4), at(1, 0)));
        assert!(!order.precedes(at(0, 5), at(1, 0)), "after the link was stated");
        assert!(order.precedes(at(0, 4), at(2, 2)));
        assert!(!order.precedes(at(0, 4), at(2, 1)), "before the second link was stated");
        assert!(!order.precedes(at(1, 3), at(2, 9)));
        assert!(!order.precedes(at(1, 0), at(0, 9)) && !order.precedes(at(2, 9), at(0, 0)));
        assert!(!Order::default().precedes(at(0, 0), at(1, 9)));
    }
}
