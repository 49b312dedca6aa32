//! Parties and places as the register holds them, without the forms that put them there.

use store::{Connection, party};

pub async fn party_of(conn: &mut Connection, slug: &str, role: &str, pgln: &str) -> party::Party {
    let iss = format!("https://id.gs1.org/417/{pgln}");
    let (name, county, company_prefix, person_id) = (Some(slug), None, None, None);
    let new = party::NewParty { slug, role, iss: &iss, name, county, company_prefix, person_id };
    party::insert(conn, &new).await.unwrap()
}

/// A place of the party's own, of the kind that it is called by.
pub async fn place_of(conn: &mut Connection, party: &party::Party, kind: &str, slug: &str) -> party::Place {
    let uri = format!("https://id.gs1.org/414/9520123456788/254/{slug}");
    let (name, county, parent_id, person_id, sealed) = (Some(slug), None, None, None, None);
    let party_id = party.id;
    let new = party::NewPlace { party_id, slug, kind, uri: &uri, name, county, parent_id, person_id, sealed };
    party::insert_place(conn, &new).await.unwrap()
}
