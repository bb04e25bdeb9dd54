//! What rackd tells an agent: any bytes as a session message, a manifest, root device hints.

use farrier_agent::{manifest::Manifest, root_device};
use farrier_proto::agent::{SessionRequest, SessionResponse, session_response::Command};
use farrier_proto::types::{ChunkManifest, Disk, Hardware, RootDeviceHints};
use prost::Message as _;

fn manifest(wire: ChunkManifest) {
    let Ok(manifest) = Manifest::try_from(wire) else { return };
    let mut at = 0;
    for chunk in manifest.chunks() {
        assert!(chunk.offset == at && chunk.len > 0);
        at += chunk.len;
    }
    assert_eq!(at, manifest.size_bytes());
    assert!(manifest.chunk(manifest.count()).is_none());
}

fn pick(disks: &[Disk], hints: &RootDeviceHints) {
    match root_device::pick(disks, hints) {
        Ok(disk) => assert!(disk.size_bytes >= hints.min_size_bytes),
        Err(rejections) => assert_eq!(rejections.len(), disks.len()),
    }
}

pub fn run(data: &[u8]) {
    let _ = SessionRequest::decode(data);
    if let Ok(message) = SessionResponse::decode(data) {
        match message.command {
            Some(Command::WriteImage(w)) => {
                w.manifest.map(manifest);
                pick(&[], &w.root_device.unwrap_or_default());
            }
            Some(Command::WriteConfigDrive(c)) => pick(&[], &c.root_device.unwrap_or_default()),
            _ => {}
        }
    }
    if let Ok(wire) = ChunkManifest::decode(data) {
        manifest(wire);
    }
    let (hints, hardware) = data.split_at(data.len() / 2);
    if let (Ok(hints), Ok(hardware)) = (RootDeviceHints::decode(hints), Hardware::decode(hardware)) {
        pick(&hardware.disks, &hints);
    }
}
