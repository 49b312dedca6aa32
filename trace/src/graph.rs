//! The trace: from which lots a lot was made, and into which it went.
//!
//! Two answers at once: the worst case (every lot that may have a part in it) and the proportional share, in integers
//! that add up (largest remainder). The walk asks for edges batch by batch and never does I/O itself, and it is bounded
//! in lots, never in depth: a thousand storage epochs of one bin are one step, because each epoch carries its content
//! folded to the arrivals it is made of ([`fold`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::{hash::Hash, rules::largest_remainder};

/// Which way to follow the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To what it was made from.
    Up,
    /// To what was made from it.
    Down,
}

/// `parent_quantity` of the parent became, perhaps with others, `child_quantity` of the child.
/// Each in the smallest unit of its own lot; `entry` is the record that says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge<N> {
    pub parent: N,
    pub child: N,
    pub entry: Hash,
    pub parent_quantity: i64,
    pub child_quantity: i64,
}

/// What the reader knows of one lot, with its edges in the direction of the walk.
/// For an epoch walked upwards the edges are its folded shares, not its predecessor.
#[derive(Debug, Clone)]
pub struct Found<N> {
    pub lot: N,
    /// How much of the lot was made.
    pub quantity: i64,
    /// Whether a record says that the lot began here: a harvest, a felling.
    pub begins: bool,
    pub edges: Vec<Edge<N>>,
}

/// A walk under way: take [`Walk::wanted`], look it up, hand it to [`Walk::feed`], until nothing is wanted.
#[derive(Debug)]
pub struct Walk<N> {
    root: N,
    direction: Direction,
    lots_max: usize,
    found: BTreeMap<N, Found<N>>,
    steps: BTreeMap<N, usize>,
    wanted: Vec<N>,
    cut: BTreeSet<N>,
    unknown: BTreeSet<N>,
}

/// One lot of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached<N> {
    pub lot: N,
    /// The least number of edges from the root; 0 is the root.
    pub steps: usize,
    /// How much of the root's quantity passed through here, in the root's unit.
    pub share: i64,
    /// The part of `share` that goes no further: its origin (up), or what is left or unaccounted for here (down).
    pub stays: i64,
}

/// The whole answer. The `stays` of all lots add up to the root's quantity, unless the edges run in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<N> {
    pub direction: Direction,
    pub quantity: i64,
    /// Nearest first.
    pub lots: Vec<Reached<N>>,
    pub edges: Vec<Edge<N>>,
    /// Lots that no record makes and no record begins: here the paper trail is broken.
    pub missing: Vec<N>,
    /// Lots at which the bound cut the walk short.
    pub cut: Vec<N>,
    /// Lots whose edges run in a circle: possible only where records are wrong.
    pub circular: Vec<N>,
}

