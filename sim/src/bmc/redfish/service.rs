//! Who may do what, and the way to a resource.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use farrier_identity::device::SelfSigned;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bios::Bios;
use super::boot_order::BootOrder;
use super::config::RedfishConfig;
use super::drive::Drive;
use super::faults::RedfishFaults;
use super::interfaces::ManagerNetwork;
use super::lifecycle::Lifecycle;
use super::personality::Personality;
use super::resources::{self, SESSIONS, View, refusal};
use super::secure_boot::SecureBoot;
use super::sessions::Sessions;
use super::tasks::{self, Tasks, Work};
use super::update::{self, Parts, Pushed};
use super::{accounts, changes, events, password_change, profile, resources::ROOT};
use crate::bmc::{Chassis, ChassisIdentify, PowerState};

const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// One BMC's service.
pub(super) struct Service {
    pub(super) config: RedfishConfig,
    pub(super) sessions: Sessions,
    chassis: Arc<dyn Chassis>,
    led: bool,
    secure_boot: SecureBoot,
    manager_network: ManagerNetwork,
    boot_order: BootOrder,
    /// Of the BMC's own doings.
    lifecycle: Lifecycle,
    drive: Drive,
    media_boots: bool,
    /// On its way, and until when.
    moving: Option<(&'static str, Instant)>,
    bios: Bios,
    pub(super) tasks: Tasks,
    parts: Parts,
    /// How often the BMC was restarted.
    pub(super) restarts: u32,
    /// Cancelled when the BMC starts again: whoever listens to events is cut off.
    running: CancellationToken,
    /// Files that came by push.
    pub(super) pushed: Vec<Pushed>,
}

/// A request that came whole.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    /// What stands behind the `?`.
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What goes back.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    /// A resource; or a text, which goes as it is.
    body: Option<Value>,
    headers: Vec<(HeaderName, String)>,
}

impl Service {
    pub(super) fn new(config: RedfishConfig, chassis: Arc<dyn Chassis>) -> Self {
        let sessions = Sessions::new(config.max_sessions, config.idle_timeout);
        let parts = Parts::with(config.more_parts);
        Self {
            bios: Bios::new(config.personality),
            config,
            sessions,
            chassis,
            led: false,
            secure_boot: SecureBoot::default(),
            manager_network: ManagerNetwork::default(),
            boot_order: BootOrder::default(),
            lifecycle: Lifecycle::default(),
            drive: Drive::default(),
            media_boots: false,
            moving: None,
            tasks: Tasks::default(),
            parts,
            restarts: 0,
            running: CancellationToken::new(),
            pushed: Vec::new(),
        }
    }

    pub(super) fn tls(&self) -> Option<SelfSigned> {
        self.config.tls.clone()
    }

