//! An account that must change its password before anything else (DSP0266, "password change required"): it may log in, read
//! itself and change its password.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::accounts::ACCOUNTS;
use super::personality::dress;
use super::resources::SESSIONS;
use super::service::{Asked, Reply};
use crate::bmc::Accounts;

const ID: &str = "Base.1.8.PasswordChangeRequired";

/// What everything else is refused with.
pub(super) fn refusal(accounts: &Accounts, asked: &Asked, path: &str) -> Option<Reply> {
    let account = place(accounts)?;
    let may = path == account && matches!(asked.method, Method::GET | Method::PATCH)
        || path.starts_with(SESSIONS) && asked.method == Method::DELETE;
    (!may).then(|| refused(&account))
}

/// A log-in: the session says so beside its properties; or there is none, where `sessions` is not.
pub(super) fn log_in(accounts: &Accounts, sessions: bool) -> Option<Reply> {
    place(accounts).filter(|_| !sessions).map(|account| refused(&account))
}

/// Says it beside a session's properties.
pub(super) fn note(accounts: &Accounts, session: &mut Value) {
    if let Some(account) = place(accounts) {
        dress(session, json!({ "@Message.ExtendedInfo": [message(&account)] }));
    }
}

fn place(accounts: &Accounts) -> Option<String> {
    accounts.must_change().map(|slot| format!("{ACCOUNTS}/{slot}"))
}

fn refused(account: &str) -> Reply {
    let body = json!({ "error": {
        "code": ID, "message": "see the messages", "@Message.ExtendedInfo": [message(account)],
    }});
    Reply::with_body(StatusCode::FORBIDDEN, body)
}

fn message(account: &str) -> Value {
    let words = format!(
        "The password provided for this account must be changed before access is granted. PATCH the 'Password' property for \
         this account located at the target URI '{account}' to complete this process."
    );
    json!({ "MessageId": ID, "Message": words, "MessageArgs": [account], "Severity": "Critical" })
}
