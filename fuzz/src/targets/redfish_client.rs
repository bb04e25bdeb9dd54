//! A BMC that answers Redfish with anything: raw bytes, or HTTP around mangled JSON.

use farrier_bmc::redfish::{Dial, DialError, RedfishAddress, RedfishHub, Stream, Trust, Tuning};
use farrier_bmc::ssh::Ssh;
use farrier_bmc::{Bmc, BmcError, BootMode, BootOverride, Deadline, Device, Led, Secret};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

/// Requests that all calls together may make: tries, members and redirects are all bounded.
const MOST_REQUESTS: usize = 2000;

#[derive(Default)]
struct Heard {
    requests: usize,
    /// What a server should never be sent.
    bad: Option<String>,
}

/// Answers still to be given, over all connections, and what was asked.
struct Answering {
    answers: Mutex<VecDeque<Vec<u8>>>,
    heard: Mutex<Heard>,
}

pub(super) struct Script(Arc<Answering>);

#[async_trait::async_trait]
impl Dial for Script {
    async fn dial(&self, _: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(Arc::clone(&self.0), theirs));
        Ok(Box::new(ours))
    }
}

async fn serve(bmc: Arc<Answering>, stream: DuplexStream) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if first.is_empty() {
                first = line.to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        {
            let mut heard = bmc.heard.lock().unwrap();
            heard.requests += 1;
            let words: Vec<_> = first.split(' ').collect();
            if words.len() != 3 || !words[1].starts_with('/') || words[1].starts_with("//") {
                heard.bad = Some(first);
            }
        }
        let Some(answer) = bmc.answers.lock().unwrap().pop_front() else { return };
        let (status, rest) = match answer.split_first() {
            Some((b'H', _)) => {
                // Raw, and then the line goes dead.
                let _gone = stream.write_all(&answer).await;
                return;
            }
            Some((b'1', rest)) => ("201 Created\r\nX-Auth-Token: t\r\nLocation: /s/1", rest),
            Some((b'3', rest)) => ("302 Found\r\nLocation: /redfish/v1/", rest),
            Some((b'4', rest)) => ("404 Not Found", rest),
            Some((b'5', rest)) => ("503 Service Unavailable\r\nRetry-After: 0", rest),
            Some((b'6', rest)) => ("412 Precondition Failed", rest),
            Some((b'7', rest)) => ("401 Unauthorized", rest),
            Some((b'8', rest)) => ("200 OK\r\nContent-Type: text/event-stream", rest),
            Some((b'9', rest)) => ("202 Accepted\r\nLocation: /t", rest),
            _ => ("200 OK\r\nETag: W/\"1\"", answer.as_slice()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", rest.len());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(rest).await.is_err() {
            return;
        }
    }
}

pub fn run(data: &[u8]) {
    talk(data, async |handle| {
        let wanted = BootOverride { device: Device::Disk, persistent: true, mode: BootMode::Uefi };
        let _ = handle.power_status(soon()).await.map_err(told);
        if let Ok(seen) = handle.set_boot_device(wanted, soon()).await {
            assert_eq!(seen.device, wanted.device, "set, and not read back");
        }
        if let Ok(seen) = handle.inventory(soon()).await {
            assert!(seen.warnings.len() <= 32 && seen.nics.len() <= 4, "{seen:?}");
        }
        let _ = handle.identity(soon()).await.map_err(told);
        let _ = handle.identify(Led::On, soon()).await.map_err(told);
        let _ = handle.power_reset(soon()).await.map_err(told);
        let _ = handle.power_off(soon()).await.map_err(told);
        if let Ok(seen) = handle.bios(soon()).await {
            assert!(
                seen.settings.len() <= 4096 && seen.settings.iter().all(|s| s.value.chars().count() <= 256)
            );
        }
        let change = vec![("BootMode".to_owned(), "Uefi".to_owned())];
        let _ = handle.set_bios(change, soon()).await.map_err(told);
        let url = "http://192.0.2.2/i";
        let _ = handle.firmware(soon()).await.map(|parts| assert!(parts.len() <= 4)).map_err(told);
        let begun = handle.update_firmware(url, vec!["BMC".to_owned()], soon()).await.map_err(told);
        let _ =
            handle.task(&begun.unwrap_or_else(|()| "/redfish/v1/t".to_owned()), soon()).await.map_err(told);
        let _ = handle.insert_media(url, soon()).await.map_err(told);
        let _ = handle.boot_media_once(BootMode::Uefi, soon()).await.map_err(told);
        let _ = handle.sensors(soon()).await.map_err(told);
        let _ = handle.event_log(4, soon()).await.map(|log| assert!(log.events.len() <= 4)).map_err(told);
        let _ = handle.set_password(&Secret::new("hunter3"), soon()).await.map_err(told);
    });
}

/// A BMC that gives the answers of an input, one after the other.
pub(super) fn script(data: &[u8]) -> Script {
    let answers = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    Script(Arc::new(Answering { answers: Mutex::new(answers), heard: Mutex::default() }))
}

/// Each call has some time of the real clock.
pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(200))
}

pub(super) fn told(error: BmcError) {
    let told = error.to_string();
    // The account's, and the one that it is to get.
    assert!(!told.contains("hunter2") && !told.contains("hunter3"), "{told}");
}

/// What is done with a BMC that gives the answers of the input, whatever it is asked.
pub(super) fn talk(data: &[u8], calls: impl AsyncFnOnce(Bmc)) {
    let Script(bmc) = script(data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tuning = Tuning {
            busy_delay: Duration::ZERO,
            tries: 2,
            max_members: 4,
            max_listed: 4,
            breaker_failures: u32::MAX,
            refused_pause: Duration::ZERO,
            ..Tuning::default()
        };
        // Where a console is is read; nobody is there to open it.
        let ssh = Ssh::with_program("/nonexistent/ssh".into(), "/nonexistent/helper".into());
        let hub = RedfishHub::with_ssh(Arc::new(Script(Arc::clone(&bmc))), tuning, Some(ssh));
        let addr = ([192, 0, 2, 1], 80).into();
        calls(hub.bmc(RedfishAddress::new(addr, "u", Secret::new("hunter2"), Trust::Plain))).await;
        hub.shutdown().await;
    });
    let heard = bmc.heard.lock().unwrap();
    assert_eq!(heard.bad, None);
    assert!(heard.requests < MOST_REQUESTS, "{}", heard.requests);
}
