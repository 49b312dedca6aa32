//! Anchors when processes are killed: the server, the whole of Postgres and the chain's node with `kill -9`, wherever one of
//! the anchorer's requests is on its way to the node or back, and a moment later, when it writes to its outbox what it heard.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    dead_code,
    reason = "a test may stop where it stands, says how hard it was, and does not use all that tests share"
)]

#[path = "../../contracts/tests/node/heads.rs"]
mod heads;
#[path = "../../contracts/tests/node/mod.rs"]
mod node;
#[path = "../../contracts/tests/node/proxy.rs"]
mod proxy;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use contracts::{Address, Evm};
use demo::{
    process::Running,
    stack::{Ports, write_private},
};
use node::{Anvil, CHAIN_ID, account};
use postgres::{Client, NoTls};
use proxy::{Held, Proxy, Way};
use serde_json::{Value, json};
use system_tests::log_house::{LogHouse, ORIGIN, Onlooker, Writer, check_log, wait_until};
use tokio::runtime::Runtime;
use trace::{b64, hash::Hash};

const ROUNDS: u32 = 136;
/// How long a server that was started may take until it asks for what the next kill waits for.
const PATIENCE: Duration = Duration::from_secs(40);
const BLOCK_PAUSE: Duration = Duration::from_millis(30);
/// Deeper than any block that the node loses here.
const FINALITY_BLOCKS: u64 = 8;
/// Blocks that the node had and no longer has when it comes back, as after a power failure.
const LOST_BLOCKS: u64 = 2;
/// Between what others queue: the log has a new head whenever one is to be anchored.
const PAUSE: Duration = Duration::from_millis(15);

/// What an anchoring asks of the node; twice what it writes to its outbox after.
const METHODS: [&str; 10] = [
    "eth_sendRawTransaction",
    "eth_getTransactionReceipt",
    "eth_chainId",
    "eth_getTransactionCount",
    "eth_sendRawTransaction",
    "eth_blockNumber",
    "eth_getTransactionReceipt",
    "eth_call",
    "eth_getTransactionCount",
    "eth_getLogs",
];

/// When a round's kill comes.
#[derive(Debug)]
struct Moment {
    method: &'static str,
    way: Way,
    /// Requests for the same after the server's start that pass.
    pass: u32,
    /// After the request went on; while it is held up where there is none.
    later: Option<Duration>,
}

impl Moment {
    /// Each method both ways, held up and a moment later; the pauses in steps that no rhythm of the server's repeats.
    fn of(round: u32) -> Self {
        let (turn, at) = turn_of(round);
        let method = METHODS[at];
        let way = if turn % 2 == 0 { Way::There } else { Way::Back };
        let swept = round * 7_919;
        // As long as a row takes to be written, and longer.
        let later = (turn / 2 % 2 > 0).then(|| Duration::from_micros(u64::from(swept % 101) * 30));
        let pass = swept % if method == "eth_sendRawTransaction" { 3 } else { 12 };
        Self { method, way, pass, later }
    }
}

