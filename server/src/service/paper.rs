//! One sheet of A4 as PDF (ISO 32000): texts, lines and a code, with the glyphs of one embedded font.

use std::collections::BTreeMap;

use pdf_writer::{
    Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr,
    types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap},
};
use qrcode::{Color, EcLevel, QrCode};
use subsetter::GlyphRemapper;
use ttf_parser::{Face, Tag};

/// Noto Sans CJK SC, the characters of our locales and of GB 2312's first level; its licence stands beside it.
const FONT: &[u8] = include_bytes!("../../../static/certificate.otf");
const FONT_NAME: &[u8] = b"SUYUAN+NotoSansCJKsc-Regular";
const IDENTITY: SystemInfo =
    SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

/// A4 in points.
pub const WIDTH: f32 = 595.0;
pub const HEIGHT: f32 = 842.0;
/// Line height per font size.
const LEADING: f32 = 1.45;
/// What a symbol of 40 modules a side needs around it (ISO/IEC 18004).
const QUIET_MODULES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum PaperError {
    #[error("the font cannot be read")]
    Font,
    #[error("the font cannot be cut down")]
    Subset(#[from] subsetter::Error),
    #[error("the code holds more than a symbol does")]
    Code(#[from] qrcode::types::QrError),
}

/// Red, green and blue from 0 to 1.
pub type Ink = [f32; 3];

pub struct Sheet {
    face: Face<'static>,
    content: Content,
    glyphs: GlyphRemapper,
    /// Glyph in the cut-down font → character and advance in thousandths of the size.
    used: BTreeMap<u16, (char, f32)>,
}

impl Sheet {
    pub fn new() -> Result<Self, PaperError> {
        let face = Face::parse(FONT, 0).map_err(|_| PaperError::Font)?;
        Ok(Self { face, content: Content::new(), glyphs: GlyphRemapper::new(), used: BTreeMap::new() })
    }

    /// The advance of a character in thousandths of the font's size; a character that the font lacks is a box.
    fn advance(&self, c: char) -> f32 {
        let glyph = self.face.glyph_index(c).unwrap_or_default();
        let advance = f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(1000));
        advance * 1000.0 / f32::from(self.face.units_per_em().max(1))
    }

    pub fn width_of(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.advance(c)).sum::<f32>() * size / 1000.0
    }

    /// One line, its baseline at `y` from the sheet's lower edge.
    pub fn line(&mut self, text: &str, x: f32, y: f32, size: f32, ink: Ink) {
        let mut encoded = Vec::with_capacity(text.len() * 2);
        for c in text.chars() {
            let old = self.face.glyph_index(c).unwrap_or_default();
            let glyph = self.glyphs.remap(old.0);
            let advance = self.advance(c);
            self.used.entry(glyph).or_insert((c, advance));
            encoded.extend_from_slice(&glyph.to_be_bytes());
        }
        let [red, green, blue] = ink;
        self.content.set_fill_rgb(red, green, blue);
        self.content.begin_text().set_font(Name(b"F"), size).next_line(x, y).show(Str(&encoded));
        self.content.end_text();
    }

    /// Breaks `text` into lines of `width`; answers where the next line's baseline is.
    pub fn paragraph(&mut self, text: &str, x: f32, y: f32, width: f32, size: f32, ink: Ink) -> f32 {
        let mut y = y;
        for line in self.lines_of(text, width, size) {
            self.line(&line, x, y, size, ink);
            y -= size * LEADING;
        }
        y
    }

    /// Han breaks anywhere, other words at spaces, and what is longer than a line where the line ends.
    fn lines_of(&self, text: &str, width: f32, size: f32) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = String::new();
        for word in words_of(text) {
            if self.width_of(&line, size) + self.width_of(word.trim_end(), size) > width && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for c in word.chars() {
                if self.width_of(&line, size) + self.width_of(c.encode_utf8(&mut [0; 4]), size) > width
                    && c != ' '
                {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
        lines.push(line);
        lines
    }

    pub fn rectangle(&mut self, x: f32, y: f32, width: f32, height: f32, ink: Ink) {
        let [red, green, blue] = ink;
        self.content.set_fill_rgb(red, green, blue).rect(x, y, width, height).fill_nonzero();
    }

    /// A QR code of `side` points, its quiet zone included, its lower left corner at `x`, `y`.
    pub fn code(&mut self, text: &str, x: f32, y: f32, side: f32) -> Result<(), PaperError> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
        let modules = code.width();
        let step = side / points(modules + 2 * QUIET_MODULES);
        self.content.set_fill_rgb(0.0, 0.0, 0.0);
        for (at, color) in code.to_colors().into_iter().enumerate().filter(|(_, color)| *color == Color::Dark)
        {
            let (column, row) = (at % modules + QUIET_MODULES, at / modules + QUIET_MODULES + 1);
            debug_assert_eq!(color, Color::Dark);
            self.content.rect(x + points(column) * step, y + side - points(row) * step, step, step);
        }
        self.content.fill_nonzero();
        Ok(())
    }

    /// The document. `language` is a BCP 47 tag.
    pub fn into_pdf(self, title: &str, language: &str) -> Result<Vec<u8>, PaperError> {
        let [catalog, pages, page, contents, font, cid_font, descriptor, file, unicode, info] =
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(Ref::new);
        let cut = subsetter::subset(FONT, 0, &self.glyphs)?;
        let cut = Face::parse(&cut, 0).map_err(|_| PaperError::Font)?;
        let outlines = cut.raw_face().table(Tag::from_bytes(b"CFF ")).ok_or(PaperError::Font)?;

        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(pages).lang(TextStr(language));
        pdf.document_info(info).title(TextStr(title));
        pdf.pages(pages).kids([page]).count(1);
        let mut sheet = pdf.page(page);
        sheet.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(pages).contents(contents);
        sheet.resources().fonts().pair(Name(b"F"), font);
        sheet.finish();
        pdf.stream(contents, &self.content.finish());

        pdf.type0_font(font)
            .base_font(Name(FONT_NAME))
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(cid_font)
            .to_unicode(unicode);
        let mut described = pdf.cid_font(cid_font);
        described.subtype(CidFontType::Type0).base_font(Name(FONT_NAME)).system_info(IDENTITY);
        described.font_descriptor(descriptor).default_width(1000.0);
        let mut widths = described.widths();
        for (glyph, (_, advance)) in &self.used {
            widths.consecutive(*glyph, [*advance]);
        }
        widths.finish();
        described.finish();
        let bounds = self.face.global_bounding_box();
        let bounds = [bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max].map(f32::from);
        let [left, bottom, right, top] = bounds;
        pdf.font_descriptor(descriptor)
            .name(Name(FONT_NAME))
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(left, bottom, right, top))
            .italic_angle(0.0)
            .ascent(f32::from(self.face.ascender()))
            .descent(f32::from(self.face.descender()))
            .cap_height(f32::from(self.face.capital_height().unwrap_or(733)))
            .stem_v(80.0)
            .font_file3(file);
        pdf.stream(file, outlines).pair(Name(b"Subtype"), Name(b"CIDFontType0C"));
        let mut map = UnicodeCmap::new(Name(b"Suyuan"), IDENTITY);
        self.used.iter().for_each(|(glyph, (c, _))| map.pair(*glyph, *c));
        pdf.stream(unicode, &map.finish());
        Ok(pdf.finish())
    }
}