impl<N: Ord + Clone> Walk<N> {
    pub fn new(root: N, direction: Direction, lots_max: usize) -> Self {
        Self {
            wanted: vec![root.clone()],
            steps: BTreeMap::from([(root.clone(), 0)]),
            root,
            direction,
            lots_max,
            found: BTreeMap::new(),
            cut: BTreeSet::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// The lots to look up next; empty when the walk is over.
    pub fn wanted(&self) -> &[N] {
        &self.wanted
    }

    /// What was found of the lots that were wanted. A lot without a `Found` is a missing link.
    pub fn feed(&mut self, found: Vec<Found<N>>) {
        let asked: BTreeSet<N> = std::mem::take(&mut self.wanted).into_iter().collect();
        for mut lot in found.into_iter().filter(|lot| asked.contains(&lot.lot)) {
            let steps = self.steps.get(&lot.lot).copied().unwrap_or_default() + 1;
            let direction = self.direction;
            lot.edges.retain(|edge| near(edge, direction) == &lot.lot && far(edge, direction) != &lot.lot);
            for edge in &lot.edges {
                self.discover(far(edge, direction), &lot.lot, steps);
            }
            self.found.insert(lot.lot.clone(), lot);
        }
        self.unknown.extend(asked.into_iter().filter(|lot| !self.found.contains_key(lot)));
    }

    fn discover(&mut self, lot: &N, from: &N, steps: usize) {
        if self.steps.contains_key(lot) {
            return;
        }
        if self.steps.len() >= self.lots_max {
            self.cut.insert(from.clone());
            return;
        }
        self.steps.insert(lot.clone(), steps);
        self.wanted.push(lot.clone());
    }

    /// The answer from what was fed.
    pub fn finish(self) -> Answer<N> {
        let quantity = self.found.get(&self.root).map_or(0, |root| root.quantity);
        let (shares, circular) = self.distribute(quantity);
        let mut lots: Vec<Reached<N>> = self
            .steps
            .iter()
            .map(|(lot, steps)| {
                let (share, stays) = shares.get(lot).copied().unwrap_or_default();
                Reached { lot: lot.clone(), steps: *steps, share, stays }
            })
            .collect();
        lots.sort_by_key(|reached| reached.steps);
        let broken = |lot: &&Found<N>| self.direction == Direction::Up && lot.edges.is_empty() && !lot.begins;
        let missing = self.found.values().filter(broken).map(|lot| lot.lot.clone());
        Answer {
            direction: self.direction,
            quantity,
            lots,
            missing: missing.chain(self.unknown.iter().cloned()).collect(),
            edges: self.found.values().flat_map(|lot| self.kept(lot)).cloned().collect(),
            cut: self.cut.into_iter().collect(),
            circular,
        }
    }

    /// Edges of `lot` that stay within the bound.
    fn kept<'a>(&'a self, lot: &'a Found<N>) -> impl Iterator<Item = &'a Edge<N>> {
        lot.edges.iter().filter(|edge| self.steps.contains_key(far(edge, self.direction)))
    }

    /// Each lot hands its share on once all of it has arrived: topological order (Kahn).
    fn distribute(&self, quantity: i64) -> (BTreeMap<N, (i64, i64)>, Vec<N>) {
        let mut awaited: BTreeMap<&N, usize> = self.steps.keys().map(|lot| (lot, 0)).collect();
        for edge in self.found.values().flat_map(|lot| self.kept(lot)) {
            *awaited.entry(far(edge, self.direction)).or_default() += 1;
        }
        let mut shares: BTreeMap<N, (i64, i64)> = BTreeMap::from([(self.root.clone(), (quantity, 0))]);
        let mut ready: Vec<&N> =
            awaited.iter().filter(|(_, count)| **count == 0).map(|(lot, _)| *lot).collect();
        let mut done = BTreeSet::new();
        while let Some(lot) = ready.pop() {
            done.insert(lot);
            let share = shares.get(lot).map_or(0, |(share, _)| *share);
            let Some(found) = self.found.get(lot) else {
                shares.insert(lot.clone(), (share, share));
                continue;
            };
            let edges: Vec<&Edge<N>> = self.kept(found).collect();
            let (parts, stays) = self.parts(share, found, &edges);
            shares.insert(lot.clone(), (share, stays));
            for (edge, part) in edges.iter().zip(parts) {
                let next = far(edge, self.direction);
                shares.entry(next.clone()).or_default().0 += part;
                if let Some(count) = awaited.get_mut(next) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(next);
                    }
                }
            }
        }
        let circular = self.steps.keys().filter(|lot| !done.contains(lot)).cloned().collect();
        (shares, circular)
    }

