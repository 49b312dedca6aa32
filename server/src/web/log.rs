//! The log for everybody: C2SP tlog-tiles under `/{ledger}/{year}/`, look-ups and proofs as JSON, bundles.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query, ServiceConfig, get},
};
use serde::Deserialize;
use serde_json::json;
use trace::{
    bundle::{self, Bundle},
    gs1::DigitalLink,
    hash::Hash,
    pack::receipt,
    tlog::tile::TilePath,
};
use uuid::Uuid;

use crate::{
    service::{
        account::Asker,
        chains, inspection,
        ledger::{LedgerError, Log, LogState, to_u64, tree::TreeError},
        proof::{self, ProofError, Reader},
        tracing::{LOTS_MAX, TracingError, follow, lots_named},
    },
    web::{
        AppState, WebError,
        caller::{Bearer, MaybeSignedIn},
    },
};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A checkpoint is never older than this in a cache.
const BRIEF: &str = "public, max-age=1";
/// Which log follows is known long before it matters.
const A_MINUTE: &str = "public, max-age=60";
/// Entries of one entry bundle are 34 bytes each; tiles 32 bytes a hash.
const OCTETS: &str = "application/octet-stream";
/// Token scope of a regulator's program that copies what was signed.
pub const SIGNED_SCOPE: &str = "signed";
/// Signed parts in one answer.
const SIGNED_PARTS_MAX: u16 = 256;

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/api/v1/log", get().to(state))
        .route("/api/v1/log/entries/{entry}", get().to(entry))
        .route("/api/v1/log/inclusion", get().to(inclusion))
        .route("/api/v1/log/consistency", get().to(consistency))
        .route("/proof/lot/{key:.*}", get().to(lot_bundle))
        .route("/proof/pack/{entry}.cose", get().to(pack_receipt))
        .route("/proof/{jti}.tlog-proof", get().to(tlog_proof))
        .route("/proof/{jti}", get().to(record_bundle))
        .route("/{ledger}/{shard}/checkpoint", get().to(checkpoint))
        .route("/{ledger}/{shard}/new-log", get().to(next_log))
        .route("/{ledger}/{shard}/signed", get().to(signed_parts))
        .route("/{ledger}/{shard}/{path:tile/.*}", get().to(tile));
}

impl From<LedgerError> for WebError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Tree(TreeError::Make(_)) => Self::BadRequest("no tree of this log has that size"),
            error => Self::internal(error),
        }
    }
}

impl From<ProofError> for WebError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Unknown => Self::NotFound,
            ProofError::NotYet => Self::Unavailable("no witnessed checkpoint covers the record yet"),
            ProofError::TooMany => Self::TooLarge,
            ProofError::Ledger(LedgerError::NoKey { .. }) => {
                Self::Unavailable("the key of the sealed log is not here any more: a bundle shows the same")
            }
            error => Self::internal(error),
        }
    }
}

/// The newest checkpoint that meets the policy, as a signed note.
async fn checkpoint(state: Data<AppState>, at: Path<(String, String)>) -> Result<HttpResponse, WebError> {
    let log = shard(&state, &at.0, &at.1)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let note = state.ledger.published(&mut conn, &log).await?.ok_or(WebError::NotFound)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, BRIEF))
        .body(note.to_string()))
}

/// Which log follows this one: the bundle of the statements that say so (docs/adr/a-log-names-the-next.md).
async fn next_log(state: Data<AppState>, at: Path<(String, String)>) -> Result<HttpResponse, WebError> {
    let log = shard(&state, &at.0, &at.1)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let found = proof::of_next_log(&mut conn, &state.ledger, &state.keys, log.id).await?;
    Ok(HttpResponse::Ok()
        .content_type(bundle::MEDIA_TYPE)
        .insert_header((header::CACHE_CONTROL, A_MINUTE))
        .body(found.to_string()))
}

/// Tiles and entry bundles: what stands under a path never changes.
async fn tile(
    state: Data<AppState>,
    at: Path<(String, String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, WebError> {
    let log = shard(&state, &at.0, &at.1)?;
    let path: TilePath = at.2.parse().map_err(|_| WebError::NotFound)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    // Read also for whoever claims to have it: a tile that the log does not have is found by nobody.
    let bytes = state.ledger.tile(&mut conn, log.id, path).await?.ok_or(WebError::NotFound)?;
    // The path says all that the bytes depend on, so it is their tag.
    let tag = header::EntityTag::new_strong(at.2.clone());
    let is_known = is_known(&request, &tag);
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::CACHE_CONTROL, IMMUTABLE)).insert_header(header::ETag(tag));
    Ok(if is_known { answer.finish() } else { answer.content_type(OCTETS).body(bytes) })
}

#[derive(Deserialize)]
struct SignedQuery {
    from: u64,
    count: u16,
}

