//! QR codes as SVG and PNG at print sizes, and a sheet of labels. A code holds a GS1 Digital Link under our own host.

use std::io::Cursor;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Query, ServiceConfig, get},
};
use askama::Template;
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use qrcode::{Color, EcLevel, QrCode};
use serde::Deserialize;
use trace::gs1::{DigitalLink, Key};

use crate::web::{
    AppState, WebError,
    caller::MaybeSignedIn,
    page::{self, Frame},
};

/// ISO/IEC 18004: four modules of white on every side.
const QUIET_MODULES: usize = 4;
/// Thermal label printers and A4 sheets.
const DOTS_PER_INCH: u32 = 300;
const SIZE_MM_MIN: u32 = 10;
const SIZE_MM_MAX: u32 = 200;
const SIZE_MM_DEFAULT: u32 = 30;
/// A4 of 3 × 8.
const SHEET_LABELS_MAX: usize = 24;

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/labels/{kind}/{key:.*}/qr.svg", get().to(svg))
        .route("/labels/{kind}/{key:.*}/qr.png", get().to(png))
        .route("/labels/{kind}/{key:.*}", get().to(sheet));
}

#[derive(Deserialize)]
struct Print {
    /// `m`, or `q` for field bags and timber tags.
    #[serde(default)]
    level: Option<String>,
    /// Side of the printed square, quiet zone included.
    #[serde(default)]
    mm: Option<u32>,
    /// Labels on the sheet.
    #[serde(default)]
    count: Option<usize>,
}

impl Print {
    fn level(&self) -> EcLevel {
        if self.level.as_deref() == Some("q") { EcLevel::Q } else { EcLevel::M }
    }

    fn mm(&self) -> u32 {
        self.mm.unwrap_or(SIZE_MM_DEFAULT).clamp(SIZE_MM_MIN, SIZE_MM_MAX)
    }
}

/// The key that a path under our host names: `01/{gtin}/21/{serial}` and its like.
pub fn key_of_path(path: &str) -> Option<Key> {
    format!("https://id.gs1.org/{}", path.trim_start_matches('/'))
        .parse::<DigitalLink>()
        .ok()
        .map(|link| link.key)
}

/// What is printed. Scheme and host in upper case keep the symbol in the alphanumeric mode (a serial: 29×29 modules);
/// a lot number with small letters stays as it is, because there they tell two lots apart.
pub fn printed_url(public_base_url: &str, key: &Key) -> String {
    format!("{}{}", public_base_url.trim_end_matches('/').to_ascii_uppercase(), key.path())
}

fn code(state: &AppState, kind: &str, key: &str, print: &Print) -> Result<(Key, QrCode), WebError> {
    let key = key_of_path(&format!("{kind}/{key}")).ok_or(WebError::NotFound)?;
    let url = printed_url(&state.config.http.public_base_url, &key);
    let code = QrCode::with_error_correction_level(url, print.level())
        .map_err(|_| WebError::BadRequest("the code is too long to print"))?;
    Ok((key, code))
}

/// One path of squares: small, and sharp at any size.
pub fn svg_of(code: &QrCode, mm: u32) -> String {
    use std::fmt::Write as _;
    let side = code.width() + 2 * QUIET_MODULES;
    let mut path = String::new();
    for (position, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = (position % code.width() + QUIET_MODULES, position / code.width() + QUIET_MODULES);
            write!(path, "M{x} {y}h1v1h-1z").unwrap_or_default();
        }
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{mm}mm" height="{mm}mm" viewBox="0 0 {side} {side}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path fill="#000" d="{path}"/></svg>"##
    )
}

/// Whole dots a module, as many as fit into `mm` at 300 dpi.
pub fn png_of(code: &QrCode, mm: u32) -> Result<Vec<u8>, image::ImageError> {
    let modules = code.width() + 2 * QUIET_MODULES;
    let dots = usize::try_from(mm * DOTS_PER_INCH * 10 / 254).unwrap_or(modules);
    let scale = (dots / modules).max(1);
    let side = modules * scale;
    let colors = code.to_colors();
    let mut pixels = vec![255_u8; side * side];
    for (position, pixel) in pixels.iter_mut().enumerate() {
        let (x, y) = (position % side / scale, position / side / scale);
        let inside = |at: usize| at.checked_sub(QUIET_MODULES).filter(|at| *at < code.width());
        if let (Some(x), Some(y)) = (inside(x), inside(y))
            && colors.get(y * code.width() + x) == Some(&Color::Dark)
        {
            *pixel = 0;
        }
    }
    let mut file = Cursor::new(Vec::new());
    let side = u32::try_from(side).unwrap_or(u32::MAX);
    PngEncoder::new(&mut file).write_image(&pixels, side, side, ExtendedColorType::L8)?;
    Ok(file.into_inner())
}

async fn svg(
    state: Data<AppState>,
    path: Path<(String, String)>,
    print: Query<Print>,
) -> Result<HttpResponse, WebError> {
    let (_, code) = code(&state, &path.0, &path.1, &print)?;
    Ok(image("image/svg+xml", svg_of(&code, print.mm())))
}

async fn png(
    state: Data<AppState>,
    path: Path<(String, String)>,
    print: Query<Print>,
) -> Result<HttpResponse, WebError> {
    let (_, code) = code(&state, &path.0, &path.1, &print)?;
    Ok(image("image/png", png_of(&code, print.mm()).map_err(WebError::internal)?))
}

fn image(media_type: &'static str, body: impl actix_web::body::MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(media_type)
        .insert_header(("cache-control", "public, max-age=86400"))
        .body(body)
}

#[derive(Template)]
#[template(path = "label.html")]
struct SheetPage {
    f: Frame,
    svg: String,
    typed: String,
    path: String,
    count: Vec<()>,
}

async fn sheet(
    request: HttpRequest,
    state: Data<AppState>,
    path: Path<(String, String)>,
    print: Query<Print>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    let (key, code) = code(&state, &path.0, &path.1, &print)?;
    let typed = key.elements().into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" / ");
    page::html(&SheetPage {
        f: Frame::new(&request, member.0),
        svg: svg_of(&code, print.mm()),
        typed,
        path: key.path(),
        count: vec![(); print.count.unwrap_or(1).clamp(1, SHEET_LABELS_MAX)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_code_stays_at_29_modules_and_keeps_its_quiet_zone() {
        let key = key_of_path("01/09521234000013/21/0ABCDEFGHJKMNPQRS").unwrap();
        let url = printed_url("https://s.example.cn", &key);
        assert!(url.starts_with("HTTPS://S.EXAMPLE.CN/01/09521234000013/21/"), "{url}");
        let code = QrCode::with_error_correction_level(&url, EcLevel::M).unwrap();
        assert_eq!(code.width(), 29);
        assert!(svg_of(&code, 30).contains("viewBox=\"0 0 37 37\""));
        let png = png_of(&code, 30).unwrap();
        assert_eq!(png.get(1..4), Some(&b"PNG"[..]));
    }

    #[test]
    fn only_a_gs1_key_becomes_a_code() {
        assert!(key_of_path("01/09521234000014/21/1").is_none());
        assert!(key_of_path("../etc/passwd").is_none());
    }
}
