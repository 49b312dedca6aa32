//! A house that listens.

use actix_web::{App, HttpServer, middleware::from_fn, web::Data};
use server::app::AppState;

/// The server as it routes, on a port of its own; answers the prefix of its open log.
pub fn listen(state: &Data<AppState>) -> String {
    let shared = state.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(from_fn(server::web::guard::guard))
            .configure(server::web::configure)
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let origin = state.ledger.open_log().origin.clone();
    let (_, path) = origin.split_once('/').unwrap();
    let prefix = format!("http://{}/{path}", server.addrs()[0]);
    tokio::spawn(server.run());
    prefix
}
