use std::fmt;
use std::str::FromStr;

/// Trust domain of every Farrier id.
pub const TRUST_DOMAIN: &str = "farrier";

/// What a user may do at most. Ordered: each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads what belongs to its project.
    Reader,
    /// Makes and deletes instances of its project.
    Member,
    /// Acts on machines of every project.
    Operator,
    /// Everything, secrets excepted: nobody reads those.
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Reader, Role::Member, Role::Operator, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Member => "member",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = ParseIdentityError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|r| r.as_str() == s).ok_or_else(|| ParseIdentityError {
            seen: s.to_owned(),
            expected: "reader, member, operator or admin",
        })
    }
}

/// Who a certificate speaks for (SPIFFE id, trust domain `farrier`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `spiffe://farrier/service/<name>`
    Service(String),
    /// `spiffe://farrier/rack/<id>`
    Rack(String),
    /// `spiffe://farrier/node/<id>`
    Node(String),
    /// `spiffe://farrier/user/<name>`; role and project are the subject's OU and O, as in Kubernetes:
    /// the authority signs them together with the name.
    User { name: String, role: Role, project: String },
}

/// A string that is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, saw {seen:?}")]
pub struct ParseIdentityError {
    pub seen: String,
    pub expected: &'static str,
}

const EXPECTED: &str =
    "spiffe://farrier/{service|rack|node|user}/<name>, the name of letters, digits, '-', '_' and '.'";

impl Identity {
    /// Parses a SPIFFE id. A user's role and project travel beside it, in the subject.
    pub fn parse(uri: &str, role: Option<Role>, project: &str) -> Result<Self, ParseIdentityError> {
        let bad = || ParseIdentityError { seen: uri.to_owned(), expected: EXPECTED };
        let path = uri.strip_prefix("spiffe://farrier/").ok_or_else(bad)?;
        let (kind, name) = path.split_once('/').ok_or_else(bad)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            return Err(bad());
        }
        let name = name.to_owned();
        match kind {
            "service" => Ok(Identity::Service(name)),
            "rack" => Ok(Identity::Rack(name)),
            "node" => Ok(Identity::Node(name)),
            // A user without a role may read: the least that a valid certificate can mean.
            "user" => {
                Ok(Identity::User { name, role: role.unwrap_or(Role::Reader), project: project.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Identity::Service(n) => ("service", n),
            Identity::Rack(n) => ("rack", n),
            Identity::Node(n) => ("node", n),
            Identity::User { name, .. } => ("user", name),
        };
        write!(f, "spiffe://{TRUST_DOMAIN}/{kind}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        for id in
            [Identity::Service("inventory".into()), Identity::Rack("r1".into()), Identity::Node("n-1".into())]
        {
            assert_eq!(Identity::parse(&id.to_string(), None, ""), Ok(id));
        }
    }

    #[test]
    fn foreign_and_malformed_ids_are_refused() {
        for bad in [
            "",
            "spiffe://other/rack/r1",
            "spiffe://farrier/rack/",
            "spiffe://farrier/rack/a/b",
            "spiffe://farrier/king/x",
            "spiffe://farrier/rack/a b",
        ] {
            assert!(Identity::parse(bad, None, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::Member && Role::Member > Role::Reader);
    }
}
