//! Problems that shoppers report of a code: the report, its author's page, and the list of those whose business it is.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Form, Path, ServiceConfig, get, post},
};
use askama::Template;
use serde::Deserialize;
use store::report::Report;
use uuid::Uuid;

use crate::{
    service::reports::ReportError,
    web::{
        AppState, WebError,
        caller::{MaybeSignedIn, SignedIn, address},
        label::key_of_path,
        locale::{Moment, Words},
        page::{self, Frame},
        scan::party_name,
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/report", post().to(make))
        .route("/reports", get().to(list))
        .route("/reports/{id}", get().to(one))
        .route("/reports/{id}", post().to(answer));
}

impl From<ReportError> for WebError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Empty => Self::BadRequest("nothing was written"),
            ReportError::Unknown => Self::NotFound,
            ReportError::TooMany(_) => Self::TooManyReports,
            ReportError::Store(error) => error.into(),
        }
    }
}

#[derive(Deserialize)]
struct Reported {
    path: String,
    text: String,
}

/// 303 to the page where the answer will stand.
async fn make(
    request: HttpRequest,
    state: Data<AppState>,
    form: Form<Reported>,
) -> Result<HttpResponse, WebError> {
    let key = key_of_path(&form.path).ok_or(WebError::NotFound)?;
    let id = state.reports.make(&state.serial_master, address(&request), &key, &form.text).await?;
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, format!("/reports/{id}"))).finish())
}

struct ReportView {
    id: String,
    path: String,
    party: Option<String>,
    text: String,
    at: Moment,
    /// (text, moment).
    answer: Option<(String, Moment)>,
    open: bool,
}

fn view(w: &Words, report: &Report, party: Option<String>) -> ReportView {
    let path = report.uri.strip_prefix("https://id.gs1.org").unwrap_or(&report.uri);
    ReportView {
        id: report.id.to_string(),
        path: path.to_owned(),
        party,
        text: report.text.clone(),
        at: w.moment(report.at, None),
        answer: report.answer.clone().zip(report.answered_at.map(|at| w.moment(at, None))),
        open: report.closed_at.is_none(),
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage {
    f: Frame,
    report: ReportView,
}

/// For whoever knows the address: that is who reported.
async fn one(
    request: HttpRequest,
    state: Data<AppState>,
    id: Path<Uuid>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    let report = state.reports.one(*id).await?;
    let f = Frame::new(&request, member.0);
    page::html(&ReportPage { report: view(&f.w, &report, None), f })
}

#[derive(Template)]
#[template(path = "reports.html")]
struct ReportsPage {
    f: Frame,
    reports: Vec<ReportView>,
}

async fn list(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
) -> Result<HttpResponse, WebError> {
    let (reports, parties) = state.reports.list(&member).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let named = |report: &Report| {
        let party = parties.get(&report.party_id?)?;
        Some(party_name(&f.w, "", party))
    };
    let reports = reports.iter().map(|report| view(&f.w, report, named(report))).collect();
    page::html(&ReportsPage { f, reports })
}

#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    answer: String,
    /// Which button was pressed.
    #[serde(default)]
    close: Option<String>,
}

async fn answer(
    state: Data<AppState>,
    member: SignedIn,
    id: Path<Uuid>,
    form: Form<Answered>,
) -> Result<HttpResponse, WebError> {
    state.reports.answer(&member, *id, &form.answer, form.close.is_some()).await?;
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, "/reports")).finish())
}
