//! Brings the provisioning interface up: link, carrier, address, route. Blocking: nothing else runs yet.
use super::console::say;
use super::netlink;
use crate::args::Address;
use crate::hardware::{nic_by_mac, nics};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// RTMGRP_LINK: a message whenever an interface appears or its carrier changes.
const LINK_EVENTS: u32 = 1;
/// Looked at again without an event after this long: drivers that tell nothing exist.
const POLL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Between two lines on the console about what is waited for.
const TELL: Duration = Duration::from_secs(10);

/// Why the network is not up.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub(super) struct NetworkError {
    doing: &'static str,
    source: Errno,
}

fn failed(doing: &'static str) -> impl FnOnce(Errno) -> NetworkError {
    move |source| NetworkError { doing, source }
}

/// Waits for the interface that booted (or, when that is not known, for the first with a carrier) and
/// gives it the address. Returns its name.
pub(super) fn bring_up(mac: Option<[u8; 6]>, address: Option<Address>) -> Result<String, NetworkError> {
    let events = open(LINK_EVENTS).map_err(failed("listening for link events"))?;
    let requests = open(0).map_err(failed("opening a netlink socket"))?;
    let root = Path::new("/");
    let mut told = Instant::now();
    let mut up: Vec<String> = Vec::new();
    let (name, index) = loop {
        let wanted = match mac {
            Some(mac) => nic_by_mac(root, mac).into_iter().collect(),
            None => nics(root).into_iter().map(|nic| nic.name).collect::<Vec<_>>(),
        };
        // All of them: an inspection tells which ports have a cable.
        for nic in nics(root).into_iter().filter(|nic| !up.contains(&nic.name)).collect::<Vec<_>>() {
            let Some(index) = index_of(&nic.name) else { continue };
            match request(&requests, &netlink::link_up(index)) {
                Err(error) if wanted.contains(&nic.name) => return Err(failed("setting the link up")(error)),
                // Another interface's driver is no reason not to work.
                Ok(()) | Err(_) => up.push(nic.name),
            }
        }
        let ready = nics(root).into_iter().find(|nic| nic.link_up && wanted.contains(&nic.name));
        if let Some((name, index)) =
            ready.and_then(|nic| Some((index_of(&nic.name)?, nic.name))).map(|(i, n)| (n, i))
        {
            break (name, index);
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            tell(mac, &wanted);
        }
        wait(&events)?;
    };
    if let Some(address) = address {
        request(&requests, &netlink::address(index, address.ip, address.prefix_len))
            .map_err(failed("setting the address"))?;
        if let Some(gateway) = address.gateway {
            request(&requests, &netlink::default_route(index, gateway))
                .map_err(failed("setting the route"))?;
        }
    }
    Ok(name)
}

fn open(groups: u32) -> Result<OwnedFd, Errno> {
    let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&fd, &SocketAddrNetlink::new(0, groups))?;
    Ok(fd)
}

fn request(fd: &OwnedFd, message: &[u8]) -> Result<(), Errno> {
    send(fd, message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (_, len) = recv(fd, &mut answer, RecvFlags::empty())?;
    netlink::acknowledgement(answer.get(..len).unwrap_or(&[]))
}

/// Until something happened to a link, or a second passed.
fn wait(events: &OwnedFd) -> Result<(), NetworkError> {
    let mut fds = [PollFd::new(events, PollFlags::IN)];
    match poll(&mut fds, Some(&POLL)) {
        Ok(0) | Err(Errno::INTR) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(failed("waiting for a link event")(error)),
    }
    // What happened does not matter: sysfs says how things are now. ENOBUFS: more than fits happened.
    let mut dropped = [0; 8192];
    match recv(events, &mut dropped, RecvFlags::DONTWAIT) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(()),
        Err(error) => Err(failed("reading a link event")(error)),
    }
}

/// The kernel's number of an interface.
pub(super) fn index_of(name: &str) -> Option<u32> {
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

fn tell(mac: Option<[u8; 6]>, wanted: &[String]) {
    let all: Vec<String> =
        nics(Path::new("/")).into_iter().map(|n| format!("{} {}", n.name, n.mac_address)).collect();
    let seen = if all.is_empty() { "no interface".to_owned() } else { all.join(", ") };
    match (mac, wanted.first()) {
        (Some(mac), None) => {
            let mac = mac.map(|b| format!("{b:02x}")).join(":");
            say(&format!("expected interface {mac}, seen {seen}; next: its driver's module in the ramdisk"));
        }
        (_, Some(_)) => say(&format!(
            "expected a carrier on {}, seen none; next: check the cable and the switch port",
            wanted.join(", ")
        )),
        (None, None) => {
            say("expected a network interface, seen none; next: its driver's module in the ramdisk")
        }
    }
}
