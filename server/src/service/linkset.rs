//! What machines get where people get a page: a linkset (RFC 9264, GS1-conformant resolver 1.1), or EPCIS events.

use serde_json::{Map, Value, json};
use trace::{epcis::EPCIS_CONTEXT, gs1::Key};

/// The link types of the GS1 Web Vocabulary.
const VOCABULARY: &str = "https://ref.gs1.org/voc/";

/// Which form of the answer a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// HTML for people.
    Page,
    /// `application/linkset+json`
    Linkset,
    /// `application/ld+json`: an EPCISDocument
    Epcis,
}

/// By the query's `linkType` first, then by the `Accept` header (RFC 9110 §12.5.1); a page where nothing else is wanted more.
pub fn negotiate(accept: Option<&str>, link_type: Option<&str>) -> Representation {
    match link_type {
        Some("linkset" | "all") => return Representation::Linkset,
        Some("epcis" | "gs1:epcis") => return Representation::Epcis,
        _ => {}
    }
    let quality = |wanted: &[&str]| {
        let ranges = accept.unwrap_or("*/*").split(',').map(media_range);
        ranges.filter(|(media, _)| wanted.contains(media)).map(|(_, quality)| quality).max().unwrap_or(0)
    };
    let page = quality(&["text/html", "application/xhtml+xml"]);
    let linkset = quality(&["application/linkset+json", "application/json"]);
    let epcis = quality(&["application/ld+json"]);
    if epcis > page && epcis >= linkset {
        Representation::Epcis
    } else if linkset > page {
        Representation::Linkset
    } else {
        Representation::Page
    }
}

/// Media type and its quality in thousandths.
fn media_range(range: &str) -> (&str, u16) {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts.find_map(|parameter| parameter.strip_prefix("q="));
    (media, weight.map_or(1_000, thousandths))
}

/// `0.8` is 800 (RFC 9110 §12.4.2: at most three decimals).
fn thousandths(weight: &str) -> u16 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    match (whole, fraction.parse::<u16>()) {
        ("0", Ok(fraction)) => fraction,
        ("1", _) => 1_000,
        _ => 0,
    }
}

/// One link of a linkset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The GS1 link type's local name (`traceability`), or a registered relation (`alternate`).
    pub relation: Relation,
    pub href: String,
    pub title: String,
    pub media_type: &'static str,
    /// BCP 47 tags; empty where no language applies.
    pub languages: Vec<String>,
    /// The worst that is known of the keys that signed what the link leads to, unless all are good.
    pub signer_key: Option<&'static str>,
}

/// RFC 8288 §2.1: registered, or a URI of the GS1 vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Gs1(&'static str),
    Registered(&'static str),
}

/// The links that every lot or item has here: its page, its trace and its events.
pub fn links_of(
    key: &Key,
    public_base_url: &str,
    title: &str,
    languages: &[String],
    signer_key: Option<&'static str>,
) -> Vec<Link> {
    let base = public_base_url.trim_end_matches('/');
    let here = format!("{base}{}", key.path());
    let link = |relation, href: String, media_type, languages: &[String]| Link {
        relation,
        href,
        title: title.to_owned(),
        media_type,
        languages: languages.to_vec(),
        signer_key: signer_key.filter(|_| matches!(relation, Relation::Gs1(_))),
    };
    vec![
        link(Relation::Gs1("defaultLink"), here.clone(), "text/html", languages),
        link(Relation::Gs1("traceability"), here.clone(), "text/html", languages),
        link(Relation::Gs1("epcis"), format!("{here}?linkType=gs1:epcis"), "application/ld+json", &[]),
        link(Relation::Registered("canonical"), key.uri(), "text/html", &[]),
    ]
}

/// RFC 9264 §4.2: `{"linkset": [{"anchor": …, relation: [target, …]}]}`.
pub fn linkset(anchor: &str, description: &str, links: &[Link]) -> Value {
    let mut context = Map::new();
    context.insert("anchor".to_owned(), anchor.into());
    context.insert("itemDescription".to_owned(), description.into());
    for link in links {
        let name = match link.relation {
            Relation::Gs1(name) => format!("{VOCABULARY}{name}"),
            Relation::Registered(name) => name.to_owned(),
        };
        let mut target = json!({"href": link.href, "title": link.title, "type": link.media_type});
        if let (Some(members), false) = (target.as_object_mut(), link.languages.is_empty()) {
            members.insert("hreflang".to_owned(), link.languages.clone().into());
        }
        // RFC 9264 §4.2.4.3: an attribute of ours is a list.
        if let (Some(members), Some(standing)) = (target.as_object_mut(), link.signer_key) {
            members.insert("signer-key".to_owned(), json!([standing]));
        }
        let targets = context.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Some(targets) = targets.as_array_mut() {
            targets.push(target);
        }
    }
    json!({"linkset": [context]})
}

/// An EPCISDocument of events as everybody may see them, each with its own context.
pub fn epcis_document(created: &str, events: &[Value]) -> Value {
    json!({
        "@context": [EPCIS_CONTEXT],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": created,
        "epcisBody": {"eventList": events},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_and_machines_what_they_ask_for() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(negotiate(Some(browser), None), Representation::Page);
        assert_eq!(negotiate(None, None), Representation::Page);
        assert_eq!(negotiate(Some("*/*"), None), Representation::Page);
        assert_eq!(negotiate(Some("application/linkset+json"), None), Representation::Linkset);
        assert_eq!(negotiate(Some("application/json;q=0.5, text/html;q=0.4"), None), Representation::Linkset);
        assert_eq!(negotiate(Some("application/ld+json"), None), Representation::Epcis);
        assert_eq!(negotiate(Some(browser), Some("linkset")), Representation::Linkset);
        assert_eq!(negotiate(Some("text/html"), Some("gs1:epcis")), Representation::Epcis);
    }

    #[test]
    fn a_linkset_groups_its_targets_by_link_type() {
        let key: Key = "https://id.gs1.org/01/09520123456788/10/A1".parse().unwrap();
        let links = links_of(
            &key,
            "https://trace.example/",
            "White sugar",
            &["zh-CN".to_owned(), "en".to_owned()],
            Some("lost"),
        );
        let set = linkset(&key.uri(), "White sugar", &links);
        let context = &set["linkset"][0];
        assert_eq!(context["anchor"], "https://id.gs1.org/01/09520123456788/10/A1");
        let default = &context["https://ref.gs1.org/voc/defaultLink"][0];
        assert_eq!(default["href"], "https://trace.example/01/09520123456788/10/A1");
        assert_eq!(default["hreflang"], json!(["zh-CN", "en"]));
        let epcis = &context["https://ref.gs1.org/voc/epcis"][0];
        assert!(epcis.get("hreflang").is_none());
        assert_eq!(epcis["signer-key"], json!(["lost"]));
        assert!(context["canonical"][0].get("signer-key").is_none());
    }
}