/// How often all methods were gone through, and which one it is now.
fn turn_of(round: u32) -> (usize, usize) {
    let round = usize::try_from(round).unwrap();
    (round / METHODS.len(), round % METHODS.len())
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Victims {
    server: bool,
    postgres: bool,
    /// And so many of its newest blocks with it.
    node: Option<u64>,
}

impl Victims {
    fn of(round: u32) -> Self {
        let (turn, at) = turn_of(round);
        // Each of them at both ways of each method.
        let (server, postgres, node) = match (round % 40, (at + turn + turn / 4) % 8) {
            // The server goes on by itself, after a while.
            (20, _) => (false, true, false),
            (39, _) => (false, false, true),
            (_, 1 | 5) => (true, true, false),
            (_, 3) => (true, false, true),
            (_, 7) => (true, true, true),
            _ => (true, false, false),
        };
        let lost_blocks = if round.is_multiple_of(3) { LOST_BLOCKS } else { 0 };
        Self { server, postgres, node: node.then_some(lost_blocks) }
    }

    fn count(self) -> u32 {
        [self.server, self.postgres, self.node.is_some()].map(u32::from).iter().sum()
    }
}

/// A log, a server that anchors it, and the chain behind a proxy that knows where the node is now.
struct Scene {
    house: LogHouse,
    runtime: Runtime,
    anvil: Option<Anvil>,
    proxy: Proxy,
    contract: Address,
    server: Running,
    port: u16,
    chains: String,
}

impl Scene {
    fn open() -> Self {
        let house = LogHouse::open("crash-anchors");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (anvil, proxy, contract) = runtime.block_on(async {
            let anvil = Anvil::with_blocks(0, BLOCK_PAUSE).await;
            let (contract, _) = anvil.contract().await;
            let evm = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
            evm.register(&account(1), 0, ORIGIN, account(2).address()).await.unwrap();
            let proxy = Proxy::plain(&anvil.url);
            (anvil, proxy, contract)
        });
        let (key, chains) = (house.file("publisher"), house.file("chains.toml"));
        write_private(Path::new(&key), &b64::url(&[2; 32])).unwrap();
        // Without a pause between two heads, so that each kill falls into an anchoring.
        let text = format!(
            "[[chain]]\nname = \"dev\"\nrpc_url = \"{}\"\nchain_id = {CHAIN_ID}\ncontract = \"{contract}\"\nkey_file = \"{key}\"\ngas_price_wei = 0\nfinality_blocks = {FINALITY_BLOCKS}\ninterval_s = 0\n",
            proxy.url
        );
        std::fs::write(&chains, text).unwrap();
        let port = Ports::free().unwrap().http;
        let server = house.serve("anchorer", port, &[("SUYUAN_CHAINS_FILE", chains.clone())]);
        Self { house, runtime, anvil: Some(anvil), proxy, contract, server, port, chains }
    }

    fn serve(&mut self) {
        let chains = [("SUYUAN_CHAINS_FILE", self.chains.clone())];
        self.server = self.house.serve("anchorer", self.port, &chains);
    }

    fn ask(&self, method: &'static str, params: Value) -> Value {
        let rpc = self.anvil.as_ref().unwrap().rpc();
        self.runtime.block_on(rpc.call(method, params)).unwrap()
    }

    /// Returns once the request is held up.
    fn wait_for(&mut self, held: &mut Held, moment: &Moment) {
        let until = Instant::now() + PATIENCE;
        while self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_millis(50), &mut held.reached).await })
            .is_err()
        {
            // As a supervisor does: it may have ended because Postgres was away when it started.
            if !self.server.is_alive() {
                self.serve();
            }
            assert!(Instant::now() < until, "never {moment:?}: {}", self.house.said_by("anchorer"));
        }
    }

    /// One kill, and everything is up again; how far the newest anchor was.
    fn kill(&mut self, moment: &Moment, victims: Victims) -> &'static str {
        let mut held = self.proxy.hold(moment.method, moment.way, moment.pass);
        self.wait_for(&mut held, moment);
        let kept = victims.node.map(|lost| self.blocks_kept(lost));
        let held = if let Some(later) = moment.later {
            drop(held);
            std::thread::sleep(later);
            None
        } else {
            Some(held)
        };
        if victims.server {
            self.server.kill().unwrap();
        }
        if victims.postgres {
            self.house.cluster.kill_all().unwrap();
        }
        if victims.node.is_some() {
            drop(self.anvil.take());
        }
        if let Some(held) = held {
            // What a killed server was about to say, nobody hears.
            held.swallow();
        }
        if let Some(state) = kept {
            self.start_node(&state);
        }
        if victims.postgres {
            self.house.cluster.restart().unwrap();
        }
        let reached = self.reached(victims.node.is_some());
        if victims.server {
            self.serve();
        }
        reached
    }

    /// The node's blocks as it will have them when it comes back; what waits for a block is forgotten.
    fn blocks_kept(&self, lost: u64) -> Value {
        let state = self.runtime.block_on(self.anvil.as_ref().unwrap().state());
        if lost > 0 {
            self.ask("anvil_mine", json!([lost]));
        }
        state
    }

    fn start_node(&mut self, state: &Value) {
        let anvil = self.runtime.block_on(async {
            let anvil = Anvil::with_blocks(0, BLOCK_PAUSE).await;
            anvil.load(state).await;
            anvil
        });
        self.proxy.lead_to(&anvil.url);
        self.anvil = Some(anvil);
    }

    fn database(&self) -> Client {
        Client::connect(&self.house.url("migrator"), NoTls).unwrap()
    }

    /// How far the newest anchor is.
    fn reached(&self, node_was_killed: bool) -> &'static str {
        let query = "select state, sent_at is not null, '0x' || encode(tx_hash, 'hex')
            from anchor order by id desc limit 1";
        let Some(row) = self.database().query_opt(query, &[]).unwrap() else { return "none yet" };
        let (state, is_noted, transaction): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
        let is_known = |method| !self.ask(method, json!([transaction])).is_null();
        match (state.as_str(), is_noted) {
            ("pending", _) if is_known("eth_getTransactionReceipt") => "in a block, and not noted",
            ("pending", true) => "sent, and noted",
            ("pending", false) if node_was_killed => "kept, and perhaps sent",
            ("pending", false) if is_known("eth_getTransactionByHash") => "sent, and not noted",
            ("pending", false) => "kept, and not sent",
            ("anchored", _) => "anchored",
            ("final", _) => "final",
            _ => "failed",
        }
    }

    /// Returns once the last head of the log is final and nothing is under way.
    fn wait_until_final(&self) {
        wait_until("the whole log is anchored for good", || {
            let query =
                "select (select size from head) = coalesce(max(size) filter (where state = 'final'), 0)
                and count(*) filter (where state in ('pending', 'anchored')) = 0 from anchor";
            self.database().query_one(query, &[]).unwrap().get(0)
        });
    }

    /// Each head of the contract is the log's at that size and stands in one row of the outbox, and nothing else does; the
    /// account has sent what the rows tell of.
    fn the_log_and_the_outbox_explain_the_chain(&self) -> usize {
        let mut client = self.database();
        let (mut standing, mut reverted) = (BTreeMap::new(), 0);
        let rows = client
            .query("select size, root, state, tx_hash, block_hash, reason from anchor order by id", &[])
            .unwrap();
        for row in &rows {
            let (size, state): (i64, String) = (row.get(0), row.get(2));
            let hash = |at| Hash::from_slice(row.get::<_, &[u8]>(at)).unwrap();
            match state.as_str() {
                "final" => {
                    let known = standing.insert(u64::try_from(size).unwrap(), [hash(1), hash(3), hash(4)]);
                    assert!(known.is_none(), "{size} stands twice in the outbox");
                }
                "failed" => {
                    let reason: String = row.get(5);
                    assert_eq!(reason, "reverted", "{size} was given up");
                    reverted += 1;
                }
                state => panic!("{size} is {state} for ever"),
            }
        }
        let rpc = self.anvil.as_ref().unwrap().rpc();
        let heads = self.runtime.block_on(heads::heads(&rpc, self.contract, ORIGIN));
        for pair in heads.windows(2) {
            assert!(pair[0].head.size < pair[1].head.size, "the chain's heads do not grow: {pair:?}");
        }
        assert_eq!(heads.len(), standing.len(), "each head has its row, each row its head");
        for anchored in &heads {
            let size = anchored.head.size;
            let at = [anchored.head.root, anchored.transaction, anchored.block_hash];
            assert_eq!(standing.get(&size), Some(&at), "the row of {size}");
            // The log's own roots were checked against its entries.
            let size = i64::try_from(size).unwrap();
            let row = client.query_one("select root from checkpoint where size = $1", &[&size]).unwrap();
            assert_eq!(
                anchored.head.root.as_bytes().as_slice(),
                row.get::<_, &[u8]>(0),
                "the root of {size}"
            );
        }
        let evm = self.runtime.block_on(Evm::connect(rpc, CHAIN_ID, self.contract)).unwrap();
        let sent = self.runtime.block_on(evm.nonce(account(2).address())).unwrap();
        let told = u64::try_from(heads.len()).unwrap() + reverted;
        assert_eq!(sent, told, "a nonce was lost, or used for what no row tells of");
        heads.len()
    }
}

