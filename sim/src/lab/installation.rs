//! The processes of an installation, from the authority up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::{Credentials, Identity, Role};

use super::client::Client;
use super::config::{RACK_PORT, RackConfig};
use super::health;
use super::place::Place;
use super::process::{Process, tail};
use super::programs::Programs;
use crate::tool;

/// A program of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Inventory,
    Scheduler,
    Images,
    Rackd,
}

impl Service {
    pub const ALL: [Service; 4] = [Service::Inventory, Service::Scheduler, Service::Images, Service::Rackd];

    pub fn name(self) -> &'static str {
        match self {
            Service::Inventory => "inventory",
            Service::Scheduler => "scheduler",
            Service::Images => "images",
            Service::Rackd => "rackd",
        }
    }

    fn port(self) -> u16 {
        match self {
            Service::Inventory => 7001,
            Service::Scheduler => 7002,
            Service::Images => 7003,
            Service::Rackd => RACK_PORT,
        }
    }
}

/// Where each service answers, `https://host:port`.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub inventory: String,
    pub scheduler: String,
    pub images: String,
    pub rack: String,
}

/// A running installation with one rack; every process ends when it is dropped.
#[derive(Debug)]
pub struct Installation {
    place: Place,
    programs: Programs,
    dir: PathBuf,
    endpoints: Endpoints,
    admin: Credentials,
    rack: Option<String>,
    running: BTreeMap<Service, Process>,
}