/// The signed bytes behind a range of entries, without disclosures, to a regulator's program; the parties see the look. Fewer
/// than asked for where they are long.
async fn signed_parts(
    state: Data<AppState>,
    at: Path<(String, String)>,
    query: Query<SignedQuery>,
    caller: Bearer,
) -> Result<HttpResponse, WebError> {
    let program = caller.require(SIGNED_SCOPE)?;
    if !program.is_regulator() {
        return Err(WebError::Forbidden);
    }
    if !(1..=SIGNED_PARTS_MAX).contains(&query.count) {
        return Err(WebError::BadRequest("count is 1 to 256"));
    }
    let log = shard(&state, &at.0, &at.1)?;
    let parts = inspection::signed_parts(&state.store, &program.party, &log, query.from, query.count).await?;
    let parts = parts.into_iter().map(|part| {
        let pack = part.pack.map(|bytes| trace::b64::url(&bytes));
        json!({"index": part.index, "record": part.record, "pack": pack})
    });
    Ok(HttpResponse::Ok().json(json!({"origin": log.origin, "parts": parts.collect::<Vec<_>>()})))
}

/// A log of the ledger that was opened, sealed or not.
fn shard(state: &AppState, ledger: &str, shard: &str) -> Result<Arc<Log>, WebError> {
    let logs = state.ledger.logs();
    let mut opened = logs.iter().filter(|log| log.state != LogState::Announced);
    let found = opened.find(|log| ledger == state.ledger.name() && shard == log.shard());
    found.cloned().ok_or(WebError::NotFound)
}

fn is_known(request: &HttpRequest, tag: &header::EntityTag) -> bool {
    use actix_web::http::header::Header as _;
    match header::IfNoneMatch::parse(request) {
        Ok(header::IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Ok(header::IfNoneMatch::Any) => true,
        Err(_) => false,
    }
}

/// Heads, keys and whether anything stands still.
async fn state(state: Data<AppState>) -> Result<HttpResponse, WebError> {
    let ledger = &state.ledger;
    let log = ledger.open_log();
    // Before the own connection is taken: who holds one and waits for another may wait for himself.
    let reasons = ledger.not_ready().await?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let (size, root, signed_at) = ledger.head(&mut conn, log.id).await?;
    let witnessed = ledger.witnessed(&mut conn, &log).await?;
    let witnessed = witnessed.map(|(checkpoint, _)| to_u64(checkpoint.size)).transpose()?;
    let outside = ledger.outside(&mut conn).await?;
    let seen_by = outside
        .witnesses
        .iter()
        .map(|witness| json!({"name": witness.name, "size": witness.size, "missing": witness.is_missing}));
    let anchors = outside.anchors.iter().map(|anchor| {
        json!({
            "chain": anchor.chain, "chain_id": anchor.chain_id, "contract": anchor.contract, "size": anchor.size,
            "state": anchor.state, "block": anchor.block_number,
            "at": anchor.anchored_at.map(|at| at.to_rfc3339()),
        })
    });
    let tallies = chains::tallies(&mut conn, ledger, &state.chains).await?;
    // Wei as text: most programs read a number of JSON as a double.
    let tallies = tallies.iter().map(|tally| {
        json!({
            "chain": tally.chain, "behind": tally.behind, "gas": tally.gas, "wei": tally.wei.to_string(),
            "final_at": tally.final_at.map(|at| at.to_rfc3339()),
        })
    });
    let logs = ledger.logs();
    let logs = logs.iter().map(|log| {
        json!({
            "origin": log.origin, "vkey": log.verifier.to_string(), "state": log.state.as_str(),
            "opens_at": log.opens_at.to_rfc3339(), "sealed_at": log.sealed_at.map(|at| at.to_rfc3339()),
        })
    });
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-cache")).json(json!({
        "origin": log.origin,
        "vkey": log.verifier.to_string(),
        "size": size,
        "root": root,
        "signed_at": signed_at.to_rfc3339(),
        "witnessed_size": witnessed,
        "witnesses": seen_by.collect::<Vec<_>>(),
        "witnesses_needed": ledger.policy().deciding().1,
        "anchors": anchors.collect::<Vec<_>>(),
        "chains": tallies.collect::<Vec<_>>(),
        "logs": logs.collect::<Vec<_>>(),
        "not_ready": reasons,
    })))
}

/// Where an entry stands.
async fn entry(state: Data<AppState>, entry: Path<String>) -> Result<HttpResponse, WebError> {
    let entry: Hash = entry.parse().map_err(|_| WebError::NotFound)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let at = state.ledger.locate(&mut conn, &entry).await?.ok_or(WebError::NotFound)?;
    Ok(HttpResponse::Ok().json(json!({ "entry": entry, "origin": at.origin, "index": at.index })))
}

#[derive(Deserialize)]
struct InclusionQuery {
    entry: String,
    size: Option<u64>,
}

/// The audit path of an entry in the tree of `size`, or in the newest.
async fn inclusion(state: Data<AppState>, query: Query<InclusionQuery>) -> Result<HttpResponse, WebError> {
    let entry: Hash = query.entry.parse().map_err(|_| WebError::BadRequest("not an entry"))?;
    let ledger = &state.ledger;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let at = ledger.locate(&mut conn, &entry).await?.ok_or(WebError::NotFound)?;
    let (newest, ..) = ledger.head(&mut conn, at.log_id).await?;
    let size = query.size.unwrap_or(newest);
    if size > newest || size <= at.index {
        return Err(WebError::BadRequest("no tree of this log has that size and the entry"));
    }
    let proof = ledger.tree().inclusion_proof(&mut conn, at.log_id, size, at.index).await;
    let proof = proof.map_err(LedgerError::from)?;
    let root = ledger.tree().root(&mut conn, at.log_id, size).await.map_err(LedgerError::from)?;
    Ok(HttpResponse::Ok().json(json!({
        "origin": at.origin, "index": at.index, "size": size, "root": root, "proof": proof,
    })))
}