#[test]
fn server_postgres_and_node_killed_at_hundreds_of_moments_double_and_lose_no_anchor() {
    let began = Instant::now();
    let mut scene = Scene::open();
    let url = scene.house.url("app");
    let (writer, onlooker) = (Writer::start_with(url.clone(), PAUSE), Onlooker::start(url));
    let (mut kills, mut found) = (0, BTreeMap::<_, u32>::new());
    for round in 0..ROUNDS {
        let (moment, victims) = (Moment::of(round), Victims::of(round));
        *found.entry(scene.kill(&moment, victims)).or_default() += 1;
        kills += victims.count();
    }
    let killed_for = began.elapsed();
    let queued = writer.stop();
    scene.house.wait_until_drained();
    scene.wait_until_final();
    scene.server.stop();
    let leaves = check_log(&scene.house, &queued, &onlooker.stop());
    let heads = scene.the_log_and_the_outbox_explain_the_chain();
    eprintln!("{kills} killed in {killed_for:?}: {leaves} leaves, {heads} heads on the chain; {found:?}");
    assert!(kills >= 200, "only {kills} were killed");
    for step in [
        "kept, and not sent",
        "sent, and not noted",
        "sent, and noted",
        "in a block, and not noted",
        "anchored",
    ] {
        assert!(
            found.get(step).is_some_and(|times| *times >= 3),
            "the moments miss a step: {step}; {found:?}"
        );
    }
}
