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
    error::FieldError,
    page::{self, Frame},
};

/// ISO/IEC 18004: four modules of white on every side.
const QUIET_MODULES: usize = 4;
/// Thermal label printers and A4 sheets.
const DOTS_PER_INCH: u32 = 300;
const SIZE_MM_MIN: u32 = 10;
const SIZE_MM_MAX: u32 = 200;
const SIZE_MM_DEFAULT: u32 = 30;
/// Below, a telephone's camera does not read a printed code at arm's length.
const MODULE_MM_MIN: f64 = 0.4;
const MM_PER_INCH: f64 = 25.4;
/// Characters that an eye takes in at once, and the longest text that stands ungrouped: a lot number is a word.
const GROUP_CHARACTERS: usize = 4;
const UNGROUPED_CHARACTERS_MAX: usize = 10;

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
    /// A whole sheet instead of one label.
    #[serde(default)]
    sheet: Option<Sheet>,
}

/// Labels on A4 that are sold cut: 70 × 37 mm and 105 × 57 mm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Sheet {
    #[serde(rename = "3x8")]
    ThreeByEight,
    #[serde(rename = "2x5")]
    TwoByFive,
}

impl Sheet {
    pub const ALL: [Self; 2] = [Self::ThreeByEight, Self::TwoByFive];

    pub const fn word(self) -> &'static str {
        match self {
            Self::ThreeByEight => "3x8",
            Self::TwoByFive => "2x5",
        }
    }

    pub const fn shown(self) -> &'static str {
        match self {
            Self::ThreeByEight => "3 × 8",
            Self::TwoByFive => "2 × 5",
        }
    }

    const fn labels(self) -> usize {
        match self {
            Self::ThreeByEight => 24,
            Self::TwoByFive => 10,
        }
    }

    /// Side of the code that leaves room for its name and the large type.
    const fn code_mm(self) -> u32 {
        match self {
            Self::ThreeByEight => 28,
            Self::TwoByFive => 45,
        }
    }
}

impl Print {
    fn level(&self) -> EcLevel {
        if self.level.as_deref() == Some("q") { EcLevel::Q } else { EcLevel::M }
    }

    fn mm(&self) -> u32 {
        let own = self.sheet.map_or(SIZE_MM_DEFAULT, Sheet::code_mm);
        self.mm.unwrap_or(own).clamp(SIZE_MM_MIN, self.sheet.map_or(SIZE_MM_MAX, Sheet::code_mm))
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

fn modules(code: &QrCode) -> usize {
    code.width() + 2 * QUIET_MODULES
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// Refuses what no camera reads: `module_mm` is what one module of the code is printed at.
fn check_modules(code: &QrCode, module_mm: f64) -> Result<(), WebError> {
    if module_mm >= MODULE_MM_MIN {
        return Ok(());
    }
    // A printer's whole dots are wider than that by less than a half.
    let needed = (as_f64(modules(code)) * MODULE_MM_MIN * 1.1).ceil();
    let args = vec![("mm".to_owned(), needed.to_string()), ("module".to_owned(), MODULE_MM_MIN.to_string())];
    Err(WebError::Refused(vec![FieldError::new("mm", "module-size", args)]))
}

/// What a module is printed at where its lines may lie anywhere.
fn module_mm(code: &QrCode, mm: u32) -> f64 {
    f64::from(mm) / as_f64(modules(code))
}

/// Dots of a module in a picture of `mm`.
fn dots_a_module(code: &QrCode, mm: u32) -> usize {
    usize::try_from(mm * DOTS_PER_INCH * 10 / 254).unwrap_or_default() / modules(code)
}

/// One path of squares: small, and sharp at any size.
pub fn svg_of(code: &QrCode, mm: u32) -> String {
    use std::fmt::Write as _;
    let side = modules(code);
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
    let scale = dots_a_module(code, mm).max(1);
    let side = modules(code) * scale;
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
    check_modules(&code, module_mm(&code, print.mm()))?;
    Ok(image("image/svg+xml", svg_of(&code, print.mm())))
}

async fn png(
    state: Data<AppState>,
    path: Path<(String, String)>,
    print: Query<Print>,
) -> Result<HttpResponse, WebError> {
    let (_, code) = code(&state, &path.0, &path.1, &print)?;
    let dots = as_f64(dots_a_module(&code, print.mm()));
    check_modules(&code, dots * MM_PER_INCH / f64::from(DOTS_PER_INCH))?;
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
    /// What the code stands for, where that is known.
    name: String,
    /// Each value of the key, in groups.
    typed: Vec<Vec<String>>,
    path: String,
    sheet: Option<Sheet>,
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
    check_modules(&code, module_mm(&code, print.mm()))?;
    let item = match &key {
        Key::TradeItem { gtin, .. } => {
            let mut conn = state.store.connection().await?;
            store::party::trade_item(&mut conn, &gtin.to_string()).await?
        }
        _ => None,
    };
    page::html(&SheetPage {
        f: Frame::new(&request, member.0),
        svg: svg_of(&code, print.mm()),
        name: item.map(|item| item.name).unwrap_or_default(),
        typed: key.elements().into_iter().map(|(_, value)| groups(&value)).collect(),
        path: key.path(),
        sheet: print.sheet,
        count: vec![(); print.sheet.map_or(1, Sheet::labels)],
    })
}

/// A code in large type, as it is read out: a line breaks between groups and never within one.
pub fn groups(value: &str) -> Vec<String> {
    let letters: Vec<char> = value.chars().collect();
    if letters.len() <= UNGROUPED_CHARACTERS_MAX {
        return vec![value.to_owned()];
    }
    letters.chunks(GROUP_CHARACTERS).map(|group| group.iter().collect()).collect()
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
    fn a_code_too_small_for_a_camera_is_refused_with_the_size_that_is_not() {
        let code = QrCode::with_error_correction_level(
            "HTTPS://S.EXAMPLE.CN/01/09521234000013/21/0ABCDEFGHJKMNPQRS",
            EcLevel::M,
        )
        .unwrap();
        assert!(check_modules(&code, module_mm(&code, 15)).is_ok());
        assert!(check_modules(&code, module_mm(&code, 14)).is_err());
        let dots = |mm| as_f64(dots_a_module(&code, mm)) * MM_PER_INCH / f64::from(DOTS_PER_INCH);
        assert!(check_modules(&code, dots(15)).is_err(), "four dots are 0.34 mm");
        let Err(WebError::Refused(refused)) = check_modules(&code, dots(15)) else { panic!("refused") };
        let needed: u32 = refused.first().unwrap().args.first().unwrap().1.parse().unwrap();
        assert!(check_modules(&code, dots(needed)).is_ok(), "{needed} mm");
        for sheet in Sheet::ALL {
            assert!(check_modules(&code, module_mm(&code, sheet.code_mm())).is_ok());
        }
    }

    #[test]
    fn a_typed_code_is_read_in_groups() {
        assert_eq!(groups("09521234000013"), ["0952", "1234", "0000", "13"]);
        assert_eq!(groups("R2601"), ["R2601"]);
    }

    #[test]
    fn only_a_gs1_key_becomes_a_code() {
        assert!(key_of_path("01/09521234000014/21/1").is_none());
        assert!(key_of_path("../etc/passwd").is_none());
    }
}
