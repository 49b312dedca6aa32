//! Where heads stand on chains. Offline the lines are compared with the bundle and the trust file; what a chain says is added
//! by whoever can ask it.

use super::{
    Anchor, Bundle,
    heads::Heads,
    report::{Findings, Layer, Outcome, Read, Report, verdict},
};
use crate::{hash::Hash, keys::Kid, tlog::policy::Policy};

/// A head as a contract holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadOnChain {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    /// `0x` and 64 lower-case hexadecimal digits.
    pub transaction: String,
    /// The block's time in Unix seconds.
    pub at: u64,
}

/// A regulator's word that a key is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyNotice {
    pub kid: Kid,
    /// From when on, in Unix seconds: the block's time.
    pub since: u64,
}

/// What one contract answered: the heads that were asked for, and every notice about keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnChain {
    pub chain_id: u64,
    /// `0x` and 40 lower-case hexadecimal digits.
    pub contract: String,
    pub heads: Vec<HeadOnChain>,
    /// Origin and size of heads in blocks that may still be undone.
    pub shallow: Vec<(String, u64)>,
    pub notices: Vec<KeyNotice>,
}

impl Anchor {
    fn what(&self, at: usize) -> String {
        format!("anchor {at} (size {} of {} on chain {})", self.size, self.origin, self.chain_id)
    }

    fn is_on(&self, found: &OnChain) -> bool {
        self.chain_id == found.chain_id && self.contract == found.contract
    }
}

/// An anchor is of a head that the bundle carries, in a contract that the trust file names.
pub(super) fn check_offline(bundle: &Bundle, trust: &Policy, heads: &Heads, findings: &mut Findings) {
    for (at, anchor) in bundle.anchors.iter().enumerate() {
        findings.count(Layer::Chain);
        let what = anchor.what(at);
        match heads.checkpoint(&anchor.origin, anchor.size) {
            Some(head) if head.root == anchor.root => {}
            Some(_) => findings.bad(Layer::Chain, format!("{what} has another root than the bundle's head")),
            None => findings.bad(Layer::Chain, format!("{what} is of a head that the bundle does not hold")),
        }
        let mut named = trust.chains.iter().filter(|chain| chain.id == anchor.chain_id).peekable();
        if named.peek().is_none() {
            findings.unchecked(Layer::Chain, format!("{what}: the trust file does not name the chain"));
        } else if named.any(|chain| chain.contract == anchor.contract) {
            findings.unchecked(Layer::Chain, format!("{what}: not checked (needs --rpc)"));
        } else {
            let why =
                format!("{what} is in {}, and the trust file names another contract there", anchor.contract);
            findings.bad(Layer::Chain, why);
        }
    }
}

impl Report {
    /// Adds what contracts say: whether they hold the bundle's anchors, since when, and which keys regulators revoked.
    ///
    /// A head that the chain does not hold, or holds otherwise, makes the bundle invalid; so does a notice about the key of a
    /// statement that is not shown to be older, if it is shown to be younger. In between nobody can say.
    #[must_use]
    pub fn with_chains(mut self, bundle: &Bundle, found: &[OnChain]) -> Self {
        let mut findings = Findings::default();
        for (at, anchor) in bundle.anchors.iter().enumerate() {
            findings.count(Layer::Chain);
            let Some(found) = found.iter().find(|found| anchor.is_on(found)) else {
                let why = format!("{}: another chain was asked", anchor.what(at));
                findings.unchecked(Layer::Chain, why);
                continue;
            };
            if found.shallow.contains(&(anchor.origin.clone(), anchor.size)) {
                let why = format!("{} does not stand deep enough in the chain yet", anchor.what(at));
                findings.unchecked(Layer::Chain, why);
                continue;
            }
            match check_online(anchor, found) {
                Ok(head) => self.narrow(head),
                Err(why) => findings.bad(Layer::Chain, format!("{} {why}", anchor.what(at))),
            }
        }
        for notice in found.iter().flat_map(|found| &found.notices) {
            self.apply_notice(notice, &mut findings);
        }
        self.replace_chain(findings);
        self
    }

    /// A block's time is another bound on when a statement under its head was made.
    fn narrow(&mut self, head: &HeadOnChain) {
        let is_under = |read: &&mut Read| {
            read.place.as_ref().is_some_and(|(origin, index)| *origin == head.origin && *index < head.size)
        };
        for read in self.statements.iter_mut().flatten().filter(is_under) {
            let before = read.made.before.map_or(head.at, |before| before.min(head.at));
            read.made.before = Some(before);
            read.made.after = read.made.after.map(|after| after.min(before));
        }
    }

    fn apply_notice(&self, notice: &KeyNotice, findings: &mut Findings) {
        for (at, read) in self.statements.iter().enumerate() {
            let Some(read) = read.as_ref().filter(|read| read.kid == notice.kid) else { continue };
            findings.count(Layer::Roster);
            if read.made.before.is_some_and(|before| before <= notice.since) {
                continue;
            }
            let what =
                format!("statement {at}: a regulator revoked its key on the chain at {}", notice.since);
            if read.made.after.is_some_and(|after| after >= notice.since) {
                findings.bad(Layer::Roster, what);
            } else {
                findings.unchecked(Layer::Roster, format!("{what}, and it is not shown to be older"));
            }
        }
    }

    /// The chain's own layer is what was found online, unless it was bad before; others get worse, never better.
    fn replace_chain(&mut self, findings: Findings) {
        for online in findings.into_report(Vec::new()).layers {
            let Some(known) = self.layers.iter_mut().find(|checked| checked.layer == online.layer) else {
                self.layers.push(online);
                continue;
            };
            // Offline the chain's own layer was only compared: what was found online says more.
            let is_news = match known.layer {
                Layer::Chain => !matches!(known.outcome, Outcome::Bad(_)),
                _ => gravity(&online.outcome) > gravity(&known.outcome),
            };
            if is_news {
                known.outcome = online.outcome;
            }
        }
        self.layers.sort_by_key(|checked| checked.layer);
        self.verdict = verdict(&self.layers);
    }
}

const fn gravity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Good => 0,
        Outcome::Unchecked(_) => 1,
        Outcome::Bad(_) => 2,
    }
}

fn check_online<'found>(
    anchor: &Anchor,
    found: &'found OnChain,
) -> Result<&'found HeadOnChain, &'static str> {
    let is_it = |head: &&HeadOnChain| head.origin == anchor.origin && head.size == anchor.size;
    let head = found.heads.iter().find(is_it).ok_or("is not on the chain")?;
    if head.root != anchor.root {
        return Err("has another root on the chain");
    }
    if head.transaction != anchor.transaction {
        return Err("is on the chain by another transaction");
    }
    Ok(head)
}