    pub(super) async fn answer(&mut self, asked: &Asked, faults: &RedfishFaults) -> Reply {
        let path = match asked.path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        self.config.accounts.asked();
        // DSP0266 §13.3.4: what needs no authentication.
        let is_login = asked.method == Method::POST && path == SESSIONS && self.config.sessions;
        let is_open = asked.method == Method::GET && matches!(path, "/redfish" | ROOT);
        if is_login {
            return self.log_in(&asked.body, faults);
        }
        if !is_open && !self.admits(&asked.headers) {
            return Reply::refusal(StatusCode::UNAUTHORIZED, "NoValidSession", "no valid session");
        }
        if let Some(refused) =
            password_change::refusal(&self.config.accounts, asked, path).filter(|_| !is_open)
        {
            return refused;
        }
        if matches!(asked.method, Method::GET) {
            self.look(path).await;
        }
        if asked.method == Method::POST && path == update::PUSH {
            let kind = asked.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            return match update::push(&self.parts, kind.unwrap_or_default(), &asked.body) {
                Ok((work, pushed)) => {
                    self.pushed.push(pushed);
                    self.update(work)
                }
                Err((status, body)) => Reply { status, body: Some(body), headers: Vec::new() },
            };
        }
        let view = View {
            config: &self.config,
            power: self.chassis.told_power().await,
            flags: self.chassis.boot_flags().await,
            led: self.chassis.identified().await.map_or(self.led, |told| told != ChassisIdentify::Off),
            secure_boot: &self.secure_boot,
            manager_network: &self.manager_network,
            boot_order: &self.boot_order,
            lifecycle: &self.lifecycle,
            sessions: self.sessions.all(Instant::now()),
            accounts: &self.config.accounts,
            media: self.drive.told(),
            media_boots: self.media_boots,
            bios: &self.bios,
            tasks: &self.tasks,
            parts: &self.parts,
            endless: faults.endless,
            query: &asked.query,
            hides_power: faults.hides_power,
            moving: self.moving(),
        };
        if let (&Method::POST, Some((resource, action))) = (&asked.method, path.split_once("/Actions/")) {
            if resources::get(&view, resource).is_none() {
                return Reply::missing(path);
            }
            let body = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
            return self.act(resource, action, faults, &body).await.unwrap_or_else(|| Reply::missing(path));
        }
        if let (&Method::GET, Some(Work::Export { json, bios })) = (&asked.method, self.tasks.done(path)) {
            return Reply::text(profile::written(&self.bios, *json, *bios));
        }
        let Some(resource) = resources::get(&view, path) else { return Reply::missing(path) };
        match asked.method {
            Method::GET | Method::HEAD => {
                let etag = etag(&resource);
                let under_way = tasks::is_under_way(&view, path);
                let status = if under_way { StatusCode::ACCEPTED } else { StatusCode::OK };
                Reply { status, body: Some(resource), headers: vec![(header::ETAG, etag)] }
            }
            Method::PATCH
                if path.starts_with("/redfish/v1/Systems/")
                    || accounts::takes(path)
                    || path.contains("/VirtualMedia/")
                    || path.contains("/EthernetInterfaces/") =>
            {
                let condition = asked.headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
                match condition {
                    None if self.config.needs_etag => {
                        let status = StatusCode::PRECONDITION_REQUIRED;
                        return Reply::refusal(status, "PreconditionRequired", "If-Match is required");
                    }
                    Some(seen) if seen != "*" && !self.config.conditions.is_met(seen, &etag(&resource)) => {
                        let status = StatusCode::PRECONDITION_FAILED;
                        return Reply::refusal(status, "PreconditionFailed", "the resource has changed");
                    }
                    _ => {}
                }
                let body = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
                if let Some(changed) = accounts::patch(&self.config.accounts, path, &body) {
                    return Reply::of(changed);
                }
                if path.ends_with("/Bios/Settings") {
                    return self.change_bios(&body);
                }
                if path.starts_with("/redfish/v1/Managers/") && path.contains("/EthernetInterfaces/") {
                    return Reply::of(self.manager_network.change(&body));
                }
                if path.ends_with("/SecureBoot") {
                    return Reply::of(self.secure_boot.change(&body));
                }
                if path.ends_with("/Bios/Boot/Settings") {
                    let wanted = body.get("PersistentBootConfigOrder").unwrap_or(&Value::Null);
                    return Reply::of(self.boot_order.change(self.config.personality, wanted));
                }
                if path.ends_with("/BootSources/Settings") {
                    return Reply::of(self.boot_order.change_sources(&body));
                }
                if let Some(wanted) = body.pointer("/Boot/BootOrder") {
                    let changed = self.boot_order.change(self.config.personality, wanted);
                    return match self.config.personality {
                        Personality::Idrac if changed.is_ok() => self.accept("Boot Order", Work::BootOrder),
                        _ => Reply::of(changed),
                    };
                }
                let chassis = Arc::clone(&self.chassis);
                if path.contains("/VirtualMedia/") {
                    let outcome = changes::drive(self.config.personality, &*chassis, &body).await;
                    self.media_boots = *outcome.as_ref().unwrap_or(&self.media_boots);
                    return Reply::of(outcome.map(drop));
                }
                Reply::of(
                    changes::system(&self.config, faults, &*chassis, &mut self.led, &mut self.bios, &body)
                        .await,
                )
            }
            Method::POST if path.ends_with("/Jobs") => {
                let body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
                self.queue_bios(&body)
            }
            Method::POST if path == accounts::ACCOUNTS => {
                let body = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
                match accounts::create(&self.config.accounts, self.config.personality, &body) {
                    Ok((location, account)) => Reply {
                        status: StatusCode::CREATED,
                        body: Some(account),
                        headers: vec![(header::LOCATION, location)],
                    },
                    Err((status, body)) => Reply { status, body: Some(body), headers: Vec::new() },
                }
            }
            Method::DELETE if path.starts_with(accounts::ACCOUNTS) => {
                let id = path.trim_start_matches(accounts::ACCOUNTS).trim_start_matches('/');
                match accounts::delete(&self.config.accounts, id) {
                    true => Reply::of(Ok(())),
                    false => Reply::missing(path),
                }
            }
            Method::DELETE if path.starts_with(SESSIONS) => {
                let id = path.rsplit('/').next().and_then(|id| id.parse().ok());
                match id.filter(|id| self.sessions.close(*id)) {
                    Some(_) => Reply::of(Ok(())),
                    None => Reply::missing(path),
                }
            }
            _ => Reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "OperationNotAllowed", "not here"),
        }
    }

    /// An action of a resource that is there; `None`: there is no such action.
    async fn act(
        &mut self,
        resource: &str,
        action: &str,
        faults: &RedfishFaults,
        body: &Value,
    ) -> Option<Reply> {
        Some(match action {
            "ComputerSystem.Reset" => {
                let chassis = Arc::clone(&self.chassis);
                let before = chassis.power().await;
                if self.moving().is_some() {
                    let words = "The request failed because the machine is on its way to another state.";
                    return Some(Reply::refusal(StatusCode::CONFLICT, "ResourceInUse", words));
                }
                let outcome = changes::reset(&self.config, faults, &*chassis, body).await;
                let restart = matches!(
                    body.get("ResetType").and_then(Value::as_str),
                    Some("ForceRestart" | "GracefulRestart" | "PowerCycle")
                );
                let starts = before == PowerState::Off || restart;
                let until = Instant::now() + self.config.power_takes;
                let after = chassis.power().await;
                self.moving = match (before, after) {
                    (PowerState::Off, PowerState::On) => Some(("PoweringOn", until)),
                    (PowerState::On, PowerState::Off) => Some(("PoweringOff", until)),
                    _ => None,
                };
                if outcome.is_ok() && starts && chassis.power().await == PowerState::On {
                    self.start(faults.fails_bios_jobs);
                }
                Reply::of(outcome)
            }
            "SecureBoot.ResetKeys" => Reply::of(self.secure_boot.reset_keys(body)),
            "LogService.ClearLog" => {
                if resource.ends_with("/Lclog") {
                    self.lifecycle.clear();
                } else {
                    self.config.log.sel().clear();
                }
                Reply::of(Ok(()))
            }
            "VirtualMedia.InsertMedia" | "Oem/Hpe/HpeiLOVirtualMedia.InsertVirtualMedia"
                if !self.config.licensed =>
            {
                changes::unlicensed()
            }
            "VirtualMedia.InsertMedia" | "Oem/Hpe/HpeiLOVirtualMedia.InsertVirtualMedia" => {
                let inserted = self.drive.insert(&self.config, body);
                self.exchange(inserted).await
            }
            "Oem/OemManager.ImportSystemConfiguration" | "Oem/OemManager.ExportSystemConfiguration"
                if let Some(job) = self.tasks.configuring() =>
            {
                // Being asked is being looked at: there is no other clock.
                self.look(&job).await;
                let words = "Unable to run the method because a configuration job is already running.";
                Reply::with_id(StatusCode::BAD_REQUEST, "IDRAC.2.8.RAC0679", words)
            }
            "Oem/OemManager.ImportSystemConfiguration" => match changes::import(body) {
                Ok(work) => self.accept("Import Configuration", work),
                Err((status, body)) => Reply { status, body: Some(body), headers: Vec::new() },
            },
            "Oem/OemManager.ExportSystemConfiguration" => match profile::export(body) {
                Ok(work) => self.accept("Export Configuration", work),
                Err((status, body)) => Reply { status, body: Some(body), headers: Vec::new() },
            },
            "UpdateService.SimpleUpdate" => match update::simple(&self.parts, body) {
                Ok(work) => self.update(work),
                Err((status, body)) => Reply { status, body: Some(body), headers: Vec::new() },
            },
            "VirtualMedia.EjectMedia" | "Oem/Hpe/HpeiLOVirtualMedia.EjectVirtualMedia" => {
                let ejected = self.drive.eject(&self.config);
                self.exchange(ejected).await
            }
            "Manager.Reset" => {
                let outcome = changes::restart(body);
                if outcome.is_ok() {
                    self.restarts += 1;
                    self.restart();
                }
                Reply::of(outcome)
            }
            _ => return None,
        })
    }

    /// What is in the virtual drive is in the machine's.
    async fn exchange(&mut self, outcome: changes::Outcome) -> Reply {
        if outcome.is_ok()
            && let Err(error) = self.chassis.set_media(self.drive.media()).await
        {
            return Reply::of(Err(changes::failed(&error)));
        }
        Reply::of(outcome)
    }

    /// Where the machine is on its way to.
    fn moving(&self) -> Option<&'static str> {
        self.moving.filter(|(_, until)| Instant::now() < *until).map(|(state, _)| state)
    }

    /// An update is begun: a task, or HPE's service tells of it.
    fn update(&mut self, work: Work) -> Reply {
        if self.config.personality != Personality::Ilo {
            return self.accept("Firmware Update", work);
        }
        self.tasks.begin("Firmware Update", work);
        Reply { status: StatusCode::OK, body: Some(refusal("Success", "begun")), headers: Vec::new() }
    }

    /// A task is begun: where to look.
    fn accept(&mut self, name: &'static str, work: Work) -> Reply {
        let id = self.tasks.begin(name, work);
        let location = tasks::location(self.config.personality, &id);
        Reply { status: StatusCode::ACCEPTED, body: None, headers: vec![(header::LOCATION, location)] }
    }

    /// What becomes true because somebody looks at a task's path, or at HPE's update service.
    async fn look(&mut self, path: &str) {
        let at_service = path == update::SERVICE && self.config.personality == Personality::Ilo;
        let newest = self.tasks.newest().map(|task| task.id().to_owned()).filter(|_| at_service);
        match self.tasks.look(newest.as_deref().unwrap_or(path)) {
            Some(Work::Firmware { part, version }) => self.parts.set(&part, version),
            Some(Work::MediaBoot) => {
                let chassis = Arc::clone(&self.chassis);
                if let Err(error) = changes::boot_cd_once(&*chassis).await {
                    tracing::warn!(error = format!("{error:#}"), "chassis failed");
                }
            }
            Some(Work::Import { profile }) => {
                let settings = profile::settings(&self.bios, &profile);
                if self.bios.change(&json!({ "Attributes": settings })).is_ok() {
                    // Its own job brings it.
                    self.tasks.begin("BIOS Configuration", Work::Bios);
                }
            }
            Some(Work::Bios | Work::BootOrder | Work::Export { .. } | Work::Nothing) | None => {}
        }
    }

    /// The machine starts.
    fn start(&mut self, fails: bool) {
        let queued = self.tasks.start(fails);
        // Dell's settings wait for their job, too.
        if queued || self.config.personality != Personality::Idrac {
            self.bios.start();
            self.boot_order.start();
        }
        self.secure_boot.start();
        self.media_boots = false;
    }

    fn change_bios(&mut self, body: &Value) -> Reply {
        if let Err((status, body)) = self.bios.change(body) {
            return Reply { status, body: Some(body), headers: Vec::new() };
        }
        let times = body.pointer("/@Redfish.SettingsApplyTime/ApplyTime").and_then(Value::as_str);
        match (self.config.personality, times) {
            (Personality::Idrac, Some("OnReset")) => self.accept("BIOS Configuration", Work::Bios),
            _ => Reply {
                status: StatusCode::OK,
                body: Some(refusal("Success", "stored")),
                headers: Vec::new(),
            },
        }
    }

    /// POST to Dell's job queue.
    fn queue_bios(&mut self, body: &Value) -> Reply {
        let target = body.get("TargetSettingsURI").and_then(Value::as_str).unwrap_or_default();
        if !["/Bios/Settings", "/BootSources/Settings"].iter().any(|known| target.ends_with(known)) {
            let words = "TargetSettingsURI names nothing that waits";
            return Reply::refusal(StatusCode::BAD_REQUEST, "PropertyValueFormatError", words);
        }
        let id = self.tasks.begin("BIOS Configuration", Work::Bios);
        let location = format!("{}/Jobs/{id}", self.config.personality.manager_path());
        Reply { status: StatusCode::OK, body: None, headers: vec![(header::LOCATION, location)] }
    }

    fn log_in(&mut self, body: &[u8], faults: &RedfishFaults) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        if faults.quotes_password {
            // So long that a reader who shows 200 characters shows half of it.
            let before = "This is no good. ".repeat(11);
            let words = format!("{before}The value {} for the property Password is wrong", text("Password"));
            return Reply::refusal(StatusCode::BAD_REQUEST, "PropertyValueFormatError", &words);
        }
        if !self.knows(text("UserName"), text("Password")) {
            let words = "the user name or the password is wrong";
            return Reply::refusal(StatusCode::UNAUTHORIZED, "ResourceAtUriUnauthorized", words);
        }
        if let Some(refused) = password_change::log_in(&self.config.accounts, self.config.restricted_sessions)
        {
            return refused;
        }
        let Some((id, token)) = self.sessions.open(text("UserName"), Instant::now()) else {
            let words = "all sessions are taken";
            return Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", words);
        };
        self.lifecycle.noted(format!("Successfully logged in using {}, from Redfish.", text("UserName")));
        let mut session = resources::session(id, text("UserName"));
        password_change::note(&self.config.accounts, &mut session);
        Reply {
            status: StatusCode::CREATED,
            body: Some(session),
            headers: vec![(X_AUTH_TOKEN, token), (header::LOCATION, format!("{SESSIONS}/{id}"))],
        }
    }

    /// Events as they come, where they are asked for by somebody who may.
    pub(super) fn listen(
        &mut self,
        asked: &Asked,
        faults: watch::Receiver<RedfishFaults>,
    ) -> Option<UnsyncBoxBody<Bytes, Infallible>> {
        let listens = asked.method == Method::GET && asked.path == events::STREAM && self.config.events;
        let system = self.config.systems.first().filter(|_| listens)?;
        let system = format!("/redfish/v1/Systems/{system}");
        let bell = self.config.log.clone();
        self.admits(&asked.headers).then(|| events::listen(bell.bell(), system, faults, self.running.clone()))
    }

    /// Who listens to events.
    pub(super) fn listeners(&self) -> usize {
        self.config.log.bell().listeners()
    }

    /// The BMC starts again: nobody is logged in any more, and nobody listens.
    pub(super) fn restart(&mut self) {
        self.sessions.forget_all();
        std::mem::take(&mut self.running).cancel();
    }

    fn admits(&mut self, headers: &HeaderMap) -> bool {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(token) = text(&X_AUTH_TOKEN) {
            return self.sessions.admits(token, Instant::now());
        }
        let pair = text(&header::AUTHORIZATION).and_then(|value| basic(value.strip_prefix("Basic ")?));
        pair.and_then(|pair| pair.split_once(':').map(|(u, p)| self.knows(u, p))).unwrap_or(false)
    }

    fn knows(&self, user: &str, password: &str) -> bool {
        self.config.accounts.lets_in(user, password.as_bytes())
    }
}

