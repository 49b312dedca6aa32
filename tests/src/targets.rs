//! What a finger can hit, on a telephone of 360 pixels (docs: 48 px at least, nothing to scroll sideways).

use serde_json::{Value, json};

use crate::browser::Browser;

const TELEPHONE: u32 = 360;

/// Everything that is smaller than a finger, folded parts opened; a radio button is as large as its label.
const MEASURE: &str = r#"(() => {
    document.querySelectorAll('details').forEach(details => details.open = true);
    const small = [];
    for (const element of document.querySelectorAll('a,button,input,select,textarea,summary')) {
        if (!element.getClientRects().length || element.classList.contains('skip')) continue;
        const box = element.matches('[type=radio],[type=checkbox]') && element.closest('label') || element;
        const { width, height } = box.getBoundingClientRect();
        if (width < 47.5 || height < 47.5)
            small.push(`${element.localName} "${(element.textContent || element.name).trim()}" ${width} x ${height}`);
    }
    const times = [...document.querySelectorAll('time')].filter(time => isNaN(Date.parse(time.dateTime)));
    return { small, width: document.documentElement.scrollWidth, headings: document.querySelectorAll('h1').length,
        help: document.querySelectorAll('.foot a[href^="tel:"]').length, times: times.length };
})()"#;

/// Panics unless every page is fit for a telephone: targets for fingers, no sideways scrolling, one title, a number for
/// help, and times that machines can read.
pub fn check(browser: &mut Browser, base: &str, cookie: &str, paths: &[String]) {
    browser.resize(TELEPHONE);
    for language in ["zh-CN", "en"] {
        browser.wear(cookie, language);
        for path in paths {
            browser.open(&format!("{base}{path}"));
            let found = browser.evaluate(MEASURE);
            assert_eq!(found["small"], json!([]), "{path} in {language}");
            assert_eq!(found["width"], json!(TELEPHONE), "{path} in {language} scrolls sideways");
            let rest = ["headings", "help", "times"].map(|what| found[what].as_u64());
            assert_eq!(
                rest,
                [Some(1), Some(1), Some(0)],
                "{path} in {language}: titles, help, unreadable times"
            );
        }
    }
}

/// What a printer makes of a page: sheets, labels, and a label's width and height in millimetres.
pub fn printed(browser: &mut Browser, url: &str) -> (usize, u64, (f64, f64)) {
    browser.open(url);
    let script = "(() => { const labels = document.querySelectorAll('.sheet .label');
        const { width, height } = labels[0].getBoundingClientRect();
        return [labels.length, width, height]; })()";
    let found = browser.evaluate(script);
    // CSS pixels, 96 to the inch; a browser rounds to a 64th of one.
    let millimetres = |at: usize| (found[at].as_f64().unwrap_or_default() * 25.4 / 96.0).round();
    (browser.printed_sheets(), found[0].as_u64().unwrap_or_default(), (millimetres(1), millimetres(2)))
}

/// Where the page's own links lead, below `prefix`.
pub fn links(browser: &mut Browser, base: &str, cookie: &str, path: &str, prefix: &str) -> Vec<String> {
    browser.wear(cookie, "zh-CN");
    browser.open(&format!("{base}{path}"));
    let script = "[...document.querySelectorAll('main a')].map(link => link.getAttribute('href'))";
    let Value::Array(found) = browser.evaluate(script) else { return Vec::new() };
    let found = found.iter().filter_map(Value::as_str);
    found.filter(|link| link.starts_with(prefix)).map(str::to_owned).collect()
}
