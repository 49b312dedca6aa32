//! Open files: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections that come and go, sockets to the server, the admin endpoint, event loops and standard streams.
const BESIDE: u64 = 256;

/// Raises this process's own limit as far as it may and `connections` need; where that is not enough it says so.
pub fn make_room(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(BESIDE);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut has = current.unwrap_or(u64::MAX);
    if has < needed {
        let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
            Ok(()) => has = raised,
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    if has < needed {
        tracing::warn!(
            has,
            needed,
            "fewer open files than connections may need: raise the limit (LimitNOFILE, ulimit -n)"
        );
    }
}
