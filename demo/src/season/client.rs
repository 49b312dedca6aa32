//! The front door as a browser and a program use it: sign-in form, cookie, same-origin posts, JSON registrations.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value as Json;
use uuid::Uuid;

/// Long enough for a laptop that is building something else.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum FrontDoorError {
    #[error("{what} could not be asked for")]
    Http { what: String, source: reqwest::Error },
    #[error("{what} was answered {status}: {body}")]
    Refused { what: String, status: StatusCode, body: String },
    #[error("{what} should have been refused by {rule} and was not")]
    NotRefused { what: String, rule: String },
    #[error("{what} lacks {member} in its answer")]
    Answer { what: String, member: &'static str },
    #[error("the season's state file cannot be used")]
    State(#[from] std::io::Error),
    #[error("the season's state file is not the season's")]
    StateFormat(#[from] serde_json::Error),
    #[error("a sensor could not publish")]
    Mqtt(#[from] super::sensors::SensorError),
    #[error("no random bytes")]
    Random,
    #[error("{0} is not registered in this season")]
    Unknown(String),
}

/// Somebody signed in.
#[derive(Debug, Clone)]
pub struct Session {
    cookie: String,
}

#[derive(Debug, Clone)]
pub struct FrontDoor {
    client: Client,
    base_url: String,
}

impl FrontDoor {
    pub fn new(base_url: &str) -> Result<Self, FrontDoorError> {
        let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|source| FrontDoorError::Http { what: "a client".to_owned(), source })?;
        Ok(Self { client, base_url: base_url.trim_end_matches('/').to_owned() })
    }

    /// The form of `/sign-in`. The cookie is `Secure`: over plain HTTP to this machine it is carried by hand.
    pub async fn sign_in(&self, login: &str, password: &str) -> Result<Session, FrontDoorError> {
        let what = format!("signing in as {login}");
        let request = self.client.post(format!("{}/sign-in", self.base_url));
        let request =
            request.header(header::ORIGIN, &self.base_url).form(&[("login", login), ("password", password)]);
        let response = self.send(&what, request).await?;
        let cookies = response.headers().get_all(header::SET_COOKIE).iter();
        let pair =
            cookies.filter_map(|cookie| cookie.to_str().ok()).find_map(|cookie| cookie.split(';').next());
        match (response.status(), pair) {
            (StatusCode::SEE_OTHER, Some(pair)) => Ok(Session { cookie: pair.to_owned() }),
            _ => Err(refused(what, response).await),
        }
    }

    /// A registration or other JSON request of somebody signed in.
    pub async fn post_json(
        &self,
        session: &Session,
        path: &str,
        body: &Json,
    ) -> Result<Json, FrontDoorError> {
        let what = format!("POST {path}");
        let request = self.client.post(format!("{}{path}", self.base_url));
        let request = request.header(header::ORIGIN, &self.base_url).header(header::COOKIE, &session.cookie);
        let response = self.send(&what, request.json(body)).await?;
        if !response.status().is_success() {
            return Err(refused(what, response).await);
        }
        response.json().await.map_err(|source| FrontDoorError::Http { what, source })
    }

    /// A document of a program with a token: EPCIS capture.
    pub async fn post_document(&self, token: &str, path: &str, body: &Json) -> Result<Json, FrontDoorError> {
        let what = format!("POST {path}");
        let request = self.client.post(format!("{}{path}", self.base_url)).bearer_auth(token).json(body);
        let response = self.send(&what, request).await?;
        if !response.status().is_success() {
            return Err(refused(what, response).await);
        }
        response.json().await.map_err(|source| FrontDoorError::Http { what, source })
    }

    /// What somebody signed in reads over REST, as JSON text.
    pub async fn read(
        &self,
        session: &Session,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<String, FrontDoorError> {
        let what = format!("GET {path}");
        let request = self.client.get(format!("{}{path}", self.base_url));
        let request = request.query(query).header(header::COOKIE, &session.cookie);
        let response = self.send(&what, request).await?;
        if !response.status().is_success() {
            return Err(refused(what, response).await);
        }
        response.text().await.map_err(|source| FrontDoorError::Http { what, source })
    }

    async fn post_form(
        &self,
        session: &Session,
        path: &str,
        fields: &[(String, String)],
    ) -> Result<Response, FrontDoorError> {
        let request = self.client.post(format!("{}{path}", self.base_url));
        let request = request.header(header::ORIGIN, &self.base_url).header(header::COOKIE, &session.cookie);
        self.send(path, request.form(fields)).await
    }

    /// The form of a step; 303 to its receipt means taken (now or before).
    pub async fn take_step(
        &self,
        session: &Session,
        path: &str,
        jti: Uuid,
        mut fields: Vec<(String, String)>,
    ) -> Result<(), FrontDoorError> {
        fields.push(("jti".to_owned(), jti.to_string()));
        let response = self.post_form(session, path, &fields).await?;
        if response.status() == StatusCode::SEE_OTHER {
            return Ok(());
        }
        Err(refused(format!("{path} {fields:?}"), response).await)
    }

    /// Any other form; 303 means taken.
    pub async fn fill_in(
        &self,
        session: &Session,
        path: &str,
        fields: &[(String, String)],
    ) -> Result<(), FrontDoorError> {
        let response = self.post_form(session, path, fields).await?;
        if response.status() == StatusCode::SEE_OTHER {
            return Ok(());
        }
        Err(refused(format!("{path} {fields:?}"), response).await)
    }

    /// The same step by REST, which must be refused by `rule`: problem+json names it.
    pub async fn expect_refusal(
        &self,
        session: &Session,
        path: &str,
        (jti, rule): (Uuid, &str),
        fields: &[(String, String)],
    ) -> Result<(), FrontDoorError> {
        let mut body: serde_json::Map<String, Json> =
            fields.iter().map(|(name, text)| (name.clone(), Json::String(text.clone()))).collect();
        body.insert("jti".to_owned(), Json::String(jti.to_string()));
        match self.post_json(session, path, &Json::Object(body)).await {
            Err(FrontDoorError::Refused { status, body, .. })
                if status.is_client_error() && body.contains(&format!("\"{rule}\"")) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => Err(FrontDoorError::NotRefused { what: path.to_owned(), rule: rule.to_owned() }),
        }
    }

    async fn send(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Response, FrontDoorError> {
        request.send().await.map_err(|source| FrontDoorError::Http { what: what.to_owned(), source })
    }
}

async fn refused(what: String, response: Response) -> FrontDoorError {
    let status = response.status();
    let body: String = response.text().await.unwrap_or_default().chars().take(2_000).collect();
    FrontDoorError::Refused { what, status, body }
}