impl Installation {
    /// Makes an authority and identities in `dir`, and starts the central services in `place`. They
    /// serve when this returns. Call it from a runtime inside the place.
    pub async fn start(place: Place, programs: &Programs, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir.join("log"))?;
        let host = place.host().to_string();
        let authority = Authority::init(&dir.join("ca"), "Farrier lab")?;
        let issue = |identity: Identity, name: &str| -> Result<()> {
            let issued = authority.issue(&identity, std::slice::from_ref(&host), VALID)?;
            Ok(write_identity(&dir.join("id").join(name), &issued, authority.cert_pem())?)
        };
        for service in ["inventory", "scheduler", "images"] {
            issue(Identity::Service(service.to_owned()), service)?;
        }
        let admin = Identity::User { name: "admin".into(), role: Role::Admin, project: String::new() };
        issue(admin, "admin")?;
        let url = |service: Service| format!("https://{host}:{}", service.port());
        let mut installation = Self {
            endpoints: Endpoints {
                inventory: url(Service::Inventory),
                scheduler: url(Service::Scheduler),
                images: url(Service::Images),
                rack: url(Service::Rackd),
            },
            admin: Credentials::load(&dir.join("id/admin"))?,
            place,
            programs: programs.clone(),
            dir: dir.to_owned(),
            rack: None,
            running: BTreeMap::new(),
        };
        installation.write_client_config()?;
        for service in [Service::Inventory, Service::Images, Service::Scheduler] {
            installation.restart(service).await?;
        }
        Ok(installation)
    }

    /// Joins `rack`, which the API already knows, with a one-time token, and starts its rackd. It serves
    /// when this returns.
    pub async fn start_rack(&mut self, rack: &str, config: &RackConfig) -> Result<()> {
        let token = self.farrier(&["rack", "join-token", rack, "-o", "json"])?;
        let token: serde_json::Value = serde_json::from_str(&token).context("join token")?;
        let token =
            token.get("token").and_then(serde_json::Value::as_str).context("no token in the answer")?;
        let token_file = self.join_token();
        std::fs::write(&token_file, token)?;
        let host = self.place.host();
        self.write_rack_config(rack, config)?;
        let mut join = self.command("rackd")?;
        join.args(["join", "--inventory", &self.endpoints.inventory, "--host", &host.to_string()]);
        join.arg("--token-file").arg(&token_file).arg("--identity").arg(self.dir.join("id/rack"));
        tool::output(join, &[]).context("rackd join")?;
        self.rack = Some(rack.to_owned());
        self.restart(Service::Rackd).await
    }

    /// Gives the rack that has joined another configuration: rackd is started again with it.
    pub async fn configure_rack(&mut self, config: &RackConfig) -> Result<()> {
        let rack = self.rack.clone().context("no rack has joined yet")?;
        self.write_rack_config(&rack, config)?;
        self.restart(Service::Rackd).await
    }

    fn write_rack_config(&self, rack: &str, config: &RackConfig) -> Result<()> {
        let text = config.render(rack, self.place.host(), &self.dir, &self.endpoints)?;
        Ok(std::fs::write(self.dir.join("rackd.toml"), text)?)
    }

    /// Kills a process with SIGKILL; gone when this returns. One that does not run stays so.
    pub fn kill(&mut self, service: Service) {
        if let Some(mut process) = self.running.remove(&service) {
            process.kill();
        }
    }

    /// Starts a process (again), after killing it where it runs; it serves when this returns.
    pub async fn restart(&mut self, service: Service) -> Result<()> {
        self.restart_with(service, &[]).await
    }

    /// As [`Installation::restart`], with further environment variables for this life.
    pub async fn restart_with(&mut self, service: Service, env: &[(&str, &str)]) -> Result<()> {
        self.kill(service);
        let mut command = self.service_command(service)?;
        command.envs(env.iter().copied());
        let mut process = Process::start(service.name(), command, &self.log(service))?;
        let (url, identity) = self.address(service)?;
        health::wait(&mut process, &url, identity, &self.admin).await?;
        self.running.insert(service, process);
        Ok(())
    }

    /// What a process keeps on disk.
    pub fn data(&self, service: Service) -> PathBuf {
        self.dir.join(service.name())
    }

    /// Waits until a process has ended by itself.
    pub async fn wait_ended(&mut self, service: Service) -> Result<()> {
        let process =
            self.running.get_mut(&service).with_context(|| format!("{} does not run", service.name()))?;
        process.ended_by_itself(SELF_END).await?;
        self.running.remove(&service);
        Ok(())
    }

    /// Ends every process as a service manager would, and says which did not end by itself.
    pub async fn shutdown(mut self) -> Result<()> {
        for service in [Service::Rackd, Service::Scheduler, Service::Images, Service::Inventory] {
            if let Some(mut process) = self.running.remove(&service) {
                let status = process.end(GRACE).await?;
                anyhow::ensure!(status.success(), "{}: {status} after SIGTERM", service.name());
            }
        }
        Ok(())
    }

    /// An error, with the end of its log, when one of the started processes has ended by itself.
    pub fn ensure_running(&mut self) -> Result<()> {
        self.running.values_mut().try_for_each(Process::ensure_running)
    }

    /// Ends when a process of the installation has ended by itself, with [`Installation::ensure_running`]'s error.
    pub async fn died(&mut self) -> anyhow::Error {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            if let Err(error) = self.ensure_running() {
                return error;
            }
        }
    }

    /// The process id of a service that runs.
    pub fn pid(&self, service: Service) -> Option<u32> {
        self.running.get(&service).map(Process::pid)
    }

    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The administrator's identity directory: `cert.pem`, `key.pem`, `ca.pem`.
    pub fn admin_dir(&self) -> PathBuf {
        self.dir.join("id/admin")
    }

    /// What a service said, over all its lives.
    pub fn log(&self, service: Service) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", service.name()))
    }

    /// The token that the last rack joined with.
    pub fn join_token(&self) -> PathBuf {
        self.dir.join("join-token")
    }

    /// The ends of all logs, for a report of a failure.
    pub fn tails(&self, lines: usize) -> String {
        let one = |service: Service| {
            let log = self.log(service);
            format!("── {} ({})\n{}\n", service.name(), log.display(), tail(&log, lines))
        };
        Service::ALL.into_iter().filter(|service| self.log(*service).exists()).map(one).collect()
    }

    /// The administrator as an API client. Make it on a runtime inside the place.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.endpoints, &self.admin)
    }

    /// Runs the `farrier` program as the administrator; gives its standard output. Blocking.
    pub fn farrier(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command("farrier")?;
        command.arg("--config").arg(self.client_config()).args(args).env("NO_COLOR", "1");
        Ok(tool::output(command, &[])?)
    }

    /// What a person types before a verb of `farrier`, from anywhere on this machine.
    pub fn farrier_line(&self) -> Result<String> {
        let program = self.programs.path("farrier")?;
        let config = self.client_config();
        Ok(format!("{}{} --config {}", self.place.prefix(), program.display(), config.display()))
    }

    fn client_config(&self) -> PathBuf {
        self.dir.join("farrier.toml")
    }

    fn write_client_config(&self) -> Result<()> {
        let Endpoints { inventory, scheduler, images, .. } = &self.endpoints;
        let text = format!(
            "current = \"lab\"\n\n[contexts.lab]\ninventory = \"{inventory}\"\nscheduler = \"{scheduler}\"\n\
             images = \"{images}\"\nidentity = \"id/admin\"\n"
        );
        Ok(std::fs::write(self.client_config(), text)?)
    }

    /// A command of this workspace's `program` in the place.
    pub fn command(&self, program: &str) -> Result<Command> {
        Ok(self.place.command(self.programs.path(program)?))
    }

    fn service_command(&self, service: Service) -> Result<Command> {
        let listen = format!("{}:{}", self.place.host(), service.port());
        let database = |name: &str| format!("sqlite://{}", self.dir.join(name).display());
        let name = service.name();
        if service == Service::Rackd {
            let mut command = self.command("rackd")?;
            command.arg("run").arg("--config").arg(self.dir.join("rackd.toml"));
            return Ok(command);
        }
        let mut command = self.command(&format!("farrier-{name}"))?;
        command.arg("--listen").arg(listen).arg("--identity").arg(self.dir.join("id").join(name));
        command.arg("--database").arg(database(&format!("{name}.db")));
        match service {
            Service::Inventory => {
                command.arg("--secrets-key").arg(self.dir.join("inventory.key"));
                command.arg("--ca").arg(self.dir.join("ca"));
            }
            Service::Images => {
                command.arg("--data").arg(self.dir.join("images"));
            }
            Service::Scheduler | Service::Rackd => {
                command.arg("--secrets-key").arg(self.dir.join("scheduler.key"));
                command.arg("--inventory").arg(&self.endpoints.inventory);
                command.arg("--images").arg(&self.endpoints.images);
            }
        }
        Ok(command)
    }

    fn address(&self, service: Service) -> Result<(String, Identity)> {
        let url = format!("https://{}:{}", self.place.host(), service.port());
        let identity = match service {
            Service::Rackd => Identity::Rack(self.rack.clone().context("no rack has joined yet")?),
            other => Identity::Service(other.name().to_owned()),
        };
        Ok((url, identity))
    }
}

/// Longer than any test; a lab is no place to forget a certificate.
const VALID: Duration = Duration::from_secs(7 * 86_400);
/// Longest wait for a process that is expected to end by itself.
const SELF_END: Duration = Duration::from_secs(180);
/// What a service manager gives a service to end: systemd's default is 90 s, ours end in one.
const GRACE: Duration = Duration::from_secs(15);
/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(500);
