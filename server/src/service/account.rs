//! Who is who: passwords, sessions and the tokens of programs.

mod password;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Store, StoreError,
    account::{self, Account},
    party::Party,
};
use trace::{b64, hash::sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::password::Passwords;
use super::{
    attempts::{Allowance, Attempts, TooMany},
    keys::Keys,
};

/// A season's working day and the next morning.
const SESSION_HOURS: i64 = 14;
/// Wrong passwords for one login before it has to wait.
const SIGN_INS: Allowance = Allowance { attempts: 8, window: Duration::from_mins(10), remembered: 10_000 };
pub const PASSWORD_CHARACTERS_MIN: usize = 10;
const PASSWORD_BYTES_MAX: usize = 256;
const LOGIN_BYTES_MAX: usize = 64;

/// Somebody signed in, with the party they work for.
#[derive(Debug, Clone)]
pub struct Member {
    pub account_id: Uuid,
    pub person_id: Option<Uuid>,
    pub party: Party,
    pub roles: Vec<String>,
    pub locale: String,
}

/// A program that acts for a party, within its scopes.
#[derive(Debug, Clone)]
pub struct Program {
    pub party: Party,
    pub scopes: Vec<String>,
}

impl Program {
    pub fn is_regulator(&self) -> bool {
        self.party.role == "regulator"
    }
}

/// Who wants to know: somebody signed in, or a program.
#[derive(Debug, Clone)]
pub struct Asker {
    /// `None`: a program.
    pub account_id: Option<Uuid>,
    pub party: Party,
}

impl From<&Member> for Asker {
    fn from(member: &Member) -> Self {
        Self { account_id: Some(member.account_id), party: member.party.clone() }
    }
}

impl Asker {
    /// As a look of theirs is logged; `None` where nobody need know of it.
    pub fn watched(&self) -> Option<account::Looking> {
        let is_regulator = self.party.role == "regulator";
        is_regulator.then_some(account::Looking { party_id: self.party.id, account_id: self.account_id })
    }
}

impl Member {
    pub fn is_regulator(&self) -> bool {
        self.party.role == "regulator"
    }

    pub fn is_operator(&self) -> bool {
        self.party.role == "operator"
    }
}

/// What a new account is made of.
pub struct NewAccount<'a> {
    pub party_id: i64,
    pub person_id: Option<Uuid>,
    pub login: &'a str,
    pub password: &'a str,
    pub roles: Vec<String>,
    pub locale: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Login or password: which of them is nobody's business.
    #[error("login or password is wrong")]
    Wrong,
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("the login is taken")]
    LoginTaken,
    #[error("a login has 1 to 64 bytes")]
    LoginLength,
    #[error("a password has at least {PASSWORD_CHARACTERS_MIN} characters")]
    PasswordLength,
    #[error("the password could not be hashed")]
    Hash(#[from] argon2::password_hash::Error),
    #[error("no randomness")]
    Random(#[from] getrandom::Error),
    #[error("a thread ended early")]
    Thread(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The use cases of accounts.
pub struct Accounts {
    store: Store,
    keys: Arc<Keys>,
    attempts: Attempts<[u8; 32]>,
    passwords: Passwords,
}

impl Accounts {
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        Self { store, keys, attempts: Attempts::new(SIGN_INS), passwords: Passwords::new() }
    }

    /// A telephone number or a name; spaces, dashes and case do not matter.
    fn login_hash(&self, login: &str) -> Result<[u8; 32], AccountError> {
        let login: String = login
            .chars()
            .filter(|letter| !letter.is_whitespace() && *letter != '-')
            .flat_map(char::to_lowercase)
            .collect();
        if login.is_empty() || login.len() > LOGIN_BYTES_MAX {
            return Err(AccountError::LoginLength);
        }
        Ok(self.keys.lookup("login", login.as_bytes()).0)
    }

    pub async fn create(&self, new: NewAccount<'_>) -> Result<Uuid, AccountError> {
        if new.password.chars().count() < PASSWORD_CHARACTERS_MIN || new.password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::PasswordLength);
        }
        let account = Account {
            id: Uuid::now_v7(),
            party_id: new.party_id,
            person_id: new.person_id,
            login_hash: self.login_hash(new.login)?.to_vec(),
            password_hash: self.passwords.hash(new.password).await?,
            roles: new.roles,
            locale: new.locale.to_owned(),
        };
        let mut conn = self.store.connection().await?;
        account::insert(&mut conn, &account).await.map_err(|error| match error.constraint() {
            Some("account_login_hash_key") => AccountError::LoginTaken,
            _ => error.into(),
        })?;
        Ok(account.id)
    }

    /// A new session's token, which is stored nowhere but in the reader's cookie.
    pub async fn sign_in(
        &self,
        login: &str,
        password: &str,
        now: DateTime<Utc>,
    ) -> Result<String, AccountError> {
        let login_hash = self.login_hash(login).map_err(|_| AccountError::Wrong)?;
        self.attempts.count(login_hash)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::Wrong);
        }
        let mut conn = self.store.connection().await?;
        let found = account::by_login(&mut conn, &login_hash).await?;
        // The connection is not held while the hash is computed.
        drop(conn);
        // An unknown login costs the same work: time does not tell who has an account.
        let expected = found.as_ref().map_or(DECOY, |account| account.password_hash.as_str()).to_owned();
        let matches = self.passwords.verify(password, expected).await?;
        let Some(account) = found.filter(|_| matches) else { return Err(AccountError::Wrong) };
        self.attempts.forget(&login_hash);
        let token = random_token()?;
        let expires_at = now + TimeDelta::hours(SESSION_HOURS);
        let mut conn = self.store.connection().await?;
        account::insert_session(&mut conn, sha256(token.as_bytes()).as_bytes(), account.id, expires_at)
            .await?;
        Ok(token)
    }

    /// That whoever holds the session also knows the password: asked again before what outlives the session.
    pub async fn confirm(&self, account_id: Uuid, password: &str) -> Result<(), AccountError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::Wrong);
        }
        let mut conn = self.store.connection().await?;
        let account = account::by_id(&mut conn, account_id).await?.ok_or(AccountError::Wrong)?;
        // The connection is not held while the hash is computed.
        drop(conn);
        let login = <[u8; 32]>::try_from(account.login_hash.as_slice());
        let login = login.map_err(|_| StoreError::Corrupt("a login's hash"))?;
        self.attempts.count(login)?;
        if !self.passwords.verify(password, account.password_hash).await? {
            return Err(AccountError::Wrong);
        }
        self.attempts.forget(&login);
        Ok(())
    }

    pub async fn member(&self, token: &str, now: DateTime<Utc>) -> Result<Option<Member>, AccountError> {
        let mut conn = self.store.connection().await?;
        let found = account::of_session(&mut conn, sha256(token.as_bytes()).as_bytes(), now).await?;
        Ok(found.map(|(account, party)| Member {
            account_id: account.id,
            person_id: account.person_id,
            party,
            roles: account.roles,
            locale: account.locale,
        }))
    }

    pub async fn sign_out(&self, token: &str, now: DateTime<Utc>) -> Result<(), AccountError> {
        let mut conn = self.store.connection().await?;
        Ok(account::revoke_session(&mut conn, sha256(token.as_bytes()).as_bytes(), now).await?)
    }

    /// A program's token; shown once, stored as its hash.
    pub async fn issue_token(
        &self,
        party_id: i64,
        label: &str,
        scopes: &[String],
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<String, AccountError> {
        let token = random_token()?;
        let mut conn = self.store.connection().await?;
        account::insert_token(
            &mut conn,
            sha256(token.as_bytes()).as_bytes(),
            party_id,
            label,
            scopes,
            expires_at,
        )
        .await?;
        Ok(token)
    }

    pub async fn program(&self, token: &str, now: DateTime<Utc>) -> Result<Option<Program>, AccountError> {
        let mut conn = self.store.connection().await?;
        let found = account::of_token(&mut conn, sha256(token.as_bytes()).as_bytes(), now).await?;
        Ok(found.map(|(party, scopes)| Program { party, scopes }))
    }
}

/// The hash of a password that nobody has, with the parameters of the others.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c3V5dWFuLWRlY295LXNhbHQ$bqzPPjPzUkcHcUn6Wxq0oEHBO9ZCKbVxdKZ7YW9YJ2k";

/// 256 random bits in base64url.
fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(bytes.as_mut())?;
    Ok(b64::url(bytes.as_ref()))
}
