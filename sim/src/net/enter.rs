//! Doing things inside a namespace: on a thread of its own that enters it and never leaves, since
//! a thread that has entered one must not go back to a pool.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{NetError, Netns};

impl Netns {
    /// Runs `work` on a thread inside the namespace and waits for it. Blocking.
    pub fn run_inside<T, F>(&self, work: F) -> Result<T, NetError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let path = self.path();
        let thread = std::thread::Builder::new()
            .name("lab-netns".into())
            .spawn(move || enter(&path).map(|()| work()))
            .map_err(|source| self.error("no thread", source))?;
        match thread.join() {
            Ok(done) => done.map_err(|source| self.error("cannot enter", source)),
            Err(_) => Err(NetError::ThreadDied { name: self.name().to_owned() }),
        }
    }

    /// Starts `command` inside: it is born there, so that dropping the namespace at any later moment ends it. A
    /// process of [`Netns::command`] is outside until its `nsenter` has entered.
    pub fn spawn(&self, mut command: Command) -> Result<Child, NetError> {
        self.run_inside(move || command.spawn())?.map_err(|source| self.error("cannot start", source))
    }

    /// A tokio runtime all of whose threads are inside. Spawn onto it: `block_on` runs its own
    /// future on the caller's thread, which is not inside.
    pub fn runtime(&self, workers: usize) -> Result<tokio::runtime::Runtime, NetError> {
        let path = self.path();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name("lab-netns")
            .on_thread_start(move || {
                if let Err(error) = enter(&path) {
                    // A thread outside would serve DHCP to the host's own network.
                    tracing::error!(%error, "cannot enter the namespace");
                    std::process::abort();
                }
            })
            .enable_all()
            .build()
            .map_err(|source| self.error("no runtime", source))
    }

    /// A UDP socket of the namespace, non-blocking, ready for `tokio::net::UdpSocket::from_std`.
    pub fn udp_bind(&self, address: SocketAddr) -> Result<UdpSocket, NetError> {
        self.socket("udp bind", move || {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// A listening TCP socket of the namespace, non-blocking, for `TcpListener::from_std`.
    pub fn tcp_listen(&self, address: SocketAddr) -> Result<TcpListener, NetError> {
        self.socket("tcp listen", move || {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// A connected TCP socket of the namespace, non-blocking, for `TcpStream::from_std`.
    /// Blocks until the connection stands or fails.
    pub fn tcp_connect(&self, address: SocketAddr) -> Result<TcpStream, NetError> {
        self.socket("tcp connect", move || {
            let socket = TcpStream::connect(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    fn socket<T, F>(&self, what: &'static str, make: F) -> Result<T, NetError>
    where
        T: Send + 'static,
        F: FnOnce() -> std::io::Result<T> + Send + 'static,
    {
        self.run_inside(make)?.map_err(|source| self.error(what, source))
    }

    fn error(&self, what: &'static str, source: std::io::Error) -> NetError {
        NetError::Io { name: self.name().to_owned(), what, source }
    }
}

fn enter(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}