    /// How `share` divides over the edges, and what stays.
    fn parts(&self, share: i64, lot: &Found<N>, edges: &[&Edge<N>]) -> (Vec<i64>, i64) {
        let weights = match self.direction {
            Direction::Up => edges.iter().map(|edge| edge.parent_quantity).collect(),
            Direction::Down => consumed(edges),
        };
        let sum = |sum: i64, weight: i64| sum.saturating_add(weight.max(0));
        let handed_on = weights.iter().copied().fold(0, sum);
        if handed_on == 0 {
            return (vec![0; edges.len()], share);
        }
        // Downwards, what no record consumed stays; edges beyond the bound count as staying in both directions.
        let beyond: i64 = match self.direction {
            Direction::Up => lot.edges.iter().map(|edge| edge.parent_quantity).fold(0, sum) - handed_on,
            Direction::Down => lot.quantity.saturating_sub(handed_on).max(0),
        };
        let mut weights = weights;
        weights.push(beyond);
        let mut parts = divide(share, &weights);
        let stays = parts.pop().unwrap_or_default();
        (parts, stays)
    }
}

/// What each edge's record took of the parent, divided among that record's outputs by their quantities.
fn consumed<N: Ord>(edges: &[&Edge<N>]) -> Vec<i64> {
    let mut by_entry: BTreeMap<Hash, Vec<usize>> = BTreeMap::new();
    for (index, edge) in edges.iter().enumerate() {
        by_entry.entry(edge.entry).or_default().push(index);
    }
    let mut weights = vec![0; edges.len()];
    for indices in by_entry.values() {
        let of: Vec<&Edge<N>> = indices.iter().filter_map(|index| edges.get(*index).copied()).collect();
        let taken = of.iter().map(|edge| edge.parent_quantity).max().unwrap_or_default();
        let outputs: Vec<i64> = of.iter().map(|edge| edge.child_quantity).collect();
        for (index, part) in indices.iter().zip(divide(taken, &outputs)) {
            if let Some(weight) = weights.get_mut(*index) {
                *weight = part;
            }
        }
    }
    weights
}

fn near<N>(edge: &Edge<N>, direction: Direction) -> &N {
    match direction {
        Direction::Up => &edge.child,
        Direction::Down => &edge.parent,
    }
}

fn far<N>(edge: &Edge<N>, direction: Direction) -> &N {
    match direction {
        Direction::Up => &edge.parent,
        Direction::Down => &edge.child,
    }
}

/// A whole walk over edges in memory; `lots` holds every lot with its edges in the direction of the walk.
pub fn trace<N: Ord + Clone>(root: N, direction: Direction, lots_max: usize, lots: &[Found<N>]) -> Answer<N> {
    let mut walk = Walk::new(root, direction, lots_max);
    while !walk.wanted().is_empty() {
        let wanted: BTreeSet<&N> = walk.wanted().iter().collect();
        let found = lots.iter().filter(|lot| wanted.contains(&lot.lot)).cloned().collect();
        walk.feed(found);
    }
    walk.finish()
}

/// `total` in proportion to `weights`; where there is no weight at all the first part gets everything.
fn divide(total: i64, weights: &[i64]) -> Vec<i64> {
    let weights: Vec<i64> = weights.iter().map(|weight| (*weight).max(0)).collect();
    let all_to_the_first = || (0..weights.len()).map(|index| if index == 0 { total } else { 0 }).collect();
    largest_remainder(total, &weights).unwrap_or_else(all_to_the_first)
}

/// A quantity of a lot that goes into a new storage epoch.
#[derive(Debug, Clone)]
pub struct Content<N> {
    pub lot: N,
    pub quantity: i64,
    /// An earlier epoch's own shares; empty for an arrival.
    pub made_of: Vec<(N, i64)>,
}

