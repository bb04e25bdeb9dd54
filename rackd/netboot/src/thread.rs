//! A thread of its own for one server, with a runtime of its own: what comes to its sockets wakes it and nobody else.
//!
//! On a runtime of many threads each packet that wakes one worker has it wake another, in case there is more to do. For a
//! server that has a few microseconds of work for a packet, that is dearer than the work. It also answers while the other
//! threads are busy with images and disks.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// `None` once it is being dropped.
pub(crate) struct OwnThread(Option<Runtime>);

impl OwnThread {
    pub(crate) fn new() -> io::Result<Self> {
        // What is left to others is a write to disk at a time.
        Ok(Self(Some(Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?)))
    }

    /// The sockets that `bind` makes are this thread's.
    pub(crate) fn bind<T>(&self, bind: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _entered = self.0.as_ref().map(Runtime::enter);
        bind()
    }

    /// Begins to run `server`; it counts among `tasks` until it is over, by itself or by a panic.
    pub(crate) fn run(
        self,
        name: &str,
        tasks: &TaskTracker,
        server: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (running, over) = oneshot::channel::<()>();
        // Linux shows 15 bytes of it.
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _running = running;
            if let Some(runtime) = &self.0 {
                runtime.block_on(server);
            }
        })?;
        tasks.spawn(async move {
            // Nothing is ever sent: the other end is dropped.
            let _ = over.await;
        });
        Ok(())
    }
}

impl Drop for OwnThread {
    /// Also from within another runtime, which a runtime that waits for its threads refuses.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_on_a_thread_of_its_own_is_over_when_it_ends_and_when_it_panics() {
        for panics in [false, true] {
            let (tasks, (go, wait)) = (TaskTracker::new(), oneshot::channel::<()>());
            let here = thread::current().id();
            let server = async move {
                assert_ne!(thread::current().id(), here);
                wait.await.unwrap();
                assert!(!panics, "as it should");
            };
            OwnThread::new().unwrap().run("test", &tasks, server).unwrap();
            tasks.close();
            assert_eq!(tasks.len(), 1);
            go.send(()).unwrap();
            tasks.wait().await;
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_bound_is_an_error() {
        let thread = OwnThread::new().unwrap();
        assert!(thread.bind(|| Err::<(), _>(io::Error::other("no such interface"))).is_err());
    }
}