#[derive(Deserialize)]
struct ConsistencyQuery {
    /// The open log where it is absent.
    origin: Option<String>,
    from: u64,
    to: u64,
}

/// The proof that one tree of the log extends another (RFC 9162 §2.1.4).
async fn consistency(
    state: Data<AppState>,
    query: Query<ConsistencyQuery>,
) -> Result<HttpResponse, WebError> {
    let ledger = &state.ledger;
    let log = match &query.origin {
        None => ledger.open_log(),
        Some(origin) => {
            let logs = ledger.logs();
            logs.iter().find(|log| log.origin == *origin).cloned().ok_or(WebError::NotFound)?
        }
    };
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let (newest, ..) = ledger.head(&mut conn, log.id).await?;
    if query.to > newest || query.from > query.to {
        return Err(WebError::BadRequest("no tree of this log has that size"));
    }
    let proof = ledger.tree().consistency_proof(&mut conn, log.id, query.from, query.to).await;
    let proof = proof.map_err(LedgerError::from)?;
    Ok(HttpResponse::Ok()
        .json(json!({ "origin": log.origin, "from": query.from, "to": query.to, "proof": proof })))
}

/// What a member may open: a regulator everything, and that is seen; others what their own party stated.
fn reader(member: &MaybeSignedIn) -> Reader {
    match &member.0 {
        None => Reader::Public,
        Some(member) => {
            let own = Reader::Party(member.party.id);
            Asker::from(member).watched().map_or(own, Reader::Regulator)
        }
    }
}

async fn record_bundle(
    state: Data<AppState>,
    jti: Path<String>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    let jti: Uuid = jti.parse().map_err(|_| WebError::NotFound)?;
    let found = record_bundle_for(&state, jti, reader(&member)).await?;
    Ok(bundle_response(&found, &jti.to_string()))
}

/// The bundle of a record, with what that reader may open.
pub async fn record_bundle_for(state: &AppState, jti: Uuid, reader: Reader) -> Result<Bundle, WebError> {
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    Ok(proof::of_record(&mut conn, &state.ledger, &state.keys, jti, reader).await?)
}

async fn tlog_proof(state: Data<AppState>, jti: Path<String>) -> Result<HttpResponse, WebError> {
    let jti: Uuid = jti.parse().map_err(|_| WebError::NotFound)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let found = proof::tlog_proof(&mut conn, &state.ledger, jti).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{jti}.tlog-proof\"")))
        .body(found.to_string()))
}

/// A reading pack's inclusion for readers who have COSE: `/proof/pack/{entry}.cose`.
async fn pack_receipt(state: Data<AppState>, entry: Path<String>) -> Result<HttpResponse, WebError> {
    let entry: Hash = entry.parse().map_err(|_| WebError::NotFound)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let found = proof::receipt(&mut conn, &state.ledger, &entry).await?;
    let name = format!("attachment; filename=\"{entry}.cose\"");
    Ok(HttpResponse::Ok()
        .content_type(receipt::MEDIA_TYPE)
        .insert_header((header::CACHE_CONTROL, BRIEF))
        .insert_header((header::CONTENT_DISPOSITION, name))
        .body(found.to_bytes()))
}

/// The whole story upstream of a lot or pack: `/proof/lot/01/{gtin}/10/{lot}`.
async fn lot_bundle(
    state: Data<AppState>,
    key: Path<String>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    Ok(bundle_response(&lot_bundle_for(&state, &key, reader(&member)).await?, "lot"))
}

/// The bundle of the whole story upstream of the lot or pack, with what that reader may open.
pub async fn lot_bundle_for(state: &AppState, key: &str, reader: Reader) -> Result<Bundle, WebError> {
    let uri = format!("https://id.gs1.org/{key}");
    let link = uri.parse::<DigitalLink>().map_err(|_| WebError::NotFound)?;
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let mut lots = Vec::new();
    for lot in lots_named(&mut conn, &link.key).await.map_err(WebError::internal)? {
        let trace =
            follow(&mut conn, lot, trace::graph::Direction::Up, LOTS_MAX).await.map_err(unfollowed)?;
        lots.extend(trace.lots.into_keys());
    }
    Ok(proof::of_lots(&mut conn, &state.ledger, &state.keys, (key, &lots), reader).await?)
}

fn unfollowed(error: TracingError) -> WebError {
    match error {
        TracingError::Unknown => WebError::NotFound,
        error @ TracingError::Store(_) => WebError::internal(error),
    }
}

fn bundle_response(found: &Bundle, name: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(bundle::MEDIA_TYPE)
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.bundle\"")))
        .body(found.to_string())
}