/// The shares of a new storage epoch, folded to arrivals: an earlier epoch's shares shrink to what is left of it, by
/// largest remainder, so that all add up to the quantities that went in. Arrivals of which nothing is left are dropped.
pub fn fold<N: Ord>(content: Vec<Content<N>>) -> Vec<(N, i64)> {
    let mut shares: BTreeMap<N, i64> = BTreeMap::new();
    for Content { lot, quantity, mut made_of } in content {
        if made_of.is_empty() {
            made_of.push((lot, 1));
        }
        let weights: Vec<i64> = made_of.iter().map(|(_, weight)| *weight).collect();
        for ((arrival, _), part) in made_of.into_iter().zip(divide(quantity, &weights)) {
            *shares.entry(arrival).or_default() += part;
        }
    }
    shares.into_iter().filter(|(_, quantity)| *quantity > 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::sha256;

    fn edge(parent: &str, child: &str, parent_quantity: i64, child_quantity: i64) -> Edge<String> {
        edge_of(&format!("{child} is made"), parent, child, parent_quantity, child_quantity)
    }

    fn edge_of(
        record: &str,
        parent: &str,
        child: &str,
        parent_quantity: i64,
        child_quantity: i64,
    ) -> Edge<String> {
        let entry = sha256(record.as_bytes());
        Edge { parent: parent.to_owned(), child: child.to_owned(), entry, parent_quantity, child_quantity }
    }

    fn lots(
        direction: Direction,
        sizes: &[(&str, i64)],
        begin: &[&str],
        edges: &[Edge<String>],
    ) -> Vec<Found<String>> {
        let of = |lot: &str| edges.iter().filter(|edge| near(edge, direction) == lot).cloned().collect();
        let found = |(lot, quantity): &(&str, i64)| Found {
            lot: (*lot).to_owned(),
            quantity: *quantity,
            begins: begin.contains(lot),
            edges: of(lot),
        };
        sizes.iter().map(found).collect()
    }

    fn share(answer: &Answer<String>, lot: &str) -> (i64, i64) {
        answer
            .lots
            .iter()
            .find(|reached| reached.lot == lot)
            .map(|reached| (reached.share, reached.stays))
            .unwrap()
    }

    const SIZES: [(&str, i64); 5] =
        [("cane a", 700), ("cane b", 300), ("sugar", 120), ("molasses", 40), ("bag", 50)];

    fn season() -> Vec<Edge<String>> {
        vec![
            edge_of("crush", "cane a", "sugar", 700, 120),
            edge_of("crush", "cane b", "sugar", 300, 120),
            edge_of("crush", "cane a", "molasses", 700, 40),
            edge_of("crush", "cane b", "molasses", 300, 40),
            edge("sugar", "bag", 50, 50),
        ]
    }

    #[test]
    fn upstream_names_every_ancestor_and_divides_the_quantity_among_the_origins() {
        let lots = lots(Direction::Up, &SIZES, &["cane a", "cane b"], &season());
        let answer = trace("bag".to_owned(), Direction::Up, 100, &lots);
        assert_eq!(answer.lots.len(), 4);
        assert_eq!(share(&answer, "cane a"), (35, 35));
        assert_eq!(share(&answer, "cane b"), (15, 15));
        assert!(answer.missing.is_empty() && answer.cut.is_empty() && answer.circular.is_empty());
    }

    #[test]
    fn downstream_divides_what_a_record_consumed_among_its_outputs_and_leaves_the_rest_where_it_is() {
        let lots = lots(Direction::Down, &SIZES, &["cane a", "cane b"], &season());
        let answer = trace("cane a".to_owned(), Direction::Down, 100, &lots);
        assert_eq!(share(&answer, "sugar"), (525, 306));
        assert_eq!(share(&answer, "molasses"), (175, 175));
        assert_eq!(share(&answer, "bag"), (219, 219));
        assert_eq!(answer.lots.iter().map(|lot| lot.stays).sum::<i64>(), 700);
    }

    #[test]
    fn a_lot_that_nothing_begins_is_a_missing_link() {
        let lots = lots(Direction::Up, &SIZES, &["cane a"], &season());
        assert_eq!(trace("bag".to_owned(), Direction::Up, 100, &lots).missing, ["cane b"]);
        let unknown = super::tests::lots(Direction::Up, &SIZES[2..], &[], &season());
        assert_eq!(trace("bag".to_owned(), Direction::Up, 100, &unknown).missing, ["cane a", "cane b"]);
    }

    #[test]
    fn a_walk_stops_at_its_bound_and_says_where() {
        let lots = lots(Direction::Up, &SIZES, &["cane a", "cane b"], &season());
        let answer = trace("bag".to_owned(), Direction::Up, 3, &lots);
        assert_eq!(answer.lots.len(), 3);
        assert_eq!(answer.cut, ["sugar"]);
        assert_eq!(answer.lots.iter().map(|lot| lot.stays).sum::<i64>(), 50);
    }

    #[test]
    fn a_circle_of_wrong_records_ends_the_walk_and_is_reported() {
        let edges = [edge("a", "b", 1, 1), edge("b", "a", 1, 1), edge("a", "c", 1, 1)];
        let lots = lots(Direction::Up, &[("a", 1), ("b", 1), ("c", 1)], &[], &edges);
        assert_eq!(trace("c".to_owned(), Direction::Up, 10, &lots).circular, ["a", "b"]);
    }

    #[test]
    fn a_thousand_epochs_fold_into_one_step() {
        let mut shares: Vec<(usize, i64)> = Vec::new();
        let mut held = 0;
        for arrival in 0..1_000 {
            let left = held / 2;
            let epoch = Content { lot: 5_000 + arrival, quantity: left, made_of: shares };
            let fresh = Content { lot: arrival, quantity: 1_000, made_of: Vec::new() };
            shares = fold(vec![epoch, fresh]);
            held = left + 1_000;
            assert_eq!(shares.iter().map(|(_, quantity)| quantity).sum::<i64>(), held);
        }
        assert!(shares.len() < 20, "what is used up is not carried on");
        let edges = shares.iter().map(|(arrival, quantity)| Edge {
            parent: *arrival,
            child: 5_000,
            entry: sha256(b"epoch"),
            parent_quantity: *quantity,
            child_quantity: held,
        });
        let mut lots = vec![Found { lot: 5_000, quantity: held, begins: false, edges: edges.collect() }];
        lots.extend((0..1_000).map(|lot| Found { lot, quantity: 1_000, begins: true, edges: Vec::new() }));
        let answer = trace(5_000, Direction::Up, 100, &lots);
        assert_eq!(answer.lots.iter().map(|lot| lot.steps).max(), Some(1));
        assert_eq!(answer.lots.iter().filter(|lot| lot.steps == 1).map(|lot| lot.share).sum::<i64>(), held);
    }

    proptest! {
        #[test]
        fn parts_add_up_and_are_never_one_off(total in 0..i64::MAX, weights in prop::collection::vec(0..i64::MAX / 8, 1..8)) {
            let parts = divide(total, &weights);
            prop_assert_eq!(parts.iter().map(|part| i128::from(*part)).sum::<i128>(), i128::from(total));
            let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
            if sum > 0 {
                for (part, weight) in parts.iter().zip(&weights) {
                    let exact = i128::from(total) * i128::from(*weight) / sum;
                    prop_assert!((i128::from(*part) - exact).abs() <= 1);
                }
            }
        }

        #[test]
        fn the_stays_of_any_trace_add_up(links in prop::collection::vec((0_u8..12, 0_u8..12, 1_i64..1_000, 1_i64..1_000), 0..40), bound in 1_usize..14) {
            let edges: Vec<Edge<u8>> = links
                .into_iter()
                .filter(|(parent, child, ..)| parent < child)
                .map(|(parent, child, taken, made)| Edge { parent, child, entry: sha256(&[child]), parent_quantity: taken, child_quantity: made })
                .collect();
            for (direction, root) in [(Direction::Up, 11_u8), (Direction::Down, 0)] {
                let lots: Vec<Found<u8>> = (0..12)
                    .map(|lot| Found { lot, quantity: 997, begins: false, edges: edges.iter().filter(|edge| *near(edge, direction) == lot).cloned().collect() })
                    .collect();
                let answer = trace(root, direction, bound, &lots);
                prop_assert!(answer.lots.len() <= bound);
                prop_assert_eq!(answer.lots.iter().map(|lot| lot.stays).sum::<i64>(), 997);
            }
        }
    }
}
