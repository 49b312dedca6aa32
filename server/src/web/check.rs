//! "Check it here": the scan page's own script, its words, and this server's trust file.
//!
//! The script is no part of the page's first answer. Its files stand under the hash of all of them, so that a reader never
//! has one of an older server beside one of a newer.

use std::{collections::BTreeMap, sync::LazyLock};

use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Path, ServiceConfig, get},
};
use trace::{
    hash::{Hash, sha256_of},
    tlog::policy::{Chain, Listed, Policy},
};

use crate::{
    service::ledger::LedgerError,
    web::{
        AppState, WebError,
        locale::{Language, Words},
    },
};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const BRIEF: &str = "public, max-age=300";
/// What a message of the script may name; the script puts it in.
const NAMED: [&str; 6] = ["at", "other", "origin", "size", "name", "count"];

macro_rules! modules {
    ($($name:literal),+ $(,)?) => {
        /// The modules of `static/verify`.
        const MODULES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../static/verify/", $name)))),+];
    };
}

modules!(
    "bundle.js",
    "bytes.js",
    "check.js",
    "disclosures.js",
    "ed25519.js",
    "heads.js",
    "json.js",
    "keys.js",
    "merkle.js",
    "note.js",
    "order.js",
    "pack.js",
    "page.js",
    "policy.js",
    "record.js",
    "report.js",
    "senml.js",
    "verify.js",
);

static VERSION: LazyLock<Hash> = LazyLock::new(|| {
    let parts: Vec<&[u8]> =
        MODULES.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]).collect();
    sha256_of(&parts)
});

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/static/verify/{version}/{name}", get().to(module))
        .route("/check/{language}.json", get().to(words))
        .route("/trust.txt", get().to(trust));
}

/// Where the page finds the script that its button loads.
pub fn script() -> String {
    format!("/static/verify/{}/check.js", *VERSION)
}

async fn module(at: Path<(String, String)>) -> Result<HttpResponse, WebError> {
    let found = MODULES.iter().find(|(name, _)| *name == at.1).filter(|_| at.0 == VERSION.to_string());
    let (_, text) = found.ok_or(WebError::NotFound)?;
    Ok(HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, IMMUTABLE))
        .body(*text))
}

/// What the script says, in one language; `{at}` where it names something.
async fn words(state: Data<AppState>, language: Path<String>) -> Result<HttpResponse, WebError> {
    let language = Language::ALL.into_iter().find(|known| known.tag() == *language);
    let words = state.locales.words(language.ok_or(WebError::NotFound)?);
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, BRIEF)).json(messages(&words)))
}

fn messages(words: &Words) -> BTreeMap<&str, String> {
    let keys = words.keys().iter().filter(|key| key.starts_with("check-"));
    keys.map(|key| (key.as_str(), words.with(key, NAMED.map(|name| (name, format!("{{{name}}}")))))).collect()
}

async fn trust(state: Data<AppState>) -> Result<HttpResponse, WebError> {
    let policy = own_trust(&state).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, BRIEF))
        .body(policy.to_string()))
}

/// Whom this server would have a reader trust. What it proves is that the server does not contradict itself.
pub async fn own_trust(state: &AppState) -> Result<Policy, WebError> {
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let mut policy: Policy = state.ledger.policy().clone();
    let logs = store::ledger::logs(&mut conn).await.map_err(LedgerError::from)?;
    policy.logs = logs
        .iter()
        .map(|log| log.vkey.parse().map(|key| Listed { key, url: None }).map_err(WebError::internal))
        .collect::<Result<_, _>>()?;
    policy.registrars = vec![state.keys.registrar().kid()];
    let chain = |chain: &crate::service::chains::Configured| Chain {
        id: chain.chain_id,
        contract: chain.contract_text(),
    };
    policy.chains = state.chains.iter().map(chain).collect();
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::web::locale::Locales;

    #[test]
    fn every_file_of_the_script_is_served_and_imports_only_its_neighbours() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../static/verify");
        let files: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<String> = MODULES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, served);
        for (name, text) in MODULES {
            for rest in text.split("from \"").chain(text.split("import(\"")).skip(1) {
                let Some(imported) = rest.strip_prefix("./").and_then(|rest| rest.split('"').next()) else {
                    continue;
                };
                assert!(served.contains(imported), "{name} imports {imported}");
            }
            assert!(!text.contains("://") || *name == "record.js", "{name} names a place elsewhere");
        }
    }

    #[test]
    fn every_reason_of_the_script_is_a_message_in_every_language() {
        let locales = Locales::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../locales"))).unwrap();
        let mut codes = BTreeSet::new();
        for (name, text) in MODULES {
            let marks: &[&str] = match *name {
                "heads.js" | "verify.js" => &["findings.bad(\"", "findings.unchecked(\"", "(layer, \""],
                "keys.js" => &[
                    "bad(\"",
                    "unchecked(\"",
                    "open(\"",
                    "return \"",
                    "? \"",
                    "\" : \"",
                    "code: \"",
                    "place, \"",
                ],
                "bundle.js" => &["NoBundle(\""],
                "page.js" => &["say(\""],
                _ => &[],
            };
            for rest in marks.iter().flat_map(|mark| text.split(mark).skip(1)) {
                let mut quoted = rest.split('"');
                let first = quoted.next().unwrap();
                let code = match LAYERS.contains(&first) {
                    // A code that is computed stands elsewhere as `return "…"`.
                    true if quoted.next() != Some(", ") => continue,
                    true => quoted.next().unwrap(),
                    false => first,
                };
                if code.is_empty() {
                    continue;
                }
                codes.insert(match *name {
                    "page.js" => format!("check-{code}"),
                    "bundle.js" => format!("check-no-bundle-{code}"),
                    _ => format!("check-why-{code}"),
                });
            }
        }
        assert!(codes.len() > 60, "{codes:?}");
        for language in Language::ALL {
            let words = locales.words(language);
            let messages = messages(&words);
            for code in &codes {
                assert!(messages.contains_key(code.as_str()), "{} has no {code}", language.tag());
            }
            for prefix in ["check-layer", "check-outcome", "check-verdict"] {
                assert!(messages.keys().any(|key| key.starts_with(prefix)));
            }
            assert!(messages["check-why-number-twice"].contains("{at}"));
        }
    }

    const LAYERS: [&str; 8] =
        ["log", "witnesses", "signature", "inclusion", "enrolment", "roster", "seen", "chain"];
}