impl Reply {
    pub(super) fn refusal(status: StatusCode, id: &str, message: &str) -> Self {
        Self { status, body: Some(refusal(id, message)), headers: Vec::new() }
    }

    pub(super) fn with_body(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new() }
    }

    /// With a message id of another registry.
    pub(super) fn with_id(status: StatusCode, id: &str, message: &str) -> Self {
        let body = json!({ "error": {
            "code": "Base.1.8.GeneralError", "message": message,
            "@Message.ExtendedInfo": [{ "MessageId": id, "Message": message }],
        }});
        Self { status, body: Some(body), headers: Vec::new() }
    }

    /// As it is, without being a resource.
    fn text(text: String) -> Self {
        Self { status: StatusCode::OK, body: Some(Value::String(text)), headers: Vec::new() }
    }

    fn missing(path: &str) -> Self {
        let words = format!("there is no {path}");
        Self::refusal(StatusCode::NOT_FOUND, "ResourceMissingAtURI", &words)
    }

    fn of(outcome: changes::Outcome) -> Self {
        match outcome {
            Ok(()) => Self { status: StatusCode::NO_CONTENT, body: None, headers: Vec::new() },
            Err((status, body)) => Self { status, body: Some(body), headers: Vec::new() },
        }
    }

    pub(super) fn changed(mut self, change: fn(&mut Value)) -> Self {
        self.body.iter_mut().for_each(change);
        self
    }

    pub(super) fn redirect(status: StatusCode, to: &str) -> Self {
        let headers = vec![(header::LOCATION, to.to_owned())];
        Self { status, body: Some(json!({})), headers }
    }

    pub(super) fn into_response(
        self,
    ) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::http::Error> {
        let mut response = Response::builder().status(self.status).header("OData-Version", "4.0");
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let body = match self.body {
            Some(Value::String(text)) => {
                response = response.header(header::CONTENT_TYPE, "application/octet-stream");
                Bytes::from(text)
            }
            Some(body) => {
                response = response.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        response.body(Full::new(body).boxed_unsync())
    }
}

/// Weak: of the content, not of its bytes.
fn etag(resource: &Value) -> String {
    let hash = Sha256::digest(resource.to_string());
    format!("W/\"{}\"", hex::encode(hash.get(..8).unwrap_or_default()))
}

fn basic(text: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    String::from_utf8(bytes).ok()
}
