//! What others than the log have seen of it: the chain, and each witness that the trust file gives a URL of.

use contracts::{Chain as _, ChainError, Evm, Rpc};
use trace::{
    causes::Causes,
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Note, VerifierKey},
        policy::Listed,
        witness::AddCheckpoint,
    },
};

use super::{Alarm, Earlier, Mirror, MirrorError, ShownTo, source::body, tree::Tree};

/// Longest answer of a witness.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What a witness says of a head.
enum Says {
    Cosigned,
    Knows(u64),
    Inconsistent,
}

/// How many witnesses were asked, and how many of them did not say anything of use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub agree: usize,
    pub silent: usize,
}

impl Mirror<'_> {
    /// The newest head of the origin on the chain that the node is of, as it stood some blocks ago.
    pub(super) async fn on_chain(&self, origin: &str) -> Result<Option<Earlier>, MirrorError> {
        let Some(url) = self.rpc else { return Ok(None) };
        let rpc = Rpc::new(self.source.http.clone(), url)?;
        for chain in &self.trust.chains {
            let contract =
                chain.contract.parse().map_err(|_| MirrorError::Contract(chain.contract.clone()))?;
            match Evm::connect(rpc.clone(), chain.id, contract).await {
                Err(ChainError::OtherChain { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(evm) => {
                    let newest = evm.below_tip(self.confirmations).await?.find(origin, None).await?;
                    return Ok(newest.map(|anchored| Earlier {
                        size: anchored.head.size,
                        root: anchored.head.root,
                        to: ShownTo::Chain { id: chain.id, contract: chain.contract.clone() },
                    }));
                }
            }
        }
        Err(MirrorError::UnknownChain(url.to_owned()))
    }

    /// Shows the head to each witness with a URL. It was checked, so that a witness who has seen this history cosigns it.
    pub(super) async fn ask_witnesses(
        &self,
        tree: &mut Tree<'_>,
        head: &Checkpoint,
        note: &Note,
    ) -> Result<Asked, MirrorError> {
        let mut asked = Asked::default();
        for (name, witness) in self.trust.witnesses() {
            let Some(url) = &witness.url else { continue };
            match self.ask(tree, head, note, (name, witness, url)).await {
                Ok(()) => asked.agree += 1,
                Err(error @ (MirrorError::Alarm(_) | MirrorError::Ahead { .. })) => return Err(error),
                Err(error) => {
                    asked.silent += 1;
                    tracing::warn!(witness = name, error = %Causes(&error), "did not say what it has seen");
                }
            }
        }
        Ok(asked)
    }

    async fn ask(
        &self,
        tree: &mut Tree<'_>,
        head: &Checkpoint,
        note: &Note,
        (name, witness, url): (&str, &Listed, &str),
    ) -> Result<(), MirrorError> {
        let size = head.size;
        let split = || Alarm::Witness { name: name.to_owned(), size }.into();
        let known = match self.add_checkpoint(url, &witness.key, note, size, Vec::new()).await? {
            Says::Cosigned => return Ok(()),
            Says::Knows(known) if known == size => return Err(split()),
            Says::Knows(known) if known > size => {
                return Err(MirrorError::Ahead { name: name.to_owned(), known, shown: size });
            }
            Says::Knows(known) => known,
            Says::Inconsistent => return Err(split()),
        };
        let proof = tree.proof_from(known).await?;
        match self.add_checkpoint(url, &witness.key, note, known, proof).await? {
            Says::Inconsistent => Err(split()),
            // It may have seen more in between: from the log, or from another mirror.
            Says::Cosigned | Says::Knows(_) => Ok(()),
        }
    }

    async fn add_checkpoint(
        &self,
        url: &str,
        key: &VerifierKey,
        note: &Note,
        old_size: u64,
        proof: Vec<trace::hash::Hash>,
    ) -> Result<Says, MirrorError> {
        let request = AddCheckpoint { old_size, proof, checkpoint: note.clone() }.to_string();
        let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        let post = self.source.http.post(&url).timeout(super::WITNESS_TIMEOUT).body(request);
        let answer = post.send().await?;
        let status = answer.status().as_u16();
        let text = body(answer, ANSWER_BYTES_MAX).await?.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.unwrap_or_default();
        let lines = || text.lines().filter_map(|line| line.parse().ok());
        match status {
            200 if lines().any(|line| cosignature::verify_line(&note.text, &line, key).is_ok()) => {
                Ok(Says::Cosigned)
            }
            409 => text.trim_end().parse().map(Says::Knows).map_err(|_| MirrorError::Status { url, status }),
            422 => Ok(Says::Inconsistent),
            _ => Err(MirrorError::Status { url, status }),
        }
    }
}
