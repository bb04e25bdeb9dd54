//! Reads a file over HTTP, again and again, over one connection: what `curl` does, without its output.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes that came, and how long it took.
pub(crate) fn read(server: SocketAddr, path: &str, time: Duration) -> io::Result<(u64, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; BUFFER];
        let begun = Instant::now();
        let mut bytes = 0;
        loop {
            let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let (length, already) = head(&mut stream, &mut buffer).await?;
            let mut left = length.saturating_sub(already);
            bytes += already;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let read = stream.read(buffer.get_mut(..most).unwrap_or_default()).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                left -= read as u64;
                bytes += read as u64;
                if begun.elapsed() >= time {
                    return Ok((bytes, begun.elapsed()));
                }
            }
        }
    })
}

/// Reads to the end of the header: length of the body, and how much of it came along.
async fn head(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<(u64, u64)> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let seen = buffer.get(..filled).unwrap_or_default();
        let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(seen.get(..end).unwrap_or_default()).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let good = text.starts_with("http/1.1 200");
        let length = length.filter(|_| good).ok_or_else(|| io::Error::other(text))?;
        return Ok((length, (filled - end - 4) as u64));
    }
}

/// As large as the iSCSI loader's.
const BUFFER: usize = 2 << 20;
