//! The Sparkplug edge nodes of the register, as their births told them, and who is asked to be born again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use trace::uplink::{
    Map,
    sparkplug::{self, Edge, Read, Topic},
};

/// A node that stays silent, or answers wrongly, is asked no more often.
const ASKED_EVERY: Duration = Duration::from_mins(1);

/// A message down to an edge node, QoS 0 and not retained (Sparkplug 3.0 §6.4.20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub topic: String,
    pub payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct Node {
    edge: Edge,
    asked: Option<Instant>,
}

/// One entry for each edge node of the register that has spoken.
#[derive(Debug, Default)]
pub struct Nodes(Mutex<HashMap<String, Node>>);

impl Nodes {
    /// Takes a message of an edge node that the register has; `map` is that of the row for `topic`'s node, if any.
    pub fn take(
        &self,
        topic: &Topic,
        payload: &[u8],
        map: Option<&Arc<Map>>,
        now: Instant,
        now_ms: u64,
    ) -> (Read, Option<Command>) {
        let name = topic.edge();
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.entry(name.clone()).or_default();
        let read = node.edge.take(topic, payload, map);
        let is_due = node.asked.is_none_or(|asked| now.duration_since(asked) >= ASKED_EVERY);
        if !read.wants_rebirth || !is_due {
            return (read, None);
        }
        node.asked = Some(now);
        let command = sparkplug::command_topic(&name)
            .map(|topic| Command { topic, payload: sparkplug::rebirth(now_ms) });
        (read, command)
    }

    /// Forgets the nodes that the register no longer has.
    pub fn retain(&self, is_registered: impl Fn(&str) -> bool) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|edge, _| is_registered(edge));
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_for_its_births_once_a_minute_at_most() {
        let (nodes, map, start) = (Nodes::default(), Arc::new(Map::default()), Instant::now());
        let topic: Topic = "spBv1.0/g/NDATA/e".parse().unwrap();
        let ask = |seq: u8, after: u64| {
            let payload = [0x08, seq + 1, 0x18, seq];
            nodes.take(&topic, &payload, Some(&map), start + Duration::from_secs(after), 1).1
        };
        let command = ask(0, 0).unwrap();
        assert_eq!(command.topic, "spBv1.0/g/NCMD/e");
        assert_eq!(command.payload, sparkplug::rebirth(1));
        assert_eq!(ask(1, 59), None);
        assert!(ask(2, 60).is_some());
        nodes.retain(|_| false);
        assert!(nodes.is_empty());
    }
}
