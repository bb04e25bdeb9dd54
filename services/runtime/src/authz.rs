//! Who may call what: one rule a method, checked before any handler runs.
//!
//! **Invariant:** a method without a rule is refused, and a server with such a method does not start.

use crate::error::{Reason, refuse};
use farrier_identity::{Identity, Peer, Role};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::{Code, Request, Status};

/// Who may call a method. Which objects they may touch is the handler's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody who can connect, even without a certificate: the request itself carries the proof.
    Bearer,
    /// Any identity of this installation.
    Authenticated,
    /// Users with at least this role.
    User(Role),
    /// These services.
    Service(&'static [&'static str]),
    /// Racks; which rack is checked against the object.
    Rack,
    /// The agent on a node; which node is checked against the object.
    Node,
    /// Any of these.
    Any(&'static [Rule]),
}

/// Whom it admits, for whoever is refused.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rule::Bearer => f.write_str("anybody with a token"),
            Rule::Authenticated => f.write_str("any certificate of this installation"),
            Rule::User(role) => write!(f, "a user who is {} or more", role.as_str()),
            Rule::Service([name]) => write!(f, "service {name}"),
            Rule::Service(names) => write!(f, "one of the services {}", names.join(", ")),
            Rule::Rack => f.write_str("a rack"),
            Rule::Node => f.write_str("the agent of a node"),
            Rule::Any(rules) => {
                let each: Vec<String> = rules.iter().map(Rule::to_string).collect();
                f.write_str(&each.join(", or "))
            }
        }
    }
}

impl Rule {
    /// Whether this rule lets the identity through.
    pub fn admits(&self, identity: Option<&Identity>) -> bool {
        match (self, identity) {
            (Rule::Bearer, _) | (Rule::Authenticated, Some(_)) => true,
            (Rule::User(least), Some(Identity::User { role, .. })) => role >= least,
            (Rule::Service(names), Some(Identity::Service(name))) => names.contains(&name.as_str()),
            (Rule::Rack, Some(Identity::Rack(_))) | (Rule::Node, Some(Identity::Node(_))) => true,
            (Rule::Any(rules), identity) => rules.iter().any(|rule| rule.admits(identity)),
            _ => false,
        }
    }
}

/// The rules of a server: full method name (`farrier.inventory.v1.NodeService/GetNode`) and rule.
pub type RuleTable = &'static [(&'static str, Rule)];

/// What every server of ours also serves.
const COMMON: RuleTable = &[
    ("grpc.health.v1.Health/Check", Rule::Authenticated),
    ("grpc.health.v1.Health/List", Rule::Authenticated),
    ("grpc.health.v1.Health/Watch", Rule::Authenticated),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Rule::Authenticated),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Rule::Authenticated),
];

/// Every method of the named services, from the descriptors.
pub fn methods(services: &[&str]) -> Result<Vec<String>, prost::DecodeError> {
    let set = FileDescriptorSet::decode(farrier_proto::DESCRIPTORS)?;
    let mut out = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            if services.contains(&name.as_str()) {
                out.extend(service.method.iter().map(|m| format!("{name}/{}", m.name())));
            }
        }
    }
    Ok(out)
}

/// Methods of the services that have no rule, and rules that have no method.
pub fn unruled(services: &[&str], rules: RuleTable) -> Vec<String> {
    let methods = methods(services).unwrap_or_default();
    let without = methods.iter().filter(|m| !rules.iter().any(|(name, _)| name == m));
    let stale = rules.iter().map(|(name, _)| *name).filter(|name| !methods.iter().any(|m| m == name));
    without.map(|m| format!("{m} has no rule")).chain(stale.map(|m| format!("{m} is no method"))).collect()
}

/// Who calls, as a handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    identity: Option<Identity>,
}

impl Caller {
    /// The caller of a request that came through [`Authorize`].
    pub fn of<T>(request: &Request<T>) -> Self {
        Self { identity: request.extensions().get::<Peer>().and_then(|p| p.identity.clone()) }
    }

    /// For calls that a service makes to itself.
    pub fn internal(service: &str) -> Self {
        Self { identity: Some(Identity::Service(service.to_owned())) }
    }

    /// For tests of handlers.
    pub fn with(identity: Identity) -> Self {
        Self { identity: Some(identity) }
    }

    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// SPIFFE id for the audit log.
    pub fn actor(&self) -> String {
        self.identity.as_ref().map_or_else(|| "anonymous".to_owned(), Identity::to_string)
    }