/// Words with the space after them; every Han character is a word.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let is_wide = |c: char| c >= '\u{2e80}';
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut characters = rest.char_indices();
        let (_, first) = characters.next()?;
        let ends = |(_, c): &(usize, char)| is_wide(first) || is_wide(*c);
        let mut end = rest.len();
        let mut after_space = first == ' ';
        for (at, c) in characters {
            if ends(&(at, c)) || (after_space && c != ' ') {
                end = at;
                break;
            }
            after_space = c == ' ';
        }
        let (word, left) = rest.split_at_checked(end)?;
        rest = left;
        Some(word)
    })
}

fn points(count: usize) -> f32 {
    f32::from(u16::try_from(count).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn words_break_at_spaces_and_han_anywhere() {
        let words: Vec<&str> = words_of("one two  签名 ok").collect();
        assert_eq!(words, ["one ", "two  ", "签", "名", " ", "ok"]);
    }

    #[test]
    fn the_font_has_every_character_of_every_locale() {
        let sheet = Sheet::new().unwrap();
        let mut missing = BTreeSet::new();
        for language in ["zh-CN", "en"] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../locales").join(language);
            for entry in std::fs::read_dir(dir).unwrap() {
                let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
                let is_missing = |c: &char| !c.is_control() && sheet.face.glyph_index(*c).is_none();
                missing.extend(text.chars().filter(is_missing));
            }
        }
        assert!(missing.is_empty(), "static/certificate.OFL.txt says how the font is made: {missing:?}");
    }

    #[test]
    fn a_long_text_stays_within_its_width() {
        let sheet = Sheet::new().unwrap();
        let text = format!("{} {}", "k".repeat(300), "由登记员登记".repeat(40));
        let lines = sheet.lines_of(&text, 200.0, 10.0);
        assert!(lines.len() > 10 && lines.iter().all(|line| sheet.width_of(line.trim_end(), 10.0) <= 200.0));
        assert_eq!(lines.concat(), text);
    }
}
