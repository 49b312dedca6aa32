//! Problems that shoppers report of a code: kept, shown to who made it, to the operator and to the regulator, and answered.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use chrono::Utc;
use store::{
    Connection, Store, StoreError, party,
    party::Party,
    report::{self, Report},
};
use trace::gs1::Key;
use uuid::Uuid;

use super::{
    account::Member,
    alerts::scope_of,
    attempts::{Allowance, Attempts, TooMany, network},
    inspection,
    story::{self, Named},
};

/// Longest text of a report and of its answer.
pub const TEXT_CHARACTERS_MAX: usize = 1_000;
const REPORTS_MAX: i64 = 200;
/// A household or a shop behind one address.
const OF_ADDRESS: Allowance = Allowance { attempts: 10, window: Duration::from_mins(10), remembered: 20_000 };
/// Of one code.
const OF_CODE: Allowance = Allowance { attempts: 5, window: Duration::from_hours(1), remembered: 20_000 };

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("nothing was reported")]
    Empty,
    #[error("the code was never issued, or there is no such report for this reader")]
    Unknown,
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The use cases of reports.
pub struct Reports {
    store: Store,
    by_address: Attempts<IpAddr>,
    by_code: Attempts<String>,
}

impl Reports {
    pub fn new(store: Store) -> Self {
        Self { store, by_address: Attempts::new(OF_ADDRESS), by_code: Attempts::new(OF_CODE) }
    }

    /// Keeps what somebody at `address` reported of a code; the report's name. The address is not kept.
    pub async fn make(
        &self,
        serial_master: &[u8; 32],
        address: Option<IpAddr>,
        key: &Key,
        text: &str,
    ) -> Result<Uuid, ReportError> {
        let text: String = text.trim().chars().take(TEXT_CHARACTERS_MAX).collect();
        if text.is_empty() {
            return Err(ReportError::Empty);
        }
        if let Some(address) = address {
            self.by_address.count(network(address))?;
        }
        let mut conn = self.store.connection().await?;
        let maker = maker(&mut conn, serial_master, key).await?;
        self.by_code.count(key.uri())?;
        let id = Uuid::now_v7();
        report::insert(&mut conn, id, &key.uri(), maker, &text).await?;
        Ok(id)
    }

    /// One report, for whoever knows its name.
    pub async fn one(&self, id: Uuid) -> Result<Report, ReportError> {
        let mut conn = self.store.connection().await?;
        report::by_id(&mut conn, id).await?.ok_or(ReportError::Unknown)
    }

    /// The newest reports that are a member's business, with who made what they are about. The regulator's look is logged.
    pub async fn list(&self, member: &Member) -> Result<(Vec<Report>, BTreeMap<i64, Party>), StoreError> {
        let mut conn = self.store.connection().await?;
        let reports = report::newest(&mut conn, scope_of(&member.party), REPORTS_MAX).await?;
        let makers = reports.iter().filter_map(|report| report.party_id).collect();
        inspection::look(&mut conn, &member.into(), &makers, "reports").await?;
        let parties = story::parties(&mut conn, makers.into_iter()).await?;
        Ok((reports, parties))
    }

    /// Answers a report, closes it, or both.
    pub async fn answer(
        &self,
        member: &Member,
        id: Uuid,
        text: &str,
        closes: bool,
    ) -> Result<(), ReportError> {
        let text: String = text.trim().chars().take(TEXT_CHARACTERS_MAX).collect();
        let mut transaction = self.store.begin().await?;
        let known = report::by_id(&mut transaction, id).await?.ok_or(ReportError::Unknown)?;
        if scope_of(&member.party).is_some_and(|own| known.party_id != Some(own)) {
            return Err(ReportError::Unknown);
        }
        if text.is_empty() && !closes {
            return Err(ReportError::Empty);
        }
        let now = Utc::now();
        if !text.is_empty() {
            report::answer(&mut transaction, id, &text, member.account_id, now).await?;
        }
        if closes {
            report::close(&mut transaction, id, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Who made what the code stands on. Only what was issued can have a problem that concerns us.
async fn maker(
    conn: &mut Connection,
    serial_master: &[u8; 32],
    key: &Key,
) -> Result<Option<i64>, ReportError> {
    match (story::find(conn, serial_master, key).await?, key) {
        (Named::NeverIssued, _) => Err(ReportError::Unknown),
        (Named::Lot(lot), _) => Ok(Some(lot.made_by)),
        (Named::Several(lots), _) => Ok(lots.first().map(|lot| lot.made_by)),
        (Named::Void(_), Key::TradeItem { gtin, .. }) => {
            Ok(party::trade_item(conn, &gtin.to_string()).await?.map(|item| item.party_id))
        }
        (Named::Void(_), _) => Ok(None),
    }
}
