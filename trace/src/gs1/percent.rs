//! Percent-encoding (RFC 3986 §2.1) as Digital Link and EPC URNs use it.

/// Every byte outside RFC 3986's unreserved set becomes `%XX`.
pub fn encode(text: &str) -> String {
    escape(text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// The escapes of EPC URNs: only the characters that TDS 2.1 Table A-1 lists.
pub fn encode_urn(text: &str) -> String {
    escape(text, |byte| {
        !matches!(byte, b'"' | b'%' | b'&' | b'/' | b'<' | b'>' | b'?') && byte.is_ascii_graphic()
    })
}

fn escape(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(hex_digit(byte >> 4));
            out.push(hex_digit(byte & 15));
        }
    }
    out
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}

/// `None` for a broken escape or for bytes that are no UTF-8. A query's `+` is a space.
pub fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => nibble(bytes.next()?)? << 4 | nibble(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
