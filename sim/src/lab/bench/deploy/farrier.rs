//! Our chain: one request to the scheduler; the instants are those that the rack itself has timed, and what
//! the machine's power and console show.

use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use farrier_proto::inventory::Flavor;
use farrier_proto::rack::{ReadyGate, Step, StepState};
use farrier_proto::scheduler::{Instance, Operation};
use farrier_proto::types::NodeVerb;

use super::marks::{Marks, between};
use super::report::StepTime;
use super::{LIMIT, PASSWORD, RACK, Subject, USER, stamp};
use crate::lab::client::{Client, NewNode};
use crate::lab::config::RackConfig;
use crate::lab::guest::Image;
use crate::lab::installation::Installation;
use crate::lab::operation::seconds;
use crate::lab::place::Place;
use crate::lab::programs::Programs;
use crate::lab::upload::ImageFile;
use crate::media::Ramdisk;
use crate::rack::Rack;

/// A whole installation and its rack.
pub(super) struct Farrier {
    installation: Installation,
    client: Client,
    image: Image,
    deploys: u32,
}

impl Farrier {
    /// Starts it on `rack`, with the image imported.
    pub(super) async fn start(
        rack: &Rack,
        programs: &Programs,
        ramdisk: &Ramdisk,
        image: Image,
        file: &ImageFile,
    ) -> Result<Self> {
        let dir = rack.dir().join("farrier");
        let mut installation = Installation::start(Place::inside(rack.netns()), programs, &dir).await?;
        let client = installation.client()?;
        client.create_site("here").await?;
        client.create_rack(RACK, "here").await?;
        installation.start_rack(RACK, &RackConfig::of_rack(rack, ramdisk)).await?;
        client.create_flavor(Flavor { name: "any".into(), ..Flavor::default() }).await?;
        client.import_image(image.name(), file, |_, _| ()).await?;
        Ok(Self { installation, client, image, deploys: 0 })
    }

    /// Enrols a server and makes it available.
    pub(super) async fn enrol(&self, subject: &Subject) -> Result<()> {
        let new = NewNode::of(&subject.server, RACK, USER, PASSWORD)?;
        self.client.create_node(&new).await?;
        for verb in [NodeVerb::Manage, NodeVerb::Inspect, NodeVerb::Provide] {
            self.client.wait(self.client.act(&new.name, verb).await?, |_| ()).await?;
        }
        Ok(())
    }

    /// One deploy, from the request to the answer. The machine runs afterwards.
    pub(super) async fn deploy(&mut self, subject: &Subject) -> Result<(Marks, Vec<StepTime>)> {
        let machine = &subject.server.machine;
        let node = NewNode::of(&subject.server, RACK, USER, PASSWORD)?.name;
        self.deploys += 1;
        let instance = Instance {
            name: self.instance(),
            flavor: "flavors/any".into(),
            image: format!("images/{}", self.image.name()),
            node: format!("nodes/{node}"),
            ready: ReadyGate::PhoneHome.into(),
            ready_seconds: 1200,
            ..Instance::default()
        };
        let from = machine.serial_position();
        let client = self.client.clone();
        let request = SystemTime::now();
        let answer = async {
            let done = client.wait(client.create_instance(instance).await?, |_| ()).await?;
            Ok((SystemTime::now(), done))
        };
        let console = async {
            let (init, at) = stamp(machine.wait_serial(from, AGENT, LIMIT)).await?;
            let (up, _) = stamp(machine.wait_serial(at, self.image.up_marker(), LIMIT)).await?;
            Ok::<_, anyhow::Error>((init, up))
        };
        let both = async { tokio::try_join!(answer, console) };
        let ((done, operation), (init, up)) = tokio::select! {
            ended = both => ended?,
            died = self.installation.died() => return Err(died),
        };
        let (agent, write, written, called) = steps(&operation)?;
        let (ramdisk, system) = subject.last_two_runs(request).await?;
        let since = |time| between(request, time);
        let marks = Marks {
            power_on: since(ramdisk.asked),
            init: since(init),
            agent: since(agent),
            write: since(write),
            written: since(written),
            off: since(ramdisk.off().context("the ramdisk's run never ended")?),
            start: since(system.asked),
            up: since(up),
            called: since(called),
            done: since(done),
        };
        Ok((marks, step_times(&operation, request)))
    }

    /// Takes the machine back: off, erased, available.
    pub(super) async fn take_back(&self) -> Result<()> {
        self.client.wait(self.client.delete_instance(&self.instance()).await?, |_| ()).await?;
        Ok(())
    }

    fn instance(&self) -> String {
        format!("bench-{}", self.deploys)
    }

    /// For a report of a failure.
    pub(super) fn tails(&self) -> String {
        self.installation.tails(30)
    }

    pub(super) async fn shutdown(self) -> Result<()> {
        self.installation.shutdown().await
    }
}

/// Agent ready, image begins, image written, system has called: as the rack timed them.
fn steps(operation: &Operation) -> Result<(SystemTime, SystemTime, SystemTime, SystemTime)> {
    let step = |name: &str| {
        let step = operation.steps.iter().find(|step| step.name == name);
        let step = step.with_context(|| format!("no step {name} in {}", operation.name))?;
        ensure!(
            step.state() == StepState::Done && step.attempt == 1,
            "step {name} was tried {} times: no clean run",
            step.attempt
        );
        Ok(step)
    };
    let time = |time: Option<prost_types::Timestamp>| -> Result<SystemTime> {
        Ok(SystemTime::try_from(time.context("a step without a time")?)?)
    };
    let write = step("write_image")?;
    Ok((
        time(step("wait_agent")?.end_time)?,
        time(write.start_time)?,
        time(write.end_time)?,
        time(step("wait_system")?.end_time)?,
    ))
}

/// All steps, for a closer look.
fn step_times(operation: &Operation, request: SystemTime) -> Vec<StepTime> {
    let one = |step: &Step| {
        Some(StepTime {
            name: step.name.clone(),
            start: between(request, SystemTime::try_from(step.start_time?).ok()?),
            seconds: seconds(&step.start_time, &step.end_time)?,
        })
    };
    operation.steps.iter().filter_map(one).collect()
}

/// The agent's first line on the console.
const AGENT: &str = "farrier: farrier-agent ";

/// Programs whose version belongs to a result, and how they are asked.
pub(super) const PROGRAMS: &[(&str, &str)] = &[("qemu-system-x86_64", "--version")];
