//! Pages and REST. A handler: extract → one service call → page.

pub mod account;
pub mod alerts;
pub mod assets;
pub mod caller;
pub mod certificate;
pub mod chart;
pub mod check;
pub mod codes;
pub mod day;
pub mod dead_letters;
pub mod devices;
pub mod error;
pub mod events;
pub mod exceptions;
pub mod grid;
pub mod guard;
pub mod health;
pub mod integrity;
pub mod keys;
pub mod label;
pub mod locale;
pub mod log;
pub mod lot;
pub mod machine;
pub mod packs;
pub mod page;
pub mod provision;
pub mod registry;
pub mod regulator;
pub mod reports;
pub mod scan;
pub mod steps;
pub mod trace;
pub mod work;

pub use error::WebError;

use actix_web::web::ServiceConfig;

pub use crate::app::AppState;

/// Largest body of a form or a JSON document.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Every route of the server, one function per file.
pub fn configure(routes: &mut ServiceConfig) {
    let json =
        actix_web::web::JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| match error {
            actix_web::error::JsonPayloadError::Overflow { .. }
            | actix_web::error::JsonPayloadError::OverflowKnownLength { .. } => WebError::TooLarge.into(),
            actix_web::error::JsonPayloadError::ContentType => WebError::MediaType.into(),
            actix_web::error::JsonPayloadError::Deserialize(error) => {
                WebError::BadJson(error.to_string()).into()
            }
            _ => WebError::BadRequest("the body is not the JSON that is expected here").into(),
        });
    let form =
        actix_web::web::FormConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| match error {
            actix_web::error::UrlencodedError::Overflow { .. } => WebError::TooLarge.into(),
            actix_web::error::UrlencodedError::ContentType => WebError::MediaType.into(),
            _ => WebError::BadRequest("the body is not a form").into(),
        });
    let query = actix_web::web::QueryConfig::default()
        .error_handler(|_, _| WebError::BadRequest("the query is not understood").into());
    let path = actix_web::web::PathConfig::default().error_handler(|_, _| WebError::NotFound.into());
    routes.app_data(json).app_data(form).app_data(query).app_data(path);
    routes.configure(health::routes);
    // Before the log, whose `/proof/{jti}` takes any ending.
    routes.configure(certificate::routes);
    routes.configure(integrity::routes);
    routes.configure(log::routes);
    routes.configure(account::routes);
    routes.configure(keys::routes);
    routes.configure(assets::routes);
    routes.configure(registry::routes);
    routes.configure(codes::routes);
    routes.configure(steps::routes);
    routes.configure(packs::routes);
    routes.configure(label::routes);
    routes.configure(scan::routes);
    routes.configure(check::routes);
    routes.configure(events::routes);
    routes.configure(trace::routes);
    routes.configure(alerts::routes);
    routes.configure(grid::routes);
    routes.configure(dead_letters::routes);
    routes.configure(devices::routes);
    routes.configure(provision::routes);
    routes.configure(exceptions::routes);
    routes.configure(reports::routes);
    routes.configure(day::routes);
    routes.configure(work::routes);
    routes.configure(regulator::routes);
    routes.configure(lot::routes);
}
