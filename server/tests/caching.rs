//! One URL answers by who asks, so nothing that a session or a token was used for may be kept by anybody.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

mod database;
mod house;

use std::collections::BTreeSet;

use actix_web::{
    App,
    http::{Method, StatusCode, header},
    middleware::from_fn,
    test,
};

/// Every path that the server's sources route, placeholders filled in: a new route is in this test without being named.
fn routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/web")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for opening in ["route(\"", "resource(\""] {
            let patterns = text.split(opening).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(patterns.map(filled));
        }
    }
    found
}

/// `/lots/{gtin}/{lot}` → `/lots/x/x`.
fn filled(pattern: &str) -> String {
    let mut path = String::new();
    for (number, part) in pattern.split('{').enumerate() {
        let rest = if number == 0 { part } else { part.rsplit_once('}').map_or("", |(_, rest)| rest) };
        path.push_str(if number == 0 { "" } else { "x" });
        path.push_str(rest);
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_or_token_was_used_for_is_kept_by_nobody_on_any_route() {
    let Some(url) = database::fresh("caching").await else { return };
    let state = house::state(&url).await;
    let app = test::init_service(
        App::new().app_data(state).wrap(from_fn(server::web::guard::guard)).configure(server::web::configure),
    )
    .await;
    let cache_control = async |method: Method, path: &str, credential: (&str, &str)| {
        let request = test::TestRequest::default().method(method).uri(path).insert_header(credential);
        let answer = test::call_service(&app, request.to_request()).await;
        let value =
            answer.headers().get(header::CACHE_CONTROL).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let routes = routes();
    assert!(routes.len() > 40, "the sources are not read as they are written: {routes:?}");
    for path in &routes {
        for method in [Method::GET, Method::POST] {
            for credential in [
                ("Cookie", "__Host-session=nobody"),
                ("Authorization", "Bearer nobody"),
                ("Authorization", "Basic bm9ib2R5Og=="),
            ] {
                let kept = cache_control(method.clone(), path, credential).await;
                assert_eq!(kept, "private, no-store", "{method} {path} with {}", credential.0);
            }
        }
        for asked in [format!("{path}/%00"), format!("{path}?q=%00")] {
            let request = test::TestRequest::default().uri(&asked);
            let status = test::call_service(&app, request.to_request()).await.status();
            assert_eq!(status, StatusCode::NOT_FOUND, "{asked}");
        }
        let open = cache_control(Method::GET, path, ("Accept", "text/html")).await;
        assert!(!open.is_empty(), "{path} leaves it to the cache");
    }
}