    /// The project a user acts for; empty for everybody else.
    pub fn project(&self) -> &str {
        match &self.identity {
            Some(Identity::User { project, .. }) => project,
            _ => "",
        }
    }

    /// Services, and users from operator up, see every project.
    pub fn sees_all_projects(&self) -> bool {
        match &self.identity {
            Some(Identity::User { role, .. }) => *role >= Role::Operator,
            Some(Identity::Service(_)) => true,
            _ => false,
        }
    }

    /// Whether an object of `owner` (empty: everybody's) exists for this caller.
    pub fn sees(&self, owner: &str) -> bool {
        owner.is_empty() || self.sees_all_projects() || owner == self.project()
    }

    /// Whether this is the rack with this id.
    pub fn is_rack(&self, rack: &str) -> bool {
        matches!(&self.identity, Some(Identity::Rack(id)) if id == rack)
    }
}

/// The layer that checks the rules.
#[derive(Clone)]
pub struct Authorize {
    rules: Arc<HashMap<&'static str, Rule>>,
}

impl Authorize {
    pub fn new(rules: RuleTable) -> Self {
        Self { rules: Arc::new(COMMON.iter().chain(rules).copied().collect()) }
    }

    fn check(&self, path: &str, peer: Option<&Peer>) -> Result<(), Status> {
        let method = path.trim_start_matches('/');
        let identity = peer.and_then(|p| p.identity.as_ref());
        let Some(rule) = self.rules.get(method) else {
            return Err(Status::unimplemented(format!("{method} is not served here")));
        };
        if rule.admits(identity) {
            return Ok(());
        }
        let who = identity.map_or_else(|| "a caller without a certificate".to_owned(), Identity::to_string);
        tracing::warn!(actor = %who, method, "call refused");
        let code = if identity.is_none() { Code::Unauthenticated } else { Code::PermissionDenied };
        Err(refuse(code, Reason::NotAllowed, format!("{who} may not call {method}: expected {rule}")))
    }
}

impl<S> tower::Layer<S> for Authorize {
    type Service = Authorized<S>;
    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized { inner, authorize: self.clone() }
    }
}

/// A service behind [`Authorize`].
#[derive(Clone)]
pub struct Authorized<S> {
    inner: S,
    authorize: Authorize,
}

impl<S, B, R> tower::Service<http::Request<B>> for Authorized<S>
where
    S: tower::Service<http::Request<B>, Response = http::Response<R>> + Send,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self.authorize.check(request.uri().path(), request.extensions().get::<Peer>()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(role: Role) -> Identity {
        Identity::User { name: "u".into(), role, project: "p".into() }
    }

    #[test]
    fn roles_include_the_lesser_ones() {
        assert!(Rule::User(Role::Member).admits(Some(&user(Role::Admin))));
        assert!(!Rule::User(Role::Operator).admits(Some(&user(Role::Member))));
        assert!(!Rule::User(Role::Reader).admits(Some(&Identity::Rack("r".into()))));
    }

    #[test]
    fn nobody_passes_without_a_certificate_but_by_bearer() {
        for rule in
            [Rule::Authenticated, Rule::User(Role::Reader), Rule::Rack, Rule::Node, Rule::Service(&["x"])]
        {
            assert!(!rule.admits(None), "{rule:?}");
        }
        assert!(Rule::Bearer.admits(None));
    }

    #[test]
    fn rules_are_told_in_words() {
        const RULE: Rule = Rule::Any(&[Rule::Service(&["a", "b"]), Rule::User(Role::Operator)]);
        assert_eq!(RULE.to_string(), "one of the services a, b, or a user who is operator or more");
    }

    #[test]
    fn a_method_without_a_rule_is_found() {
        let missing = unruled(
            &["farrier.inventory.v1.SiteService"],
            &[("farrier.inventory.v1.SiteService/GetSite", Rule::Authenticated), ("x/Y", Rule::Rack)],
        );
        assert!(missing.contains(&"farrier.inventory.v1.SiteService/CreateSite has no rule".to_owned()));
        assert!(missing.contains(&"x/Y is no method".to_owned()));
        assert!(!missing.iter().any(|m| m.contains("GetSite")));
    }
}
